"""Fingerprints and artifact IDs depend on content alone."""

import hashlib
import os
import shutil
from pathlib import Path

import pytest

from support.checkpoints import model_weights, write_checkpoint
from vicuna_server.artifacts.identity import (
    WIDE,
    Fingerprints,
    artifact_id,
    fingerprint,
    folder_digest,
)
from vicuna_server.files.data_file import LocalFile
from vicuna_server.weights.checkpoint import open_checkpoint
from vicuna_server.weights.samples import sampled_sha256
from vicuna_server.weights.tensors import Tensor


@pytest.mark.parametrize("layout", ["safetensors", "bin-sharded"])
def test_a_copy_has_the_same_fingerprint_and_one_flipped_bit_another(tmp_path: Path, layout: str) -> None:
    original = write_checkpoint(tmp_path / "a", model_weights(1), layout)
    copy = shutil.copytree(original, tmp_path / "b")
    for path in copy.iterdir():
        os.utime(path, (1, 1))
    assert fingerprint(open_checkpoint(original).files) == fingerprint(open_checkpoint(copy).files)
    tensor = open_checkpoint(copy).tensors["model.layers.1.self_attn.q_proj.weight"]
    assert isinstance(tensor, Tensor)
    assert isinstance(tensor.file, LocalFile)
    data = bytearray(tensor.file.path.read_bytes())
    data[tensor.offset] ^= 1
    tensor.file.path.write_bytes(data)
    assert fingerprint(open_checkpoint(original).files) != fingerprint(open_checkpoint(copy).files)


def test_files_a_merge_does_not_read_do_not_count(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "a", model_weights(1))
    before = fingerprint(open_checkpoint(folder).files)
    (folder / "README.md").write_text("hello")
    assert fingerprint(open_checkpoint(folder).files) == before
    (folder / "generation_config.json").write_text("{}")
    assert fingerprint(open_checkpoint(folder).files) != before


def test_large_files_are_sampled_from_first_to_last_byte(tmp_path: Path) -> None:
    path = tmp_path / "big"
    size = 64 * 65536 + 12345
    path.write_bytes(bytes(size))
    before = sampled_sha256(LocalFile(path), 0, size)
    for position in (0, size - 1):
        data = bytearray(size)
        data[position] = 1
        path.write_bytes(data)
        assert sampled_sha256(LocalFile(path), 0, size) != before


def test_the_artifact_id_is_canonical_and_depends_on_every_part() -> None:
    parts = b'{"adapters":[],"base":"b","delta":"d","dtype":"float16","kind":"additive-v1.1","recipe":1}'
    plain = artifact_id(Fingerprints("b", "d"), "additive-v1.1", "float16")
    assert plain == hashlib.sha256(parts).hexdigest()[:16]
    others = {
        artifact_id(Fingerprints("x", "d"), "additive-v1.1", "float16"),
        artifact_id(Fingerprints("b", "x"), "additive-v1.1", "float16"),
        artifact_id(Fingerprints("b", None), "additive-v1.1", "float16"),
        artifact_id(Fingerprints("b", "d"), "additive-v0", "float16"),
        artifact_id(Fingerprints("b", "d"), "additive-v1.1", "bfloat16"),
        artifact_id(Fingerprints("b", "d", ("p", "q")), "additive-v1.1", "float16"),
        artifact_id(Fingerprints("b", "d", ("q", "p")), "additive-v1.1", "float16"),
        artifact_id(Fingerprints("b", "d"), "additive-v1.1", "float16", WIDE),
    }
    assert len(others | {plain}) == 9


def test_a_folder_digest_is_what_sha256sum_lines_hash_to() -> None:
    lines = f"{'1' * 64}  a\n{'2' * 64}  b\n"
    assert folder_digest({"b": "2" * 64, "a": "1" * 64}) == "sha256:" + hashlib.sha256(lines.encode()).hexdigest()
