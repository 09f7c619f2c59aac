"""From a request to the sequence that the engine's thread runs."""

from collections.abc import Sequence as Several

from vicuna_server.engine import Generation, GenerationRequest, OutputChunk, PreparedPrompt
from vicuna_server.engine.builtin.forbidding import Forbidden
from vicuna_server.engine.builtin.grammars import Follow
from vicuna_server.engine.builtin.loading import LoadedModel
from vicuna_server.engine.builtin.prefix import SequenceTokens
from vicuna_server.engine.builtin.sampling import Sampler
from vicuna_server.engine.builtin.sequence import Answering, Sequence
from vicuna_server.engine.prompt_desk import open_request
from vicuna_server.engine.replay import replayed

__all__ = ["generating_sequence", "recalled"]


def generating_sequence(
    loaded: LoadedModel,
    request: GenerationRequest,
    ready: PreparedPrompt,
    bad_words: Several[list[int]],
    follow: Follow | None = None,
) -> tuple[Sequence, Generation]:
    """Return the sequence that a request becomes, and the stream of its completion.

    Args:
        loaded: The model.
        request: What is asked for.
        ready: Its prompt.
        bad_words: Token ids of the words that the request does not want.
        follow: Begins to keep the completion to its grammar; None: there is none.

    Raises:
        RequestError: It does not fit the context, or a token id is not in the vocabulary.
    """
    opened = open_request(request, ready, loaded.encoder, loaded.eos, loaded.context_length)
    ids = range(loaded.encoder.vocabulary.size)  # a tokenizer may have tokens that the model has not
    known = [word for word in bad_words if max(word, default=0) in ids]
    forbidden = Forbidden(request.allowed_token_ids, known, opened.ends, request.min_tokens)
    sampler = Sampler(request, opened.ids, forbidden, follow and follow(opened.ends))
    tokens = SequenceTokens(opened.ids, scope=request.scope)
    return Sequence(tokens, Answering(sampler, opened.answer, opened.generation, opened.budget)), opened.generation


def recalled(sequence: Sequence, tokens: Several[int], size: int) -> list[OutputChunk]:
    """Put a completion's first tokens, which another server has generated, behind a new sequence's prompt.

    Args:
        sequence: It generates text.
        tokens: Their ids.
        size: Ids below this are tokens.

    Returns:
        Their chunks; the last has a finish reason if the completion ends with it.

    Raises:
        RequestError: 409: an id is no token.
    """
    purpose = sequence.purpose
    if not isinstance(purpose, Answering):
        raise TypeError("the sequence generates nothing")
    sampler = purpose.sampler

    def recall(token: int) -> bool:
        sampler.recall(token)
        sequence.tokens.ids.append(token)
        return sampler.complete

    return replayed(tokens, size, purpose.answer, purpose.generation.submitted, recall)
