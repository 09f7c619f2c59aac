"""Tokens that another server has generated, made into the chunks that they were there.

The text side of an answer (characters, stop strings, limits) then stands where it stood at that server.
"""

from collections.abc import Callable, Sequence

from vicuna_contract.stream_state import REFUSED
from vicuna_server.engine import Generation, GenerationRequest, OutputChunk
from vicuna_server.engine.answer import Answer
from vicuna_server.errors import RequestError

__all__ = ["deliver", "never_off", "replayed"]


def replayed(
    tokens: Sequence[int], size: int, answer: Answer, now: float, recall: Callable[[int], bool] = lambda _: False
) -> list[OutputChunk]:
    """Return the chunks of an answer's first tokens; the last has a finish reason if the answer ends with it.

    Args:
        tokens: Their ids.
        size: Ids below this are tokens.
        answer: At its beginning.
        now: When the request came, on the `time.monotonic` clock.
        recall: Called with each token; returns whether the answer is complete with it.

    Raises:
        RequestError: 409: an id is no token.
    """
    if any(token >= size for token in tokens):
        raise RequestError(
            "this server cannot go on with the stream: it has tokens that its model has not; send the request again",
            status=409,
            code=REFUSED,
        )
    chunks: list[OutputChunk] = []
    for token in tokens:
        chunks.append(answer.push(token, now, last=recall(token)))
        if chunks[-1].finish_reason is not None:
            break
    return chunks


def deliver(chunks: Sequence[OutputChunk], generation: Generation) -> bool:
    """Add these chunks to a generation that is at its beginning; return whether it is over."""
    for chunk in chunks:
        generation.push(chunk)
    generation.begun = bool(chunks)
    return generation.over


def never_off(request: GenerationRequest) -> str:
    """Return nothing: another server can go on with each answer of an engine whose draws depend on their position."""
    del request
    return ""
