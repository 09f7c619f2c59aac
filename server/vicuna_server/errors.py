"""Everything that can go wrong in a way a user can act on.

    VicunaError                reason, message, exit code
    ├── UsageError             64  the command line is wrong
    ├── InputError             65  the input is wrong; trying again cannot help
    ├── UnreachableError       69  a source cannot be reached; trying again may help
    ├── EngineError            70  the model cannot be loaded or does not work
    ├── OutOfSpaceError        73  the output has no room; trying again may help
    └── InterruptedRunError    75  stopped by a signal; trying again resumes

Exit codes follow BSD's sysexits.h. The operator reads `reason` and `message` from the termination message.
"""

from typing import ClassVar

__all__ = [
    "EngineError",
    "InputError",
    "InterruptedRunError",
    "OutOfSpaceError",
    "UnreachableError",
    "UsageError",
    "VicunaError",
]


class VicunaError(Exception):
    """A failure with a CamelCase reason, one clear sentence that names the next step, and an exit code."""

    exit_code: ClassVar[int] = 70
    retryable: ClassVar[bool] = False

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


class UsageError(VicunaError):
    """The command line is wrong."""

    exit_code = 64

    def __init__(self, message: str, reason: str = "UsageError") -> None:
        super().__init__(reason, message)


class InputError(VicunaError):
    """The input itself is wrong: a missing file, another shape, a broken tokenizer, an unsafe pickle."""

    exit_code = 65


class UnreachableError(VicunaError):
    """A source cannot be reached right now."""

    exit_code = 69
    retryable = True


class EngineError(VicunaError):
    """The model cannot be loaded on this machine, or answers nonsense."""

    exit_code = 70


class OutOfSpaceError(VicunaError):
    """The volume is full."""

    exit_code = 73
    retryable = True


class InterruptedRunError(VicunaError):
    """The run was stopped by a signal before it was done."""

    exit_code = 75
    retryable = True
