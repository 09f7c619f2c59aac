"""Estimates of memory, what the machine has, and what is refused for lack of it."""

from pathlib import Path
from typing import Any

import pytest
import torch

from vicuna_server.engine.builtin import budget
from vicuna_server.engine.builtin.budget import check_weights_fit, kv_capacity
from vicuna_server.engine.builtin.kv import KeyValueShape
from vicuna_server.engine.builtin.placement import Placement
from vicuna_server.engine.memory import memory_estimate
from vicuna_server.errors import EngineError, InputError
from vicuna_server.machine import Memory, memory_left

GIB = 2**30
VICUNA_7B: dict[str, Any] = {
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "vocab_size": 32000,
}


@pytest.mark.long
@pytest.mark.transformers
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("heads", [2, 8])
def test_weights_are_as_transformers_makes_them(tied: bool, heads: int) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=96,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=3,
        num_attention_heads=8,
        num_key_value_heads=heads,
        tie_word_embeddings=tied,
    )
    model: Any = LlamaForCausalLM(config)
    count = sum(parameter.numel() for parameter in model.parameters())
    estimate = memory_estimate(config.to_dict(), "float32")
    assert estimate.weights == 4 * count
    assert estimate.kv_per_token == 2 * 3 * heads * 8 * 4
    assert estimate.total(10) == 4 * count + 10 * estimate.kv_per_token


def test_vicuna_7b() -> None:
    half = memory_estimate(VICUNA_7B, "float16")
    assert half.weights == 6_738_415_616 * 2
    assert half.kv_per_token == 512 * 1024
    int8, nf4 = (memory_estimate(VICUNA_7B, "float16", kind).weights for kind in ("int8", "nf4"))
    assert 0.5 < int8 / half.weights < 0.53
    assert 0.28 < nf4 / half.weights < 0.32


@pytest.mark.parametrize("value", [None, "4096", 0])
def test_a_config_without_a_number_is_said(value: object) -> None:
    with pytest.raises(InputError, match="hidden_size") as caught:
        memory_estimate({**VICUNA_7B, "hidden_size": value}, "float16")
    assert caught.value.reason == "ConfigIncomplete"


def write(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)


@pytest.fixture
def meminfo(tmp_path: Path) -> Path:
    path = tmp_path / "meminfo"
    path.write_text("MemTotal: 99999 kB\nMemAvailable:    1000 kB\n")
    return path


def test_version_2_of_control_groups(tmp_path: Path, meminfo: Path) -> None:
    group = tmp_path / "cgroup"
    write(group, memory__max="900000\n", memory__current="500000\n", memory__stat="anon 1\ninactive_file 70000\n")
    assert memory_left(group, meminfo) == Memory(470_000, limited=True)
    write(group, memory__max="9000000\n")  # more than the machine has
    assert memory_left(group, meminfo) == Memory(1_024_000, limited=True)
    write(group, memory__max="max\n")
    assert memory_left(group, meminfo) == Memory(1_024_000, limited=False)


def test_version_1_of_control_groups(tmp_path: Path, meminfo: Path) -> None:
    group = tmp_path / "cgroup"
    stat = "inactive_file 5\ntotal_inactive_file 60000\n"
    write(group / "memory", memory__limit_in_bytes="900000", memory__usage_in_bytes="500000")
    write(group / "memory", memory__stat=stat)
    assert memory_left(group, meminfo) == Memory(460_000, limited=True)
    write(group / "memory", memory__limit_in_bytes="9223372036854771712")
    assert memory_left(group, meminfo) == Memory(1_024_000, limited=False)


def test_no_control_group_at_all(tmp_path: Path, meminfo: Path) -> None:
    assert memory_left(tmp_path / "none", meminfo) == Memory(1_024_000, limited=False)


SHAPE = KeyValueShape((torch.device("cpu"),) * 2, 4, 16, torch.float32)  # 1 KiB per token


def test_the_flag_decides() -> None:
    assert kv_capacity(2**20, SHAPE, 512, 4) == 1024


@pytest.mark.parametrize(
    ("left", "tokens"),
    [
        (Memory(2 * GIB, limited=True), (2 * GIB - (512 + 144) * 2**20) // 1024),
        (Memory(20 * GIB, limited=True), (18 * GIB - 144 * 2**20) // 1024),
        (Memory(2 * GIB, limited=False), GIB // 1024),
    ],
)
def test_without_the_flag_it_is_what_is_left(left: Memory, tokens: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, "memory_left", lambda: left)
    assert kv_capacity(None, SHAPE, 1024, 10**6) == pytest.approx(tokens, abs=1)
    assert kv_capacity(None, SHAPE, 1000, 4) == 4 * 1024  # more than all rows full is of no use


def test_a_cache_too_small_for_one_context_is_refused_with_the_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        EngineError, match=r"room for 512 tokens.* 1000 tokens needs 1 MiB.*--kv-cache-memory"
    ) as caught:
        kv_capacity(2**19, SHAPE, 1000, 4)
    assert caught.value.reason == "KvCacheTooSmall"
    monkeypatch.setattr(budget, "memory_left", lambda: Memory(600 * 2**20, limited=True))
    with pytest.raises(EngineError, match="set a smaller --context-length"):
        kv_capacity(None, SHAPE, 500_000, 1)


def test_weights_that_do_not_fit_are_refused_before_loading(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, "memory_left", lambda: Memory(10 * GIB, limited=True))
    cpu = Placement(torch.device("cpu"), torch.bfloat16, None)
    with pytest.raises(
        EngineError, match=r"need 12\.6 GiB in bfloat16, and 10\.0 GiB may be used here.*int8 6\.\d GiB"
    ):
        check_weights_fit(VICUNA_7B, cpu, "none")
    check_weights_fit(VICUNA_7B, cpu, "int8")
    gpus = Placement(torch.device("cuda"), torch.float16, {0: 4 * GIB, 1: 4 * GIB})
    with pytest.raises(EngineError, match=r"8\.0 GiB may be used on 2 GPU\(s\)") as caught:
        check_weights_fit(VICUNA_7B, gpus, "none")
    assert caught.value.reason == "OutOfMemory"
    check_weights_fit({"model_type": "other"}, gpus, "none")
