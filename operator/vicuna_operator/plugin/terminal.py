"""The plugin's output, without control characters: texts of others must not steer the user's terminal."""

import sys

from vicuna_contract.printable import printable

__all__ = ["say", "show_chunk", "warn"]


def say(text: str) -> None:
    """Print one line of output."""
    sys.stdout.write(f"{printable(text)}\n")


def show_chunk(text: str) -> None:
    """Print a chunk of streamed text at once."""
    sys.stdout.write(printable(text))
    sys.stdout.flush()


def warn(text: str) -> None:
    """Print a line to standard error: it is not part of the output."""
    sys.stderr.write(f"{printable(text)}\n")
