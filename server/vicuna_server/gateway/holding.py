"""Holds requests whose model has no ready server, but may get one, and lets them go in order once there is one.

A server that has just become ready does not get all of them at once, but as many as it is to have; the next ones go as
it begins to respond.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from itertools import islice

from vicuna_server.errors import OverloadedError, RequestError
from vicuna_server.gateway.catalogue import Catalogue, Model
from vicuna_server.gateway.demand import DemandCounts
from vicuna_server.gateway.metrics import Metrics
from vicuna_server.gateway.settings import HoldBounds
from vicuna_server.gateway.upstream_errors import not_ready

__all__ = ["Holding", "Place"]

Key = tuple[str, str]
"""Namespace and name of a model."""
_RETRY_AFTER = 5


class Holding:
    """The requests that wait; made and used where the event loop runs.

    Args:
        catalogue: says when servers become ready, and when none can.
        bounds: what may be held.
        demand: counts what is held.
        metrics: the same.
    """

    def __init__(self, catalogue: Catalogue, bounds: HoldBounds, demand: DemandCounts, metrics: Metrics) -> None:
        self.bounds = bounds
        self._catalogue = catalogue
        self._demand = demand
        self._metrics = metrics
        self._queues: dict[Key, _Queue] = {}
        self._held: Counter[tuple[Key, str]] = Counter()
        self._bytes = 0
        catalogue.listeners.append(self._changed)

    def place(self, model: Model, key: str, size: int) -> "Place":
        """Return the place of a request.

        Args:
            model: whose server is needed.
            key: name of the API key.
            size: bytes of the request's body.
        """
        return Place(self, model, key, size)

    def _enter(self, place: "Place") -> bool:
        """Add a request to its model's queue; False: a server is ready, or none may come, so that it need not wait.

        Raises:
            OverloadedError: 503 `too_many_held`; there is no room for it.
        """
        model = self._catalogue.model(place.model.key)
        if not self.bounds.seconds or model is None or not model.may_come or self._catalogue.endpoints(model):
            return False
        self._check(model, place.key, place.size)
        self._queues.setdefault(model.key, _Queue()).waiting[place] = None
        return True

    def _check(self, model: Model, key: str, size: int) -> None:
        bounds = self.bounds
        if self._held[model.key, key] >= bounds.each:
            bound, why = "key", f"{bounds.each} requests of this API key wait for it, the most that are held"
        elif self._held.total() >= bounds.all:
            bound, why = "all", f"{bounds.all} requests wait for models, the most that are held"
        elif self._bytes + size > bounds.body_bytes:
            bound, why = "bytes", f"the bodies of requests that wait for models exceed {bounds.body_bytes} bytes"
        else:
            return
        self._metrics.hold_refused(model.id, key, bound)
        message = f"{model.id} has no ready server, and {why}; try again in {_RETRY_AFTER} s"
        raise OverloadedError(message, status=503, code="too_many_held", retry_after=_RETRY_AFTER)

    @contextmanager
    def _counted(self, place: "Place") -> Iterator[None]:
        model, key = place.model, place.key
        self._held[model.key, key] += 1
        self._bytes += place.size
        began = time.monotonic()
        with self._demand.holding(model.key), self._metrics.held(model.id, key).track_inprogress():
            try:
                yield
            finally:
                self._bytes -= place.size
                self._held[model.key, key] -= 1
                if not self._held[model.key, key]:
                    del self._held[model.key, key]
                self._metrics.hold_ended(model.id, time.monotonic() - began)

    def _changed(self, key: Key) -> None:
        """Follow a model: let requests go to its servers, or end their waiting where none can come."""
        if (queue := self._queues.get(key)) is None:
            return
        model = self._catalogue.model(key)
        for place in list(queue.waiting):
            if model is None or place.model.id != model.id:
                self._end(queue, place, _gone(place.model))
            elif not model.may_come and not self._catalogue.endpoints(model):
                self._end(queue, place, not_ready(model))
        if model is not None:
            room = model.at_once * len(self._catalogue.endpoints(model)) - queue.begun
            for place in list(islice(queue.waiting, max(0, room))):
                self._let_go(queue, place, model)

    def _let_go(self, queue: "_Queue", place: "Place", model: Model) -> None:
        del queue.waiting[place]
        queue.begun += 1
        place.settle(model)

    def _end(self, queue: "_Queue", place: "Place", error: RequestError) -> None:
        del queue.waiting[place]
        place.settle(error)

    def _late(self, place: "Place") -> None:
        """End the waiting of a request that may wait no longer; where a server is ready, it goes before its turn."""
        queue, model = self._queues[place.model.key], self._catalogue.model(place.model.key)
        if model is not None and self._catalogue.endpoints(model):
            self._let_go(queue, place, model)
        else:
            self._end(queue, place, not_ready(model or place.model))

    def _leave(self, place: "Place", *, let_go: bool) -> None:
        """Free a place; the next may go."""
        queue = self._queues.get(place.model.key)
        if queue is None:
            return
        queue.waiting.pop(place, None)
        queue.begun -= let_go
        self._changed(place.model.key)
        if not queue.waiting and not queue.begun:
            self._queues.pop(place.model.key, None)


class _Queue:
    """The requests that wait for one model.

    Attributes:
        waiting: in their order.
        begun: how many were let go and have no response yet.
    """

    def __init__(self) -> None:
        self.waiting: dict[Place, None] = {}
        self.begun = 0


class Place:
    """The place of one request; the owner closes it in every case.

    Attributes:
        model: whose server is needed.
        key: name of the API key.
        size: bytes of its body.
    """

    def __init__(self, holding: Holding, model: Model, key: str, size: int) -> None:
        self.model = model
        self.key = key
        self.size = size
        self._holding = holding
        self._turn: asyncio.Future[Model | RequestError] | None = None

    async def wait(self, on_silence: Callable[[], Awaitable[None]] | None) -> Model:
        """Return when the request may go, with the model as it is then.

        Args:
            on_silence: called again and again while it waits for the head of a stream; None: it is no stream.

        Raises:
            OverloadedError: 503 `too_many_held`, or `model_not_ready`: no server comes, or not in time.
            RequestError: 404; the model was deleted.
        """
        if not self._holding._enter(self):
            return self.model
        turn = self._turn = asyncio.get_running_loop().create_future()
        with self._holding._counted(self):
            await self._settled(turn, on_silence)
        outcome: Model | RequestError = turn.result()
        if isinstance(outcome, RequestError):
            raise outcome
        return outcome

    async def _settled(
        self, turn: "asyncio.Future[Model | RequestError]", on_silence: Callable[[], Awaitable[None]] | None
    ) -> None:
        bounds, loop = self._holding.bounds, asyncio.get_running_loop()
        most = bounds.seconds if on_silence is None else max(bounds.seconds, self.model.max_stream_seconds)
        until = loop.time() + most
        while not turn.done():
            left = until - loop.time()
            if left <= 0:
                self._holding._late(self)
                return
            await asyncio.wait((turn,), timeout=left if on_silence is None else min(left, bounds.silent_seconds))
            if on_silence is not None and not turn.done():
                await on_silence()

    def settle(self, outcome: Model | RequestError) -> None:
        """Let it go, or end its waiting."""
        assert self._turn is not None  # noqa: S101  # it waits
        self._turn.set_result(outcome)

    def close(self) -> None:
        """Free it: the request has its response, or has ended. Further calls do nothing."""
        turn, self._turn = self._turn, None
        if turn is not None:
            self._holding._leave(self, let_go=turn.done() and isinstance(turn.result(), Model))


def _gone(model: Model) -> RequestError:
    return RequestError(
        f"the model {model.id} was deleted while the request waited for it; GET /v1/models lists what there is",
        status=404,
        param="model",
        code="model_not_found",
    )
