"""The responses that a server keeps for their callers: in memory, bounded in number, bytes and time. Pure.

Each belongs to one caller; nobody else finds it. One caller has a quarter of the room at most, so that none can take
all of it. What is oldest goes first: the caller's own where its share is full, else of all.
"""

import hmac
import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["KeptResponse", "ResponseStore", "StoreLimits", "written"]

SHARE = 4
"""One caller has one part in so many of the room."""

_RESPONSE_BYTES, _ITEM_BYTES = 1024, 64
"""What Python's objects take beside the JSON."""


@dataclass(frozen=True, slots=True)
class StoreLimits:
    """How much is kept.

    Attributes:
        responses: How many; 0: none.
        size: Bytes of all of them.
        seconds: How long each.
    """

    responses: int = 1000
    size: int = 64 * 2**20
    seconds: float = 3600.0


@dataclass(frozen=True, slots=True)
class KeptResponse:
    """One response.

    Attributes:
        owner: The caller it belongs to.
        response: The response object as JSON.
        outputs: Ids of its own items.
        inputs: The items that the model has read, those of the responses before it included, each as JSON.
        size: Bytes. Items that several responses share count for each, so that the sum is never too low.
        until: When it goes, by the clock.
    """

    owner: str
    response: bytes
    outputs: tuple[str, ...]
    inputs: tuple[bytes, ...]
    size: int
    until: float

    @property
    def items(self) -> tuple[bytes, ...]:
        """The whole conversation, the response's own items last."""
        return (*self.inputs, *written(json.loads(self.response)["output"]))


class ResponseStore:
    """What is kept now.

    Args:
        limits: How much.
        clock: Seconds that only grow.
    """

    def __init__(self, limits: StoreLimits, clock: Callable[[], float] = time.monotonic) -> None:
        self._limits = limits
        self._clock = clock
        self._kept: dict[str, KeptResponse] = {}  # the oldest first
        self._own: dict[str, dict[str, None]] = {}  # ids of each caller, the oldest first
        self._places: dict[str, str] = {}  # of each item, the response that brought it
        self._sizes: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def size(self) -> int:
        """Bytes of all of them."""
        return self._sizes.total()

    def has_room(self, owner: str, inputs: Sequence[bytes]) -> bool:
        """Return whether a response to this input can be kept, as far as that is known before it is there."""
        return bool(owner and self._limits.responses) and self._fits(_size(b"", inputs))

    def put(self, owner: str, ident: str, response: Mapping[str, Any], inputs: Sequence[bytes]) -> bool:
        """Keep a response, unless it is larger than a caller's share; return whether it is kept."""
        (data,), outputs = written([response]), tuple(item["id"] for item in response["output"])
        size = _size(data, inputs)
        if not (owner and self._limits.responses and self._fits(size)):
            return False
        self._expire()
        self._make_room(owner, size)
        until = self._clock() + self._limits.seconds
        self._kept[ident] = KeptResponse(owner, data, outputs, tuple(inputs), size, until)
        self._own.setdefault(owner, {})[ident] = None
        self._sizes[owner] += size
        self._places |= dict.fromkeys(outputs, ident)
        return True

    def get(self, owner: str, ident: str) -> KeptResponse | None:
        """Return a caller's response; None: there is none of this id, or it is not this caller's."""
        self._expire()
        kept = self._kept.get(ident)
        theirs = "" if kept is None else kept.owner
        return kept if owner and hmac.compare_digest(theirs, owner) else None

    def delete(self, owner: str, ident: str) -> bool:
        """Forget a caller's response; return whether there was one."""
        found = self.get(owner, ident) is not None
        if found:
            self._remove(ident)
        return found

    def item(self, owner: str, ident: str) -> dict[str, Any] | None:
        """Return an item that one of a caller's responses has put out; None: there is none."""
        kept = self.get(owner, self._places.get(ident, ""))
        output: list[dict[str, Any]] = [] if kept is None else json.loads(kept.response)["output"]
        return next((item for item in output if item["id"] == ident), None)

    def _fits(self, size: int) -> bool:
        return size <= self._limits.size // SHARE

    def _make_room(self, owner: str, size: int) -> None:
        share, of_size = max(1, self._limits.responses // SHARE), self._limits.size // SHARE
        while (own := self._own.get(owner)) and (len(own) >= share or self._sizes[owner] + size > of_size):
            self._remove(next(iter(own)))
        while self._kept and (len(self._kept) >= self._limits.responses or self.size + size > self._limits.size):
            self._remove(next(iter(self._kept)))

    def _expire(self) -> None:
        now = self._clock()
        while self._kept and (ident := next(iter(self._kept))) and self._kept[ident].until <= now:
            self._remove(ident)

    def _remove(self, ident: str) -> None:
        kept = self._kept.pop(ident)
        own = self._own[kept.owner]
        del own[ident]
        self._sizes[kept.owner] -= kept.size
        if not own:
            del self._own[kept.owner], self._sizes[kept.owner]
        for item in kept.outputs:
            del self._places[item]


def written(items: Iterable[object]) -> tuple[bytes, ...]:
    """Return items as JSON, each for itself."""
    return tuple(json.dumps(item, ensure_ascii=False, separators=(",", ":")).encode() for item in items)


def _size(response: bytes, inputs: Sequence[bytes]) -> int:
    return _RESPONSE_BYTES + len(response) + sum(len(item) + _ITEM_BYTES for item in inputs)
