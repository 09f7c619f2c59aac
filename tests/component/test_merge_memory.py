"""The merge stays below 512 MiB of anonymous memory, however large the tensors: the merge Job's limit rests on it."""

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from support.digests import digest_of
from support.sparse import Shape, write_sparse_adapter, write_sparse_checkpoint

pytestmark = pytest.mark.timeout(400)  # a gigabyte is read and written, on a disk that others use
BOUND = 512 * 2**20
# an embedding of 524 MB in float32 and 262 MB in float16, next to little else
WIDE = Shape(hidden=4096, inner=512, layers=1, heads=32, tied=True)
LONGER = replace(WIDE, vocabulary=32001)


def _peak(words: Sequence[object]) -> tuple[int, str]:
    """Run a merge; return the most anonymous memory it was seen with, in bytes, and its last words."""
    command = [sys.executable, "-m", "vicuna_server", "merge", *map(str, words), "--chat-template", "vicuna_v1.1"]
    peak = 0
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        while process.poll() is None:
            peak = max(peak, _anonymous(process.pid))
            time.sleep(0.005)  # the interval of a measurement
        assert process.stdout is not None
        said = process.stdout.read()
    assert process.returncode == 0, said
    return peak, said


def _anonymous(pid: int) -> int:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    found = [line.split()[1] for line in status.splitlines() if line.startswith("RssAnon:")]
    return int(found[0]) * 1024 if found else 0


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="measured as Linux tells it")
@pytest.mark.parametrize(
    ("base", "base_dtype", "delta", "delta_dtype", "kind"),
    [
        pytest.param(WIDE, "F16", WIDE, "F16", "additive-v1.1", marks=pytest.mark.full),
        pytest.param(WIDE, "F16", LONGER, "F16", "additive-v0", marks=pytest.mark.full),
        pytest.param(WIDE, "F16", WIDE, "F32", "additive-v1.1", marks=pytest.mark.full),
        pytest.param(WIDE, "F32", WIDE, "F16", "additive-v1.1", marks=pytest.mark.full),
        pytest.param(WIDE, "F16", LONGER, "F32", "alpaca", marks=pytest.mark.full),  # below as "alpaca", and more
        (WIDE, "F16", None, "", "none"),
    ],
)
def test_every_kind_stays_below_the_bound(
    tmp_path: Path, base: Shape, base_dtype: str, delta: Shape | None, delta_dtype: str, kind: str
) -> None:
    words: list[object] = ["--base", write_sparse_checkpoint(tmp_path / "base", base, base_dtype, norm=1.0, shards=1)]
    if delta is not None:
        words += ["--delta", write_sparse_checkpoint(tmp_path / "delta", delta, delta_dtype, norm=0.01, shards=1)]
        words += ["--kind", kind]
    peak, said = _peak([*words, "--output", tmp_path / "out"])
    assert kind in next((tmp_path / "out").glob("*/vicuna-manifest.json")).read_text(), said
    assert 64 * 2**20 < peak < BOUND


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="measured as Linux tells it")
def test_hashing_for_stated_digests_stays_below_it_too(tmp_path: Path) -> None:
    """The rows that are padded are read several times, and what is read waits for two more threads."""
    base = write_sparse_checkpoint(tmp_path / "base", WIDE, "F16", norm=1.0, shards=1)
    delta = write_sparse_checkpoint(tmp_path / "delta", LONGER, "F16", norm=0.01, shards=1)
    words: list[object] = ["--base", base, "--delta", delta, "--kind", "alpaca", "--output", tmp_path / "out"]
    peak, _ = _peak([*words, "--base-digest", digest_of(base), "--delta-digest", digest_of(delta)])
    assert 64 * 2**20 < peak < BOUND


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="measured as Linux tells it")
def test_an_adapter_of_the_largest_rank_stays_below_it_too(tmp_path: Path) -> None:
    rank = 4096  # 64 MiB as float32
    module = "model.layers.0.self_attn.q_proj"
    factors = {f"{module}.lora_A.weight": (rank, 4096), f"{module}.lora_B.weight": (4096, rank)}
    words: list[object] = ["--base", write_sparse_checkpoint(tmp_path / "base", WIDE, "F16", norm=1.0, shards=1)]
    words += ["--adapter", write_sparse_adapter(tmp_path / "lora", factors, rank)]
    peak, _ = _peak([*words, "--output", tmp_path / "out"])
    assert 64 * 2**20 < peak < BOUND
