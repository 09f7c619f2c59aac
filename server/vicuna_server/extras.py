"""The error of a command that ends by an unexpected exception."""

from vicuna_contract.extras import missing_extra
from vicuna_server.errors import EngineError, MissingExtraError, VicunaError

__all__ = ["missing_extra_error", "unexpected_error"]


def missing_extra_error(error: ModuleNotFoundError, extra: str) -> MissingExtraError | None:
    """Return the error for a missing module of an extra; None for a module of ours or of Python."""
    missing = missing_extra(error, extra)
    return MissingExtraError("ExtraMissing", missing) if missing else None


def unexpected_error(error: Exception) -> VicunaError:
    """Return the error for an unexpected exception: the extra `server` is not installed, or it is a bug."""
    missing = missing_extra_error(error, "server") if isinstance(error, ModuleNotFoundError) else None
    return missing or EngineError("InternalError", f"{type(error).__name__}: {error}; this is a bug, please report it")
