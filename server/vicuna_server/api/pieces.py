"""Events of a bounded size: the gateway passes on none beyond 256 KiB, and a proxy may take less."""

from collections.abc import Iterator
from dataclasses import replace

from vicuna_server.engine import OutputChunk

__all__ = ["MOST_LOGPROBS", "pieces"]

_LETTERS = 16 * 2**10
"""At six bytes each, which is what JSON makes of a control character: 96 KiB."""
MOST_LOGPROBS = 8
"""Tokens with their probabilities, each of at most about 28 KB: 20 alternatives of 128 bytes."""


def pieces(chunk: OutputChunk) -> Iterator[OutputChunk]:
    """Cut a chunk that is too large for one event, such as an echoed prompt; nearly all are not."""
    left = chunk
    while len(left.text) > _LETTERS or len(left.token_logprobs) > MOST_LOGPROBS:
        text, logprobs = left.text, left.token_logprobs
        yield replace(chunk, text=text[:_LETTERS], token_logprobs=logprobs[:MOST_LOGPROBS], finish_reason=None)
        left = replace(chunk, text=text[_LETTERS:], token_logprobs=logprobs[MOST_LOGPROBS:])
    yield left
