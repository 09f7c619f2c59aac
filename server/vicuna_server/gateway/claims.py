"""What one replica may spend of a key's day: a part that it has claimed, so that all together never exceed the limit.

A replica first writes what it claims, then reads what all have written. What the others leave of the limit is granted,
and nothing else: whoever wrote last has seen all, so that grants never sum up to more than the limit, whatever is
written at the same time. What was claimed and not granted is let go with the next write.
"""

from dataclasses import dataclass, field

from vicuna_server.gateway.recent import Recent

__all__ = ["Account", "Claim", "fits"]


@dataclass(slots=True)
class Account:
    """What one key has under way on this replica.

    Attributes:
        recent: its tokens of the last minute.
        held: tokens that its requests may still come to.
        under_way: its requests.
        waiting: tokens that requests wait for.
        touched: when it was last used, in seconds that only grow.
    """

    recent: Recent = field(default_factory=Recent)
    held: int = 0
    under_way: int = 0
    waiting: int = 0
    touched: float = 0.0

    @property
    def is_idle(self) -> bool:
        """Whether nothing is under way and nothing waits."""
        return not self.under_way and not self.waiting


def fits(account: Account, spent: int, most: int, limit: int) -> bool:
    """Whether a request of at most so many tokens may begin.

    Within the limit any number may; one that may go beyond it only begins where it is the only one. So a limit is
    passed by one request at most, and one that could never fit is not refused for ever.
    """
    return spent + account.held + most <= limit or (not account.under_way and spent < limit)


@dataclass(slots=True)
class Claim:
    """A replica's part of a key's tokens of one day.

    Attributes:
        limit: of all replicas together.
        granted: tokens that are this replica's, spent or not.
        asked: what it wants, or has let go down to; written as its claim.
        others: what all others had claimed or used when that was last read.
        used: what they had used of it.
        read: when that was, in seconds that only grow.
        exhausted: nothing more was to be had then.
    """

    account: Account
    limit: int
    granted: int = 0
    asked: int = 0
    others: int = 0
    used: int = 0
    read: float = float("-inf")
    exhausted: bool = False

    def restate(self, limit: int) -> None:
        """Take another limit; what was granted under the former one is none any more."""
        if limit != self.limit:
            self.limit = limit
            self.drop()

    def drop(self) -> None:
        """Have nothing any more."""
        self.granted = self.asked = 0
        self.read, self.exhausted = float("-inf"), False

    def see(self, others: int, used: int, now: float) -> None:
        """Learn what all others have claimed, and what they used."""
        self.others, self.used, self.read = others, used, now

    def ask(self, spent: int, replicas: int) -> bool:
        """Ask for what is needed and, where there is plenty, for a share of the rest.

        A share is half of what each replica could have: claims that are made at the same time fit, and towards the end
        of the limit they become small.

        Returns:
            Whether there is anything to ask for.
        """
        free, own = self.limit - self.others, max(self.granted, spent)
        needed = spent + self.account.held
        share = max(0, free - needed) // (2 * replicas)
        wanted = needed + max(self.account.waiting, share)
        self.exhausted = free <= own
        self.asked = max(own, min(free, wanted))
        return self.asked > own

    def grant(self) -> None:
        """Take what is left of what was asked for, once that has been written and then all has been read."""
        free, asked = self.limit - self.others, self.asked
        self.granted = self.asked = max(self.granted, min(asked, free))
        # Whoever gets less than he asked for met another, and both may get more with their next try.
        self.exhausted = self.granted == asked and free <= asked

    def give_back(self, spent: int) -> None:
        """Let go what is not spent."""
        self.granted = self.asked = spent
