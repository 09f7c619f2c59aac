"""The gate of `make check`: no function decides more than ten times, however the decisions are written."""

import importlib.util
from pathlib import Path

import pytest

FILE = Path(__file__).resolve().parents[2] / "hack" / "complexity.py"
SPEC = importlib.util.spec_from_file_location("complexity", FILE)
assert SPEC is not None
assert SPEC.loader is not None
gate = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(gate)

# each decides once
KINDS = {
    "statements": "if a: a = 0",
    "conditional expressions": "a = 1 if a else 0",
    "comprehensions": "a = [b for b in a]",
    "generator expressions": "a = any(b for b in a)",
    "boolean operators": "a = a or b",
    "loops": "while a: a = b",
}
WRAPPED = {
    "a function": "def f(a, b):\n{body}",
    "a coroutine": "async def f(a, b):\n{body}",
    "a method": "class C:\n def f(self, a, b):\n{body}",
    "a function inside another": "def outer():\n def f(a, b):\n{body}\n return f",
    "a method of a class inside a function": "def outer():\n class C:\n  def f(self, a, b):\n{body}",
}


def refused(tmp_path: Path, wrapping: str, line: str, times: int) -> list[str]:
    file = tmp_path / "module.py"
    file.write_text(wrapping.format(body="\n".join([f"   {line}"] * times)))
    return list(gate.above(file))


@pytest.mark.parametrize("line", KINDS.values(), ids=KINDS)
def test_every_kind_of_decision_counts(line: str, tmp_path: Path) -> None:
    assert refused(tmp_path, WRAPPED["a function"], line, 9) == []
    assert refused(tmp_path, WRAPPED["a function"], line, 10) == [f"{tmp_path}/module.py:1: f has complexity 11"]


@pytest.mark.parametrize("wrapping", WRAPPED.values(), ids=WRAPPED)
def test_functions_are_found_wherever_they_stand(wrapping: str, tmp_path: Path) -> None:
    (line,) = refused(tmp_path, wrapping, "a = a or b", 10)
    assert line.endswith("f has complexity 11")


def test_one_function_too_many_fails_the_check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["complexity", str(tmp_path)])
    refused(tmp_path, WRAPPED["a function"], "a = a or b", 9)
    assert gate.main() == 0
    refused(tmp_path, WRAPPED["a function"], "a = a or b", 10)
    assert gate.main() == 1
    assert "module.py:1: f has complexity 11" in capsys.readouterr().err
