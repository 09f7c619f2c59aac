"""A Ctrl-C in a terminal reaches all processes of a command; those that it has started must not die of it before it."""

import ast
from pathlib import Path

import pytest

import vicuna_server

ROOT = Path(vicuna_server.__file__).parent


def starts() -> list[tuple[str, ast.Call]]:
    """Return every call of the server's code that starts a process, by its place."""
    return [
        (f"{path.relative_to(ROOT)}:{node.lineno}", node)
        for path in sorted(ROOT.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("subprocess.run", "subprocess.Popen")
    ]


@pytest.mark.parametrize("call", [call for _, call in starts()], ids=[place for place, _ in starts()])
def test_a_process_is_in_a_session_of_its_own(call: ast.Call) -> None:
    """Else what it was asked is taken for what ends it: a tokenizer was called broken."""
    assert "start_new_session" in {keyword.arg for keyword in call.keywords}


def test_processes_are_found() -> None:
    assert len(starts()) >= 3
