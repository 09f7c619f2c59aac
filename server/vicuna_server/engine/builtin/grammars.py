"""The grammars that answers of one model keep to: checked, compiled for its tokenizer, and followed."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, partial

from llguidance import LLMatcher, LLTokenizer

from vicuna_server.constraints import Constraint
from vicuna_server.engine import PreparedConstraint
from vicuna_server.engine.builtin.constraining import Follower
from vicuna_server.engine.encoding import PromptEncoder
from vicuna_server.engine.grammar.compiling import ConstraintDesk
from vicuna_server.engine.grammar.matching import make_matcher, make_tokenizer
from vicuna_server.engine.scope import CacheScope
from vicuna_server.machine import usable_cpus

__all__ = ["Follow", "Grammars"]

MOST_THREADS = 8

Follow = Callable[[Iterable[int]], Follower]
"""Begins an answer that these tokens may end."""


class Grammars:
    """Methods are for the event loop that made it.

    Args:
        encoder: Of the model.
    """

    def __init__(self, encoder: PromptEncoder) -> None:
        self._encoder = encoder
        self._desk = ConstraintDesk(self._compiled, encoder.special_id)
        self._pool = ThreadPoolExecutor(min(MOST_THREADS, usable_cpus()), "masks")

    @property
    def waiting(self) -> int:
        """Constraints that are compiled or wait to be."""
        return self._desk.waiting

    async def prepare(
        self, constraint: Constraint | PreparedConstraint, scope: CacheScope, admit: Callable[[], object]
    ) -> PreparedConstraint:
        """Compile a constraint's grammar; see `ConstraintDesk.prepare`."""
        return await self._desk.prepare(constraint, scope, admit)

    def follow(self, ready: PreparedConstraint) -> Follow:
        """Return what begins an answer.

        Raises:
            TypeError: Another engine has prepared it.
        """
        if not isinstance(ready.content, LLMatcher):
            raise TypeError("the constraint was prepared by another engine")
        return partial(Follower, ready.content, self._encoder.vocabulary.size, pool=self._pool)

    def close(self) -> None:
        """End threads and process."""
        self._desk.close()
        self._pool.shutdown(wait=False)

    def _compiled(self, constraint: Constraint, text: str) -> LLMatcher:
        del constraint
        return make_matcher(self._tokenizer, text)

    @cached_property
    def _tokenizer(self) -> LLTokenizer:
        """Made when it is first wanted, which takes a second for a large vocabulary.

        Its end is a token behind all others: which tokens end an answer, the answer knows.
        """
        vocabulary = self._encoder.vocabulary
        return make_tokenizer(vocabulary.size, vocabulary.token_bytes, vocabulary.special)
