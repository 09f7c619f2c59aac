"""Chat templates in Jinja, the tokenizer's own or one from a file, rendered in transformers' sandbox."""

import re
import secrets
from collections.abc import Sequence
from typing import Any

from jinja2.exceptions import TemplateError
from transformers import PreTrainedTokenizerBase

from vicuna_server.errors import RequestError
from vicuna_server.prompts import Conversation, Message

__all__ = ["JinjaTemplate"]

_FAILURES = (TemplateError, ValueError, TypeError, LookupError, ArithmeticError, AttributeError)
"""What templates raise, on purpose or at a conversation they were not made for."""


class JinjaTemplate:
    """Turns conversations into token ids; what messages say is text, whatever it looks like.

    Rendering gives one string, in which a special token that a template wrote and one that a user typed are the same
    letters. So where a message has such letters they are rendered as a random mark, the string is cut at the special
    tokens that remain, which are the template's, and the pieces are encoded as text, the marks put back. Any other
    conversation, which is nearly all, is encoded in one piece, as transformers does.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        # transformers types its tokenizers' calls as unions that fit none of ours.
        self._tokenizer: Any = tokenizer
        special = [str(token.content) for token in self._tokenizer.added_tokens_decoder.values() if token.special]
        longest_first = sorted(special, key=len, reverse=True)
        self._special = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")
        bos = self._tokenizer.bos_token_id
        self._adds_bos = bos is not None and self._tokenizer("")["input_ids"][:1] == [bos]

    def encode(self, conversation: Conversation) -> list[int]:
        """Return the ids, with BOS once where the model wants one.

        Raises:
            RequestError: The template refuses the conversation.
        """
        messages = conversation.messages()
        if any(self._special.search(message.content) for message in messages):
            ids = self._encode_apart(messages, conversation)
        else:
            ids = self._ids(self._render(messages, conversation))
        # Some templates write BOS and some leave it to the tokenizer.
        bos = self._tokenizer.bos_token_id
        return [bos, *ids] if self._adds_bos and ids[:1] != [bos] else ids

    def _encode_apart(self, messages: Sequence[Message], conversation: Conversation) -> list[int]:
        nonce = secrets.token_hex(8)
        typed: list[str] = []

        def hide(found: re.Match[str]) -> str:
            typed.append(found[0])
            return f"{nonce}x{len(typed) - 1}x"

        hidden = [Message(one.role, self._special.sub(hide, one.content)) for one in messages]
        text = self._render(hidden, conversation)
        mark = re.compile(f"{nonce}x([0-9]+)x")
        ids: list[int] = []
        end = 0
        for written in [*self._special.finditer(text), None]:
            piece = text[end : written.start() if written else None]
            shown = mark.sub(lambda found: typed[int(found[1])], piece)
            ids += self._ids(shown, split_special_tokens=True) if shown else []
            if written is not None:
                ids.append(self._tokenizer.convert_tokens_to_ids(written[0]))
                end = written.end()
        return ids

    def _render(self, messages: Sequence[Message], conversation: Conversation) -> str:
        try:
            text: str = self._tokenizer.apply_chat_template(
                [{"role": message.role, "content": message.content} for message in messages],
                tokenize=False,
                add_generation_prompt=not conversation.continues,
                continue_final_message=conversation.continues,
            )
        except _FAILURES as error:
            raise RequestError(
                f"messages: the model's chat template refuses this conversation: {error}", param="messages"
            ) from error
        return text

    def _ids(self, text: str, **options: bool) -> list[int]:
        ids: list[int] = self._tokenizer(text, add_special_tokens=False, **options)["input_ids"]
        return ids
