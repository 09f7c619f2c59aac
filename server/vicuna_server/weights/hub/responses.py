"""What a hub's answers mean, and what the client says where there is none."""

from typing import Any

from vicuna_server.errors import InputError, UnreachableError
from vicuna_server.weights.hub.retry import CutError, retry_after

__all__ = ["explain", "require_range", "require_success"]

_MOST_WORDS = 200
_TRANSIENT = frozenset({408, 416, 425, 429})  # 416: a mirror that has not all of the file yet
_REFUSALS = frozenset({401, 403, 404})
_CLIENT_MODULES = ("httpx", "httpx2", "httpcore", "httpcore2", "huggingface_hub")
_HOPELESS = ("UnsupportedProtocol", "InvalidURL")


def require_success(what: str, response: Any, *, by_hub: bool = True) -> None:
    """Raise what an answer's status means.

    Args:
        what: the source or file, as people know it.
        response: the answer.
        by_hub: the hub itself answered, not a storage that it sent us to: those refuse links that are too old.

    Raises:
        CutError: it may pass.
        InputError: `SourceForbidden`, `SourceNotFound`.
        UnreachableError: anything else.
    """
    status = response.status_code
    if status < 300:
        return
    if status in _TRANSIENT or status >= 500 or (not by_hub and status in _REFUSALS):
        raise CutError(f"HTTP {status}", retry_after(response.headers))
    if status in (401, 403):
        raise InputError(
            "SourceForbidden",
            f"the hub refuses {what} (HTTP {status}): it is private, gated or misspelt; "
            "accept its licence and give a token that may read it (HF_TOKEN, credentialsSecret)",
        )
    if status == 404:
        raise InputError("SourceNotFound", f"the hub has no {what}; check its name and revision")
    raise UnreachableError("SourceUnreachable", f"{what} cannot be fetched (HTTP {status}); check network and hub")


def require_range(what: str, response: Any, start: int, stop: int) -> None:
    """Raise unless the answer is the range that was asked for; the whole file will do where that is all of it."""
    if response.status_code == 206:
        if not str(response.headers.get("Content-Range", "")).startswith(f"bytes {start}-{stop - 1}/"):
            raise CutError("another range than asked for")
    elif start or int(response.headers.get("Content-Length", stop)) != stop:
        raise InputError(
            "SourceUnsupported",
            f"the hub of {what} does not answer range requests; "
            "use one that does, or fetch the files and name their folder",
        )


def explain(what: str, error: Exception) -> Exception:
    """Turn the client's many errors into ours; what is none of them stays."""
    kind = type(error).__name__
    if kind == "OfflineModeIsEnabled":
        return UnreachableError(
            "SourceUnreachable", f"{what} cannot be fetched: HF_HUB_OFFLINE is set; unset it or name a folder"
        )
    if not isinstance(error, OSError) and type(error).__module__.partition(".")[0] not in _CLIENT_MODULES:
        return error
    words = f"{kind}: {error}"[:_MOST_WORDS] if str(error) else kind
    if "CERTIFICATE_VERIFY_FAILED" in words:
        return UnreachableError(
            "SourceUnreachable",
            f"{what} cannot be fetched: the hub's certificate is not trusted here; name your CA's file in "
            f"SSL_CERT_FILE (merge.caBundle) ({words})",
        )
    if kind in _HOPELESS:
        return UnreachableError("SourceUnreachable", f"{what} cannot be fetched ({words}); check HF_ENDPOINT")
    return CutError(words)
