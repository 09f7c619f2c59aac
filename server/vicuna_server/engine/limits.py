"""Which requests are accepted: those that fit the context, while the queue is not full."""

from collections.abc import Collection

from vicuna_server.engine import Generation, GenerationRequest
from vicuna_server.errors import ContextLengthError, OverloadedError, RequestError

__all__ = [
    "Admission",
    "answer_budget",
    "check_embeddable",
    "check_ends",
    "check_few_contexts",
    "check_has_tokens",
    "check_scored",
    "check_tokens",
    "no_chats",
]

FEW_CONTEXTS = 4
"""So many contexts may be tokenized at once: enough for a conversation that is to be trimmed, and seconds of work."""
WAITING_PER_RUNNING = 4
"""Requests that may wait for each that may run."""


class Admission:
    """How many generations run at once and how many may wait for their turn.

    One caller may fill the queue. Then another still gets in up to an equal share of it, so the queue may become twice
    as long.
    """

    def __init__(self, max_running: int) -> None:
        self.max_running = max_running
        self.max_waiting = max_running * WAITING_PER_RUNNING
        self._taken: dict[str, list[Generation]] = {}

    def take(self, caller: str, generation: Generation) -> None:
        """Count a generation as its caller's until it is over; an empty caller is not counted."""
        self._forget_ended()
        if caller:
            self._taken.setdefault(caller, []).append(generation)

    def check(self, running: int, waiting: int, caller: str = "") -> None:
        """Refuse a request where the queue is full, and its caller has a share of it already.

        Raises:
            OverloadedError: HTTP 429 with a Retry-After.
        """
        queued, room = running + waiting, self.max_running + self.max_waiting
        if queued >= room and not (queued < 2 * room and self._is_below_share(caller, room)):
            raise OverloadedError(
                f"{running} requests are running and {waiting} are waiting, and this server takes {self.max_running} "
                f"and {self.max_waiting}; try again in a moment"
            )

    def _is_below_share(self, caller: str, room: int) -> bool:
        self._forget_ended()
        others = self._taken.keys() - {caller}
        return bool(caller) and len(self._taken.get(caller, ())) < room // (len(others) + 1)

    def _forget_ended(self) -> None:
        live = {caller: [each for each in taken if not each.over] for caller, taken in self._taken.items()}
        self._taken = {caller: taken for caller, taken in live.items() if taken}


def no_chats() -> RequestError:
    """Return the error of a conversation where the model has no chat template."""
    return RequestError(
        "messages: this model is served without a chat template (chatTemplate: none), so it does not "
        "take conversations; send a prompt to /v1/completions",
        param="messages",
        code="chat_template_missing",
    )


def answer_budget(
    prompt_tokens: int, max_tokens: int | None, context_length: int, param: str, *, estimated: bool = False
) -> int:
    """Return how many tokens may be generated.

    Args:
        prompt_tokens: Length of the encoded prompt.
        max_tokens: What the request asks for at most; None: whatever is left.
        context_length: The model's limit for both together.
        param: Field that holds the prompt, for the error object.
        estimated: Whether the prompt may have more tokens than that.

    Raises:
        ContextLengthError: It names both numbers.
    """
    asked = 1 if max_tokens is None else max_tokens
    if prompt_tokens + asked > context_length:
        least = "at least " if estimated else ""
        wanted = "at least 1 for the completion" if max_tokens is None else f"{max_tokens} for the completion"
        raise ContextLengthError(
            f"this model's maximum context length is {context_length} tokens, but the request needs {least}"
            f"{prompt_tokens + asked}: {least}{prompt_tokens} in the prompt and {wanted}; shorten one of them",
            tokens=prompt_tokens,
            param=param,
        )
    return context_length - prompt_tokens if max_tokens is None else max_tokens


def check_embeddable(tokens: int, context_length: int) -> None:
    """Refuse a text that cannot become a vector.

    Raises:
        RequestError: It has no token, or more than the context holds.
    """
    if tokens == 0:
        raise RequestError(
            "input: a text has no token, and an embedding needs at least one; send text that is not empty",
            param="input",
        )
    if tokens > context_length:
        raise RequestError(
            f"this model's maximum context length is {context_length} tokens, but an input has {tokens}; shorten it",
            param="input",
            code="context_length_exceeded",
        )


def check_has_tokens(tokens: int) -> None:
    """Refuse a prompt that has no token.

    Raises:
        RequestError: 400, naming the field.
    """
    if tokens == 0:
        raise RequestError(
            "prompt: it has no token, and at least one is needed; send text that is not empty", param="prompt"
        )


def check_few_contexts(tokens: int, context_length: int, param: str) -> None:
    """Refuse to tokenize, or to make text again, far more than the model could ever read.

    Args:
        tokens: How many it has, or has at least.
        context_length: The model's limit.
        param: The field that holds it.

    Raises:
        ContextLengthError: It names both numbers.
    """
    most = FEW_CONTEXTS * context_length
    if tokens > most:
        raise ContextLengthError(
            f"{param}: at least {tokens} tokens, and at most {most} are taken here ({FEW_CONTEXTS} times this model's "
            f"context length of {context_length}); send less at once",
            tokens=tokens,
            param=param,
        )


def check_scored(tokens: int, most: int) -> None:
    """Refuse prompts whose log probabilities would make too large a response.

    Raises:
        RequestError: `answer_too_large`.
    """
    if tokens > most:
        raise RequestError(
            f"prompt: log probabilities of {tokens} tokens are asked for, and a response has room for those of {most}, "
            "with so many alternatives and choices; send several requests",
            param="prompt",
            code="answer_too_large",
        )


def check_tokens(request: GenerationRequest, vocabulary: int, budget: int, ends: Collection[int]) -> None:
    """Refuse token ids that the model does not have, and fields that leave no token to choose.

    Args:
        request: whose fields are looked at.
        vocabulary: ids below this are tokens.
        budget: the most tokens of the answer.
        ends: ids of the tokens that end it.

    Raises:
        RequestError: 400, naming the field.
    """
    named = {
        "logit_bias": [token for token, _ in request.logit_bias],
        "stop_token_ids": request.stop_token_ids,
        "allowed_token_ids": request.allowed_token_ids or (),
    }
    for field, tokens in named.items():
        for token in tokens:
            if not 0 <= token < vocabulary:
                raise RequestError(
                    f"{field}: token id {token} is not in the vocabulary, whose ids are 0 to {vocabulary - 1}",
                    param=field,
                )
    if request.min_tokens > budget:
        raise RequestError(
            f"min_tokens: at least {request.min_tokens} tokens are asked for, and the completion may have {budget}; "
            "set it lower",
            param="min_tokens",
        )
    allowed = request.allowed_token_ids
    if allowed is not None and request.min_tokens and not set(allowed) - set(ends):
        raise RequestError(
            "allowed_token_ids: all of them end the completion, which min_tokens forbids at its start; add one that "
            "does not end it",
            param="allowed_token_ids",
        )


def check_ends(request: GenerationRequest, special: Collection[int]) -> None:
    """Refuse text as an end of an answer that is complete at certain places only.

    Args:
        request: Whose fields are looked at.
        special: Ids of tokens without text.

    Raises:
        RequestError: 400, naming the field.
    """
    for token in () if request.format is None else request.stop_token_ids:
        if token not in special:
            raise RequestError(
                f"stop_token_ids: token {token} is text, and would cut an answer of the format asked for; leave it out",
                param="stop_token_ids",
            )
