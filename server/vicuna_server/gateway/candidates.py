"""Which servers a request may still be sent to."""

from collections.abc import Sequence

from vicuna_server.gateway.catalogue import Endpoint, Model
from vicuna_server.gateway.continued_stream import ContinuedStream
from vicuna_server.gateway.holders import holders
from vicuna_server.gateway.meter import Attempt
from vicuna_server.gateway.upstream import Outgoing, Upstream

__all__ = ["Candidates"]


class Candidates:
    """Of one request: each server once, and where one is lost that the client has a stream of, all others again.

    Args:
        upstream: knows the endpoints.
        model: whose they are.
        outgoing: the request.
        stream: what the client has of its response.

    Attributes:
        tried: those that got it since then.
    """

    def __init__(self, upstream: Upstream, model: Model, outgoing: Outgoing, stream: ContinuedStream) -> None:
        self._upstream = upstream
        self._model = model
        self._outgoing = outgoing
        self._stream = stream
        self._lost: list[Endpoint] = []
        self.tried: list[Endpoint] = []

    def take(self) -> Endpoint | None:
        """Return whom to try next; None: nobody is left."""
        endpoint = self._next(self.tried)
        if endpoint is not None:
            self.tried.append(endpoint)
        return endpoint

    def lost(self, endpoint: Endpoint) -> None:
        """Note that a server is lost whose stream the client has: those that could not take it may go on with it."""
        self._lost.append(endpoint)
        self.tried = list(self._lost)

    def is_left_for(self, attempt: Attempt) -> bool:
        """Whether the server of an attempt is not among the ready ones any more, and another can take its stream.

        Before a stream's first event any other can; later one that goes on.
        """
        if not self._outgoing.streams or attempt.endpoint in self._upstream.endpoints(self._model):
            return False
        if not self._stream.is_of(attempt):
            return self._next(self.tried) is not None
        return self._stream.survives and self._next([*self._lost, attempt.endpoint]) is not None

    def _next(self, tried: Sequence[Endpoint]) -> Endpoint | None:
        """Return whom to try behind these; endpoints are looked up again, since they may have changed."""
        endpoints: Sequence[Endpoint] = self._upstream.endpoints(self._model)
        if self._outgoing.continues:  # each that may keep it, until one does
            endpoints = holders(endpoints, self._outgoing.continues)
        elif len(tried) >= self._upstream.settings.max_tries:
            return None
        endpoints = self._stream.preferred(endpoints, tried)
        return self._upstream.balancer.pick(endpoints, tried, self._outgoing.affinity)
