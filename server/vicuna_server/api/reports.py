"""The comments in a stream by which a gateway learns how many tokens it has cost so far."""

import time
from collections.abc import Callable

from vicuna_contract.names import COUNTS_COMMENT
from vicuna_server.api.counting import Tally
from vicuna_server.protocol.counts import Counts, Used

__all__ = ["Reports"]

_EVERY = 0.5


class Reports:
    """The comments of one stream; empty where no gateway asks for them.

    Args:
        tally: of the request.
        used: the counts so far.
        clock: seconds that only grow.
    """

    def __init__(self, tally: Tally, used: Callable[[], Used], clock: Callable[[], float] = time.monotonic) -> None:
        self._named = tally.named
        self._used = used
        self._clock = clock
        self._due = 0.0

    def next(self) -> bytes:
        """Return what goes before the next frame: with the first one, then twice a second at most."""
        if not self._named or (now := self._clock()) < self._due:
            return b""
        self._due = now + _EVERY
        return self._comment(final=False)

    def last(self, *, final: bool) -> bytes:
        """Return what goes before the end; `final`: the counts grow no more."""
        return self._comment(final=final) if self._named else b""

    def _comment(self, *, final: bool) -> bytes:
        return b"%b %b\n\n" % (COUNTS_COMMENT, Counts(self._used(), final).written())
