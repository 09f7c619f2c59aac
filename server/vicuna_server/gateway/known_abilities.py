"""What the ready servers of each model have told of it, and which of them have yet to be asked."""

from collections.abc import Iterable

from vicuna_server.gateway.abilities import NOTHING, Abilities, common
from vicuna_server.gateway.catalogue import Endpoint

__all__ = ["MOST_EMPTY", "KnownAbilities", "ask_again_after", "source_of"]

Key = tuple[str, str]
"""Namespace and name of a model."""
MOST_EMPTY = 10
"""Answers without abilities, after which a source is not asked any more: it is an older server, or another project's.

The first few may come from a server that is still loading.
"""
_LONGEST_SECONDS = 300.0


class KnownAbilities:
    """What has been told, for each model and source.

    A source is what tells the same whichever of its servers is asked: a revision; where that is not known, one server.
    """

    def __init__(self) -> None:
        self._told: dict[Key, dict[str, Abilities]] = {}

    def follow(self, key: Key, endpoints: Iterable[Endpoint]) -> tuple[set[str], set[str]]:
        """Take the ready endpoints of a model; none: it has gone.

        Returns:
            The sources to ask, and those that have gone; what the latter have told is forgotten.
        """
        told, present = self._told.get(key, {}), {source_of(each) for each in endpoints}
        new, gone = present - told.keys(), told.keys() - present
        self._told[key] = {source: told.get(source, NOTHING) for source in present}
        if not present:
            del self._told[key]
        return new, gone

    def tell(self, key: Key, source: str, abilities: Abilities) -> None:
        """Keep what a source that is still there has told."""
        if source in self._told.get(key, {}):
            self._told[key][source] = abilities

    def of(self, key: Key) -> Abilities:
        """Return what is known of a model."""
        return common(self._told.get(key, {}).values())


def source_of(endpoint: Endpoint) -> str:
    """Return the source to which an endpoint belongs."""
    return endpoint.revision or endpoint.url


def ask_again_after(tries: int) -> float:
    """Return the seconds to wait after so many tries, 1 or more: 1, 2, 4 … 300."""
    return min(_LONGEST_SECONDS, 2.0 ** min(tries - 1, 9))
