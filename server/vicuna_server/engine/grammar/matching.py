"""llguidance's objects: tokenizers, and the matchers that say which token a grammar allows next.

A token is its bytes, or special; so one class serves every kind of tokenizer, without reading its file a second time.
"""

from collections.abc import Callable, Collection, Sequence
from functools import cache

from llguidance import LLMatcher, LLParserLimits, LLTokenizer, TokenizerWrapper

__all__ = ["BYTES", "byte_tokenizer", "make_matcher", "make_tokenizer"]

BYTES = 256
"""Tokens of `byte_tokenizer`."""
_MOST_STATES = 50_000
"""Of one answer's lexer. Each is 1 to 2 kB, and some thousands are many. The other limits hold a step below 20 ms."""

_WORDS = "[a-zA-Z ]{1,10}"
"""Tokens that are looked at as one where a grammar allows all of them. The library has such slices for JSON's strings;
without this one, a mask of a pattern of letters takes three times as long."""


class _Tokens:
    """What llguidance asks of a tokenizer."""

    bos_token_id = None

    def __init__(self, tokens: Sequence[bytes], special: Sequence[int], end: int) -> None:
        self.tokens = tokens
        self.special_token_ids = special
        self.eos_token_id = end

    def __call__(self, text: bytes | str) -> list[int]:
        """Return no token: texts are encoded only to fast-forward, which nothing here does."""
        del text
        return []


def make_tokenizer(size: int, token_bytes: Callable[[int], bytes], special: Collection[int] = ()) -> LLTokenizer:
    """Return a tokenizer with one token more than there are: the end, which follows behind all others.

    Args:
        size: Ids below this are tokens.
        token_bytes: A token's bytes; none for what a grammar never allows.
        special: Ids of tokens that come only where a grammar names them.
    """
    tokens = [f"<[{token}]>".encode() if token in special else token_bytes(token) for token in range(size)]
    wrapped = TokenizerWrapper(_Tokens([*tokens, b"<end>"], sorted([*special, size]), size))
    return LLTokenizer(wrapped, slices=[_WORDS, *LLTokenizer.general_slices()])


@cache
def byte_tokenizer() -> LLTokenizer:
    """Return a tokenizer whose tokens are single bytes."""
    return make_tokenizer(BYTES, lambda token: bytes([token]))


def make_matcher(tokenizer: LLTokenizer, text: str) -> LLMatcher:
    """Return a matcher at the beginning of a grammar.

    Raises:
        ValueError: The grammar cannot be used; the message is the library's.
    """
    limits = LLParserLimits(max_lexer_states=_MOST_STATES, verbose_errors=False)
    matcher = LLMatcher(tokenizer, LLMatcher.grammar_from_lark(text), log_level=0, limits=limits)
    if matcher.is_error():
        raise ValueError(matcher.get_error())
    return matcher
