"""How all our programs end where no command of theirs handles it: Ctrl-C while it is imported, and a closed pipe."""

import functools
import io
import sys
from collections.abc import Callable
from typing import Final, ParamSpec

__all__ = ["READER_LEFT", "program"]

READER_LEFT: Final = 141
"""What shells give for a program that SIGPIPE has ended."""

_Words = ParamSpec("_Words")


def program(interrupted: int) -> Callable[[Callable[_Words, int]], Callable[_Words, int]]:
    """Make a function that returns an exit code into a program's `main`, which shows no traceback of these.

    Args:
        interrupted: the exit code after Ctrl-C.
    """

    def decorate(main: Callable[_Words, int]) -> Callable[_Words, int]:
        @functools.wraps(main)
        def run(*args: _Words.args, **options: _Words.kwargs) -> int:
            _replace_what_the_terminal_lacks()
            try:
                try:
                    return main(*args, **options)
                finally:
                    if sys.stdout is not None:
                        sys.stdout.flush()  # here, since Python tells nobody that it failed at exit
            except KeyboardInterrupt:
                return interrupted
            except BrokenPipeError:  # the reader, such as `head`, left; Python must not flush the stream at exit
                sys.stdout = None
                return READER_LEFT

        return run

    return decorate


def _replace_what_the_terminal_lacks() -> None:
    """Let a terminal without UTF-8 show `?` for what it has no letter for."""
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.encoding.lower() != "utf-8":
        sys.stdout.reconfigure(errors="replace")
