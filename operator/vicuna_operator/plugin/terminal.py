"""What the plugin prints: nothing of it steers the user's terminal, whoever said it."""

import sys

from vicuna_contract.printable import printable

__all__ = ["say", "show_chunk", "warn"]


def say(text: str) -> None:
    """Print an answer, with the end of its line."""
    sys.stdout.write(f"{printable(text)}\n")


def show_chunk(text: str) -> None:
    """Print a part of something that comes bit by bit, at once."""
    sys.stdout.write(printable(text))
    sys.stdout.flush()


def warn(text: str) -> None:
    """Print what is no part of the answer."""
    sys.stderr.write(f"{printable(text)}\n")
