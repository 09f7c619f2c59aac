"""One object of the store: the usage that one replica counted on one day. Pure; docs/contract.md describes it."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from vicuna_contract.names import API_VERSION, LABEL_DAY, LABEL_GATEWAY, LABEL_MANAGED_BY, USAGE_KIND
from vicuna_contract.usage import COUNTS, OTHER, count_of, rows_of

__all__ = ["GONE_SECONDS", "Slot", "Usage", "bounded", "bounded_claims", "lowest_free", "size_of", "tokens_by_key"]

Usage = Counter[tuple[str, str, str]]
"""Counts by key, model, and one of `COUNTS`."""

GONE_SECONDS = 30.0
"""Seconds without a write after which another replica may take a slot."""
_NEVER = datetime.min.replace(tzinfo=UTC)
MOST_ROWS = 5000
MOST_BYTES = 640 * 2**10
"""Bytes of all rows. With claims an object stays below 1 MiB; etcd takes up to 1.5 MiB."""
_MOST_CLAIM_BYTES = 320 * 2**10
_ROW_BYTES = 110
"""Bytes of a row without its two names."""


@dataclass(frozen=True, slots=True)
class Slot:
    """The object, as it was read or will be written.

    Attributes:
        metadata: of the object; without a resourceVersion it has not been made yet.
        day: YYYY-MM-DD in UTC.
        holder: the process that writes it; empty: none any more.
        write: number of its last write; a holder uses each number once, even for a write that fails.
        former: the previous holders, the latest last, each with the number of its last write.
        renewed: when it was written.
        usage: the counts.
        claims: by key with a limit, tokens of the day that are reserved for this slot, used or not.
    """

    metadata: Mapping[str, Any]
    day: str
    holder: str = ""
    write: int = 0
    former: tuple[tuple[str, int], ...] = ()
    renewed: datetime = _NEVER
    usage: Usage = field(default_factory=Counter)
    claims: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def fresh(cls, namespace: str, gateway: str, day: str) -> "Slot":
        """Return the first slot of a day, before any process has written it."""
        labels = {
            "app.kubernetes.io/part-of": "vicuna-operator",
            LABEL_MANAGED_BY: "vicuna-gateway",
            LABEL_GATEWAY: gateway,
            LABEL_DAY: day,
        }
        return cls({"name": f"{gateway}-{day}-0", "namespace": namespace, "labels": labels}, day)

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> "Slot":
        """Read an object, whatever is in it."""
        metadata = {name: value for name, value in body["metadata"].items() if name != "managedFields"}
        usage: Usage = Counter()
        for row in rows_of(body):
            usage.update({(row.key, row.model, name): n for name, n in zip(COUNTS, row.counts, strict=True) if n})
        return cls(
            metadata=metadata,
            day=str(body.get("day") or ""),
            holder=str(body.get("holder") or ""),
            write=count_of(body.get("write")),
            former=tuple(_pairs(body.get("former"), "holder", "write")),
            renewed=_moment(body.get("renewedAt")),
            usage=usage,
            claims=dict(_pairs(body.get("claims"), "key", "tokens")),
        )

    @property
    def name(self) -> str:
        """The object's name."""
        return str(self.metadata["name"])

    @property
    def number(self) -> int:
        """Its number among the day's slots; -1 for an object with another name."""
        number = self.name.rpartition("-")[2]
        return int(number) if number.isdecimal() and number.isascii() else -1

    def tokens(self) -> Counter[str]:
        """Return each key's tokens of the day that are this slot's: used or claimed, whichever is more."""
        return tokens_by_key(self.usage) | Counter(self.claims)

    def body(self) -> dict[str, Any]:
        """Return the object for the API server."""
        return {
            "apiVersion": API_VERSION,
            "kind": USAGE_KIND,
            "metadata": dict(self.metadata),
            "day": self.day,
            "holder": self.holder,
            "write": self.write,
            "former": [{"holder": holder, "write": write} for holder, write in self.former],
            "renewedAt": self.renewed.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
            "usage": list(_rows(self.usage)),
            "claims": [{"key": key, "tokens": tokens} for key, tokens in sorted(self.claims.items())],
        }


def _pairs(value: object, name: str, count: str) -> Iterator[tuple[str, int]]:
    for entry in value if isinstance(value, list) else ():
        if isinstance(entry, dict) and isinstance(entry.get(name), str):
            yield entry[name], count_of(entry.get(count))


def _moment(value: object) -> datetime:
    try:
        moment = datetime.fromisoformat(str(value))
    except ValueError:
        return _NEVER
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _rows(usage: Usage) -> Iterator[dict[str, Any]]:
    for key, model in sorted({(key, model) for key, model, _ in usage}):
        yield {"key": key, "model": model} | {name: n for name in COUNTS if (n := usage[key, model, name])}


def tokens_by_key(usage: Usage) -> Counter[str]:
    """Return each key's tokens of prompts and completions."""
    tokens: Counter[str] = Counter()
    for (key, _, name), count in usage.items():
        if name != COUNTS[0]:
            tokens[key] += count
    return tokens


def size_of(pairs: Iterable[tuple[str, str]]) -> int:
    """Estimate the bytes of the rows of these keys and models."""
    return sum(len(key.encode()) + len(model.encode()) + _ROW_BYTES for key, model in pairs)


def bounded(written: Usage, more: Usage) -> Usage:
    """Return the sum of two counts; rows of the second that do not fit into the object are counted together."""
    pairs = {(key, model) for key, model, _ in written}
    size, sums = size_of(pairs), Counter(written)
    for (key, model, name), count in more.items():
        if (key, model) not in pairs:
            own = size_of([(key, model)])
            if len(pairs) >= MOST_ROWS or size + own > MOST_BYTES:
                key, model = OTHER, OTHER
            else:
                pairs.add((key, model))
                size += own
        sums[key, model, name] += count
    return sums


def bounded_claims(claims: Mapping[str, int]) -> dict[str, int]:
    """Return the claims that fit into an object, the largest first; one Secret has fewer keys than fit."""
    kept, size = dict[str, int](), 0
    for key, tokens in sorted(claims.items(), key=lambda claim: -claim[1]):
        size += size_of([(key, "")])
        if size > _MOST_CLAIM_BYTES or not tokens:
            break
        kept[key] = tokens
    return kept


def lowest_free(slots: Collection[Slot], fresh: Slot, now: datetime, ended: str) -> Slot:
    """Return the slot to take: the first whose holder has ended, else a new one.

    Args:
        slots: the day's.
        fresh: the first slot of the day, before it was written.
        now: the present time.
        ended: prefix of the names of holders that have certainly ended; empty: none.
    """
    for slot in sorted(slots, key=lambda slot: slot.number):
        silent = (now - slot.renewed).total_seconds() > GONE_SECONDS
        if slot.number >= 0 and (not slot.holder or silent or (ended and slot.holder.startswith(ended))):
            return slot
    taken = {slot.number for slot in slots}
    number = next(number for number in range(len(taken) + 1) if number not in taken)
    name = f"{fresh.name.rpartition('-')[0]}-{number}"
    return Slot({**fresh.metadata, "name": name}, fresh.day)
