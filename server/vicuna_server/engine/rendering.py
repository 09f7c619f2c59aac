"""Chat templates in Jinja, rendered in a process of their own: they are untrusted programs, and may never end.

A process can be stopped and its memory limited; a thread cannot. The process is started once for a template, and again
after a limit has ended it.
"""

import os
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any

import jinja2  # noqa: F401  # a missing package shows here as an error that names it, not in the process

from vicuna_server.engine.template_process import MOST_BYTES, MOST_SECONDS, read_frame, write_frame
from vicuna_server.errors import OverloadedError, RequestError
from vicuna_server.prompts import Message, Tool
from vicuna_server.prompts.template_data import mapped, message_data, tool_data

__all__ = ["Renderer"]

START_SECONDS = 120.0
"""For the process to come up, which takes 0.1 s of processor time."""
WAIT_SECONDS = 30.0
"""For a conversation by the clock; the process limits its own processor time."""
SECONDS_AFTER_ONE = 0.5
"""Of processor time for one conversation, once one has used up its time: similar ones may follow, and all others wait
for them."""
MOST_ANSWER = 64 * 2**20
"""Bytes of a prompt; no context holds so many."""
_PASSED_ON = ("PATH", "PYTHONPATH", "PYTHONHOME", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "LD_LIBRARY_PATH")
_LIMITS = {"memory": f"more than {MOST_BYTES // 2**20} MiB of memory", "depth": "too many macros within each other"}


class Renderer:
    """Renders one template. One call at a time.

    Args:
        template: Jinja, as transformers knows it.
        tokens: Special tokens by the names that templates call them by, such as bos_token.
        seconds: Of processor time for one conversation, until one has used them up.
    """

    def __init__(self, template: str, tokens: Mapping[str, str], seconds: float = MOST_SECONDS) -> None:
        self._seconds = seconds
        self._first = {"template": template, "tokens": dict(tokens)}
        self._process: subprocess.Popen[bytes] | None = None
        self._end: weakref.finalize[..., Any] | None = None

    def render(
        self,
        messages: Iterable[Message],
        *,
        continues: bool,
        tools: Iterable[Tool] = (),
        variables: Mapping[str, object] | None = None,
        change: Callable[[str], str] = str,
    ) -> str:
        """Return the prompt.

        Args:
            messages: The conversation, which the template sees as `template_data` makes it.
            continues: Whether the last message, an assistant's, is to be continued.
            tools: Functions that may be called.
            variables: Further names that the template may use, with JSON values.
            change: Applied to each text of the conversation before the template sees it.

        Raises:
            RequestError: The template refuses the conversation, or `template_failed`: it takes too much for it.
            OverloadedError: The process cannot be started.
        """
        asked = {
            "messages": [message_data(one, change) for one in messages],
            "tools": [tool_data(one, change) for one in tools] or None,
            "variables": mapped(dict(variables or {}), change),
            "continues": continues,
        }
        answer = _exchange(self._started(), asked, WAIT_SECONDS)
        if answer is None:
            self.close()
            error = _too_much(f"more than {self._seconds:g} s of processor time, or of memory than there is")
            self._seconds = min(self._seconds, SECONDS_AFTER_ONE)
            raise error
        if "limit" in answer:
            self.close()  # its memory may still be full
            raise _too_much(_LIMITS[answer["limit"]])
        if "fault" in answer:
            raise RequestError(
                f"messages: the model's chat template refuses this conversation: {answer['fault']}", param="messages"
            )
        return str(answer["text"])

    def close(self) -> None:
        """End the process; the next call starts another."""
        if self._end is not None:
            self._end()
        self._process = self._end = None

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is not None and self._process.poll() is None:
            return self._process
        self.close()
        environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
        try:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "vicuna_server.engine.template_process"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=environment,
                start_new_session=True,  # a Ctrl-C in a terminal is for the server, which drains
            )
        except OSError as error:
            raise OverloadedError(
                f"the process for the chat template cannot be started ({error.strerror}); try again in a moment",
                status=503,
            ) from error
        self._process, self._end = process, weakref.finalize(self, _stop, process)
        if _exchange(process, {**self._first, "seconds": self._seconds}, START_SECONDS) is None:
            self.close()
            raise OverloadedError("the process for the chat template did not start; try again in a moment", status=503)
        return process


def _exchange(process: subprocess.Popen[bytes], value: Mapping[str, Any], seconds: float) -> Any:
    """Send a value and return the response; None where the process ended meanwhile."""
    if process.stdin is None or process.stdout is None:
        raise RuntimeError("the process has no pipes")
    guard = threading.Timer(seconds, process.kill)
    guard.daemon = True
    guard.start()
    try:
        write_frame(process.stdin, value)
        return read_frame(process.stdout, MOST_ANSWER)
    except (OSError, ValueError):
        return None
    finally:
        guard.cancel()


def _too_much(what: str) -> RequestError:
    return RequestError(
        f"messages: the model's chat template takes {what} for this conversation; send another conversation, or serve "
        "the model with another chatTemplate",
        param="messages",
        code="template_failed",
    )


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with suppress(OSError):  # data may be left that cannot be written
                pipe.close()
    process.wait()
