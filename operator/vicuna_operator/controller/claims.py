"""The claims that models name: read by name, and watched by their metadata, since most do not carry our label.

A claim that is created, deleted or being deleted wakes the models that named it in their last pass. Only such claims
are kept in memory, each by its uid and whether it is being deleted.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from vicuna_operator.api.model import Model
from vicuna_operator.controller.snapshot import Key
from vicuna_operator.kube.port import Kube
from vicuna_operator.kube.watch import ObjectIdentity, Page, Place
from vicuna_operator.planning.actions import Ref
from vicuna_operator.planning.observed import ClaimView
from vicuna_operator.resources.common import claim_name

__all__ = ["Claims"]

_SHARED_SECONDS = 0.5

State = tuple[str, bool] | None  # uid, whether it is being deleted; None: it is not there


class Claims:
    """Reads claims, and knows which models name them.

    Args:
        kube: reads.
        names_of: the claims that a model names.
        on_change: called with the key of a model when a claim that it names was created, deleted or is being deleted.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        kube: Kube,
        names_of: Callable[[Model], Sequence[str]],
        on_change: Callable[[Key], None] = lambda _: None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._kube = kube
        self._names_of = names_of
        self._on_change = on_change
        self._clock = clock
        self._asked: dict[Place, tuple[float, asyncio.Task[Mapping[str, Any] | None]]] = {}  # when, answer
        self._named: dict[Key, Sequence[Place]] = {}
        self._users: dict[Place, set[Key]] = {}
        self._states: dict[Place, State] = {}

    def __len__(self) -> int:
        """Return the number of claims in memory."""
        return len(self._states)

    async def read(self, model: Model) -> Mapping[str, ClaimView | None]:
        """Read the claims that a model names; from now on their changes wake it."""
        names = self._names_of(model) if model.spec is not None else ()
        foreign = [(model.namespace, name) for name in names if not _is_own(model, name)]
        self._set_names((model.namespace, model.name), foreign)  # before reading, so that no change is missed
        found = await asyncio.gather(*(self._read(model, name) for name in names))
        return {name: ClaimView.of(body) if body else None for name, body in zip(names, found, strict=True)}

    def forget(self, key: Key) -> None:
        """Drop the claims that a model named."""
        self._set_names(key, ())

    def apply_page(self, page: Page[ObjectIdentity]) -> None:
        """Apply changes of the watch, or a part of a list."""
        for identity in page.there:
            self._set_state(identity.place, (identity.uid, identity.deleting))
        for place in page.gone:
            self._set_state(place, None)

    def known_in(self, namespace: str | None) -> set[Place]:
        """Return the claims that models name in a namespace, or in all (None)."""
        return {place for place in self._users if namespace in (None, place[0])}

    def _set_names(self, key: Key, places: Sequence[Place]) -> None:
        if list(before := self._named.get(key, ())) == list(places):
            return
        for place in set(before) - set(places):
            self._users[place].discard(key)
            if not self._users[place]:
                del self._users[place]
                self._states.pop(place, None)
        for place in places:
            self._users.setdefault(place, set()).add(key)
        if places:
            self._named[key] = tuple(places)
        else:
            self._named.pop(key, None)

    def _set_state(self, place: Place, state: State) -> None:
        if place not in self._users or (place in self._states and self._states[place] == state):
            return
        self._states[place] = state
        self._asked.pop(place, None)  # the shared answer is stale
        for key in tuple(self._users[place]):
            self._on_change(key)

    async def _read(self, model: Model, name: str) -> Mapping[str, Any] | None:
        """Read a claim; models that read it within half a second share the answer.

        The model's own claim is always read: it may be this model that has just changed it.
        """
        ref = Ref("v1", "PersistentVolumeClaim", name)
        if _is_own(model, name):
            return await self._kube.get(ref, model.namespace)
        now, place = self._clock(), (model.namespace, name)
        self._asked = {key: entry for key, entry in self._asked.items() if _may_share(*entry, now)}
        if place not in self._asked:
            self._asked[place] = (now, asyncio.create_task(self._kube.get(ref, model.namespace)))
        _, asked = self._asked[place]
        return await asyncio.shield(asked)  # a cancelled pass must not cancel the read that others share


def _is_own(model: Model, name: str) -> bool:
    return model.spec is not None and model.spec.storage.claim_name is None and name == claim_name(model)


def _may_share(asked_at: float, asking: asyncio.Task[Any], now: float) -> bool:
    if not asking.done():
        return True
    return now - asked_at < _SHARED_SECONDS and not asking.cancelled() and asking.exception() is None
