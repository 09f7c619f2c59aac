"""Quotas: the tokens of a key's day that one replica may spend, so that all replicas together keep the limit.

A replica first writes what it asks for, then reads what all replicas have written. It is granted what the others leave
of the limit, and no more. The replica that wrote last has read all others. So the quotas never sum up to more than the
limit, even if replicas write at the same time. The next write gives back what was asked for and not granted.

In the stored object, quotas are called `claims`.
"""

from dataclasses import dataclass, field

from vicuna_server.gateway.sliding_window import SlidingWindow

__all__ = ["KeyUsage", "Quota", "fits"]


@dataclass(slots=True)
class KeyUsage:
    """What one key has under way on one replica.

    Attributes:
        recent: its tokens of the last minute.
        reserved: tokens that its requests may still use.
        under_way: number of its requests.
        waiting: tokens for which requests wait.
        touched: when it was last used, in seconds that only grow.
    """

    recent: SlidingWindow = field(default_factory=SlidingWindow)
    reserved: int = 0
    under_way: int = 0
    waiting: int = 0
    touched: float = 0.0

    @property
    def is_idle(self) -> bool:
        """Whether nothing is under way and nothing waits."""
        return not self.under_way and not self.waiting


def fits(key_usage: KeyUsage, spent: int, most: int, limit: int) -> bool:
    """Whether a request of at most `most` tokens may start.

    Requests that fit into the limit may. One that may exceed it starts only while no other is under way. So one request
    at most exceeds a limit, and one that is larger than the limit is not refused for ever.
    """
    return spent + key_usage.reserved + most <= limit or (not key_usage.under_way and spent < limit)


@dataclass(slots=True)
class Quota:
    """The tokens of a key's day that one replica may spend.

    Attributes:
        limit: of all replicas together.
        granted: tokens of this replica, spent or not.
        asked: tokens that it asks for, or keeps; the stored `claims`.
        others: tokens that all others had asked for or used, when last read.
        used: tokens that they had used of these.
        read: when that was, in seconds that only grow.
        exhausted: whether the others left nothing more to grant.
    """

    key_usage: KeyUsage
    limit: int
    granted: int = 0
    asked: int = 0
    others: int = 0
    used: int = 0
    read: float = float("-inf")
    exhausted: bool = False

    def set_limit(self, limit: int) -> None:
        """Set the limit; a changed one takes back all that was granted."""
        if limit != self.limit:
            self.limit = limit
            self.drop()

    def drop(self) -> None:
        """Set all back to nothing."""
        self.granted = self.asked = 0
        self.read, self.exhausted = float("-inf"), False

    def see(self, others: int, used: int, now: float) -> None:
        """Update what all others have asked for, and what they used of it."""
        self.others, self.used, self.read = others, used, now

    def ask(self, spent: int, replicas: int) -> bool:
        """Ask for what is needed and, where much is left, for a share of the rest.

        A share is half of what each replica could have. So all fit where replicas ask at the same time, and shares get
        small when little is left.

        Returns:
            Whether it asks for more than it has.
        """
        free, own = self.limit - self.others, max(self.granted, spent)
        needed = spent + self.key_usage.reserved
        share = max(0, free - needed) // (2 * replicas)
        wanted = needed + max(self.key_usage.waiting, share)
        self.exhausted = free <= own
        self.asked = max(own, min(free, wanted))
        return self.asked > own

    def grant(self) -> None:
        """Take what the others leave of `asked`, after that was written and then all slots were read."""
        free, asked = self.limit - self.others, self.asked
        self.granted = self.asked = max(self.granted, min(asked, free))
        # A replica that gets less than it asked for met another one; both may get more with their next try.
        self.exhausted = self.granted == asked and free <= asked

    def give_back(self, spent: int) -> None:
        """Give back what is not spent."""
        self.granted = self.asked = spent
