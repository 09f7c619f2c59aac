"""The size of a stream's events: the gateway forwards up to 256 KiB, and other proxies may take less."""

from collections.abc import Iterator
from dataclasses import replace

from vicuna_server.engine import OutputChunk

__all__ = ["MAX_CHARACTERS", "MAX_EVENT_LOGPROBS", "split_chunk"]

MAX_CHARACTERS = 16 * 2**10
"""96 KiB at most: JSON writes a control character in six bytes."""
MAX_EVENT_LOGPROBS = 8
"""Tokens with their log probabilities; one has at most about 28 KB: 20 alternatives of 128 bytes each."""


def split_chunk(chunk: OutputChunk) -> Iterator[OutputChunk]:
    """Split a chunk that is too large for one event, such as an echoed prompt; nearly all chunks stay whole."""
    left = chunk
    while len(left.text) > MAX_CHARACTERS or len(left.token_logprobs) > MAX_EVENT_LOGPROBS:
        text, logprobs = left.text, left.token_logprobs
        yield replace(
            chunk, text=text[:MAX_CHARACTERS], token_logprobs=logprobs[:MAX_EVENT_LOGPROBS], finish_reason=None
        )
        left = replace(chunk, text=text[MAX_CHARACTERS:], token_logprobs=logprobs[MAX_EVENT_LOGPROBS:])
    yield left
