"""Reading parts of files from a Hugging Face hub over HTTP, patient with what passes and clear about what does not.

The requests are our own GETs with `Range`, through huggingface_hub's session and headers (proxies, HF_TOKEN,
HF_HUB_OFFLINE), see `requests`. Its `hf_hub_download` is not used: it
neither stops on a signal nor bounds what lies on disk, and where hf_xet is installed it keeps a cache of its own.
"""

import time
from collections.abc import Callable, Iterator
from functools import partial
from urllib.parse import urlsplit

from vicuna_server.errors import UnreachableError
from vicuna_server.run.cancellation import watched
from vicuna_server.run.control import Control
from vicuna_server.weights.hub.requests import blocks_of, request
from vicuna_server.weights.hub.responses import require_range, require_success
from vicuna_server.weights.hub.retry import CutError, RetryPolicy

__all__ = ["HubClient"]

_WARNING_SECONDS = 60.0


class HubClient:
    """Reads URLs.

    Args:
        control: holds what comes to the rate, is warned, and ends the run on a signal, whatever a request is doing.
    """

    def __init__(self, control: Control) -> None:
        self._control = control
        self._warned = -_WARNING_SECONDS

    def retry_policy(self, what: str, pause: Callable[[float], None] | None = None) -> RetryPolicy:
        """Return how long to go on trying; warns, if at all, once a minute.

        Args:
            what: the source or file, as people know it.
            pause: waits so many seconds; None: as long as no signal comes.
        """
        return RetryPolicy(what, pause or self._control.cancellation.pause, self._warn)

    def _warn(self, message: str) -> None:
        now = time.monotonic()
        if now - self._warned > _WARNING_SECONDS:
            self._warned = now
            self._control.reporter.warning("HubUnsteady", message)

    def read(self, what: str, url: str, start: int, stop: int) -> bytes:
        """Return bytes [start, stop) of a file, trying again while that may help.

        Args:
            what: the file, as people know it.
            url: where it is fetched.
            start: the first byte.
            stop: the byte after the last.

        Raises:
            InputError: `SourceForbidden`, `SourceNotFound`, `SourceUnsupported`.
            UnreachableError: the network, or the hub, fails.
            InterruptedRunError: a signal came.
        """
        data = bytearray()

        def read_on() -> None:
            for block in self.stream(what, url, start + len(data), stop):
                data.extend(block)
                policy.progressed()

        policy = self.retry_policy(what)
        policy.run(partial(watched, read_on, self._control.cancellation))
        return bytes(data)

    def read_answer(self, what: str, url: str, most: int) -> bytes:
        """Return all that the hub answers, trying again while that may help.

        Args:
            what: the source, as people know it.
            url: what to ask.
            most: a longer answer, in bytes, is refused.

        Raises:
            InputError: `SourceForbidden`, `SourceNotFound`.
            UnreachableError: the network, or the hub, fails.
            InterruptedRunError: a signal came.
        """

        def read_whole() -> bytes:
            data = bytearray()
            with request(what, url) as response:
                require_success(what, response)
                for block in blocks_of(what, response):
                    data += block
                    if len(data) > most:
                        raise UnreachableError(
                            "SourceUnreachable",
                            f"the hub's answer about {what} is longer than {most} bytes; check HF_ENDPOINT",
                        )
            return bytes(data)

        return self.retry_policy(what).run(partial(watched, read_whole, self._control.cancellation))

    def stream(self, what: str, url: str, start: int, stop: int) -> Iterator[bytes]:
        """Yield bytes [start, stop) of a file as they come, by one request.

        Raises:
            CutError: it broke off, or failed in a way that may pass.
            InputError: as `read`.
            UnreachableError: it failed otherwise.
            InterruptedRunError: a signal came.
        """
        left = stop - start
        if not left:
            return
        with request(what, url, {"Range": f"bytes={start}-{stop - 1}"}) as response:
            require_success(what, response, by_hub=response.url.host == urlsplit(url).hostname)
            require_range(what, response, start, stop)
            for block in blocks_of(what, response):
                left -= len(block)
                if left < 0:
                    raise CutError("more bytes than asked for")
                self._control.throttle.pace(len(block))
                yield block
        if left:
            raise CutError(f"{left} bytes are missing")
