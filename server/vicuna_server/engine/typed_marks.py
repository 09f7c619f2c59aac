"""Letters in users' texts that spell a token of the vocabulary: they are to stay letters."""

import re
import secrets

from vicuna_server.prompts.tokenizer import Tokenizer

__all__ = ["HiddenMarks", "TypedMarks"]


class TypedMarks:
    """Finds what spells a token in a text.

    Args:
        tokenizer: Whose special tokens they are, and others that it finds in a text before anything else.
        template: Text of the chat template. Of those others, the ones that it writes count, such as `<tool_call>`.
    """

    def __init__(self, tokenizer: Tokenizer, template: str) -> None:
        self.tokenizer = tokenizer
        added = tokenizer.added_tokens.items()
        self.ids_of = {token.content: number for number, token in added if token.special}
        others = [token.content for _, token in added if not token.special and token.content.strip()]
        plain = [text for text in others if len(text) > 1 and text in template]
        self.special = _any_of(self.ids_of)
        self.all = _any_of([*self.ids_of, *plain])

    def hidden(self) -> "HiddenMarks":
        """Return what hides them in the texts of one conversation."""
        return HiddenMarks(self)


class HiddenMarks:
    """What one conversation's texts spell, each replaced by a random word until the whole is encoded.

    Args:
        marks: What is looked for.
    """

    def __init__(self, marks: TypedMarks) -> None:
        self._marks = marks
        self._nonce = secrets.token_hex(8)
        self._typed: list[str] = []

    @property
    def any(self) -> bool:
        """Whether something was hidden."""
        return bool(self._typed)

    def hide(self, text: str) -> str:
        """Return a text without such letters."""
        return self._marks.all.sub(self._hide, text)

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text in which special tokens are those of a template, and what was hidden is text."""
        ids: list[int] = []
        end = 0
        for written in self._marks.special.finditer(text):
            ids += self._as_text(text[end : written.start()])
            ids.append(self._marks.ids_of[written[0]])
            end = written.end()
        return ids + self._as_text(text[end:])

    def _hide(self, found: re.Match[str]) -> str:
        self._typed.append(found[0])
        return f"{self._nonce}x{len(self._typed) - 1}x"

    def _as_text(self, text: str) -> list[int]:
        shown = re.sub(f"{self._nonce}x([0-9]+)x", self._shown, text)
        # A tokenizer finds tokens that are not special in any text, so these are encoded in two halves.
        halves = [half for half in shown.split(self._nonce) if half]
        return [token for half in halves for token in self._marks.tokenizer.encode(half, special_as_text=True)]

    def _shown(self, found: re.Match[str]) -> str:
        typed = self._typed[int(found[1])]
        return typed if typed in self._marks.ids_of else f"{typed[0]}{self._nonce}{typed[1:]}"


def _any_of(tokens: "list[str] | dict[str, int]") -> re.Pattern[str]:
    longest_first = sorted(tokens, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")
