"""The user's own kubectl, which knows the cluster, the credentials and the context."""

import contextlib
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from vicuna_operator.errors import PluginError
from vicuna_operator.plugin.terminal import show_chunk

__all__ = ["Kubectl", "KubectlProcess"]

_SECONDS = 60.0
_LOG_LINE = re.compile(r"[EWI]\d{4} ")  # klog's, which kubectl prints before it says what is wrong
_FORWARDING = re.compile(r"Forwarding from 127\.0\.0\.1:(\d+)")


class Kubectl(Protocol):
    """kubectl in one context and namespace; its errors become a PluginError with its exit code."""

    def read(self, *words: str) -> dict[str, Any]:
        """Run `kubectl WORDS --output json` and return the object."""
        ...

    def write(self, *words: str) -> None:
        """Run a command that changes something."""
        ...

    def show(self, *words: str) -> int:
        """Show on the user's terminal, line by line, what a command prints; return its exit code."""
        ...

    def forward(self, target: str, port: int) -> AbstractContextManager[str]:
        """Forward a port of a pod or Service to this machine while the block runs; give its URL."""
        ...


class KubectlProcess:
    """kubectl on PATH."""

    def __init__(self, flags: Sequence[str] = ()) -> None:
        self._flags = flags

    def read(self, *words: str) -> dict[str, Any]:
        """Run `kubectl WORDS --output json` and return the object."""
        parsed: dict[str, Any] = json.loads(self._run(*words, "--output=json"))
        return parsed

    def write(self, *words: str) -> None:
        """Run a command that changes something."""
        self._run(*words)

    def show(self, *words: str) -> int:
        """Show on the user's terminal, line by line, what a command prints; return its exit code."""
        with (
            _answering(),
            subprocess.Popen(["kubectl", *self._flags, *words], stdout=subprocess.PIPE) as process,  # noqa: S603, S607
        ):
            assert process.stdout is not None  # noqa: S101  # as asked for
            try:
                for line in process.stdout:
                    show_chunk(line.decode(errors="replace"))
            except BrokenPipeError:  # the reader, such as `head`, has closed the pipe
                process.terminate()
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return process.returncode

    @contextlib.contextmanager
    def forward(self, target: str, port: int) -> Iterator[str]:
        """Forward a port of a pod or Service to this machine while the block runs; give its URL."""
        words = ["kubectl", *self._flags, "port-forward", target, f":{port}", "--address=127.0.0.1"]
        # In a session of its own: Ctrl-C must stop the completion, not the port-forward.
        with (
            _answering(),
            tempfile.TemporaryFile("w+") as complaints,
            subprocess.Popen(  # noqa: S603
                words, stdout=subprocess.PIPE, stderr=complaints, text=True, start_new_session=True
            ) as process,
        ):
            try:
                assert process.stdout is not None  # noqa: S101  # as asked for
                found = _FORWARDING.match(process.stdout.readline())
                if found is None:
                    process.wait()
                    complaints.seek(0)
                    raise PluginError(complaints.read().strip() or f"kubectl cannot forward to {target}")
                yield f"http://127.0.0.1:{found[1]}"
            finally:
                process.terminate()

    def _run(self, *words: str) -> str:
        with _answering():
            done = subprocess.run(  # noqa: S603
                ["kubectl", *self._flags, *words],  # noqa: S607
                capture_output=True,
                text=True,
                timeout=_SECONDS,
                check=False,
            )
        if done.returncode:
            raise PluginError(_complaint(done.stderr) or f"kubectl {words[0]} failed", done.returncode)
        return done.stdout


@contextlib.contextmanager
def _answering() -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise PluginError("kubectl is not on PATH; install it, or add its folder to PATH", 127) from error
    except subprocess.TimeoutExpired as error:
        raise PluginError(f"kubectl did not answer within {_SECONDS:.0f} s; check the cluster's address") from error


def _complaint(text: str) -> str:
    lines = text.strip().splitlines()
    return "\n".join(line for line in lines if not _LOG_LINE.match(line)) or text.strip()
