"""What an engine is: it takes a request and gives a stream of text that can be cancelled at any moment."""

from collections.abc import Sequence
from typing import Protocol

from vicuna_server.constraints import Constraint
from vicuna_server.engine.base.outputs import Embedding, Generation, PromptToken
from vicuna_server.engine.base.requests import (
    ChatPrompt,
    GenerationRequest,
    PreparedConstraint,
    PreparedPrompt,
    PromptInput,
)
from vicuna_server.engine.scope import EVERYBODY, CacheScope
from vicuna_server.engine.stats import EngineStats
from vicuna_server.tools.chat_format import ChatFormat

__all__ = ["Engine"]


class Engine(Protocol):
    """One model, shared by all requests. All methods are called on one event loop."""

    stats: EngineStats

    @property
    def context_length(self) -> int:
        """The most tokens of prompt and answer together; valid once loaded."""

    @property
    def embedding_size(self) -> int:
        """Numbers in a vector; valid once loaded."""

    @property
    def chats(self) -> bool:
        """Whether conversations are answered, not only plain prompts; valid once loaded."""

    @property
    def chat_format(self) -> ChatFormat:
        """How the model writes calls of tools and reasoning; valid once loaded."""

    @property
    def hung(self) -> bool:
        """Whether a call has been running for so long that only a new process helps."""

    @property
    def fingerprint(self) -> str:
        """What two servers must have equal, besides the artifact, to go on with each other's answers; once loaded."""

    def why_off(self, request: GenerationRequest) -> str:
        """Return why another server cannot go on with the answer, a name from `WHY_OFF`; empty: it can."""

    async def load(self) -> None:
        """Load the model without blocking the event loop.

        Raises:
            VicunaError: When it cannot be loaded here; the message says what to do.
        """

    async def prepare(
        self,
        prompt: PromptInput | PreparedPrompt,
        max_tokens: int | None,
        *,
        trim: bool = False,
        scope: CacheScope = EVERYBODY,
    ) -> PreparedPrompt:
        """Encode a prompt, if there is room for its answers; one that is prepared already is returned.

        Args:
            prompt: What is to be answered.
            max_tokens: As in `GenerationRequest`.
            trim: Whether the oldest turns of a conversation may be left out where it is too long.
            scope: Whose request it is.

        Raises:
            RequestError, OverloadedError: As in `submit`.
        """

    async def constrain(
        self, constraint: Constraint | PreparedConstraint, scope: CacheScope = EVERYBODY
    ) -> PreparedConstraint:
        """Check what an answer may be, and prepare to keep it so; one that is prepared already is returned.

        Args:
            constraint: What the answer's text may be.
            scope: Which requests may find out that it was sent before.

        Raises:
            RequestError: `invalid_constraint`, naming the place: it is not valid, cannot be enforced, or takes too
                much to check.
            OverloadedError: As in `submit`.
        """

    async def submit(self, request: GenerationRequest) -> Generation:
        """Accept a request, which may then wait in the queue.

        Raises:
            RequestError: The request does not fit the context, its messages cannot be rendered, or a token id
                is not in the vocabulary; 409: it cannot go on behind the tokens in `generated`.
            OverloadedError: As many requests are waiting as may wait.
        """

    async def embed(self, prompts: Sequence[str | tuple[int, ...]], scope: CacheScope = EVERYBODY) -> list[Embedding]:
        """Return one vector per prompt: the mean over its tokens of the last hidden state, scaled to length 1.

        Only requests of this scope may use the prompts' keys and values.

        Raises:
            RequestError: A prompt has no token or does not fit the context; all are refused then.
            OverloadedError: As many requests are waiting as may wait.
        """

    async def score(
        self, prompts: Sequence[PromptInput | PreparedPrompt], top: int, most: int, scope: CacheScope = EVERYBODY
    ) -> list[list[PromptToken]]:
        """Return each prompt's tokens with their likelihoods, and those of so many likeliest (0 to 20) beside each.

        Args:
            prompts: What is to be read.
            top: How many of the likeliest are reported beside each token.
            most: So many tokens may all prompts have together.
            scope: Which requests may share their keys and values.

        Raises:
            RequestError: A prompt has no token or does not fit the context, or all have too many; all are refused then.
            OverloadedError: As many requests are waiting as may wait.
        """

    async def tokenize(self, prompt: ChatPrompt | str, *, add_special_tokens: bool = True) -> list[int]:
        """Return the token ids of a conversation, or of a text, with BOS unless `add_special_tokens` is False.

        Raises:
            RequestError: The messages cannot be rendered, or it is more than a few contexts.
            OverloadedError: As many prompts wait to be encoded as may wait.
        """

    async def detokenize(self, ids: Sequence[int]) -> str:
        """Return the text of token ids, special tokens included.

        Raises:
            RequestError: An id is not in the vocabulary, or they are more than a few contexts.
            OverloadedError: As many prompts wait to be encoded as may wait.
        """

    async def close(self) -> None:
        """Stop the engine; what still runs ends with an error."""
