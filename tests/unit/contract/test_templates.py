"""Which chat template a model gets."""

import pytest

from vicuna_contract.templates import BUILT_IN_TEMPLATES, resolve_template
from vicuna_server.prompts import get_template


@pytest.mark.parametrize(
    ("asked", "has_own", "kind", "source_id", "want"),
    [
        ("vicuna_v0", True, "additive-v1.1", "lmsys/vicuna-7b-delta-v1.1", "vicuna_v0"),
        ("auto", True, "additive-v0", "", "from-tokenizer"),
        ("auto", False, "additive-v0", "", "vicuna_v0"),
        ("auto", False, "alpaca", "", "alpaca"),
        ("auto", False, "additive-v1.1", "lmsys/vicuna-7b-delta-v1.1", "vicuna_v1.1"),
        ("auto", False, "none", "lmsys/vicuna-7b-v1.5", "vicuna_v1.1"),
        ("auto", False, "none", "lmsys/vicuna-7b-v0", "vicuna_v0"),
        ("from-tokenizer", True, "none", "", "from-tokenizer"),
    ],
)
def test_the_prompt_format_is_decided_once(asked: str, has_own: bool, kind: str, source_id: str, want: str) -> None:
    assert resolve_template(asked, tokenizer_has_one=has_own, kind=kind, source_id=source_id) == want


@pytest.mark.parametrize(
    ("asked", "pinned", "own", "expected"),
    [
        ("auto", "vicuna_v0", True, "vicuna_v0"),
        ("auto", None, True, "from-tokenizer"),
        ("alpaca", "vicuna_v0", True, "alpaca"),
        ("from-tokenizer", "alpaca", True, "from-tokenizer"),
    ],
)
def test_explicit_wins_then_manifest_then_tokenizer(asked: str, pinned: str | None, own: bool, expected: str) -> None:
    assert resolve_template(asked, pinned=pinned, tokenizer_has_one=own) == expected


@pytest.mark.parametrize(
    ("asked", "pinned", "source_id"),
    [
        ("auto", None, ""),
        ("auto", None, "me/vicuna-7b"),
        ("from-tokenizer", None, ""),
        ("auto", "from-tokenizer", ""),
        ("auto", "chatml", ""),
        ("auto", "auto", ""),
    ],
)
def test_an_unknown_prompt_format_asks_for_the_field(asked: str, pinned: str | None, source_id: str) -> None:
    with pytest.raises(ValueError, match="chatTemplate"):
        resolve_template(asked, pinned=pinned, tokenizer_has_one=False, kind="additive-v1.1", source_id=source_id)


def test_the_server_renders_every_built_in_template() -> None:
    assert [get_template(name).name for name in BUILT_IN_TEMPLATES] == list(BUILT_IN_TEMPLATES)
