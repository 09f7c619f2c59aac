"""adapter_config.json is data from a stranger: whatever it holds, it is understood or refused, and soon."""

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.amount import examples
from vicuna_server.errors import InputError
from vicuna_server.weights.adapters.config import AdapterConfig, read_adapter_config

MODULE = "model.layers.10.self_attn.q_proj"
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
PATTERNS = st.text(alphabet="qv_.*+?()[]{}|^$\\\\d9ip:", max_size=24)
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(PATTERNS, inner, max_size=3))
FIELDS = ("r", "lora_alpha", "rank_pattern", "alpha_pattern", "use_rslora", "target_modules", "bias", "modules_to_save")


def _config(folder: Path, content: Any) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "adapter_config.json").write_text(json.dumps(content))
    return folder


def _read(folder: Path) -> AdapterConfig | str:
    """Return what is understood, or the reason of the refusal."""
    try:
        return read_adapter_config(folder)
    except InputError as error:
        return error.reason


@pytest.mark.long
@settings(max_examples=examples(300))
@given(st.dictionaries(st.sampled_from(FIELDS), VALUES, max_size=4))
def test_any_content_is_understood_or_refused(content: dict[str, Any]) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = _config(Path(name), {"peft_type": "LORA", **content})
        found = _read(folder)
    if isinstance(found, str):
        assert found in ("NotAnAdapter", "UnsupportedAdapter")
    else:
        assert found.rank_of(MODULE) > 0
        assert abs(found.scale_of(MODULE, 8)) <= 1e18


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is empty"),
        (b"[]", "is not a JSON object"),
        (b"{", "cannot be read"),
        (b"\xff", "cannot be read"),
        (b"null", "is not a JSON object"),
        (b"[" * 100_000, "cannot be read"),
        (b" " * 5_000_000, "has 5000000 bytes"),
        (b"version https://git-lfs.github.com/spec/v1\n", "is a git-lfs pointer"),
    ],
)
def test_what_is_not_an_object_is_refused(tmp_path: Path, content: bytes, says: str) -> None:
    (tmp_path / "adapter_config.json").write_bytes(content)
    with pytest.raises(InputError, match=rf"adapter_config\.json {says}") as caught:
        read_adapter_config(tmp_path)
    assert caught.value.reason == "NotAnAdapter"


@pytest.mark.parametrize("pattern", ["(a+)+b", "(a|a)" * 5, "a*" * 5, "x" * 501, ".{9999999999999}", "q(?i)"])
def test_patterns_that_could_take_for_ever_or_are_none_are_refused(tmp_path: Path, pattern: str) -> None:
    with pytest.raises(InputError, match="alpha_pattern"):
        read_adapter_config(_config(tmp_path, {"peft_type": "LORA", "alpha_pattern": {pattern: 2}}))


@pytest.mark.parametrize(
    ("patterns", "want"),
    [
        ({}, 16),
        ({"q_proj": 2}, 2),
        ({"proj": 2}, 16),  # the end of a name, but not at a dot
        ({"layers.1.*q_proj": 2}, 2),
        ({r"layers\\.1\\..*": 2}, 16),
        ({"^model.layers.10.self_attn.q_proj": 2, "q_proj": 3}, 2),
        ({"v_proj": 2, "self_attn.q_proj": 3, "q_proj": 4}, 3),
    ],
)
def test_the_first_pattern_that_ends_the_name_counts(tmp_path: Path, patterns: dict[str, int], want: int) -> None:
    content = {"peft_type": "LORA", "lora_alpha": 16, "alpha_pattern": patterns}
    assert read_adapter_config(_config(tmp_path, content)).scale_of(MODULE, 1) == want
