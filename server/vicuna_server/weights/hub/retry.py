"""What to do about requests that fail: whether, and how long, to go on trying."""

import os
import re
import time
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

from vicuna_contract.backoff import Backoff
from vicuna_server.errors import UnreachableError

__all__ = ["CutError", "RetryPolicy", "retry_after", "retry_seconds"]

_SILENCE_SECONDS = 120.0
_SILENT_SECONDS = 5.0
_FIRST_DELAY_SECONDS, _MOST_DELAY_SECONDS = 0.5, 20.0

_Result = TypeVar("_Result")


class CutError(Exception):
    """A request that failed and may succeed when made again; `retry_after` in seconds where the server named it."""

    def __init__(self, why: str, retry_after: float | None = None) -> None:
        super().__init__(why)
        self.retry_after = retry_after


class RetryPolicy:
    """How long to go on trying: until nothing has arrived for VICUNA_HUB_PATIENCE_SECONDS, or 120.

    Args:
        what: the source or file, as people know it.
        pause: waits so many seconds; raises where the run is to end.
        warn: called with one sentence when it lasts.
    """

    def __init__(self, what: str, pause: Callable[[float], None], warn: Callable[[str], None]) -> None:
        self._what = what
        self._pause = pause
        self._warn = warn
        self._seconds = retry_seconds()
        self._backoff = Backoff(_FIRST_DELAY_SECONDS, _MOST_DELAY_SECONDS)
        self.progressed()

    def progressed(self) -> None:
        """Learn that something arrived."""
        self._since = time.monotonic()
        self._backoff.reset()

    def run(self, work: Callable[[], _Result]) -> _Result:
        """Return what `work` does, done again whenever it is cut.

        Raises:
            UnreachableError: it has been cut for too long.
        """
        while True:
            try:
                return work()
            except CutError as cut:
                self._wait(cut)

    def _wait(self, cut: CutError) -> None:
        """Wait before the next try: as long as the server asked, else twice as long each time."""
        delay = self._backoff.next()
        delay = delay if cut.retry_after is None else cut.retry_after
        lasts = time.monotonic() - self._since + delay
        if lasts > self._seconds:
            raise UnreachableError(
                "SourceUnreachable", f"{self._what} cannot be fetched ({cut}); check network and hub"
            ) from cut
        if lasts > _SILENT_SECONDS:
            self._warn(f"{self._what} cannot be fetched at the moment ({cut}); this is tried for {self._seconds:.0f} s")
        self._pause(delay)


def retry_after(headers: Any) -> float | None:
    """Return the seconds named by `Retry-After` (a number or a date), or by the hub's own `RateLimit` (`t=`)."""
    text = headers.get("Retry-After", "")
    if text.strip().isdecimal():
        return float(text)
    try:
        return max(0.0, (parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        pass
    match = re.search(r"\bt=(\d+)", headers.get("RateLimit", ""))
    return float(match[1]) if match else None


def retry_seconds() -> float:
    """Return how long nothing may arrive: VICUNA_HUB_PATIENCE_SECONDS, or 120."""
    try:
        return float(os.environ["VICUNA_HUB_PATIENCE_SECONDS"])
    except (KeyError, ValueError):
        return _SILENCE_SECONDS
