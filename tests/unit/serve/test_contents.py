"""Weights are hashed beside their loading, and what differs is named before the model answers."""

import hashlib
from pathlib import Path

import pytest

from support.amount import first
from vicuna_server.artifacts.manifest import FileEntry
from vicuna_server.engine.contents import WeightCheck, check_small_files
from vicuna_server.errors import InputError

NAMES = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
CONTENT = bytes(range(256)) * 40_000  # more than one piece


@pytest.fixture
def files(tmp_path: Path) -> list[FileEntry]:
    entries = []
    for name in (*NAMES, "tokenizer.json", "chat_template.jinja"):
        content = name.encode() + (CONTENT if name in NAMES else CONTENT[:1000])
        (tmp_path / name).write_bytes(content)
        entries.append(FileEntry(path=name, size=len(content), sha256=hashlib.sha256(content).hexdigest()))
    return entries


def flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def test_what_is_as_listed_is_taken(tmp_path: Path, files: list[FileEntry]) -> None:
    check_small_files(tmp_path, files)
    WeightCheck(tmp_path, files).finish()
    WeightCheck(tmp_path, ()).finish()


@pytest.mark.parametrize("place", first([5_000_000, 0, -1]))
@pytest.mark.parametrize("name", NAMES)
def test_one_changed_byte_of_the_weights_is_found(
    tmp_path: Path, files: list[FileEntry], name: str, place: int
) -> None:
    flip(tmp_path / name, place)
    check_small_files(tmp_path, files)
    with pytest.raises(InputError, match=f"{name} has other bytes than its manifest says; .*merge") as caught:
        WeightCheck(tmp_path, files).finish()
    assert caught.value.reason == "ArtifactDamaged"


@pytest.mark.parametrize("name", ["tokenizer.json", "chat_template.jinja"])
def test_one_changed_byte_of_a_small_file_is_found_at_once(tmp_path: Path, files: list[FileEntry], name: str) -> None:
    flip(tmp_path / name, 100)
    with pytest.raises(InputError, match=f"{name} has other bytes"):
        check_small_files(tmp_path, files)


def test_weights_that_are_gone_are_named(tmp_path: Path, files: list[FileEntry]) -> None:
    (tmp_path / NAMES[1]).unlink()
    with pytest.raises(InputError, match=f"{NAMES[1]} cannot be read"):
        WeightCheck(tmp_path, files).finish()
