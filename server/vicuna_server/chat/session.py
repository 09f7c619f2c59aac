"""The loop of a chat: questions, answers, and commands that begin with `!!`."""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path

from vicuna_server.chat.aside import Aside
from vicuna_server.chat.backend import Backend, ChatMessage, Options
from vicuna_server.chat.console import Console
from vicuna_server.chat.display import show
from vicuna_server.chat.multiline import unquoted
from vicuna_server.chat.settings import DEFAULT, MODEL, change, describe
from vicuna_server.chat.transcript import Transcript
from vicuna_server.errors import UsageError, VicunaError
from vicuna_server.tools.output import OutputPart

__all__ = ["COMMANDS", "Session"]

COMMANDS = {
    "!!help": "this list",
    "!!reset": "forget the conversation, but not the system text",
    "!!system TEXT": "set the system text; without TEXT: remove it",
    "!!set NAME VALUE": "set model, temperature, top-p, seed or max-new-tokens; alone: show the settings",
    "!!remove": "remove the last question and its answer",
    "!!regen": "answer the last question again",
    "!!continue": "go on with the last answer, which was stopped or cut off",
    "!!save FILE": "write the conversation to a file",
    "!!load FILE": "continue a conversation from a file",
    "!!exit": "end the chat",
}


class Session:
    """One conversation with one model.

    Args:
        backend: The model.
        transcript: The conversation so far.
        options: Sampling options.
        style: "simple" or "rich".
        debug: Whether each answer is followed by its counts, on standard error.
        thoughts: Whether what the model thinks is written out, on standard error.
    """

    def __init__(
        self,
        backend: Backend,
        transcript: Transcript,
        options: Options,
        *,
        style: str = "simple",
        debug: bool = False,
        thoughts: bool = False,
    ) -> None:
        self._backend = backend
        self._transcript = transcript
        self._options = options
        self._style = style
        self._debug = debug
        self._thoughts = thoughts
        self._interactive = False

    def run(self, console: Console) -> None:
        """Read and answer questions until the input ends or `!!exit`; at a terminal, failures and Ctrl-C do not end it.

        Raises:
            VicunaError: A question from a pipe cannot be answered, or a command is wrong.
            KeyboardInterrupt: Ctrl-C where the questions come from a pipe.
        """
        self._interactive = console.interactive
        if self._interactive:
            print(f"{self._backend.title}. Alt-Enter: new line, Ctrl-C: stop an answer, Ctrl-D: end, !!help: commands.")
        while True:
            try:
                line = console.read()
            except KeyboardInterrupt:
                if not self._interactive:
                    raise
                continue  # the typed line is discarded; Ctrl-D ends
            if line is None or line.strip() == "!!exit":
                return
            try:
                self._take(line)
            except VicunaError as error:
                if not self._interactive:
                    raise
                print(f"{error.reason}: {error.message}", file=sys.stderr)

    def _take(self, line: str) -> None:
        if line.startswith("!!"):
            self._command(line)
        elif line.strip():
            self.ask(unquoted(line) if self._interactive else line)

    def ask(self, question: str) -> None:
        """Ask one question and show the answer; a question that fails is forgotten.

        Raises:
            VicunaError: It cannot be answered.
        """
        sent = self._transcript.ask(question)
        try:
            self._answer(sent, self._transcript.answer)
        except VicunaError:
            self._transcript.remove()
            raise

    def _answer(self, messages: Sequence[ChatMessage], keep: Callable[[str], None]) -> None:
        """Show an answer while it arrives, and keep its text; at a terminal, Ctrl-C keeps what has arrived."""
        texts: list[str] = []
        started = time.monotonic()
        times: list[float] = []

        def timed(stream: Iterator[OutputPart]) -> Iterator[OutputPart]:
            for part in stream:
                times.append(time.monotonic() - started)
                yield part

        def recorded(stream: Iterator[str]) -> Iterator[str]:
            for text in stream:
                texts.append(text)
                yield text

        aside = Aside(thoughts=self._thoughts)
        try:
            # Closed at once on Ctrl-C, so that the generation stops.
            with closing(self._backend.stream(messages, self._options)) as stream:
                show(recorded(aside.text_of(timed(stream))), self._style)
        except KeyboardInterrupt:
            if not self._interactive:
                raise
        aside.tell_calls()
        keep("".join(texts))
        self._print_notes()
        if self._debug:
            self._print_debug(times[0] if times else 0.0, time.monotonic() - started)

    def _print_notes(self) -> None:
        report = self._backend.report
        if report.left_out:
            print(f"[too long for the context: the oldest {report.left_out} messages were left out]", file=sys.stderr)
        if report.finish_reason == "length" and self._options.max_tokens is None:
            print("[cut off: the context is full, or the answer took too long; !!reset makes room]", file=sys.stderr)
        elif report.finish_reason == "length" and self._interactive:
            print("[cut off at max-new-tokens; !!continue goes on]", file=sys.stderr)

    def _print_debug(self, first: float, seconds: float) -> None:
        report = self._backend.report
        cached = "" if report.cached_tokens is None else f", {report.cached_tokens} of them cached"
        prompt = "" if report.prompt_tokens is None else f"{report.prompt_tokens} prompt tokens{cached}; "
        tokens = "an unknown number of" if report.tokens is None else report.tokens
        times = f"{seconds:.2f} s, the first text after {first:.2f} s"
        # The first token comes out of reading the prompt.
        more = (report.tokens or 0) - 1
        rate = f", {more / (seconds - first):.1f} tokens/s" if more > 0 and seconds > first else ""
        print(f"[{report.finish_reason or 'stopped'}: {prompt}{tokens} tokens in {times}{rate}]", file=sys.stderr)

    def _command(self, line: str) -> None:
        name, _, argument = line.strip().partition(" ")
        ways = {"!!system": self._set_up, "!!set": self._set_up, "!!regen": self._resume, "!!continue": self._resume}
        text = ways.get(name, self._carry_out)(name, argument.strip())
        if text and self._interactive:
            show([text], "simple")

    def _set_up(self, name: str, argument: str) -> str:
        if name == "!!system":
            self._transcript.set_system(argument)
            return "The system text is set." if argument else "The system text is removed."
        if not argument:
            system = self._transcript.system or DEFAULT
            return f"model {self._backend.title}\n{describe(self._options)}\nsystem {system}"
        setting, _, value = argument.partition(" ")
        return self._change(setting, value.strip())

    def _change(self, setting: str, value: str) -> str:
        if setting == MODEL and value:
            self._backend.use(None if value == DEFAULT else value)
            return f"model {self._backend.title}"
        self._options = change(self._options, setting, value)
        return describe(self._options)

    def _carry_out(self, name: str, argument: str) -> str:
        transcript = self._transcript
        match name, argument:
            case "!!reset", "":
                transcript.reset()
                return "The conversation is forgotten."
            case "!!remove", "":
                return "The last question is removed." if transcript.remove() else "There is no question to remove."
            case "!!save", file if file:
                transcript.save(Path(file).expanduser())
                return f"{len(transcript.messages)} messages are saved in {file}."
            case "!!load", file if file:
                transcript.load(Path(file).expanduser())
                return "\n".join(f"{one['role']}: {one['content']}" for one in transcript.messages)
            case "!!help", "":
                return "\n".join(f"{command:16} {text}" for command, text in COMMANDS.items())
        raise _unknown(name)

    def _resume(self, name: str, argument: str) -> str:
        if argument:
            raise _unknown(name)
        if name == "!!continue":
            if (sent := self._transcript.resume()) is None:
                return "There is no answer to continue."
            self._answer(sent, self._transcript.extend)
            return ""
        before = list(self._transcript.messages)
        if (sent := self._transcript.retry()) is None:
            return "Nothing has been asked yet."
        try:
            self._answer(sent, self._transcript.answer)
        except VicunaError:
            self._transcript.messages = before
            raise
        return ""


def _unknown(name: str) -> UsageError:
    return UsageError(f"{name} is not a command in this form; the commands are {', '.join(COMMANDS)}")
