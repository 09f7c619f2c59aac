"""Processes for chat templates and grammars, forked from one that has imported what they need.

Tests make hundreds of engines, and to start such a process anew takes longer than most of them. What it does and its
limits stay the same; tests of `engine.child`, and those of whole programs, start it as the product does.
"""

import importlib
import os
import socket
import sys
from multiprocessing import get_context
from multiprocessing.context import ForkServerProcess
from typing import Any

from vicuna_server.engine import child
from vicuna_server.engine.child_process import work

__all__ = ["Forked", "start"]

_MODULES = ["vicuna_server.engine.template_process", "vicuna_server.engine.grammar.process"]
_server = get_context("forkserver")
_server.set_forkserver_preload([__name__, *_MODULES])


class Forked:
    """What `engine.child` wants of a process that `subprocess` has started."""

    def __init__(self, process: ForkServerProcess) -> None:
        self._process = process

    def poll(self) -> int | None:
        """Return its exit code; None while it runs."""
        return self._process.exitcode

    def kill(self) -> None:
        """End it."""
        self._process.kill()

    def wait(self) -> None:
        """Wait for its end."""
        self._process.join()


def start(module: str) -> tuple[Any, Any]:
    """Do what `child._start` does."""
    ours, theirs = socket.socketpair()
    with theirs:
        process = _server.Process(target=_run, args=(module, theirs), daemon=True)
        process.start()
    return Forked(process), child._Stream(ours)


def _run(module: str, end: socket.socket) -> None:
    for number in (0, 1):
        os.dup2(end.fileno(), number)
    end.close()
    sys.stdin, sys.stdout = os.fdopen(0), os.fdopen(1, "w")
    work(importlib.import_module(module)._opened)
