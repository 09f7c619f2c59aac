"""A Ctrl-C in a terminal reaches all processes of a command; those that it has started must not die of it before it."""

import ast
from pathlib import Path

import vicuna_server

ROOT = Path(vicuna_server.__file__).parent


def starts() -> list[tuple[str, ast.Call]]:
    """Return every call of the server's code that starts a process, by its place."""
    files = [(path, text) for path in sorted(ROOT.rglob("*.py")) if "subprocess" in (text := path.read_text())]
    return [
        (f"{path.relative_to(ROOT)}:{node.lineno}", node)
        for path, text in files
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("subprocess.run", "subprocess.Popen")
    ]


def test_a_process_is_in_a_session_of_its_own() -> None:
    """Else what it was asked is taken for what ends it: a tokenizer was called broken."""
    found = {place: {keyword.arg for keyword in call.keywords} for place, call in starts()}
    assert len(found) >= 3
    assert [place for place, arguments in found.items() if "start_new_session" not in arguments] == []
