"""What is measured, against whom: `python -m benchmarks --help`. Never part of the tests."""
