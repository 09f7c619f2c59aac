"""What a merge tells of its artifact's attention heads."""

from pathlib import Path

import pytest

from vicuna_contract.heads import Heads
from vicuna_server.artifacts.heads import heads_of


@pytest.mark.parametrize(
    ("config", "heads"),
    [
        ('{"num_attention_heads": 40}', Heads(40, 40)),
        ('{"num_attention_heads": 64, "num_key_value_heads": 8}', Heads(64, 8)),
        ("{}", None),
        ("[]", None),
        ('{"num_attention_heads": "40"}', None),
        ("{", None),
        ("[" * 100_000, None),
    ],
)
def test_of_its_config(tmp_path: Path, config: str, heads: Heads | None) -> None:
    (tmp_path / "config.json").write_text(config)
    assert heads_of(tmp_path) == heads


def test_without_a_config(tmp_path: Path) -> None:
    assert heads_of(tmp_path) is None
