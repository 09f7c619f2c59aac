"""Exit codes of the containers and of all commands, after BSD's sysexits.h."""

from enum import IntEnum
from typing import Final

__all__ = ["RETRYABLE_EXITS", "TERMINAL_EXITS", "ExitCode"]


class ExitCode(IntEnum):
    """How a command ended."""

    DONE = 0
    USAGE = 64
    """The command line is wrong."""
    BAD_INPUT = 65
    """The input is wrong; trying again cannot help."""
    UNREACHABLE = 69
    """A source or a service cannot be reached; trying again may help."""
    ENGINE = 70
    """The model cannot be loaded or does not work; also an internal error."""
    NO_SPACE = 73
    """The output has no room; trying again may help."""
    INTERRUPTED = 75
    """A signal ended the run; trying again goes on from what was finished."""


RETRYABLE_EXITS: Final = frozenset({ExitCode.UNREACHABLE, ExitCode.NO_SPACE, ExitCode.INTERRUPTED})
"""After these a merge may be tried again."""

TERMINAL_EXITS: Final = frozenset({ExitCode.USAGE, ExitCode.BAD_INPUT, ExitCode.ENGINE})
"""A server that starts so can never succeed."""
