"""`/tokenize` and `/detokenize`. OpenAI has no such routes; the fields are those of vLLM's server."""

from typing import Annotated, Self

from pydantic import Field, model_validator
from typing_extensions import TypedDict

from vicuna_server.protocol.body import RequestBody
from vicuna_server.protocol.chat import Messages, TemplateVariables, check_continuation
from vicuna_server.protocol.inputs import TokenId
from vicuna_server.protocol.tools import Tools

__all__ = ["DetokenizeRequest", "Detokenized", "TokenizeRequest", "Tokenized"]

MAX_TEXT = 2**20
"""Characters."""
MAX_TOKENS = 2**18


class TokenizeRequest(RequestBody):
    """The body of `POST /tokenize`: a text, or a conversation that the chat template renders."""

    prompt: str | None = Field(default=None, max_length=MAX_TEXT)
    messages: Messages | None = None
    tools: Tools | None = None
    chat_template_kwargs: TemplateVariables | None = None
    add_special_tokens: bool | None = Field(default=None, description="BOS before a text (default: true)")
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None

    @model_validator(mode="after")
    def _prompt_or_messages(self) -> Self:
        if (self.prompt is None) == (self.messages is None):
            raise ValueError("prompt: send either prompt or messages, one of the two")
        if self.messages:
            check_continuation(self.messages, self.add_generation_prompt, self.continue_final_message)
        return self


class DetokenizeRequest(RequestBody):
    """The body of `POST /detokenize`."""

    tokens: Annotated[list[TokenId], Field(max_length=MAX_TOKENS, fail_fast=True)]


class Tokenized(TypedDict):
    """The token ids, their number, and the length of the context in tokens."""

    count: int
    max_model_len: int
    tokens: list[int]


class Detokenized(TypedDict):
    """The text of the token ids."""

    prompt: str
