"""What a request asks of an engine."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from vicuna_server.constraints import Constraint
from vicuna_server.engine.scope import EVERYBODY, CacheScope
from vicuna_server.prompts import Message, Tool

__all__ = ["MAX_LOGPROBS", "ChatPrompt", "GenerationRequest", "PreparedConstraint", "PreparedPrompt", "PromptInput"]

MAX_LOGPROBS = 20
"""The most alternatives per token that a request may ask for, as at OpenAI."""


@dataclass(frozen=True, slots=True)
class ChatPrompt:
    """A conversation that the engine renders with the model's chat template; an assistant message last is continued.

    Attributes:
        messages: The conversation.
        tools: Functions that the answer may call.
        template_variables: Further names that the chat template may use, with strings, numbers and truth values.
    """

    messages: tuple[Message, ...]
    tools: tuple[Tool, ...] = ()
    template_variables: Mapping[str, object] = field(default_factory=dict)


PromptInput = ChatPrompt | str | tuple[int, ...]
"""A conversation, plain text that is taken as it is, or token ids that are taken as they are."""


@dataclass(frozen=True, slots=True)
class PreparedPrompt:
    """A prompt that an engine has encoded, for as many answers to it as are wanted.

    Attributes:
        tokens: How many it has, BOS included.
        param: Field of the request that it stands in, for messages about it.
        content: The encoded prompt, in a form that only the engine knows.
        left_out: Messages that were left out since it was too long.
        since: When it was received, on the `time.monotonic` clock.
        thinking: Whether it ends within reasoning, which the answers go on with.
    """

    tokens: int
    param: str
    content: object
    left_out: int = 0
    since: float = field(default_factory=time.monotonic)
    thinking: bool = False


@dataclass(frozen=True, slots=True)
class PreparedConstraint:
    """A constraint that an engine has checked, for as many answers as are wanted.

    Attributes:
        constraint: What the answer may be.
        content: What the engine has made of it, in a form that only it knows.
    """

    constraint: Constraint
    content: object


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """One generation. Fields mean what OpenAI's fields of that name mean; the rest what transformers' do.

    Attributes:
        prompt: What is to be answered or continued.
        max_tokens: The most tokens to generate; None: up to the end of the context.
        temperature: 0 takes the likeliest token; above, logits are divided by it before sampling.
        top_p: Sample only among the likeliest tokens whose probabilities add up to this.
        top_k: Sample only among so many likeliest tokens; 0: all.
        min_p: Sample only tokens at least this likely, relative to the likeliest; 0: all.
        typical_p: Sample only the most typical tokens whose probabilities add up to this; 1: all.
        repetition_penalty: Logits of tokens in the prompt or answer are divided by it where positive, else multiplied.
        presence_penalty: Taken off the logits of tokens in the answer so far, once.
        frequency_penalty: Taken off the logits of tokens in the answer so far, for each time.
        logit_bias: Pairs of token id and what is added to its logit.
        logprobs: Report each token's log probability and those of so many likeliest (0 to 20); None: report nothing.
        stop: Strings that end the completion.
        include_stop: Whether the string or token that ended the completion is part of its text.
        stop_token_ids: Tokens that end the answer like the model's own ends.
        ignore_eos: Whether the model's own end tokens are ignored.
        min_tokens: The fewest tokens before the completion may end.
        allowed_token_ids: The only tokens that may come; None: all.
        bad_words: Words that do not come, as the tokenizer writes them, with and without a space before.
        skip_special_tokens: Whether special tokens are left out of the text.
        shown_special_tokens: Those that are not left out even so.
        seed: Makes the draws of a request repeatable; None draws anew each time.
        time_limit: Seconds after which the answer ends with `finish_reason` "length"; None: no limit.
        scope: Which requests it may share keys and values with.
        constraint: What the answer's text may be; None: anything.
        ceiling: The most tokens to generate, also where `max_tokens` is None; None: no further limit.
        generated: The answer's first tokens, which another server has generated: their chunks come first, and count.
    """

    prompt: PromptInput | PreparedPrompt
    max_tokens: int | None = None
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    typical_p: float = 1.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: tuple[tuple[int, float], ...] = ()
    logprobs: int | None = None
    stop: tuple[str, ...] = ()
    include_stop: bool = False
    stop_token_ids: tuple[int, ...] = ()
    ignore_eos: bool = False
    min_tokens: int = 0
    allowed_token_ids: tuple[int, ...] | None = None
    bad_words: tuple[str, ...] = ()
    skip_special_tokens: bool = True
    shown_special_tokens: tuple[str, ...] = ()
    seed: int | None = None
    time_limit: float | None = None
    scope: CacheScope = EVERYBODY
    constraint: Constraint | PreparedConstraint | None = None
    ceiling: int | None = None
    generated: tuple[int, ...] = ()

    @property
    def format(self) -> Constraint | None:
        """What the answer's text may be, prepared or not."""
        return self.constraint.constraint if isinstance(self.constraint, PreparedConstraint) else self.constraint

    def below_ceiling(self, budget: int) -> int:
        """Return the smaller of the two."""
        return budget if self.ceiling is None else min(budget, self.ceiling)
