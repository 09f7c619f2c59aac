"""The errors that a user can act on.

    VicunaError                reason, message, exit code
    ├── UsageError             64  the command line is wrong
    ├── InputError             65  the input is wrong; trying again cannot help
    ├── UnreachableError       69  a source cannot be reached; trying again may help
    ├── MissingExtraError      69  an extra of the package is not installed; trying again cannot help
    ├── EngineError            70  the model cannot be loaded or does not work
    ├── OutOfSpaceError        73  the output has no room; trying again may help
    ├── InterruptedRunError    75  stopped by a signal; trying again resumes
    └── RequestError           (70) one request cannot be served, the server goes on; has an HTTP status
        ├── ContextLengthError     a prompt, or what is asked for with it, is longer than the model's context
        └── OverloadedError        the queue of waiting requests is full

Exit codes follow BSD's sysexits.h. The operator reads `reason` and `message` from the termination message.
"""

from typing import ClassVar

from vicuna_contract.exits import ExitCode

__all__ = [
    "ContextLengthError",
    "EngineError",
    "InputError",
    "InterruptedRunError",
    "MissingExtraError",
    "OutOfSpaceError",
    "OverloadedError",
    "RequestError",
    "UnreachableError",
    "UsageError",
    "VicunaError",
]


class VicunaError(Exception):
    """A failure with a CamelCase reason, one clear sentence that names the next step, and an exit code."""

    exit_code: ClassVar[ExitCode] = ExitCode.ENGINE
    retryable: ClassVar[bool] = False

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


class UsageError(VicunaError):
    """The command line is wrong."""

    exit_code = ExitCode.USAGE

    def __init__(self, message: str, reason: str = "UsageError") -> None:
        super().__init__(reason, message)


class InputError(VicunaError):
    """The input itself is wrong: a missing file, a wrong shape, a broken tokenizer, an unsafe pickle."""

    exit_code = ExitCode.BAD_INPUT


class UnreachableError(VicunaError):
    """A source cannot be reached right now."""

    exit_code = ExitCode.UNREACHABLE
    retryable = True


class MissingExtraError(VicunaError):
    """A module of an extra (`pip install "vicuna-operator[EXTRA]"`) is not installed: sysexits' EX_UNAVAILABLE."""

    exit_code = ExitCode.UNREACHABLE


class EngineError(VicunaError):
    """The model cannot be loaded on this machine, or does not work."""

    exit_code = ExitCode.ENGINE


class OutOfSpaceError(VicunaError):
    """The volume is full."""

    exit_code = ExitCode.NO_SPACE
    retryable = True


class InterruptedRunError(VicunaError):
    """The run was stopped by a signal before it was done."""

    exit_code = ExitCode.INTERRUPTED
    retryable = True


class RequestError(VicunaError):
    """One request cannot be served; status, param and code are those of OpenAI's error object.

    Args:
        message: One sentence that names the field or the limit, and the next step.
        status: HTTP status of the response.
        param: Name of the invalid field, if there is one.
        code: Machine-readable cause such as `context_length_exceeded`.
    """

    def __init__(self, message: str, *, status: int = 400, param: str | None = None, code: str | None = None) -> None:
        super().__init__("RequestError", message)
        self.status = status
        self.param = param
        self.code = code


class ContextLengthError(RequestError):
    """A prompt does not fit into the context; it has `tokens` tokens, or at least as many."""

    def __init__(self, message: str, *, tokens: int, param: str) -> None:
        super().__init__(message, param=param, code="context_length_exceeded")
        self.tokens = tokens


class OverloadedError(RequestError):
    """The queue of waiting requests is full; the client should try again after `retry_after` seconds."""

    def __init__(self, message: str, *, status: int = 429, code: str = "overloaded", retry_after: int = 1) -> None:
        super().__init__(message, status=status, code=code)
        self.retry_after = retry_after
