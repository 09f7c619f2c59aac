"""Prompts on their way to an engine that answers them: encoded in a thread of its own, within the model's context."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from vicuna_server.constraints import allows_any_text
from vicuna_server.engine import ChatPrompt, Generation, GenerationRequest, PreparedPrompt, PromptInput
from vicuna_server.engine.answer import Answer
from vicuna_server.engine.chat_encoding import EncodedPrompt
from vicuna_server.engine.encoding import PromptEncoder
from vicuna_server.engine.encoding_thread import EncodingThread
from vicuna_server.engine.limits import answer_budget, check_ends, check_few_contexts, check_has_tokens, check_tokens
from vicuna_server.engine.trimming import most_tokens
from vicuna_server.engine.trimming import trim as fitted

__all__ = ["Opened", "PromptDesk", "open_request", "own_copy"]


class PromptDesk:
    """Encodes the prompts of one engine.

    Args:
        encoder: Of the model.
        context_length: The most tokens of prompt and answer together.
        thread: Where the encoder works.
    """

    def __init__(self, encoder: PromptEncoder, context_length: int, thread: EncodingThread) -> None:
        self.encoder = encoder
        self.context_length = context_length
        self._thread = thread

    async def prepare(
        self, prompt: PromptInput | PreparedPrompt, max_tokens: int | None, admit: Callable[[], object], *, trim: bool
    ) -> PreparedPrompt:
        """Encode a prompt; see `Engine.prepare`.

        Args:
            prompt: What is to be answered.
            max_tokens: As in `GenerationRequest`.
            admit: Raises where as many wait as may wait.
            trim: Whether the oldest turns of a conversation may be left out.
        """
        if isinstance(prompt, PreparedPrompt):
            return prompt
        since = time.monotonic()
        admit()
        param = "messages" if isinstance(prompt, ChatPrompt) else "prompt"
        encoded, left_out = await self._thread.run(partial(self._encoded, prompt, max_tokens, param, trim=trim))
        check_has_tokens(len(encoded))
        return PreparedPrompt(len(encoded), param, encoded, left_out, since, encoded.thinking)

    async def tokenize(self, prompt: ChatPrompt | str, *, add_special_tokens: bool) -> list[int]:
        """Return token ids; see `Engine.tokenize`."""
        param = "messages" if isinstance(prompt, ChatPrompt) else "prompt"
        check = partial(check_few_contexts, context_length=self.context_length, param=param)
        encode = partial(self.encoder.encode, prompt, add_special_tokens=add_special_tokens, check=check)
        return (await self._thread.run(encode)).ids

    async def detokenize(self, ids: Sequence[int]) -> str:
        """Return the text; see `Engine.detokenize`."""
        check_few_contexts(len(ids), self.context_length, "tokens")
        return await self._thread.run(partial(self.encoder.detokenize, ids))

    def _encoded(
        self, prompt: PromptInput, max_tokens: int | None, param: str, *, trim: bool
    ) -> tuple[EncodedPrompt, int]:
        """Return the prompt's tokens, and how many messages were left out; all checks that it takes come first."""
        context = self.context_length

        def check(least: int) -> None:
            # with the answer's tokens it is exact, and said when the prompt's are known
            answer_budget(least, None if max_tokens is None else min(max_tokens, 1), context, param, estimated=True)

        def encode(one: PromptInput) -> EncodedPrompt:
            return self.encoder.encode(one, check=check)

        if trim and isinstance(prompt, ChatPrompt):
            return fitted(prompt, most_tokens(context, max_tokens), self.encoder, encode)
        return encode(prompt), 0


def own_copy(ready: PreparedPrompt) -> EncodedPrompt:
    """Return the encoded prompt, with ids to which a completion's can be added.

    Raises:
        TypeError: Another engine has prepared it.
    """
    encoded = ready.content
    if not isinstance(encoded, EncodedPrompt):
        raise TypeError("the prompt was prepared by another engine")
    return replace(encoded, ids=list(encoded.ids))


@dataclass(frozen=True, slots=True)
class Opened:
    """A request that has passed all checks.

    Attributes:
        ids: The prompt's tokens, to which a completion's can be added.
        answer: The text side of its completion.
        generation: The stream of its completion.
        budget: The most tokens of the completion.
        ends: Ids of the tokens that end it, all of them the model's.
    """

    ids: list[int]
    answer: Answer
    generation: Generation
    budget: int
    ends: list[int]


def open_request(
    request: GenerationRequest,
    ready: PreparedPrompt,
    encoder: PromptEncoder,
    model_ends: frozenset[int],
    context_length: int,
) -> Opened:
    """Check a request whose prompt is encoded, and prepare its completion.

    Args:
        request: What is asked for.
        ready: Its prompt.
        encoder: Of the model.
        model_ends: Ids that end a completion unless the request ignores them.
        context_length: The most tokens of prompt and completion together.

    Raises:
        RequestError: It does not fit the context, or a token id is not in the vocabulary.
    """
    encoded, size = own_copy(ready), encoder.vocabulary.size
    budget = request.below_ceiling(answer_budget(ready.tokens, request.max_tokens, context_length, ready.param))
    ends = frozenset(request.stop_token_ids) | (frozenset() if request.ignore_eos else model_ends)
    check_tokens(request, size, budget, ends)
    check_ends(request, encoder.vocabulary.special)
    answer = Answer(
        encoder.decoder(skip_special_tokens=request.skip_special_tokens, shown=request.shown_special_tokens),
        ends,
        (*encoded.stop, *request.stop) if allows_any_text(request.format) else (),
        budget,
        None if request.time_limit is None else ready.since + request.time_limit,
        min_tokens=request.min_tokens,
        include_stop=request.include_stop,
    )
    # a tokenizer may have tokens that the model has not
    known = [token for token in ends if token < size]
    return Opened(encoded.ids, answer, Generation(ready.tokens, submitted=ready.since), budget, known)
