"""The tables in docs/sizing.md say what the code says."""

import re
from pathlib import Path

import pytest

from vicuna_contract.heads import Heads
from vicuna_server.engine.memory import MemoryEstimate, memory_estimate

PAGE = (Path(__file__).parents[3] / "docs/sizing.md").read_text()
GIBIBYTE = 2**30
SIZES = {"7B": (4096, 11008, 32), "13B": (5120, 13824, 40), "33B": (6656, 17920, 60), "65B": (8192, 22016, 80)}
"""Width, width inside, layers; heads have 128 numbers. https://arxiv.org/abs/2302.13971, and transformers' configs."""
ROWS = re.findall(r"^\| (\d+B) \| ((?:float|int|nf).*?) \| ([\d.]+) \| ([\d.]+) \| (.*) \|$", PAGE, re.MULTILINE)
GPUS = [(1, 12), (1, 16), (1, 24), (1, 40), (1, 80), (2, 24), (2, 40), (2, 80), (4, 80)]


def test_every_size_and_type_has_its_row() -> None:
    half = [(size, kind) for size in SIZES for kind in ("float16, bfloat16", "int8, fp8", "nf4")]
    assert sorted(row[:2] for row in ROWS) == sorted([*half, ("7B", "float32"), ("13B", "float32")])


def estimate_of(size: str, kind: str) -> MemoryEstimate:
    width, inner, layers = SIZES[size]
    config = {
        "hidden_size": width,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": width // 128,
        "vocab_size": 32000,
    }
    return memory_estimate(config, *((kind, "none") if kind.startswith("float") else ("float16", kind)))


@pytest.mark.parametrize(("size", "kinds", "weights", "cache", "fits"), ROWS)
def test_the_table_is_the_estimate(size: str, kinds: str, weights: str, cache: str, fits: str) -> None:
    kind, *others = kinds.split(", ")
    estimate = estimate_of(size, kind)
    said = [int(re.sub(r"\D", "", cell) or 0) for cell in fits.split(" | ")]
    for one in (estimate, *(estimate_of(size, other) for other in others)):
        assert float(weights) == pytest.approx(one.weights / GIBIBYTE, abs=0.06)
        assert float(cache) == pytest.approx(one.kv_per_token * 1000 / GIBIBYTE, abs=0.006)
        room = [one.tokens_on(count, gigabytes * GIBIBYTE) for count, gigabytes in GPUS]
        assert all(told <= tokens for told, tokens in zip(said, room, strict=True))
    room = [estimate.tokens_on(count, gigabytes * GIBIBYTE) for count, gigabytes in GPUS]
    assert said == [tokens // 1000 * 1000 if tokens >= 2000 else 0 for tokens in room]


def test_the_head_of_the_table_names_those_gpus() -> None:
    (head,) = re.findall(r"1 000 tokens, GiB \| (.*) \|$", PAGE, re.MULTILINE)
    assert head.split(" | ") == [f"{count} \u00d7 {size} GB" if count > 1 else f"{size} GB" for count, size in GPUS]


def test_the_numbers_of_gpus_are_those_that_are_let_through() -> None:
    rows = re.findall(r"^\| (\d+B) \| (\d+) \| ([\d, ]+) \|$", PAGE, re.MULTILINE)
    heads = {size: SIZES[size][0] // 128 for size, _, _ in rows}
    assert heads.keys() == SIZES.keys()
    said = [(int(count), [int(gpus) for gpus in numbers.split(", ")]) for _, count, numbers in rows]
    assert said == [(count, Heads(count, count).counts()) for count in heads.values()]


def test_the_requests_that_fit_are_the_tokens_divided() -> None:
    rows = re.findall(r"^\| (\d+) 000 \| (\d+) \| (\d+) \| (\d+) \|$", PAGE, re.MULTILINE)
    assert len(rows) == 3
    for thousands, *requests in rows:
        assert [int(cell) for cell in requests] == [int(thousands) * 1000 // each for each in (1024, 2048, 4096)]
