"""`python -m wld`."""

from wld.cli import main

if __name__ == "__main__":
    main()
