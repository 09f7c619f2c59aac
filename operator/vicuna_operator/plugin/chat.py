"""`kubectl vicuna chat` and `kubectl vicuna test`: chat with a model through the API server, by port-forward."""

import contextlib
import importlib
import json
import sys
import time
from collections.abc import Mapping
from typing import Any

from vicuna_contract.printable import printable
from vicuna_operator.errors import PluginError
from vicuna_operator.plugin.chat_completion import ChatCompletion, served_name
from vicuna_operator.plugin.history import table
from vicuna_operator.plugin.kubectl import Kubectl
from vicuna_operator.plugin.model_objects import ModelObjects, read_model
from vicuna_operator.plugin.terminal import say, show_chunk

__all__ = ["chat", "test"]

_PORT = 8000
_COLUMNS = ("pod", "revision", "first", "rate", "answer")
_MOST_SHOWN = 60


def chat(kubectl: Kubectl, name: str, *, system: str | None, options: Mapping[str, Any]) -> int:
    """Talk with a model; each line of standard input is one turn. Ctrl-C ends the answer, Ctrl-D the chat."""
    model = served_name(read_model(kubectl, name))
    terminal = sys.stdin.isatty() and sys.stdout.isatty()
    if terminal:
        with contextlib.suppress(ImportError):
            importlib.import_module("readline")  # gives `input` editing and history
        sys.stderr.write(f"{name}: !!reset begins anew, Ctrl-D ends\n")
    start = [{"role": "system", "content": system}] if system else []
    messages = list(start)
    with kubectl.forward(f"service/{name}", _PORT) as url:
        while (line := _line("> " if terminal else "")) is not None:
            if line.strip() == "!!reset":
                messages = list(start)
            elif line.strip():
                messages.append({"role": "user", "content": line})
                text = _answer(ChatCompletion(url, {"model": model, "messages": messages, **options}))
                messages.append({"role": "assistant", "content": text})
    return 0


def test(kubectl: Kubectl, name: str, *, prompt: str, tokens: int, as_json: bool) -> int:
    """Send one message to every ready replica; say who answered, which revision, and how soon.

    Returns:
        0, or 1 when a replica did not answer or none is ready.
    """
    objects = ModelObjects.read(kubectl, name)
    pods = sorted(pod.meta.name for pod in objects.pods if pod.is_server and pod.ready)
    if not pods:
        raise PluginError(f"{name} has no ready server; see `kubectl vicuna status {name}`")
    body = {"model": served_name(objects.body), "messages": [{"role": "user", "content": prompt}], "max_tokens": tokens}
    rows = [_ask(kubectl, pod, body) for pod in pods]
    if as_json:
        sys.stdout.write(json.dumps(rows, indent=2) + "\n")
    else:
        shown = [{**row, "answer": _short(str(row["answer"]))} for row in rows]
        say(table(shown, _COLUMNS))
    return 0 if all(row["answered"] for row in rows) else 1


def _ask(kubectl: Kubectl, pod: str, body: Mapping[str, Any]) -> dict[str, object]:
    completion, started = None, time.monotonic()
    try:
        with kubectl.forward(f"pod/{pod}", _PORT) as url:
            completion, started = ChatCompletion(url, body), time.monotonic()
            answer = "".join(completion.chunks())
    except PluginError as error:
        return {
            "pod": pod,
            "revision": completion.revision if completion else "",
            "answered": False,
            "answer": str(error),
        }
    seconds = time.monotonic() - started
    first = f"{completion.first * 1e3:.0f} ms" if completion.first is not None else ""
    rate = f"{completion.tokens / seconds:.1f}/s"
    return {
        "pod": pod,
        "revision": completion.revision,
        "answered": True,
        "first": first,
        "rate": rate,
        "answer": answer,
    }


def _answer(completion: ChatCompletion) -> str:
    """Print a completion as it comes and return its text, or as much as came before Ctrl-C."""
    parts: list[str] = []
    try:
        with contextlib.closing(completion.chunks()) as chunks:  # type: ignore[type-var]
            for chunk in chunks:
                parts.append(chunk)
                show_chunk(chunk)
    except KeyboardInterrupt:
        sys.stderr.write(" (stopped)")
    except PluginError as error:
        sys.stderr.write(printable(str(error)))
        if not sys.stdin.isatty():
            raise
    sys.stdout.write("\n")
    return "".join(parts)


def _line(prompt: str) -> str | None:
    """Read one line; None at the end of the input, or at Ctrl-C."""
    try:
        return input(prompt)
    except (EOFError, KeyboardInterrupt):
        return None


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _MOST_SHOWN else f"{line[: _MOST_SHOWN - 1]}…"
