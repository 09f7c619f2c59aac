"""Constraints are checked once per scope, in a process that hostile ones cannot hold up or outgrow."""

import asyncio
import json
from typing import Any

import pytest

from vicuna_server.constraints import CallForm, Choice, Constraint, JsonSchema, ToolCalls
from vicuna_server.engine import PreparedConstraint
from vicuna_server.engine.child import Child
from vicuna_server.engine.grammar import compiling
from vicuna_server.engine.grammar.compiling import ConstraintDesk, grammar_text
from vicuna_server.engine.scope import EVERYBODY, CacheScope
from vicuna_server.errors import OverloadedError, RequestError


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Constraint, int | None]]:
    calls: list[tuple[Constraint, int | None]] = []

    def text(child: Child, constraint: Constraint, trigger_id: int | None = None) -> str:
        calls.append((constraint, trigger_id))
        return "x" * 1000

    monkeypatch.setattr(compiling, "grammar_text", text)
    return calls


def desk(**more: Any) -> ConstraintDesk[str]:
    return ConstraintDesk(lambda constraint, text: text, **more)


async def test_a_constraint_is_checked_once_for_each_scope(asked: list[Any]) -> None:
    one = desk()
    for _ in range(3):
        ready = await one.prepare(Choice(("a",)), EVERYBODY, lambda: None)
    assert ready == PreparedConstraint(Choice(("a",)), "x" * 1000)
    assert await one.prepare(ready, CacheScope("other"), lambda: None) is ready
    assert len(asked) == 1
    await one.prepare(Choice(("a",)), CacheScope("other"), lambda: None)
    await one.prepare(Choice(("b",)), EVERYBODY, lambda: None)
    assert len(asked) == 3
    one.close()


async def test_what_is_remembered_is_bounded_in_number_and_letters(
    asked: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiling, "MOST_GRAMMARS", 3)
    one = desk()
    for option in "abcd":
        await one.prepare(Choice((option,)), EVERYBODY, lambda: None)
        await one.prepare(Choice(("a",)), EVERYBODY, lambda: None)  # in use all the time
    assert len(asked) == 4
    await one.prepare(Choice(("b",)), EVERYBODY, lambda: None)
    assert len(asked) == 5
    monkeypatch.setattr(compiling, "MOST_LETTERS", 1500)
    await one.prepare(Choice(("e",)), EVERYBODY, lambda: None)
    assert len(one._known) == 1
    one.close()


async def test_where_too_many_wait_none_is_checked(asked: list[Any]) -> None:
    def full() -> None:
        raise OverloadedError("full")

    one = desk()
    with pytest.raises(OverloadedError):
        await one.prepare(Choice(("a",)), EVERYBODY, full)
    assert not asked
    one.close()


async def test_a_special_token_is_looked_up_for_the_trigger(asked: list[Any]) -> None:
    one = desk(special_id={"<call>": 7}.get)
    calls = ToolCalls("<call>", (CallForm("<call>", "{}", ""),))
    await one.prepare(calls, EVERYBODY, lambda: None)
    await one.prepare(Choice(("<call>",)), EVERYBODY, lambda: None)
    assert [trigger for _, trigger in asked] == [7, None]
    one.close()


async def test_what_the_engine_cannot_compile_is_refused(asked: list[Any]) -> None:
    def compiled(constraint: Constraint, text: str) -> str:
        raise ValueError("too large for this vocabulary")

    one = ConstraintDesk(compiled)
    with pytest.raises(RequestError, match=r"guided_json: it cannot be enforced: too large") as caught:
        await one.prepare(JsonSchema("{}", "guided_json"), EVERYBODY, lambda: None)
    assert (caught.value.param, caught.value.code) == ("guided_json", "invalid_constraint")
    one.close()


def slow_schema() -> str:
    """One whose members must be told apart pairwise."""
    several = [{"type": "object", "properties": {"k": {"const": n}}, "required": ["k"]} for n in range(2500)]
    return json.dumps({"oneOf": several})


@pytest.mark.long
async def test_a_schema_that_takes_too_long_is_refused_and_the_next_is_checked() -> None:
    one = desk()
    with pytest.raises(RequestError, match="s of processor time") as caught:
        await one.prepare(JsonSchema(slow_schema(), "guided_json"), EVERYBODY, lambda: None)
    assert (caught.value.param, caught.value.code) == ("guided_json", "invalid_constraint")
    texts = await asyncio.gather(
        *(one.prepare(JsonSchema(f'{{"const": {number}}}'), EVERYBODY, lambda: None) for number in range(3))
    )
    assert all('"const": ' in str(ready.content) for ready in texts)
    one.close()


@pytest.mark.long
def test_whatever_ends_the_process_is_told() -> None:
    child = Child("vicuna_server.engine.grammar.process", "grammars", 20)
    with pytest.raises(RequestError, match=r"to check it takes|not valid JSON") as caught:
        grammar_text(child, JsonSchema("[" * 100_000 + "]" * 100_000))
    assert caught.value.param == "response_format"
    assert "start" in grammar_text(child, Choice(("a",)))
    child.close()
