"""One day of one replica: what it counted, how much of that is written, and which quotas it has. Pure."""

from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import replace
from datetime import datetime

from vicuna_contract.usage import COUNTS
from vicuna_server.gateway.quota import KeyUsage, Quota
from vicuna_server.gateway.slot import Slot, Usage, bounded, bounded_claims, lowest_free, tokens_by_key
from vicuna_server.protocol.counts import Used

__all__ = ["DayUsage"]

_MOST_FORMER = 8
"""How many holders of a slot are remembered."""
_MOST_TRIES = 100
"""How many writes without a response are remembered."""


class DayUsage:
    """Counts of one day: those of the slot that it has, and those that are not written yet.

    A write without a response may still have succeeded, or succeed later. So each write has a number, and its counts
    are kept until an object names the number of its last write. Nothing is counted twice, and nothing is lost.

    Args:
        date: YYYY-MM-DD in UTC.
        me: the name of this holder, which no other process ever has.

    Attributes:
        slot: where it counts; None: it has no slot yet.
        quotas: by name, of keys with a limit that were used today.
        dirty: whether the stored object differs from what it should be.
    """

    def __init__(self, date: str, me: str) -> None:
        self.date = date
        self.slot: Slot | None = None
        self.quotas: dict[str, Quota] = {}
        self.dirty = False
        self._me = me
        self._more: Usage = Counter()
        self._used: Counter[str] = Counter()
        self._lost: Counter[str] = Counter()
        self._tries: dict[int, Usage] = {}
        self._number = 0

    def count(self, key: str, model: str, *counts: int) -> None:
        """Count requests, tokens of prompts and tokens of completions."""
        self._more.update({(key, model, name): n for name, n in zip(COUNTS, counts, strict=True) if n})
        self._used[key] += sum(counts[1:])
        self.dirty = True

    def used(self, key: str, model: str) -> Used:
        """Return a key's tokens of a model in this slot, written or not."""
        _, *tokens = COUNTS
        written = self.slot.usage if self.slot is not None else Usage()
        return Used(*(written[key, model, name] + self._more[key, model, name] for name in tokens))

    def spent(self, key: str) -> int:
        """Return a key's tokens that are gone: used in this slot, or reserved by a holder that crashed."""
        return self._used[key] + self._lost[key]

    def quota(self, key: str, key_usage: KeyUsage, limit: int) -> Quota:
        """Return a key's quota of the day, made where there is none."""
        quota = self.quotas.get(key)
        if quota is None:
            quota = self.quotas[key] = Quota(key_usage, limit)
        quota.set_limit(limit)
        return quota

    def unspent(self) -> Iterator[tuple[str, Quota]]:
        """Return the quotas that have unspent tokens."""
        return ((key, quota) for key, quota in self.quotas.items() if quota.granted > self.spent(key))

    @property
    def is_written(self) -> bool:
        """Whether nothing is left to be written."""
        return not self.dirty and not self._more

    @property
    def is_held(self) -> bool:
        """Whether the slot was this replica's when it was last read or written."""
        return self.slot is not None and self.slot.holder == self._me

    def take(self, slots: Collection[Slot], fresh: Slot, now: datetime, ended: str) -> None:
        """Find the slot to count in; it is this replica's once it has been written."""
        mine = self._settle(slots)
        if mine is not None:
            self.slot = mine
        else:
            self.slot = found = lowest_free(slots, fresh, now, ended)
            self._lost = Counter(found.claims) - tokens_by_key(found.usage)
            self._used = tokens_by_key(found.usage) + tokens_by_key(self._more)
            for quota in self.quotas.values():
                quota.drop()

    def lose(self) -> None:
        """Give the slot up: another process has written to it, or it was deleted."""
        self.slot, self.dirty = None, True

    def filled(self, now: datetime, *, release: bool = False) -> Slot:
        """Return the slot as it is to be written now.

        Args:
            now: the present time.
            release: it is the last write; others may take the slot at once.
        """
        if self.slot is None:
            raise ValueError("the day has no slot; call take first")
        self._number += 1
        self._tries[self._number] = Counter(self._more)
        self._tries.pop(self._number - _MOST_TRIES, None)
        ended = [(self.slot.holder, self.slot.write)] if self.slot.holder not in ("", self._me) else []
        ended += [(self._me, self._number)] if release else []
        return replace(
            self.slot,
            holder="" if release else self._me,
            write=self._number,
            former=(*self.slot.former, *ended)[-_MOST_FORMER:],
            renewed=now,
            usage=bounded(self.slot.usage, self._more),
            claims=self._stored_claims(release=release),
        )

    def wrote(self, sent: Slot, response: Slot) -> None:
        """Record that a slot was written as it was sent; the response has its new resourceVersion."""
        self._more -= self._tries[sent.write]
        self._tries.clear()
        self.slot = replace(sent, metadata=response.metadata)
        self.dirty = bool(self._more)

    def see(self, slots: Collection[Slot], now: float) -> None:
        """Update the quotas with what the other slots of the day use and reserve."""
        others = [slot for slot in slots if self.slot is None or slot.name != self.slot.name]
        claimed: Counter[str] = sum((slot.tokens() for slot in others), Counter())
        used: Counter[str] = sum((tokens_by_key(slot.usage) for slot in others), Counter())
        for key, quota in self.quotas.items():
            quota.see(claimed[key], used[key], now)

    def _settle(self, slots: Collection[Slot]) -> Slot | None:
        """Find out which write succeeded; return the slot that is this replica's."""
        mine = None
        for slot in slots:
            if slot.holder == self._me:
                mine = slot
            for holder, number in (*slot.former, (slot.holder, slot.write)):
                if holder == self._me and number in self._tries:
                    self._more -= self._tries[number]
                    self._tries.clear()
        return mine

    def _stored_claims(self, *, release: bool) -> dict[str, int]:
        keys = self._lost.keys() | self.quotas.keys()
        asked = {} if release else {key: quota.asked for key, quota in self.quotas.items()}
        return bounded_claims({key: max(self.spent(key), asked.get(key, 0)) for key in keys})
