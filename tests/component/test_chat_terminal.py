"""`vicuna-server chat` in a real terminal (editing, history, commands, Ctrl-C, Ctrl-D), and with a model of its own."""

import fcntl
import os
import pty
import re
import select
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from support.serving import write_tiny_model

SECONDS = 100
UP, ALT_ENTER, CTRL_C, CTRL_D = "\x1b[A", "\x1b\r", "\x03", "\x04"


class Terminal:
    """A pseudo-terminal with a program in it."""

    def __init__(self, process: subprocess.Popen[bytes], fd: int) -> None:
        self.process = process
        self._fd = fd
        self._seen = ""

    def type(self, text: str) -> None:
        os.write(self._fd, text.encode())

    def expect(self, pattern: str) -> str:
        """Wait until the screen has got text that matches, behind what was expected last; return all up to its end."""
        deadline = time.monotonic() + SECONDS
        while not (found := re.search(pattern, self._seen)):
            ready, _, _ = select.select([self._fd], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, f"{pattern!r} is not in {self._seen!r}"
            try:
                self._seen += os.read(self._fd, 4096).decode(errors="replace")
            except OSError:  # the other side is closed
                pytest.fail(f"the program ended before {pattern!r}: {self._seen!r}")
        text, self._seen = self._seen[: found.end()], self._seen[found.end() :]
        return text


@contextmanager
def terminal(*words: str, **env: str) -> Iterator[Terminal]:
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (40, 120))
    # Nobody answers prompt_toolkit's question for the cursor here.
    variables = {**os.environ, "TERM": "xterm", "PROMPT_TOOLKIT_NO_CPR": "1", **env}
    process = subprocess.Popen(
        [sys.executable, "-m", "vicuna_server", "chat", *words],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=variables,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    os.close(theirs)
    try:
        yield Terminal(process, ours)
    finally:
        process.kill()
        process.wait()
        os.close(ours)


@pytest.mark.parametrize("style", ["simple", "rich"])
def test_a_conversation(style: str, tmp_path: Path) -> None:
    words = ("--model", str(tmp_path), "--style", style)
    with terminal(*words, VICUNA_ENGINE="scripted", VICUNA_SCRIPTED_TOKENS="4") as screen:
        screen.expect("!!help: commands")
        screen.expect("you:")
        screen.type("red green\r")
        screen.expect("red green red green")
        screen.expect("you:")
        screen.type(f"blue{ALT_ENTER}sky\r")  # one question of two lines
        screen.expect("blue sky blue sky")
        screen.expect("you:")
        screen.type(f"{UP}{UP}{UP}\r")  # the first question again, over the two lines of the second
        screen.expect("red green red green")
        screen.expect("you:")
        screen.type('"""!!a\rb\r"""\r')  # two lines and no command
        screen.expect("!!a b !!a b")
        screen.expect("you:")
        screen.type("!!continue\r")
        screen.expect("a b a b|!!a b !!a b")
        screen.expect("you:")
        screen.type("!!remo\t")
        screen.expect("!!remo")
        screen.expect("ve")  # drawn at once or by itself
        screen.type("\r")
        screen.expect("is removed")
        screen.expect("you:")
        screen.type(CTRL_D)
        assert screen.process.wait(timeout=SECONDS) == 0


def test_a_long_paste_is_one_word_on_the_screen_and_whole_in_the_question(tmp_path: Path) -> None:
    pasted = "\r".join(f"line{number}" for number in range(60))
    speed = {"VICUNA_ENGINE": "scripted", "VICUNA_SCRIPTED_TOKENS": "70"}
    with terminal("--model", str(tmp_path), "--system", "Be brief.", "--seed", "5", **speed) as screen:
        screen.expect("you:")
        screen.type(f"\x1b[200~{pasted}\x1b[201~")
        assert "line5" not in screen.expect(r"\[pasted text #1, 60 lines\]")
        screen.type("\r")
        screen.expect("line0 line1 .*line59")
        screen.expect("you:")
        screen.type("!!set\r")
        screen.expect("seed 5")
        screen.expect("system Be brief.")
        screen.expect("you:")
        screen.type("!!set model other\r")
        screen.expect("runs in this process")
        screen.expect("you:")
        screen.type(CTRL_D)
        assert screen.process.wait(timeout=SECONDS) == 0


def test_ctrl_c_stops_the_answer_and_not_the_program(tmp_path: Path) -> None:
    speed = {"VICUNA_SCRIPTED_TOKENS": "100000", "VICUNA_SCRIPTED_TOKENS_PER_SECOND": "50"}
    with terminal("--model", str(tmp_path), "--debug", VICUNA_ENGINE="scripted", **speed) as screen:
        screen.expect("you:")
        screen.type("word\r")
        screen.expect("word word word word")
        screen.type(CTRL_C)
        screen.expect("prompt tokens")
        screen.expect("you:")
        screen.type(f"half a question{CTRL_C}")
        screen.expect("you:")
        screen.type("other\r")
        screen.expect("other other other")
        screen.type(CTRL_C)
        screen.expect("you:")
        screen.type("!!exit\r")
        assert screen.process.wait(timeout=SECONDS) == 0


def test_a_failed_question_leaves_the_chat_going() -> None:
    with terminal("--url", "http://127.0.0.1:9", "--model", "m") as screen:
        screen.expect("m at http://127.0.0.1:9")
        screen.expect("you:")
        screen.type("hello\r")
        screen.expect("ServerUnreachable")
        screen.expect("you:")
        screen.type(CTRL_D)
        assert screen.process.wait(timeout=SECONDS) == 0


def test_a_model_in_this_process_answers_a_pipe(tmp_path: Path) -> None:
    folder = write_tiny_model(tmp_path / "model")
    command = [sys.executable, "-m", "vicuna_server", "chat", "--model", str(folder), "--dtype", "float32", "--debug"]
    command += ["--conv-template", "vicuna_v1.1", "--temperature", "0", "--max-new-tokens", "5"]
    done = subprocess.run(command, input=b"one\n!!regen\n\xff\n", capture_output=True, timeout=SECONDS, check=False)
    assert done.returncode == 0, done.stderr
    first, again = re.findall(rb"\[(?:length|stop): (\d+) prompt tokens", done.stderr)[:2]
    assert first == again
    assert int(first) > 100  # the system text of the template asked for
    assert done.stderr.count(b"prompt tokens") == 3


def test_a_model_here_goes_on_when_the_chat_is_too_long(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "vicuna_server", "chat", "--model", str(tmp_path), "--max-new-tokens", "2100"]
    env = {**os.environ, "VICUNA_ENGINE": "scripted", "VICUNA_SCRIPTED_TOKENS": "2090"}
    done = subprocess.run(
        command, input="one\ntwo\n", capture_output=True, text=True, timeout=SECONDS, check=False, env=env
    )
    assert (done.returncode, done.stdout.count("\n")) == (0, 2)
    assert "the oldest 2 messages were left out" in done.stderr


def test_what_is_for_a_model_here_is_refused_for_a_server(tmp_path: Path) -> None:
    for words, said in (
        (("--url", "http://127.0.0.1:9", "--load-8bit"), "--load-8bit is only for a model that runs here"),
        (("--model", str(tmp_path / "none")), "is not a folder"),
        (("--model", str(tmp_path), "--gpus", "0,1", "--num-gpus", "3"), "more than the 2"),
        (("--conv-template", "vicuna_v9"), "vicuna_v1.1"),
        (("--model", str(tmp_path), "--conv-template", "none.jinja"), "not a file"),
    ):
        command = [sys.executable, "-m", "vicuna_server", "chat", *words]
        done = subprocess.run(command, input="", capture_output=True, text=True, timeout=SECONDS, check=False)
        assert done.returncode == 64
        assert said in done.stderr
