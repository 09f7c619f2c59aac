"""Where a model runs: quantities, CPUs, devices."""

import os
from pathlib import Path

import pytest
import torch

from vicuna_server.engine.builtin import placement
from vicuna_server.engine.builtin.placement import choose_placement
from vicuna_server.errors import EngineError, UsageError
from vicuna_server.flags import memory
from vicuna_server.machine import usable_cpus


@pytest.mark.parametrize(
    ("text", "size"), [("13Gi", 13 * 2**30), ("500M", 500_000_000), ("1.5k", 1500), ("1024", 1024)]
)
def test_quantities(text: str, size: int) -> None:
    assert memory("--flag", text) == size


@pytest.mark.parametrize("text", ["", "13GB", "-1Gi", "0", "many"])
def test_what_is_no_quantity_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError, match="--max-gpu-memory"):
        memory("--max-gpu-memory", text)


def test_the_cgroup_quota_limits_the_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    quota = tmp_path / "cpu.max"
    for text, cpus in (("150000 100000", 2), ("max 100000", 8), ("1000 100000", 1), ("garbage", 8)):
        quota.write_text(text)
        assert usable_cpus(quota) == cpus
    assert usable_cpus(tmp_path / "none") == 8


@pytest.mark.parametrize(
    ("line", "expected"), [("flags : avx2 avx512_bf16 sse", True), ("flags : avx2 avx512f", False), ("", False)]
)
def test_bfloat16_only_where_the_cpu_has_it(line: str, expected: bool, tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text(f"processor : 0\n{line}\n")
    assert placement._cpu_has_bf16(tmp_path / "cpuinfo") is expected


@pytest.mark.parametrize(
    ("has", "bf16", "float32", "best"),
    [
        (True, 1.0, 2.0, torch.bfloat16),
        (True, 2.0, 1.0, torch.float32),
        (False, 1.0, 2.0, torch.float32),
    ],
)
def test_bfloat16_only_where_a_trial_shows_it_faster(
    has: bool, bf16: float, float32: float, best: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = {torch.bfloat16: bf16, torch.float32: float32}
    monkeypatch.setattr(placement, "_cpu_has_bf16", lambda: has)
    monkeypatch.setattr(placement, "_product_seconds", lambda dtype: seconds[dtype])
    assert choose_placement("cpu", 0, "auto", None).dtype is best


@pytest.mark.parametrize(
    ("stored", "has_bf16", "chosen"),
    [
        (torch.float32, True, torch.float32),
        (torch.bfloat16, True, torch.bfloat16),
        (torch.bfloat16, False, torch.float32),
        (torch.float16, True, torch.bfloat16),  # what the trial below finds fastest
        (None, True, torch.bfloat16),
        (None, False, torch.float32),
    ],
)
def test_auto_is_the_files_type_where_the_cpu_has_it(
    stored: torch.dtype | None, has_bf16: bool, chosen: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(placement, "_cpu_has_bf16", lambda: has_bf16)
    monkeypatch.setattr(placement, "_product_seconds", lambda dtype: 1.0 if dtype is torch.bfloat16 else 2.0)
    assert choose_placement("cpu", 0, "auto", None, stored).dtype is chosen
    assert choose_placement("cpu", 0, "float32", None, stored).dtype is torch.float32


@pytest.mark.parametrize(
    ("stored", "has_bf16", "chosen"),
    [
        (torch.float16, True, torch.float16),
        (torch.bfloat16, True, torch.bfloat16),
        (torch.bfloat16, False, torch.float16),
        (torch.float32, False, torch.float32),
        (None, True, torch.float16),
        (torch.float64, True, torch.float16),
    ],
)
def test_auto_is_the_files_type_where_the_gpu_has_it(
    stored: torch.dtype | None, has_bf16: bool, chosen: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (10_000, 20_000))
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: has_bf16)
    assert choose_placement("auto", 1, "auto", None, stored).dtype is chosen
    assert choose_placement("auto", 1, "bfloat16", None, stored).dtype is torch.bfloat16


def test_auto_without_gpus_is_the_cpu_and_never_float16() -> None:
    chosen = choose_placement("auto", 0, "auto", None)
    assert chosen.device.type == "cpu"
    assert chosen.dtype in (torch.bfloat16, torch.float32)
    assert choose_placement("cpu", 1, "float32", None).dtype is torch.float32


@pytest.mark.parametrize(("device", "gpus"), [("cuda", 0), ("cuda", 2), ("auto", 1)])
def test_missing_gpus_are_an_error_not_a_cpu_run(device: str, gpus: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(EngineError, match="0 are visible") as caught:
        choose_placement(device, gpus, "auto", None)
    assert caught.value.reason == "DeviceUnavailable"


def test_gpus_get_their_caps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (10_000, 20_000))
    capped = choose_placement("auto", 2, "auto", 5_000)
    assert capped.max_memory == {0: 5_000, 1: 5_000}
    assert choose_placement("auto", 1, "auto", 13 * 2**30).max_memory == {
        0: 9_000
    }  # a limit above what is free changes nothing
    assert capped.dtype is torch.float16
    assert choose_placement("cuda", 0, "auto", None).max_memory == {0: 9_000}
