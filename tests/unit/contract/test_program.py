"""A program ends without a traceback after Ctrl-C and where its reader has left, and shows text on any terminal."""

import io
import sys

import pytest

from vicuna_contract.program import READER_LEFT, program


class Closed(io.TextIOWrapper):
    """Standard output whose reader has left: a write succeeds into its buffer, and fails when that is flushed."""

    def __init__(self) -> None:
        super().__init__(io.BytesIO(), encoding="utf-8")

    def flush(self) -> None:
        raise BrokenPipeError


def test_the_exit_code_is_the_functions_own() -> None:
    assert program(interrupted=75)(lambda code: int(code))(65) == 65


@pytest.mark.parametrize("code", [75, 130])
def test_ctrl_c_is_an_exit_code(code: int) -> None:
    @program(interrupted=code)
    def main() -> int:
        raise KeyboardInterrupt

    assert main() == code


@pytest.mark.parametrize("ends_by", ["returning", "writing", "leaving"])
def test_a_reader_that_left_is_an_exit_code(ends_by: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", Closed())

    @program(interrupted=130)
    def main() -> int:
        if ends_by == "writing":
            raise BrokenPipeError
        if ends_by == "leaving":  # as argparse does after --help
            sys.exit(0)
        return 0

    assert main() == READER_LEFT
    assert sys.stdout is None  # so that Python does not try it again at its end


def test_letters_that_a_terminal_lacks_are_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", out)

    @program(interrupted=130)
    def main() -> int:
        print("ORIGIN[,ORIGIN…]")
        return 0

    assert main() == 0
    assert out.buffer.getvalue() == b"ORIGIN[,ORIGIN?]\n"


@pytest.mark.parametrize("module", ["vicuna_server.cli", "vicuna_operator.cli", "vicuna_operator.plugin.cli"])
def test_every_program_is_one(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", Closed())
    main = __import__(module, fromlist=["main"]).main
    assert main(["--version"]) == READER_LEFT
