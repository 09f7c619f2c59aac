"""Renders one chat template in a process that has limits of time and memory; `rendering` asks it."""

from functools import partial
from typing import Any

from vicuna_contract.printable import printable
from vicuna_server.engine.child_process import Answers, work
from vicuna_server.prompts.sandbox import render

__all__ = ["MOST_SECONDS"]

MOST_SECONDS = 5
"""Of processor time for one conversation; those of 2 048 messages need less than 0.1 s."""
MOST_LETTERS = 300
"""Of a template's error in a message: it may quote the whole prompt."""


def _render(template: str, tokens: dict[str, str], asked: dict[str, Any]) -> dict[str, Any]:
    """Return the prompt, or what went wrong."""
    try:
        text = render(template, tokens=tokens, **asked)
    except (MemoryError, RecursionError):
        raise
    except Exception as error:  # noqa: BLE001  # a template may raise anything
        return {"fault": printable(str(error) or type(error).__name__)[:MOST_LETTERS]}
    return {"text": text}


def _opened(first: Any) -> Answers:
    return partial(_render, first["template"], first["tokens"])


if __name__ == "__main__":
    work(_opened)
