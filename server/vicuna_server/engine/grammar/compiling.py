"""Constraints on their way to an engine: checked in a process of their own, and remembered while they are in use."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

from vicuna_server.constraints import Constraint, ToolCalls
from vicuna_server.engine import PreparedConstraint
from vicuna_server.engine.child import Child
from vicuna_server.engine.child_process import MOST_BYTES
from vicuna_server.engine.encoding_thread import EncodingThread
from vicuna_server.engine.grammar.wire import written
from vicuna_server.engine.scope import CacheScope
from vicuna_server.errors import RequestError

__all__ = ["ConstraintDesk", "grammar_text"]

MOST_GRAMMARS = 256
MOST_LETTERS = 16 * 2**20
"""Of all remembered constraints together."""
_SECONDS = 2
_LIMITS = {"memory": f"more than {MOST_BYTES // 2**20} MiB of memory", "depth": "too many levels within each other"}

Content = TypeVar("Content")


@dataclass(frozen=True, slots=True)
class _Remembered(Generic[Content]):
    content: Content
    letters: int


class ConstraintDesk(Generic[Content]):
    """Checks the constraints of one engine's requests. Methods are for the event loop that made it.

    What is remembered is told apart by the scope of who asked: how long a check takes tells whether the same schema
    was sent before.

    Args:
        compiled: Makes what the engine needs of a grammar's text; called in a thread, may raise ValueError.
        special_id: Id of a special token; None: there is none of this text.
    """

    def __init__(
        self, compiled: Callable[[Constraint, str], Content], special_id: Callable[[str], int | None] = lambda _: None
    ) -> None:
        self._compiled = compiled
        self._special_id = special_id
        self._child = Child("vicuna_server.engine.grammar.process", "grammars", _SECONDS)
        self._thread = EncodingThread()
        self._known: OrderedDict[tuple[CacheScope, Constraint], _Remembered[Content]] = OrderedDict()
        self._letters = 0

    @property
    def waiting(self) -> int:
        """Constraints that are checked or wait to be."""
        return self._thread.waiting

    async def prepare(
        self, constraint: Constraint | PreparedConstraint, scope: CacheScope, admit: Callable[[], object]
    ) -> PreparedConstraint:
        """Return a constraint with what the engine has made of it; see `Engine.constrain`.

        Args:
            constraint: What the answer may be.
            scope: Of who asks.
            admit: Raises where as many requests wait as may wait.
        """
        if isinstance(constraint, PreparedConstraint):
            return constraint
        admit()
        key = (scope, constraint)
        if key in self._known:
            self._known.move_to_end(key)
            return PreparedConstraint(constraint, self._known[key].content)
        made = await self._thread.run(partial(self._make, constraint))
        self._remember(key, made)
        return PreparedConstraint(constraint, made.content)

    def close(self) -> None:
        """End thread and process."""
        self._thread.close()
        self._child.close()

    def _make(self, constraint: Constraint) -> _Remembered[Content]:
        trigger_id = self._special_id(constraint.trigger) if isinstance(constraint, ToolCalls) else None
        text = grammar_text(self._child, constraint, trigger_id)
        try:
            return _Remembered(self._compiled(constraint, text), len(text))
        except ValueError as error:
            raise _refused(_param(constraint), f"it cannot be enforced: {error}") from error

    def _remember(self, key: tuple[CacheScope, Constraint], made: _Remembered[Content]) -> None:
        if key in self._known:  # asked for twice at once
            return
        self._known[key] = made
        self._letters += made.letters
        while len(self._known) > MOST_GRAMMARS or (self._letters > MOST_LETTERS and len(self._known) > 1):
            _, dropped = self._known.popitem(last=False)
            self._letters -= dropped.letters


def grammar_text(child: Child, constraint: Constraint, trigger_id: int | None = None) -> str:
    """Return a constraint's grammar.

    Args:
        child: The process that checks it.
        constraint: What the answer may be.
        trigger_id: As in `lark_of`.

    Raises:
        RequestError: It cannot be honoured, or takes too much.
        OverloadedError: The process cannot be started.
    """
    seconds = child.seconds
    answer = child.ask({"constraint": written(constraint), "trigger_id": trigger_id})
    if answer is None:
        raise _too_much(constraint, f"more than {seconds:g} s of processor time, or of memory than there is")
    if "limit" in answer:
        raise _too_much(constraint, _LIMITS[answer["limit"]])
    if "fault" in answer:
        raise _refused(answer["param"], answer["fault"])
    return str(answer["text"])


def _too_much(constraint: Constraint, what: str) -> RequestError:
    return _refused(_param(constraint), f"to check it takes {what}; send a smaller one")


def _refused(param: str, why: str) -> RequestError:
    return RequestError(f"{param}: {why}", param=param, code="invalid_constraint")


def _param(constraint: Constraint) -> str:
    return getattr(constraint, "param", "tools" if isinstance(constraint, ToolCalls) else "response_format")
