"""A merge killed at any point leaves nothing half-made, and the next run completes."""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest
import torch

from support.checkpoints import CONFIG, delta_weights, model_weights, write_checkpoint, write_tokenizer
from vicuna_server.manifest import Manifest
from vicuna_server.merge.files import LocalFile
from vicuna_server.merge.safetensors_format import build_header, header_size

# Runs the merge in forked children. Child n dies by SIGKILL at its n-th change to the file system (a write
# half-way), until one gets through; after each death a healthy child runs on the same folder.
KILLER = """
import os, signal, sys
from pathlib import Path
from vicuna_server.cli import main

place = Path(sys.argv[1])
calls = 0

def deadly(name, limit):
    real = getattr(os, name)
    def call(*args, **kwargs):
        global calls
        calls += 1
        if calls == limit:
            if name == "write":
                real(args[0], memoryview(args[1])[: len(args[1]) // 2])
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*args, **kwargs)
    setattr(os, name, call)

def child(root, limit):
    pid = os.fork()
    if not pid:
        if limit:
            for name in ("open", "write", "pwrite", "fsync", "mkdir", "link", "rename", "replace", "unlink"):
                deadly(name, limit)
        os._exit(merge(root))
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

def merge(root):
    return main(["merge", "--base", str(place / "base"), "--delta", str(place / "delta"), "--quiet",
                 "--chat-template", "vicuna_v1.1", "--output", str(root)])

merge(place / "first")  # so that no child imports or compiles anything
limit, code = 0, -9
while code == -9:
    limit += 1
    root = place / "out" / str(limit)
    code = child(root, limit)
    seen = sorted(path.name for path in root.iterdir() if path.name[0] != ".") if root.exists() else []
    again = child(root, 0)
    print(limit, code, again, *seen, file=sys.stderr)
"""


@pytest.fixture
def memory() -> Iterator[Path]:
    """A folder where fsync costs nothing, where there is one."""
    shm = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shm if os.access(shm, os.W_OK) else None) as folder:
        yield Path(folder)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_a_kill_at_any_change_to_the_volume_shows_nothing_half_made(memory: Path) -> None:
    write_checkpoint(memory / "base", model_weights(1), "bin-sharded")
    write_checkpoint(memory / "delta", delta_weights(2))
    script = subprocess.run(
        [sys.executable, "-c", KILLER, str(memory)], capture_output=True, text=True, check=True, timeout=100
    )
    rows = [line.split() for line in script.stderr.splitlines()]
    assert [row[1] for row in rows] == ["-9"] * (len(rows) - 1) + ["0"]
    assert {row[2] for row in rows} == {"0"}, "a run after a kill failed"
    points_with_nothing = sum(len(row) == 3 for row in rows)
    assert points_with_nothing > 15  # the kills really came before the rename
    whole = _artifact(memory / "out" / rows[-1][0])
    for row in rows:
        assert _artifact(memory / "out" / row[0]) == whole
        assert row[3:] in ([], [whole[0]])


def _artifact(root: Path) -> tuple[str, dict[str, str]]:
    """Return name and hashes of the only thing in the folder, checked against its manifest."""
    (folder,) = root.iterdir()
    manifest = Manifest.load(folder)
    assert manifest is not None
    hashes = {path.name: sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}
    assert {entry.path: entry.sha256 for entry in manifest.files} == {
        name: value for name, value in hashes.items() if name != "vicuna-manifest.json"
    }
    return folder.name, hashes


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_peak_anonymous_memory_does_not_grow_with_the_model(tmp_path: Path) -> None:
    """One tensor of 400 MB: holding it whole once, beside torch itself, would already pass 512 MiB."""
    shapes = {"model.embed_tokens.weight": (200_000, 1024), "model.norm.weight": (1024,)}
    for part in ("base", "delta"):
        folder = tmp_path / part
        folder.mkdir()
        path = folder / "model.safetensors"
        path.write_bytes(build_header((name, "F16", shape) for name, shape in shapes.items()))
        os.truncate(path, header_size(LocalFile(path)) + 2 * 1024 * 200_001)
        (folder / "config.json").write_text(json.dumps(CONFIG))
        write_tokenizer(folder)
    with (tmp_path / "base" / "model.safetensors").open("r+b") as file:
        file.seek(-2048, os.SEEK_END)
        file.write(torch.ones(1024, dtype=torch.float16).numpy().tobytes())
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
