"""The table in docs/serving.md says what the engine's own estimate says."""

import re
from pathlib import Path

import pytest

from vicuna_server.engine.memory import memory_estimate

GIBIBYTE = 2**30
SIZES = {"7B": (4096, 11008, 32), "13B": (5120, 13824, 40)}
ROWS = re.findall(
    r"^\| (7B|13B) \| (\w+).*? \| ([\d.]+) \| ([\d.]+) \| (.*) \|$",
    (Path(__file__).parents[3] / "docs/serving.md").read_text(),
    re.MULTILINE,
)


def test_every_size_and_type_has_its_row() -> None:
    assert len(ROWS) == len(SIZES) * 4


@pytest.mark.parametrize(("size", "kind", "weights", "cache", "fits"), ROWS)
def test_the_table_is_the_estimate(size: str, kind: str, weights: str, cache: str, fits: str) -> None:
    width, inner, layers = SIZES[size]
    config = {
        "hidden_size": width,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": width // 128,
        "vocab_size": 32000,
    }
    dtype, quantization = (kind, "none") if kind.startswith("float") else ("float16", kind)
    estimate = memory_estimate(config, dtype, quantization)
    assert float(weights) == pytest.approx(estimate.weights / GIBIBYTE, abs=0.06)
    assert float(cache) == pytest.approx(estimate.kv_per_token * 1000 / GIBIBYTE, abs=0.006)
    for gigabytes, cell in zip((12, 16, 24, 40, 80), fits.split(" | "), strict=True):
        tokens = int((gigabytes * GIBIBYTE * 0.9 - GIBIBYTE - estimate.weights) / estimate.kv_per_token)
        said = int(re.sub(r"\D", "", cell) or 0)
        assert said == (tokens // 1000 * 1000 if tokens >= 2000 else 0), gigabytes
