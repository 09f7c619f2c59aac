"""One completion, embedding or score in the engine: its tokens, its block and what is made of them."""

from asyncio import Future
from dataclasses import dataclass, field

from torch import Tensor
from torch.nn.functional import normalize

from vicuna_server.engine import Embedding, Generation
from vicuna_server.engine.answer import Answer
from vicuna_server.engine.builtin.prefix import SequenceTokens
from vicuna_server.engine.builtin.sampling import Sampler
from vicuna_server.engine.builtin.scoring import Score

__all__ = ["Answering", "Embedded", "Scored", "Sequence"]

COMPLETION_ROOM = 128
"""Tokens of room for a completion at the start: most blocks need not move while they grow."""


@dataclass(frozen=True, slots=True)
class Answering:
    """What a sequence needs that generates text.

    Attributes:
        budget: The most tokens of its completion.
    """

    sampler: Sampler
    answer: Answer
    generation: Generation
    budget: int


@dataclass(slots=True)
class Embedded:
    """What a sequence needs that becomes a vector.

    Attributes:
        total: Sum of the last hidden states so far, shape (width,), float32 on the CPU; None before the first.
    """

    result: Future[Embedding]
    total: Tensor | None = None

    def outcome(self, tokens: int) -> Embedding:
        """Return the vector: the mean of so many states, scaled to length 1."""
        if self.total is None:
            raise RuntimeError("no token has run yet")
        return Embedding(normalize(self.total, dim=0).tolist(), tokens)


@dataclass(slots=True)
class Scored:
    """What a sequence needs whose tokens are scored.

    Attributes:
        top: How many of the likeliest tokens are reported at each place.
        scores: Of the tokens so far, from the second on.
    """

    result: Future[list[Score]]
    top: int
    scores: list[Score] = field(default_factory=list)

    def outcome(self, _: int) -> list[Score]:
        """Return the scores."""
        return self.scores


@dataclass(slots=True, eq=False)
class Sequence:
    """A prompt, then prompt and completion, on its way through the batch.

    Attributes:
        tokens: Of the prompt and of the completion, and the block with their keys and values.
        prompt_tokens: How many of them are the prompt's.
        purpose: What is made of them.
        cancelled: Set from any thread when the client has left.
        admitted: Whether it has held a place in the batch.
    """

    tokens: SequenceTokens
    purpose: Answering | Embedded | Scored
    prompt_tokens: int = field(init=False)
    cancelled: bool = False
    admitted: bool = False

    def __post_init__(self) -> None:
        self.prompt_tokens = len(self.tokens.ids)

    @property
    def left(self) -> int:
        """Tokens that have not been computed: the rest of the prompt, or the one generated last."""
        return len(self.tokens.ids) - self.tokens.computed

    @property
    def generating(self) -> bool:
        """Whether its prompt is computed, so that each step gives a token."""
        return self.left == 1 and len(self.tokens.ids) > self.prompt_tokens

    def reset(self) -> None:
        """Forget what was computed: its keys and values are gone."""
        if isinstance(self.purpose, Embedded):
            self.purpose.total = None
        elif isinstance(self.purpose, Scored):
            self.purpose.scores.clear()

    @property
    def room(self) -> int:
        """Tokens of room it should have at the start."""
        budget = self.purpose.budget if isinstance(self.purpose, Answering) else 0
        rest = budget - (len(self.tokens.ids) - self.prompt_tokens)
        return len(self.tokens.ids) + max(0, min(rest, COMPLETION_ROOM))
