"""Weight files come into the page cache ahead of their use."""

import json
import mmap
import os
import time
from pathlib import Path

import pytest

from vicuna_server.engine.prefetch import prefetch, weight_files

SIZE = 8 * 2**20


def _resident(path: Path) -> int:
    """Return how many pages of a file are in the cache, by mincore; -1 where the system does not tell."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, flags=mmap.MAP_SHARED, prot=mmap.PROT_READ) as view:
        pages = (ctypes.c_ubyte * (len(view) // mmap.PAGESIZE))()
        libc.mmap.restype = ctypes.c_void_p
        address = libc.mmap(None, ctypes.c_size_t(len(view)), mmap.PROT_READ, mmap.MAP_SHARED, file.fileno(), 0)
        told = libc.mincore(ctypes.c_void_p(address), ctypes.c_size_t(len(view)), pages)
        libc.munmap(ctypes.c_void_p(address), ctypes.c_size_t(len(view)))
    return sum(page & 1 for page in pages) if told == 0 else -1


def test_all_weight_files_are_read_and_nothing_else(tmp_path: Path) -> None:
    weights, other = tmp_path / "model.safetensors", tmp_path / "other.bin"
    for path in (weights, other):
        path.write_bytes(os.urandom(SIZE))
        with path.open("rb+") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    if _resident(weights) > 0 or _resident(other) > 0:
        pytest.skip("this file system keeps its files in memory")
    prefetch(tmp_path).join()
    deadline = time.monotonic() + 30
    while (there := _resident(weights)) < SIZE // mmap.PAGESIZE and time.monotonic() < deadline:
        time.sleep(0.01)  # until the disk has read what was asked for; there is no event for that
    assert there == SIZE // mmap.PAGESIZE
    assert _resident(other) == 0


def test_what_is_loaded_first_is_read_first(tmp_path: Path) -> None:
    for number in (1, 2, 3):
        (tmp_path / f"model-{number}.safetensors").touch()
    names = [path.name for path in weight_files(tmp_path)]
    assert names == ["model-1.safetensors", "model-2.safetensors", "model-3.safetensors"]
    content = {"weight_map": {"lm_head.weight": "model-3.safetensors", "model.norm.weight": "model-2.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(content))
    assert [path.name for path in weight_files(tmp_path)] == [names[2], names[0], names[1]]


@pytest.mark.parametrize("index", ["", "[]", "{}", '{"weight_map": {"lm_head.weight": "../elsewhere"}}'])
def test_an_odd_index_changes_nothing(index: str, tmp_path: Path) -> None:
    (tmp_path / "model-1.safetensors").touch()
    (tmp_path / "model.safetensors.index.json").write_text(index)
    assert [path.name for path in weight_files(tmp_path)] == ["model-1.safetensors"]


def test_a_folder_that_is_not_there_is_for_others_to_tell(tmp_path: Path) -> None:
    prefetch(tmp_path / "none").join()
