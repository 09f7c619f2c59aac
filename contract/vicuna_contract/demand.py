"""The demand for models, as one replica of a gateway states it in a VicunaUsage and the operator reads it.

A replica writes its object when what it states changes, at most once a second, and again every `RENEW_SECONDS` while
any of it is above zero. An object that states something and is not renewed belongs to a replica that was lost.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple

from vicuna_contract.usage import count_of

__all__ = ["RENEW_SECONDS", "Demand", "demand_of", "entries_of"]

RENEW_SECONDS: Final = 10.0


class Demand(NamedTuple):
    """What clients of one gateway's replica want of one model.

    Attributes:
        namespace: of the VicunaModel.
        name: of the VicunaModel.
        under_way: requests that were sent to a server and are not over.
        held: requests that wait in the gateway until a server is ready.
    """

    namespace: str
    name: str
    under_way: int
    held: int


def demand_of(body: Mapping[str, Any]) -> Iterator[Demand]:
    """Return what an object states; what cannot be read of it is left out."""
    entries = body.get("demand")
    for entry in entries if isinstance(entries, list) else ():
        if isinstance(entry, Mapping):
            namespace, name = entry.get("namespace"), entry.get("name")
            if isinstance(namespace, str) and isinstance(name, str):
                yield Demand(namespace, name, count_of(entry.get("underWay")), count_of(entry.get("held")))


def entries_of(demand: Iterable[Demand]) -> list[dict[str, Any]]:
    """Return the field `demand` of an object; models without demand are left out."""
    return [
        {"namespace": each.namespace, "name": each.name, "underWay": each.under_way, "held": each.held}
        for each in sorted(demand)
        if each.under_way or each.held
    ]
