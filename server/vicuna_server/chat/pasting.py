"""Long pasted texts: the screen shows a label for each until the question is sent."""

import re

__all__ = ["Pastes"]

MAX_LINES = 10
MAX_CHARACTERS = 2000
"""A shorter text is shown as it was pasted."""

_LABEL = re.compile(r"\[pasted text #(\d+), \d+ lines?\]")


class Pastes:
    """Remembers the pasted texts of one chat."""

    def __init__(self) -> None:
        self._texts: list[str] = []

    def fold(self, text: str) -> str:
        """Return the label for a pasted text; a short text is returned itself."""
        text = text.replace("\r\n", "\n").replace("\r", "\n")
        lines = text.count("\n") + 1
        if lines <= MAX_LINES and len(text) <= MAX_CHARACTERS:
            return text
        self._texts.append(text)
        return f"[pasted text #{len(self._texts)}, {lines} line{'s' if lines > 1 else ''}]"

    def unfold(self, question: str) -> str:
        """Return a question with its labels replaced by their texts; a label without a text stays."""

        def text(found: re.Match[str]) -> str:
            number = int(found[1])
            return self._texts[number - 1] if 0 < number <= len(self._texts) else found[0]

        return _LABEL.sub(text, question)
