"""A merge that is killed, frozen or runs out of space at any point shows nothing half-made; the next run completes."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from support.checkpoints import delta_weights, model_weights, write_checkpoint
from support.digests import digest_of
from support.hub import running_hub
from support.sparse import Shape, write_sparse_checkpoint
from vicuna_server.errors import InterruptedRunError, OutOfSpaceError


@pytest.fixture
def memory() -> Iterator[Path]:
    """A folder where fsync costs nothing, where there is one."""
    shm = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shm if os.access(shm, os.W_OK) else None) as folder:
        yield Path(folder)


@dataclass(frozen=True)
class Point:
    """What came of one disturbed merge: exit codes, and what was visible with what was wrong with it.

    Attributes:
        outcome: of the disturbed merge.
        seen: what was visible then, each with its faults.
        again: of a healthy merge on the same folder.
        root: the folder.
        other: of another merge that took over.
    """

    outcome: int
    seen: dict[str, list[str]]
    again: int
    root: Path
    other: int = 0


class Crashes:
    """tests/support/crashing.py in a process of its own."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def run(self, mode: str, place: Path, number: int) -> list[dict[str, Any]]:
        """Return what came of each point."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{mode} {number} {place}\n")
        self._process.stdin.flush()
        points: list[dict[str, Any]] = []
        for line in self._process.stdout:
            said = json.loads(line)
            if not isinstance(said, dict):
                assert said == 0, "its standard error tells why"
                return points
            points.append(said)
        raise AssertionError("it has ended")


@contextlib.contextmanager
def _crashing(place: Path) -> Iterator[Crashes]:
    here = Path(__file__).parents[1]
    path = os.pathsep.join([str(here), str(here.parent / "server"), os.environ.get("PYTHONPATH", "")])
    command, pipe = [sys.executable, "-m", "support.crashing", str(place)], subprocess.PIPE
    with subprocess.Popen(
        command, stdin=pipe, stdout=pipe, text=True, env=os.environ | {"PYTHONPATH": path}
    ) as process:
        try:
            yield Crashes(process)
        finally:
            process.kill()


@pytest.fixture(scope="module")
def crashes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Crashes]:
    """One process for all that need no environment of their own: it imports once."""
    place = tmp_path_factory.mktemp("warm")
    write_checkpoint(place / "base", model_weights(1))
    write_checkpoint(place / "delta", delta_weights(2))
    with _crashing(place) as made:
        yield made


@pytest.fixture(scope="module")
def hub_crashes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Crashes]:
    """Such a process with a hub that has the pair."""
    place = tmp_path_factory.mktemp("warm-hub")
    with pytest.MonkeyPatch.context() as patch, running_hub(patch) as hub:
        for name, weights in (("base", model_weights(1)), ("delta", delta_weights(2))):
            hub.repositories[f"me/{name}"] = write_checkpoint(place / "hub" / name, weights, "bin-sharded")
        _name_sources_on_the_hub(place)
        with _crashing(place) as made:
            yield made


def _name_sources_on_the_hub(place: Path) -> None:
    for name in ("base", "delta"):
        (place / name).write_text(f"hf://me/{name}@main")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize(
    ("mode", "number", "least", "outcomes"),
    [
        ("killed", 4, 12, {-signal.SIGKILL}),
        ("killed_again", 8, 7, {-signal.SIGKILL}),
        ("killed_at_random", 8, 8, {-signal.SIGKILL, 0}),
        ("killed_while_pruning", 1, 10, {-signal.SIGKILL}),
        ("out_of_space", 4, 11, {OutOfSpaceError.exit_code}),
        ("frozen", 5, 9, {InterruptedRunError.exit_code, 0}),
        pytest.param("killed", 1, 50, {-signal.SIGKILL}, marks=pytest.mark.full),
        pytest.param("killed_again", 1, 60, {-signal.SIGKILL}, marks=pytest.mark.full),
        pytest.param("killed_at_random", 300, 300, {-signal.SIGKILL, 0}, marks=pytest.mark.full),
        pytest.param("out_of_space", 1, 45, {OutOfSpaceError.exit_code}, marks=pytest.mark.full),
        pytest.param("out_of_space_again", 1, 40, {OutOfSpaceError.exit_code}, marks=pytest.mark.full),
        pytest.param("frozen", 1, 50, {InterruptedRunError.exit_code, 0}, marks=pytest.mark.full),
    ],
)
def test_nothing_half_made_is_ever_visible_and_the_next_run_completes(
    crashes: Crashes, memory: Path, mode: str, number: int, least: int, outcomes: set[int]
) -> None:
    write_checkpoint(memory / "base", model_weights(1), "bin-sharded")
    write_checkpoint(memory / "delta", delta_weights(2))
    _require_sound(crashes, memory, mode, number, least, outcomes)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize(
    ("mode", "number", "least", "outcomes"),
    [
        ("killed", 9, 5, {-signal.SIGKILL}),
        ("killed_again", 15, 2, {-signal.SIGKILL}),
        ("out_of_space", 13, 2, {OutOfSpaceError.exit_code}),
        pytest.param("killed", 1, 50, {-signal.SIGKILL}, marks=pytest.mark.full),
        pytest.param("killed_again", 1, 50, {-signal.SIGKILL}, marks=pytest.mark.full),
        pytest.param("killed_at_random", 100, 100, {-signal.SIGKILL, 0}, marks=pytest.mark.full),
        pytest.param("out_of_space", 1, 45, {OutOfSpaceError.exit_code}, marks=pytest.mark.full),
        pytest.param("frozen", 1, 45, {InterruptedRunError.exit_code, 0}, marks=pytest.mark.full),
    ],
)
def test_nor_is_it_where_digests_are_stated(
    crashes: Crashes, memory: Path, mode: str, number: int, least: int, outcomes: set[int]
) -> None:
    for name, weights in (("base", model_weights(1)), ("delta", delta_weights(2))):
        folder = write_checkpoint(memory / name, weights, "bin-sharded")
        (memory / f"{name}.digest").write_text(digest_of(folder))
    _require_sound(crashes, memory, mode, number, least, outcomes)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize(
    ("mode", "number", "least", "outcomes"),
    [
        ("killed", 14, 7, {-signal.SIGKILL}),
        ("killed_at_random", 4, 4, {-signal.SIGKILL, 0}),
        ("out_of_space_for_good", 22, 2, {OutOfSpaceError.exit_code}),
        pytest.param("killed", 2, 50, {-signal.SIGKILL}, marks=pytest.mark.full),
        pytest.param("killed_at_random", 60, 60, {-signal.SIGKILL, 0}, marks=pytest.mark.full),
        pytest.param("out_of_space_for_good", 1, 60, {OutOfSpaceError.exit_code}, marks=pytest.mark.full),
        pytest.param("frozen", 4, 15, {InterruptedRunError.exit_code, 0}, marks=pytest.mark.full),
    ],
)
def test_nor_is_it_with_sources_on_a_hub(
    hub_crashes: Crashes, memory: Path, mode: str, number: int, least: int, outcomes: set[int]
) -> None:
    _name_sources_on_the_hub(memory)
    _require_sound(hub_crashes, memory, mode, number, least, outcomes)


def _require_sound(crashes: Crashes, memory: Path, mode: str, number: int, least: int, outcomes: set[int]) -> None:
    points = [Point(**(point | {"root": Path(point["root"])})) for point in crashes.run(mode, memory, number)]
    assert len(points) > least
    assert bool(points[-1].seen) == (mode != "killed_while_pruning")
    assert {point.outcome for point in points[:-1]} <= outcomes
    (first,) = (memory / "first").iterdir()
    for point in points:
        assert point.seen in ({}, {first.name: []}), "an artifact that does not verify was visible"
        assert point.again == 0
        assert point.other in (0, InterruptedRunError.exit_code)
    for root in {point.root for point in points}:
        assert [path.name for path in root.iterdir()] == [first.name], "something stayed"
        assert _hashes(root / first.name) == _hashes(first)


def _hashes(folder: Path) -> dict[str, str]:
    return {path.name: sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def test_a_run_after_a_kill_at_80_percent_redoes_a_quarter_at_most(crashes: Crashes, memory: Path) -> None:
    """Shards are a 32nd of the whole, as they are from 2 GB on."""
    layers = 80
    config = {"num_hidden_layers": layers}
    write_checkpoint(memory / "base", model_weights(1, layers=layers), "bin-sharded", config=config)
    write_checkpoint(memory / "delta", delta_weights(2, layers=layers), config=config)
    (point,) = crashes.run("killed_late", memory, 80)
    assert point["outcome"] == -signal.SIGKILL
    (folder,) = (memory / "out").iterdir()
    assert point["seen"] == {folder.name: []}
    sizes = [path.stat().st_size for path in folder.glob("*.safetensors")]
    assert 30 <= len(sizes) <= 34
    assert point["resumed"]["files"] >= 24
    assert point["resumed"]["bytes"] >= 0.75 * sum(sizes)
    others = sum(path.stat().st_size for path in folder.iterdir() if path.suffix != ".safetensors")
    assert point["written"] <= 0.26 * sum(sizes) + others  # the journal is a hundredth of such small weights


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_peak_anonymous_memory_does_not_grow_with_the_model(tmp_path: Path) -> None:
    """One tensor of 400 MB: holding it whole once, beside torch itself, would already pass 512 MiB."""
    shape = Shape(hidden=1024, inner=16, layers=1, heads=2, vocabulary=200_000, tied=True)
    for part, norm in (("base", 1.0), ("delta", 0.0)):
        write_sparse_checkpoint(tmp_path / part, shape, norm=norm, shards=1)
    words = ["--base", tmp_path / "base", "--delta", tmp_path / "delta", "--output", tmp_path / "out"]
    command = [sys.executable, "-m", "vicuna_server", "merge", "--chat-template", "vicuna_v1.1", *map(str, words)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        peak = 0
        while process.poll() is None:
            peak = max(peak, _anonymous_bytes(process.pid))
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.005)
    assert process.returncode == 0
    assert 10 * 2**20 < peak <= 512 * 2**20


def _anonymous_bytes(pid: int) -> int:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except ProcessLookupError:
        return 0
    return 1024 * sum(int(line.split()[1]) for line in status.splitlines() if line.startswith("RssAnon"))
