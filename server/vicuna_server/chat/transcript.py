"""The conversation so far, and its file."""

import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vicuna_server.chat.backend import ChatMessage
from vicuna_server.errors import InputError

__all__ = ["Transcript"]

ROLES = ("system", "user", "assistant")


class Transcript:
    """Messages in order: questions and answers, and an optional system message in front.

    Args:
        remember: Whether each question is sent with all earlier messages.
    """

    def __init__(self, *, remember: bool = True) -> None:
        self.messages: list[ChatMessage] = []
        self._remember = remember

    def ask(self, question: str) -> list[ChatMessage]:
        """Add a question; return the messages to send."""
        self.messages.append({"role": "user", "content": question})
        return self._sent()

    def retry(self) -> list[ChatMessage] | None:
        """Remove the last answer; return the messages to send for another one, None without a question."""
        if self.messages and self.messages[-1]["role"] == "assistant":
            self.messages.pop()
        return self._sent() if self.messages and self.messages[-1]["role"] == "user" else None

    def answer(self, text: str) -> None:
        """Add the answer to the last question."""
        self.messages.append({"role": "assistant", "content": text})

    def resume(self) -> list[ChatMessage] | None:
        """Return the messages with which the last answer goes on; None without one.

        Blanks at its end are not sent: many templates leave them out, and the model would write them twice.
        """
        if not self.messages or self.messages[-1]["role"] != "assistant" or not self.messages[-1]["content"].strip():
            return None
        *before, last = self._sent()
        return [*before, {"role": "assistant", "content": last["content"].rstrip()}]

    def extend(self, text: str) -> None:
        """Add to the last answer what it went on with."""
        last = self.messages[-1]
        self.messages[-1] = {"role": last["role"], "content": last["content"].rstrip() + text}

    def remove(self) -> bool:
        """Remove the last question with its answer; return whether there was one."""
        questions = [index for index, message in enumerate(self.messages) if message["role"] == "user"]
        if questions:
            del self.messages[questions[-1] :]
        return bool(questions)

    def reset(self) -> None:
        """Remove all questions and answers; the system text stays."""
        self.messages = [one for one in self.messages if one["role"] == "system"]

    def set_system(self, text: str) -> None:
        """Replace the system text; empty: remove it."""
        rest = [one for one in self.messages if one["role"] != "system"]
        self.messages = [{"role": "system", "content": text}, *rest] if text else rest

    @property
    def system(self) -> str:
        """The system text; empty: there is none."""
        return "\n".join(one["content"] for one in self.messages if one["role"] == "system")

    def save(self, path: Path) -> None:
        """Write a JSON file, whole or not at all; of existing files, only a saved conversation is overwritten.

        Raises:
            InputError: `FileNotWritten`, with the reason.
        """
        if path.exists():
            try:
                _read(path)
            except InputError as error:
                raise InputError(
                    "FileNotWritten", f"{path} exists and is not a saved conversation; choose another file"
                ) from error
        text = json.dumps({"messages": self.messages}, ensure_ascii=False, indent=2) + "\n"
        try:
            descriptor, part = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
            try:
                with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                    file.write(text)
                os.replace(part, path)
            except BaseException:
                os.unlink(part)
                raise
        except OSError as error:
            raise InputError("FileNotWritten", f"{path} cannot be written: {error.strerror or error}") from error

    def load(self, path: Path) -> None:
        """Replace the conversation by that in a file, of this command or of FastChat.

        Raises:
            InputError: `FileNotRead`, with the reason; the conversation is unchanged then.
        """
        self.messages = _read(path)

    def _sent(self) -> list[ChatMessage]:
        if self._remember:
            return list(self.messages)
        questions = [index for index, one in enumerate(self.messages) if one["role"] == "user"]
        return [*(one for one in self.messages if one["role"] == "system"), *self.messages[questions[-1] :]]


def _read(path: Path) -> list[ChatMessage]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        messages = content["messages"]
        fastchat = [one for one in messages if isinstance(one, list)]
        return _from_fastchat(content) if fastchat else [_checked(one) for one in messages]
    except OSError as error:
        raise InputError("FileNotRead", f"{path} cannot be read: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(
            "FileNotRead", f"{path} is not a saved conversation; name a file that !!save wrote, here or in FastChat"
        ) from error


def _checked(message: Mapping[str, Any]) -> ChatMessage:
    role, content = message["role"], message["content"]
    if role not in ROLES or not isinstance(content, str):
        raise ValueError(f"a message with role {role}")
    return {"role": role, "content": content}


def _from_fastchat(content: Mapping[str, Any]) -> list[ChatMessage]:
    """Read what FastChat's `!!save` writes: its `roles` names the user first, `messages` are pairs of name and text."""
    names: Sequence[str] = content["roles"]
    roles = {names[0]: "user", names[1]: "assistant"}
    return [_checked({"role": roles[name], "content": text}) for name, text in content["messages"] if text is not None]
