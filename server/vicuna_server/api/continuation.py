"""How another server goes on with a stream of this one, or this one with another's.

`vicuna_contract.stream_state` describes what they tell each other through the gateway.
"""

import hashlib
import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace

from pydantic import ValidationError
from starlette.requests import Request

from vicuna_contract.names import STATE_HEADER
from vicuna_contract.stream_state import MOST_STATE_BYTES, REFUSED, STATE_COMMENT, TOKENS_COMMENT
from vicuna_server import __version__
from vicuna_server.engine import Engine, GenerationRequest, OutputChunk
from vicuna_server.errors import RequestError
from vicuna_server.protocol.envelope import Envelope
from vicuna_server.protocol.stream_state import StreamBegin, StreamState

__all__ = ["Continuation", "StreamReport", "continuation_of", "key_of", "set_state", "state_size"]

_STATE = "continuation"
_LEAST_SECONDS = 1.0
"""Left to a stream that goes on, however long it has taken before."""


def key_of(artifact: str, engine: Engine) -> str:
    """Return what two servers must have equal; empty where no other server can go on, since no artifact is known."""
    if not artifact:
        return ""
    return hashlib.sha256("\n".join((__version__, artifact, engine.fingerprint)).encode()).hexdigest()


@dataclass(slots=True)
class Continuation:
    """Of one request.

    Attributes:
        asked: Whether the gateway asks for what another server must know.
        state: What another server's stream has come to, with which this one goes on; None: it begins here.
        begin: What is stated of this stream; None: nothing.
        off: Why no other server can go on, a name from `WHY_OFF`; empty: one can.
    """

    asked: bool = False
    state: StreamState | None = None
    begin: StreamBegin | None = None
    off: str = ""

    def envelope(self, ident: str, model: str) -> Envelope:
        """Return what all parts of the response have in common: another server's, where this one goes on.

        Args:
            ident: The response's id, where it begins here.
            model: The served model's name.
        """
        if self.state is not None:
            return Envelope(self.state.begin.id, model, self.state.begin.created)
        envelope = Envelope(ident, model)
        if self.begin is not None:
            self.begin = self.begin.model_copy(update={"id": envelope.ident, "created": envelope.created})
        return envelope

    def prepared(self, request: GenerationRequest, engine: Engine, key: str, *, choices: int) -> GenerationRequest:
        """Return what the engine is to do.

        Args:
            request: As the client wants it.
            engine: Which generates.
            key: This server's, by `key_of`.
            choices: Of the whole request.

        Raises:
            RequestError: 409: this server cannot go on with the other one's stream.
        """
        if not self.asked:
            return request
        self.off = self.off or _why_off(request, engine, key, choices)
        if self.state is not None:
            return self._gone_on(request, self.state, key)
        if self.off:
            return request
        if request.temperature > 0 and request.seed is None and not engine.why_off(replace(request, seed=0)):
            request = replace(request, seed=secrets.randbits(63))
        self.begin = StreamBegin.model_construct(key=key, id="", created=0, seed=request.seed)
        return request

    def _gone_on(self, request: GenerationRequest, state: StreamState, key: str) -> GenerationRequest:
        if self.off or key != state.begin.key:
            why = "another model, engine, dtype, template, context or version" if not self.off else "other fields"
            raise RequestError(
                f"this server cannot go on with the stream, which comes from {why}; send the request again",
                status=409,
                code=REFUSED,
            )
        self.begin = state.begin
        left = None if request.time_limit is None else max(_LEAST_SECONDS, request.time_limit - state.seconds)
        return replace(request, seed=state.begin.seed, generated=state.tokens, time_limit=left)


def _why_off(request: GenerationRequest, engine: Engine, key: str, choices: int) -> str:
    if not key:
        return "artifact"
    if choices != 1:
        return "choices"
    return "logprobs" if request.logprobs is not None else engine.why_off(request)


class StreamReport:
    """The comments of one stream, and which of its events the client has already.

    Args:
        continuation: Of the request.
        cached: Returns how many tokens of the prompt were not computed again; valid from the first chunk on.
    """

    def __init__(self, continuation: Continuation, cached: Callable[[], int]) -> None:
        state = continuation.state
        self._continuation = continuation
        self._cached = cached
        self._reports = continuation.begin is not None
        self._said = not continuation.asked or (continuation.begin is None and not continuation.off)
        self._known = len(state.tokens) if state is not None else 0
        self._passed = state.events if state is not None else 0
        self._ids: list[int] = []

    def take(self, chunk: OutputChunk) -> None:
        """Note the tokens of a chunk."""
        if not self._reports:
            return
        new = len(chunk.ids) - self._known
        self._known = max(0, -new)
        if new > 0:
            self._ids += chunk.ids[-new:]

    def passed(self, events: int) -> int:
        """Return how many of the next so many events the client has already."""
        passed = min(self._passed, events)
        self._passed -= passed
        return passed

    def next(self) -> bytes:
        """Return the comments for the next events."""
        comments = b"" if self._said else self._statement()
        if self._ids:
            comments += b"%b%b\n\n" % (TOKENS_COMMENT, ",".join(map(str, self._ids)).encode())
            self._ids.clear()
        return comments

    def _statement(self) -> bytes:
        self._said = True
        begin, state = self._continuation.begin, self._continuation.state
        if begin is None:
            return b'%b{"off":"%b"}\n\n' % (STATE_COMMENT, self._continuation.off.encode())
        if state is None:
            begin = begin.model_copy(update={"cached": self._cached()})
        return b"%b%b\n\n" % (STATE_COMMENT, begin.model_dump_json().encode())


def state_size(request: Request) -> int:
    """Return how many bytes of state are behind the request's body.

    Raises:
        RequestError: 400: the gateway's header is broken.
    """
    given = request.headers.get(STATE_HEADER)
    if given is None:
        return 0
    if not given.isascii() or not given.isdigit() or len(given) > 9 or int(given) > MOST_STATE_BYTES:
        raise _broken(f"{STATE_HEADER} must be a number of bytes up to {MOST_STATE_BYTES}")
    return int(given)


def set_state(request: Request, data: bytes) -> None:
    """Note what the gateway says of the stream; `data` is what came behind the request's body.

    Raises:
        RequestError: 400: it is no state.
    """
    continuation = Continuation(asked=STATE_HEADER in request.headers)
    if data:
        try:
            continuation.state = StreamState.model_validate_json(data)
        except ValidationError as error:
            raise _broken(f"the stream's state cannot be read: {error.errors()[0]['msg']}") from None
    setattr(request.state, _STATE, continuation)


def continuation_of(request: Request) -> Continuation:
    """Return what is known of the request's continuation."""
    continuation: Continuation = getattr(request.state, _STATE, None) or Continuation()
    return continuation


def _broken(why: str) -> RequestError:
    return RequestError(f"{why}; leave the header {STATE_HEADER} to the gateway", status=400, code="state_broken")
