"""From a request to what the engine's thread runs: the prompt's tokens, then a sequence."""

from collections.abc import Sequence as Several
from dataclasses import replace

from vicuna_server.engine.answer import Answer
from vicuna_server.engine.base import ChatPrompt, Generation, GenerationRequest, PreparedPrompt, PromptInput
from vicuna_server.engine.builtin.forbidding import Forbidden
from vicuna_server.engine.builtin.loading import LoadedModel
from vicuna_server.engine.builtin.prefix import SequenceTokens
from vicuna_server.engine.builtin.sampling import Sampler
from vicuna_server.engine.builtin.sequence import Answering, Sequence
from vicuna_server.engine.encoding import EncodedPrompt
from vicuna_server.engine.limits import answer_budget, check_tokens
from vicuna_server.engine.trimming import most_tokens
from vicuna_server.engine.trimming import trim as fitted

__all__ = ["encode_prompt", "generating_sequence", "own_copy"]


def encode_prompt(
    loaded: LoadedModel, prompt: PromptInput, max_tokens: int | None, param: str, *, trim: bool
) -> tuple[EncodedPrompt, int]:
    """Return the prompt's tokens, and how many messages were left out.

    Raises:
        RequestError: It does not fit the context, which is checked before it is encoded where its length shows that.
    """
    context = loaded.context_length

    def check(least: int) -> None:
        # Whether the completion fits too is checked once the prompt's length is known exactly.
        answer_budget(least, None if max_tokens is None else min(max_tokens, 1), context, param, estimated=True)

    def encode(one: PromptInput) -> EncodedPrompt:
        return loaded.encoder.encode(one, check=check)

    if trim and isinstance(prompt, ChatPrompt):
        return fitted(prompt, most_tokens(context, max_tokens), loaded.encoder, encode)
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


def generating_sequence(
    loaded: LoadedModel, request: GenerationRequest, ready: PreparedPrompt, bad_words: Several[list[int]]
) -> tuple[Sequence, Generation]:
    """Return the sequence that a request becomes, and the stream of its completion.

    Args:
        loaded: The model.
        request: What is asked for.
        ready: Its prompt.
        bad_words: Token ids of the words that the request does not want.

    Raises:
        RequestError: It does not fit the context, or a token id is not in the vocabulary.
    """
    encoded, started = own_copy(ready), ready.since
    budget = request.below_ceiling(answer_budget(ready.tokens, request.max_tokens, loaded.context_length, ready.param))
    ends = frozenset(request.stop_token_ids) | (frozenset() if request.ignore_eos else loaded.eos)
    check_tokens(request, loaded.encoder.vocabulary.size, budget, ends)
    answer = Answer(
        lambda ids: loaded.encoder.decode(list(ids), skip_special_tokens=request.skip_special_tokens),
        ends,
        (*encoded.stop, *request.stop),
        budget,
        None if request.time_limit is None else started + request.time_limit,
        min_tokens=request.min_tokens,
        include_stop=request.include_stop,
    )
    generation = Generation(ready.tokens, submitted=started)
    ids = range(loaded.encoder.vocabulary.size)  # a tokenizer may have tokens that the model has not
    known = [word for word in bad_words if max(word, default=0) in ids]
    early = [token for token in ends if token in ids]
    sampler = Sampler(request, encoded.ids, Forbidden(request.allowed_token_ids, known, early, request.min_tokens))
    tokens = SequenceTokens(encoded.ids, scope=request.scope)
    return Sequence(tokens, Answering(sampler, answer, generation, budget)), generation
