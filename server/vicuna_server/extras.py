"""The last words of a command that ends by an error nobody foresaw."""

from vicuna_contract.extras import missing_extra
from vicuna_server.errors import EngineError, MissingExtraError, VicunaError

__all__ = ["missing_extra_error", "unexpected_error"]


def missing_extra_error(error: ModuleNotFoundError, extra: str) -> MissingExtraError | None:
    """Return what to say where a module of an extra is not installed; None where it is one of ours or of Python's."""
    missing = missing_extra(error, extra)
    return MissingExtraError("ExtraMissing", missing) if missing else None


def unexpected_error(error: Exception) -> VicunaError:
    """Return the last words for what nobody foresaw: an extra is missing (of all but the gateway), or a bug of ours."""
    missing = missing_extra_error(error, "server") if isinstance(error, ModuleNotFoundError) else None
    return missing or EngineError("InternalError", f"{type(error).__name__}: {error}; this is a bug, please report it")
