"""Long pasted texts: one word on the screen stands for them until the question is sent."""

import re

__all__ = ["Pastes"]

MOST_LINES = 10
MOST_LETTERS = 2000
"""What is shorter is shown as it was pasted."""

_LABEL = re.compile(r"\[pasted text #(\d+), \d+ lines?\]")


class Pastes:
    """Remembers the pasted texts of one chat."""

    def __init__(self) -> None:
        self._texts: list[str] = []

    def fold(self, text: str) -> str:
        """Return what is shown for a pasted text: itself where it is short."""
        text = text.replace("\r\n", "\n").replace("\r", "\n")
        lines = text.count("\n") + 1
        if lines <= MOST_LINES and len(text) <= MOST_LETTERS:
            return text
        self._texts.append(text)
        return f"[pasted text #{len(self._texts)}, {lines} line{'s' if lines > 1 else ''}]"

    def unfold(self, question: str) -> str:
        """Return a question with the texts in their places; a label that was changed or typed stays as it is."""

        def text(found: re.Match[str]) -> str:
            number = int(found[1])
            return self._texts[number - 1] if 0 < number <= len(self._texts) else found[0]

        return _LABEL.sub(text, question)
