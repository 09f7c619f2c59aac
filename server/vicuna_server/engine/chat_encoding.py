"""Conversations to token ids: in a built-in format, or with the model's own chat template."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from vicuna_contract.templates import BUILT_IN_TEMPLATES, NO_TEMPLATE
from vicuna_server.engine import ChatPrompt
from vicuna_server.engine.jinja import JinjaTemplate, Rendering
from vicuna_server.engine.limits import no_chats
from vicuna_server.errors import RequestError
from vicuna_server.prompts import Conversation, EndOfTurn, Template, get_template
from vicuna_server.prompts.tokenizer import Tokenizer
from vicuna_server.tools.chat_format import ChatFormat, chat_format
from vicuna_server.tools.generic_prompt import as_text
from vicuna_server.tools.history import fitted, settled
from vicuna_server.tools.parsing import THINK, THINK_END

__all__ = ["ChatEncoder", "EncodedPrompt", "chat_encoder"]

_END_TOKENS = 16
"""Enough for a mark and white space behind it, however they are split."""


@dataclass(frozen=True, slots=True)
class EncodedPrompt:
    """Token ids with BOS at their head, and the template's stop strings.

    Attributes:
        ids: The tokens.
        stop: Strings that end the answer.
        thinking: Whether the prompt ends within reasoning, which the answer goes on with.
    """

    ids: list[int]
    stop: tuple[str, ...] = ()
    thinking: bool = False

    def __len__(self) -> int:
        return len(self.ids)


class ChatEncoder(Protocol):
    """Encodes conversations.

    Attributes:
        chat_format: How the model writes calls of tools and reasoning.
    """

    chat_format: ChatFormat

    def encode(self, prompt: ChatPrompt, check: Callable[[str], object]) -> EncodedPrompt:
        """Return the ids of a conversation.

        Args:
            prompt: The conversation.
            check: Called with its text before it is encoded; may raise.

        Raises:
            RequestError: The conversation is empty, the template refuses it, or there is no template.
            OverloadedError: The template's process cannot be started.
        """

    def close(self) -> None:
        """End the processes; the next conversation starts another."""


def chat_encoder(tokenizer: Tokenizer, template: str) -> ChatEncoder:
    """Return the encoder of a resolved template name; that of `NO_TEMPLATE` refuses all conversations.

    Raises:
        ValueError: The tokenizer has several templates by name, and none is the default.
    """
    if template == NO_TEMPLATE:
        return _Refusal(tokenizer)
    if template in BUILT_IN_TEMPLATES:
        return _BuiltInEncoder(tokenizer, get_template(template))
    return _JinjaEncoder(tokenizer)


class _Refusal:
    """See `ChatEncoder`."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.chat_format = _format_of(tokenizer, None)

    def encode(self, prompt: ChatPrompt, check: Callable[[str], object]) -> EncodedPrompt:
        del prompt, check
        raise no_chats()

    def close(self) -> None:
        pass


class _BuiltInEncoder:
    """See `ChatEncoder`. Text never becomes a special token, so a user cannot forge the end of a turn."""

    def __init__(self, tokenizer: Tokenizer, template: Template) -> None:
        self._tokenizer = tokenizer
        self._template = template
        self.chat_format = _format_of(tokenizer, None)

    def encode(self, prompt: ChatPrompt, check: Callable[[str], object]) -> EncodedPrompt:
        conversation = Conversation.of(as_text(settled(prompt.messages), prompt.tools, self._template.system))
        rendered = self._template.render(conversation)
        check(rendered.text())
        ids = [] if self._tokenizer.bos_id is None else [self._tokenizer.bos_id]
        for part in rendered.parts:
            if isinstance(part, EndOfTurn):
                ids.append(self._end_of_turn)
            else:
                # Pieces between eos tokens are encoded apart, as in the models' training (`legacy` in LLaMA's
                # tokenizer).
                ids += self._tokenizer.encode(part, special_as_text=True)
        return EncodedPrompt(ids, rendered.stop)

    def close(self) -> None:
        pass

    @property
    def _end_of_turn(self) -> int:
        if self._tokenizer.eos_id is None:
            raise RequestError(
                "messages: the chat template puts an end-of-sequence token behind each answer, and the model's "
                "tokenizer has none; send one message alone, or serve the model with another chatTemplate",
                param="messages",
            )
        return self._tokenizer.eos_id


class _JinjaEncoder:
    """See `ChatEncoder`."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._template = JinjaTemplate(tokenizer)
        self.chat_format = _format_of(tokenizer, self._template.source)

    def encode(self, prompt: ChatPrompt, check: Callable[[str], object]) -> EncodedPrompt:
        messages = settled(prompt.messages)
        calls = bool(prompt.tools) or any(one.tool_calls or one.role == "tool" for one in messages)
        given = Rendering(prompt.tools, prompt.template_variables, calls)
        if calls and self.chat_format.native:
            messages = fitted(messages, self.chat_format.calls)
        elif calls:
            takes_system = not prompt.tools or self._template.takes_system
            messages = list(as_text(messages, prompt.tools, None, takes_system=takes_system))
            given = Rendering((), prompt.template_variables)
        conversation = Conversation.of(messages, in_place=self._template.keeps_system_in_place)
        ids = self._template.encode(conversation, check, given)
        return EncodedPrompt(ids, thinking=self.chat_format.thinks and self._is_thinking(conversation, ids))

    def close(self) -> None:
        self._template.close()

    def _is_thinking(self, conversation: Conversation, ids: Sequence[int]) -> bool:
        """Whether a prompt ends within reasoning: the template has opened it, or the message that is continued."""
        if conversation.continues:
            said = conversation.turns[-1].content
            return said.rfind(THINK) > said.rfind(THINK_END)
        end = self._tokenizer.decode(ids[-_END_TOKENS:], skip_special_tokens=False)
        return end.rstrip().endswith(THINK)


def _format_of(tokenizer: Tokenizer, source: str | None) -> ChatFormat:
    return chat_format(source, {token.content for token in tokenizer.added_tokens.values()})
