"""Comments in a stream that report its token counts so far to a gateway."""

import time
from collections.abc import Callable

from vicuna_contract.names import COUNTS_COMMENT
from vicuna_server.api.counting import RequestCounts
from vicuna_server.protocol.counts import Counts, Used

__all__ = ["CountComments"]

_INTERVAL_SECONDS = 0.5


class CountComments:
    """The comments of one stream; empty where no gateway has asked for them.

    Args:
        counts: Of the request.
        used: Returns the counts so far.
        clock: Seconds on a monotonic clock.
    """

    def __init__(
        self, counts: RequestCounts, used: Callable[[], Used], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._named = counts.named
        self._used = used
        self._clock = clock
        self._due = 0.0

    def next(self) -> bytes:
        """Return the comment for the next frame: before the first frame, then twice a second at most."""
        if not self._named or (now := self._clock()) < self._due:
            return b""
        self._due = now + _INTERVAL_SECONDS
        return self._comment(final=False)

    def last(self, *, final: bool) -> bytes:
        """Return the comment before the end; `final`: the counts do not change any more."""
        return self._comment(final=final) if self._named else b""

    def _comment(self, *, final: bool) -> bytes:
        return b"%b %b\n\n" % (COUNTS_COMMENT, Counts(self._used(), final).written())
