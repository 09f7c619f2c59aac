"""Chat templates in Jinja, the tokenizer's own or from a file, as token ids."""

import re
import secrets
from collections.abc import Callable, Sequence
from functools import cached_property

from vicuna_server.engine.rendering import Renderer
from vicuna_server.errors import OverloadedError, RequestError
from vicuna_server.prompts import Conversation, Message, Role
from vicuna_server.prompts.sandbox import default_template
from vicuna_server.prompts.tokenizer import Tokenizer

__all__ = ["JinjaTemplate"]

_ROLES: dict[str, Role] = {"s": "system", "u": "user", "a": "assistant"}
_TRIALS = ("susasusus", "usasu")
"""Roles of conversations with a system message behind each kind of other, and with and without one at the head."""


class JinjaTemplate:
    """Turns conversations into token ids; messages are always text, even where they spell special tokens.

    Rendering gives one string. In it, a special token that the template wrote and one that a user typed look the same.
    So what a user typed is replaced by a random mark before rendering. The string is then cut at the special tokens
    that remain, which are the template's. The pieces between them are encoded as text, with the marks put back. A
    conversation without such letters is encoded in one piece, as transformers does.

    Args:
        tokenizer: With the template.
        renderer: Of that template; None: one of its own.
    """

    def __init__(self, tokenizer: Tokenizer, renderer: Renderer | None = None) -> None:
        self._tokenizer = tokenizer
        self.renderer = renderer or Renderer(default_template(tokenizer.chat_template), tokenizer.special_tokens)
        self._ids_of = {token.content: number for number, token in tokenizer.added_tokens.items() if token.special}
        longest_first = sorted(self._ids_of, key=len, reverse=True)
        self._special = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")
        bos = tokenizer.bos_id
        self._adds_bos = bos is not None and tokenizer.encode("", add_special_tokens=True)[:1] == [bos]

    @cached_property
    def keeps_system_in_place(self) -> bool:
        """Whether the template writes each system message in its place; it is tried once.

        Many templates refuse one that is not the first, leave it out, or gather all at the head.

        Raises:
            OverloadedError: The template's process cannot be started.
        """
        try:
            return all(map(self._keeps_order, _TRIALS))
        except OverloadedError:
            raise
        except RequestError:
            return False

    def _keeps_order(self, roles: str) -> bool:
        words = [f"vicunatrial{index}" for index in range(len(roles))]
        messages = [Message(_ROLES[role], word) for role, word in zip(roles, words, strict=True)]
        text = self.renderer.render(messages, continues=False)
        places = [text.find(word) for word in words]
        return -1 not in places and places == sorted(places)

    def encode(self, conversation: Conversation, check: Callable[[str], object] = lambda _: None) -> list[int]:
        """Return the ids, with BOS once where the model wants one.

        Args:
            conversation: What the template renders.
            check: Called with the text before it is encoded; may raise.

        Raises:
            RequestError: The template refuses the conversation, or exceeds a limit.
        """
        messages = conversation.messages()
        if any(self._special.search(message.content) for message in messages):
            ids = self._encode_apart(messages, conversation, check)
        else:
            text = self.renderer.render(messages, continues=conversation.continues)
            check(text)
            ids = self._tokenizer.encode(text)
        # Some templates write BOS and some leave it to the tokenizer.
        bos = self._tokenizer.bos_id
        return [bos, *ids] if bos is not None and self._adds_bos and ids[:1] != [bos] else ids

    def _encode_apart(
        self, messages: Sequence[Message], conversation: Conversation, check: Callable[[str], object]
    ) -> list[int]:
        nonce = secrets.token_hex(8)
        typed: list[str] = []

        def hide(found: re.Match[str]) -> str:
            typed.append(found[0])
            return f"{nonce}x{len(typed) - 1}x"

        hidden = [Message(one.role, self._special.sub(hide, one.content)) for one in messages]
        text = self.renderer.render(hidden, continues=conversation.continues)
        check(text)
        mark = re.compile(f"{nonce}x([0-9]+)x")
        ids: list[int] = []
        end = 0
        for written in [*self._special.finditer(text), None]:
            piece = text[end : written.start() if written else None]
            shown = mark.sub(lambda found: typed[int(found[1])], piece)
            ids += self._tokenizer.encode(shown, special_as_text=True) if shown else []
            if written is not None:
                ids.append(self._ids_of[written[0]])
                end = written.end()
        return ids
