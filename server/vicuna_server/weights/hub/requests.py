"""One GET to a hub: its token goes to the hub alone, redirects are followed by hand, and nothing drips for ever."""

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit

from vicuna_server.errors import UnreachableError, VicunaError
from vicuna_server.weights.hub.redirects import require_public_peer, target_of
from vicuna_server.weights.hub.responses import explain
from vicuna_server.weights.hub.retry import CutError, retry_seconds
from vicuna_server.weights.hub.token import require_private_way, token

__all__ = ["blocks_of", "request"]

_TIMEOUT_SECONDS = 30.0
_LEAST_SECONDS = 5.0
_LEAST_RATE = 16 * 1024  # bytes a second; a 13B model would take three weeks
_MOST_REDIRECTS = 10
_TOKEN_HEADER = "authorization"  # noqa: S105  # a header's name


@contextmanager
def request(what: str, url: str, headers: Mapping[str, str] = MappingProxyType({})) -> Iterator[Any]:
    """Give the answer to a GET; turn what fails into our own errors.

    Args:
        what: the source or file, as people know it.
        url: what to ask.
        headers: sent beside the client's own.

    Raises:
        CutError: it may succeed when made again.
        InputError: `TokenNotSafe`.
        UnreachableError: it cannot be made, or leads where it must not.
    """
    # both are exported lazily, which mypy does not see
    from huggingface_hub.utils import build_hf_headers, get_session  # type: ignore[attr-defined]

    try:
        sent = {**build_hf_headers(token=token()), "Accept-Encoding": "identity", **headers}
        asked = url
        for _ in range(_MOST_REDIRECTS):
            if any(name.lower() == _TOKEN_HEADER for name in sent):
                require_private_way(url)
            stream = get_session().stream("GET", url, headers=sent, timeout=_TIMEOUT_SECONDS, follow_redirects=False)
            with _soon(stream) as response:
                require_public_peer(what, response, url, asked)
                target = target_of(what, response, url, asked)
                if target is None:
                    yield response
                    return
            if _origin(target) != _origin(url):
                sent = {name: value for name, value in sent.items() if name.lower() != _TOKEN_HEADER}
            url = target
        raise UnreachableError(
            "SourceUnreachable", f"{what} cannot be fetched: it is redirected without end; check HF_ENDPOINT"
        )
    except (CutError, VicunaError):
        raise
    except Exception as error:
        raise explain(what, error) from error


def blocks_of(what: str, response: Any) -> Iterator[bytes]:
    """Yield an answer's body as it comes, for as long as it comes at a rate that will see its end.

    Raises:
        UnreachableError: it drips.
    """
    waited, received = 0.0, 0
    blocks = response.iter_raw()
    while True:
        began = time.monotonic()
        block = next(blocks, None)
        waited += time.monotonic() - began
        if block is None:
            return
        received += len(block)
        if waited > _allowed_seconds() + received / _LEAST_RATE:
            raise UnreachableError(
                "SourceUnreachable",
                f"{what} comes too slowly: {received} bytes in {waited:.0f} s; check network and hub",
            )
        yield block


@contextmanager
def _soon(stream: AbstractContextManager[Any]) -> Iterator[Any]:
    """Enter a stream, but wait no longer than it may take until an answer begins, however busily it drips.

    Raises:
        CutError: it took longer; what comes later is closed.
    """
    opening = _Opening(stream)
    opening.start()
    response = opening.result(_allowed_seconds() + _TIMEOUT_SECONDS)
    try:
        yield response
    finally:
        stream.__exit__(None, None, None)


class _Opening(threading.Thread):
    """Waits for the head of an answer in place of one who cannot stop waiting."""

    def __init__(self, stream: AbstractContextManager[Any]) -> None:
        super().__init__(name="merge-head", daemon=True)
        self._stream = stream
        self._lock = threading.Lock()
        self._response: Any = None
        self._failure: BaseException | None = None
        self._late = False

    def run(self) -> None:
        """Wait, and close what nobody waits for any more."""
        try:
            response = self._stream.__enter__()
        except BaseException as error:  # noqa: BLE001 - handed to the thread that waits
            self._failure = error
            return
        with self._lock:
            self._response = response
            late = self._late
        if late:
            self._stream.__exit__(None, None, None)

    def result(self, seconds: float) -> Any:
        """Return the answer, or raise what came of it."""
        self.join(seconds)
        with self._lock:
            self._late = self._response is None
        if self._failure is not None:
            raise self._failure
        if self._late:
            raise CutError(f"no answer within {seconds:.0f} s")
        return self._response


def _allowed_seconds() -> float:
    return max(_LEAST_SECONDS, retry_seconds())


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)
