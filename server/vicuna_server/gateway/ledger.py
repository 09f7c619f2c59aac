"""What one replica counts: of every key with a limit what is under way, of every day a book. Pure."""

from collections.abc import Callable
from datetime import datetime

from vicuna_server.gateway.claims import Account
from vicuna_server.gateway.day_book import DayBook

__all__ = ["Ledger", "day_of"]

_MOST_FORMER = 2
_UNUSED_SECONDS = 300.0


def day_of(moment: datetime) -> str:
    """Return a moment's day, YYYY-MM-DD."""
    return moment.strftime("%Y-%m-%d")


class Ledger:
    """Counts by the day on which it is told of them.

    Args:
        me: the name of this process as the holder of slots.
        clock: seconds that only grow.
        now: the present time in UTC.

    Attributes:
        former: books of days that are over, and have yet to be written to their end.
        changed: called when there is something to write where there was nothing.
    """

    def __init__(self, me: str, clock: Callable[[], float], now: Callable[[], datetime]) -> None:
        self.clock = clock
        self.now = now
        self.former: list[DayBook] = []
        self.changed: Callable[[], None] = lambda: None
        self._me = me
        self._accounts: dict[str, Account] = {}
        self._book = DayBook(day_of(now()), me)

    def today(self) -> DayBook:
        """Return the present day's book; the clock may go back, days do not."""
        day = day_of(self.now())
        if day > self._book.day:
            self.former = [*self.former, self._book][-_MOST_FORMER:]
            self._book = DayBook(day, self._me)
            long_ago = self.clock() - _UNUSED_SECONDS
            self._accounts = {
                key: account
                for key, account in self._accounts.items()
                if not account.is_idle or account.touched > long_ago
            }
            self.changed()
        return self._book

    def account(self, key: str) -> Account:
        """Return what a key has under way."""
        return self._accounts.setdefault(key, Account())

    def count(self, key: str, model: str, requests: int, prompt: int, completion: int) -> None:
        """Count requests and tokens."""
        book = self.today()
        is_first = book.is_written
        book.count(key, model, requests, prompt, completion)
        if is_first:
            self.changed()

    def waiting(self) -> bool:
        """Whether requests wait for a larger part of their key's day."""
        return any(account.waiting for account in self._accounts.values())
