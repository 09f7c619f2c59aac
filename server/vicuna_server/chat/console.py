"""Reads questions: from a terminal with editing and history, or from a pipe, one per line."""

import contextlib
import sys
from collections.abc import Iterator
from typing import Protocol

from vicuna_server.chat.multiline import is_open
from vicuna_server.chat.pasting import Pastes

__all__ = ["Console", "PipeConsole", "open_console"]


class Console(Protocol):
    """Reads one question after another."""

    interactive: bool

    def read(self) -> str | None:
        """Return the next question; None at the end.

        Raises:
            KeyboardInterrupt: The user discards what was typed so far.
        """


class PipeConsole:
    """Lines of standard input."""

    interactive = False

    def __init__(self) -> None:
        # Bytes that are not UTF-8 become a visible character, since an error would end a script.
        with contextlib.suppress(AttributeError):
            sys.stdin.reconfigure(errors="replace")  # type: ignore[union-attr]
        self._lines: Iterator[str] = iter(sys.stdin)

    def read(self) -> str | None:
        """Return the next line."""
        line = next(self._lines, None)
        return None if line is None else line.rstrip("\r\n")


class TerminalConsole:
    """A prompt of prompt_toolkit: Enter sends, Alt-Enter begins a new line, arrows go through earlier questions.

    After three quotation marks at its beginning a question has lines until there are three more. A long pasted text is
    shown as a label until it is sent.

    Args:
        words: Commands that Tab completes.
    """

    interactive = True

    def __init__(self, words: list[str]) -> None:
        from prompt_toolkit import PromptSession
        from prompt_toolkit.completion import WordCompleter
        from prompt_toolkit.history import InMemoryHistory
        from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
        from prompt_toolkit.keys import Keys

        keys = KeyBindings()

        @keys.add("enter")
        def send(event: KeyPressEvent) -> None:
            if is_open(event.current_buffer.text):
                event.current_buffer.insert_text("\n")
            else:
                event.current_buffer.validate_and_handle()

        @keys.add("escape", "enter")
        def new_line(event: KeyPressEvent) -> None:
            event.current_buffer.insert_text("\n")

        pastes = self._pastes = Pastes()

        @keys.add(Keys.BracketedPaste)
        def paste(event: KeyPressEvent) -> None:
            event.current_buffer.insert_text(pastes.fold(event.data))

        # The history is not kept in a file, since questions may be confidential.
        self._session: PromptSession[str] = PromptSession(
            history=InMemoryHistory(),
            key_bindings=keys,
            multiline=True,
            completer=WordCompleter(words, sentence=True),
            complete_while_typing=False,
            prompt_continuation="... ",
        )

    def read(self) -> str | None:
        """Return the typed question."""
        try:
            return self._pastes.unfold(self._session.prompt("you: "))
        except EOFError:
            return None


def open_console(words: list[str]) -> Console:
    """Return a terminal console if input and output are a terminal, else one for pipes."""
    if sys.stdin.isatty() and sys.stdout.isatty():
        return TerminalConsole(words)
    return PipeConsole()
