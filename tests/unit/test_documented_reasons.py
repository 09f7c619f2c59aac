"""Every reason and warning of the merge container stands in the contract and in docs/merging.md, and none idle."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from vicuna_contract.reasons import MERGE_REASONS, MERGE_WARNINGS

TOP = Path(__file__).parents[2]
SERVER = TOP / "server/vicuna_server"
ROOMS = ("files", "run", "weights", "artifacts", "merge", "inspect", "make_delta")
SOURCES = (*(path for room in ROOMS for path in (SERVER / room).rglob("*.py")), SERVER / "extras.py")
REASON = re.compile(r"(?:[A-Z]+[a-z]+)+")
ERRORS = {
    "InputError",
    "LeavesSourceError",
    "UnreachableError",
    "EngineError",
    "MissingExtraError",
    "OutOfSpaceError",
    "InterruptedRunError",
    "add",
}
WARNINGS = {"warn", "warning"}


def _named(tree: ast.AST, functions: set[str]) -> Iterator[str]:
    """Yield the constant first arguments of calls."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
            reason = node.args[0].value
            if name in functions and isinstance(reason, str) and REASON.fullmatch(reason):
                yield reason


def _paired(tree: ast.AST) -> Iterator[str]:
    """Yield what is handed on as (reason, sentence)."""
    for node in ast.walk(tree):
        match node:
            case ast.Tuple(elts=[ast.Constant(value=str(reason)), ast.JoinedStr()]) if REASON.fullmatch(reason):
                yield reason


@cache
def _trees() -> list[ast.AST]:
    """Parse the files that have a reason in them."""
    return [ast.parse(text) for path in SOURCES if re.search(f'"{REASON.pattern}"', text := path.read_text())]


def _in_code(functions: set[str], *, pairs: bool) -> set[str]:
    found = {reason for tree in _trees() for reason in _named(tree, functions)}
    return found | {reason for tree in _trees() for reason in _paired(tree)} if pairs else found


def _in_table(heading: str) -> list[str]:
    text = (TOP / "docs/merging.md").read_text()
    table = text.partition(f"| {heading} |")[2].partition("\n\n")[0]
    return re.findall(r"^\| `(\w+)`", table, re.MULTILINE)


@pytest.mark.parametrize("heading", ["reason", "warning"])
def test_the_tables_name_what_the_code_can_say(heading: str) -> None:
    is_warning = heading == "warning"
    expected = _in_code(WARNINGS, pairs=True) if is_warning else _in_code(ERRORS, pairs=False) | {"UsageError"}
    documented = _in_table(heading)
    assert len(expected) >= 4
    assert documented == sorted(expected)
    assert {"reason": MERGE_REASONS, "warning": MERGE_WARNINGS}[heading] == expected, "vicuna_contract/reasons.py"
