"""Owns the way into the program and out of it: `wld` and `python -m wld`. What it does is `wld.cli`.

Loading takes the better part of a second, in which a signal already has to end the program and nothing more. So this
module loads nothing before it has seen to that, and `import wld` nothing at all.
"""

import os
import signal
import sys
from types import FrameType

ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
"""numpy's linear algebra, which wld hardly uses, else starts a thread for each core when it is loaded; they spin and hold
memory."""


def main() -> None:
    """The `wld` command; ends with SystemExit."""
    for name, value in ONE_THREAD.items():
        os.environ.setdefault(name, value)
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _end)
    _open_standard_streams()
    try:
        from wld import cli

        is_heard = signal.getsignal(signal.SIGINT) is _end
        if is_heard:  # from here on Ctrl-C is a KeyboardInterrupt, which commands clean up after
            signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            cli.main()
        finally:
            if is_heard and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
                signal.signal(signal.SIGINT, _end)
    except KeyboardInterrupt:
        _end(signal.SIGINT)


def _open_standard_streams() -> None:
    """Where one is closed, the next file to be opened, a tape perhaps, would take its number, and what is said on it."""
    for fd, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        if getattr(sys, name) is None:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number
            setattr(sys, name, os.fdopen(fd, mode, closefd=False))


def _end(number: int, _: FrameType | None = None) -> None:
    """At once, with the status a shell gives to a program that the signal ended: 130, 143."""
    os._exit(128 + number)


if __name__ == "__main__":
    main()
