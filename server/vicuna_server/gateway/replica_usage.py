"""The usage that one replica counts: of each key what is under way, and of each day its requests and tokens. Pure."""

from collections.abc import Callable
from datetime import datetime

from vicuna_server.gateway.day_usage import DayUsage
from vicuna_server.gateway.quota import KeyUsage

__all__ = ["ReplicaUsage", "date_of"]

_MOST_FORMER = 2
_UNUSED_SECONDS = 300.0


def date_of(moment: datetime) -> str:
    """Return a moment's day, YYYY-MM-DD."""
    return moment.strftime("%Y-%m-%d")


class ReplicaUsage:
    """Counts requests and tokens by the day on which they are reported.

    Args:
        me: the name of this process as the holder of slots.
        clock: seconds that only grow.
        now: the present time in UTC.

    Attributes:
        former: days that are over and not completely written yet.
        on_change: called when there is something to write where there was nothing.
    """

    def __init__(self, me: str, clock: Callable[[], float], now: Callable[[], datetime]) -> None:
        self.clock = clock
        self.now = now
        self.former: list[DayUsage] = []
        self.on_change: Callable[[], None] = lambda: None
        self._me = me
        self._by_key: dict[str, KeyUsage] = {}
        self._day = DayUsage(date_of(now()), me)

    def today(self) -> DayUsage:
        """Return the present day; a clock that goes back does not bring an earlier day back."""
        day = date_of(self.now())
        if day > self._day.date:
            self.former = [*self.former, self._day][-_MOST_FORMER:]
            self._day = DayUsage(day, self._me)
            long_ago = self.clock() - _UNUSED_SECONDS
            self._by_key = {
                key: key_usage
                for key, key_usage in self._by_key.items()
                if not key_usage.is_idle or key_usage.touched > long_ago
            }
            self.on_change()
        return self._day

    def of_key(self, key: str) -> KeyUsage:
        """Return the usage of one key, made where there is none."""
        return self._by_key.setdefault(key, KeyUsage())

    def count(self, key: str, model: str, requests: int, prompt: int, completion: int) -> None:
        """Count requests and tokens."""
        day = self.today()
        was_written = day.is_written
        day.count(key, model, requests, prompt, completion)
        if was_written:
            self.on_change()

    def waiting(self) -> bool:
        """Whether requests wait for a larger quota of their key."""
        return any(key_usage.waiting for key_usage in self._by_key.values())
