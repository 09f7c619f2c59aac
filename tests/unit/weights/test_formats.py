"""Headers tell where tensors lie, in safetensors and in pickles alike."""

import json
import pickle
import struct
import zipfile
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from support.checkpoints import model_weights, write_checkpoint
from vicuna_server.errors import InputError
from vicuna_server.files.data_file import LocalFile
from vicuna_server.weights.checkpoint import open_checkpoint
from vicuna_server.weights.formats import pickle_format, safetensors_format
from vicuna_server.weights.formats.computed import is_computed
from vicuna_server.weights.tensors import TensorSource, read_elements


def _bytes_of(tensor: TensorSource) -> bytes:
    return bytes(read_elements(tensor, 0, tensor.elements))


def _raw(tensor: torch.Tensor) -> bytes:
    return bytes(tensor.contiguous().view(torch.uint8).numpy().tobytes())


@pytest.mark.parametrize("layout", ["safetensors", "bin", "safetensors-sharded", "bin-sharded"])
@pytest.mark.parametrize("index", [True, False])
def test_every_layout_gives_the_same_bytes(tmp_path: Path, layout: str, index: bool) -> None:
    weights = model_weights(3)
    checkpoint = open_checkpoint(write_checkpoint(tmp_path / "m", weights, layout, index=index))
    assert {name: _bytes_of(tensor) for name, tensor in checkpoint.tensors.items()} == {
        name: _raw(tensor) for name, tensor in weights.items()
    }


def test_pickled_views_and_shared_storages_are_found(tmp_path: Path) -> None:
    whole = torch.arange(100, dtype=torch.float32).reshape(10, 10)
    state = OrderedDict(head=whole, tail=whole[5:], other=torch.ones(3, dtype=torch.bfloat16))
    torch.save(state, tmp_path / "pytorch_model.bin")
    found = {tensor.name: tensor for tensor in pickle_format.read_tensors(LocalFile(tmp_path / "pytorch_model.bin"))}
    assert {name: _bytes_of(tensor) for name, tensor in found.items()} == {n: _raw(t) for n, t in state.items()}
    assert found["tail"].offset == found["head"].offset + 200


def test_a_record_shorter_than_its_tensor_is_noticed(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(64)}, tmp_path / "plain.bin")
    path = tmp_path / "pytorch_model.bin"
    with zipfile.ZipFile(tmp_path / "plain.bin") as old, zipfile.ZipFile(path, "w") as new:
        for info in old.infolist():
            data = old.read(info)
            new.writestr(info.filename, data[:100] if info.filename.endswith("/data/0") else data)
    with pytest.raises(InputError) as caught:
        pickle_format.read_tensors(LocalFile(path))
    assert caught.value.reason == "NotACheckpoint"


class _Evil:
    def __reduce__(self) -> tuple[object, ...]:
        return Path.write_text, (Path("pwned"), "x")


def test_a_pickle_that_would_run_code_is_unsafe_and_runs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "pytorch_model.bin"
    torch.save({"a": torch.ones(2), "b": _Evil()}, path)
    with pytest.raises(InputError) as caught:
        pickle_format.read_tensors(LocalFile(path))
    assert caught.value.reason == "UnsafePickle"
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("pytorch_model.bin", pickle.dumps({}), "LegacyPickle"),
        ("pytorch_model.bin", b"version https://git-lfs.github.com/spec/v1\n", "NotACheckpoint"),
        ("pytorch_model.bin", b"hello", "NotACheckpoint"),
        ("model.safetensors", b"version https://git-lfs.github.com/spec/v1\n", "NotACheckpoint"),
        ("model.safetensors", b"", "TruncatedShard"),
        ("model.safetensors", struct.pack("<Q", 999) + b'{"a":', "TruncatedShard"),
        ("model.safetensors", struct.pack("<Q", 5) + b"{oops", "NotACheckpoint"),
        ("model.safetensors", struct.pack("<Q", 2**60) + b"{", "NotACheckpoint"),
    ],
)
def test_files_that_are_not_weights_are_named(tmp_path: Path, name: str, content: bytes, reason: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    read = pickle_format.read_tensors if name.endswith("bin") else safetensors_format.read_tensors
    with pytest.raises(InputError, match=name) as caught:
        read(LocalFile(path))
    assert caught.value.reason == reason


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.safetensors"])
def test_a_file_cut_short_is_truncated(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    weights = {"a": torch.ones(1000)}
    if name.endswith("bin"):
        torch.save(weights, path)
    else:
        save_file(weights, path)
    path.write_bytes(path.read_bytes()[:-100])
    read = pickle_format.read_tensors if name.endswith("bin") else safetensors_format.read_tensors
    with pytest.raises(InputError) as caught:
        read(LocalFile(path))
    assert caught.value.reason == "TruncatedShard"


def test_a_compressed_pickle_is_refused(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(1000)}, tmp_path / "plain.bin")
    path = tmp_path / "pytorch_model.bin"
    with zipfile.ZipFile(tmp_path / "plain.bin") as old, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        for info in old.infolist():
            new.writestr(info.filename, old.read(info))
    with pytest.raises(InputError, match="compressed"):
        pickle_format.read_tensors(LocalFile(path))


def test_a_built_header_is_read_by_the_formats_own_library(tmp_path: Path) -> None:
    header = safetensors_format.build_header([("b", "F16", (2, 2)), ("a", "F32", (3,)), ("empty", "F16", (0, 4))])
    path = tmp_path / "model.safetensors"
    data = torch.arange(4).half().numpy().tobytes() + torch.arange(3).float().numpy().tobytes()
    path.write_bytes(header + data)
    assert len(header) % 8 == 0
    with safe_open(path, "pt") as file:
        assert file.metadata() == {"format": "pt"}
        assert file.get_tensor("b").tolist() == [[0, 1], [2, 3]]
        assert file.get_tensor("a").tolist() == [0, 1, 2]
        assert file.get_tensor("empty").shape == (0, 4)
    assert [tensor.name for tensor in safetensors_format.read_tensors(LocalFile(path))] == ["b", "a", "empty"]


def test_rotary_buffers_are_ignored(tmp_path: Path) -> None:
    weights = model_weights(1) | {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4)}
    checkpoint = open_checkpoint(write_checkpoint(tmp_path / "m", weights, "bin-sharded"))
    assert not [name for name in checkpoint.tensors if "inv_freq" in name]


@pytest.mark.parametrize("gone", ["pytorch_model-00002-of-00003.bin"])
@pytest.mark.parametrize("index", [True, False])
def test_a_missing_shard_is_noticed_with_and_without_index(tmp_path: Path, gone: str, index: bool) -> None:
    folder = write_checkpoint(tmp_path / "m", model_weights(1), "bin-sharded", index=index)
    (folder / gone).unlink()
    with pytest.raises(InputError) as caught:
        open_checkpoint(folder)
    assert caught.value.reason == "TensorMissing"


def test_an_index_that_promises_more_than_its_shards_hold_is_noticed(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "m", model_weights(1), "safetensors-sharded")
    index = folder / "model.safetensors.index.json"
    content = json.loads(index.read_text())
    content["weight_map"]["model.extra"] = "model-00001-of-00003.safetensors"
    index.write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"says that model\.extra"):
        open_checkpoint(folder)


def test_an_index_may_not_point_outside_its_folder(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "m", model_weights(1), "safetensors-sharded")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "../x.safetensors"}}))
    with pytest.raises(InputError, match="files outside its own folder"):
        open_checkpoint(folder)


def _edit_index(folder: Path, change: dict[str, str | None]) -> None:
    path = folder / "model.safetensors.index.json"
    content = json.loads(path.read_text())
    weight_map = content["weight_map"] | change
    content["weight_map"] = {name: shard for name, shard in weight_map.items() if shard}
    path.write_text(json.dumps(content))


def test_an_index_that_is_wrong_about_tensors_is_ignored_with_a_warning(tmp_path: Path) -> None:
    weights = model_weights(1)
    folder = write_checkpoint(tmp_path / "m", weights, "safetensors-sharded")
    moved, forgotten = "model.norm.weight", "lm_head.weight"
    assert open_checkpoint(folder).warnings == ()
    shard = json.loads((folder / "model.safetensors.index.json").read_text())["weight_map"][moved]
    other = "model-00001-of-00003.safetensors" if "00002" in shard else "model-00002-of-00003.safetensors"
    _edit_index(folder, {moved: other, forgotten: None})
    checkpoint = open_checkpoint(folder)
    assert {name: _bytes_of(tensor) for name, tensor in checkpoint.tensors.items()} == {
        name: _raw(tensor) for name, tensor in weights.items()
    }
    [(reason, message)] = checkpoint.warnings
    assert reason == "IndexIgnored"
    assert moved in message
    assert forgotten in message


def test_a_shard_that_its_index_forgot_is_read_all_the_same(tmp_path: Path) -> None:
    weights = model_weights(1)
    folder = write_checkpoint(tmp_path / "m", weights, "safetensors-sharded")
    weight_map = json.loads((folder / "model.safetensors.index.json").read_text())["weight_map"]
    gone = "model-00003-of-00003.safetensors"
    _edit_index(folder, {name: None for name, shard in weight_map.items() if shard == gone})
    (folder / "model-00001-of-00002.safetensors").write_bytes(b"of another series, no part of this")
    checkpoint = open_checkpoint(folder)
    assert checkpoint.tensors.keys() == weights.keys()
    assert "and 4 more" in checkpoint.warnings[0][1]


@pytest.mark.parametrize("content", ["{", "[]", '{"weight_map": {}}', '{"weight_map": {"a": 1}}', "[" * 100_000])
@pytest.mark.parametrize("layout", ["safetensors-sharded", "bin-sharded"])
def test_a_broken_index_is_built_again_from_the_headers(tmp_path: Path, layout: str, content: str) -> None:
    weights = model_weights(1)
    folder = write_checkpoint(tmp_path / "m", weights, layout)
    [index] = folder.glob("*.index.json")
    index.write_text(content)
    checkpoint = open_checkpoint(folder)
    assert checkpoint.tensors.keys() == weights.keys()
    assert [reason for reason, _ in checkpoint.warnings] == ["IndexIgnored"]
    assert index.name not in checkpoint.small_files


def test_a_broken_index_without_shards_is_named(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "m", model_weights(1), "bin-sharded")
    for shard in folder.glob("*.bin"):
        shard.unlink()
    (folder / "pytorch_model.bin.index.json").write_text("{")
    with pytest.raises(InputError, match="is not an index of weights"):
        open_checkpoint(folder)


def test_the_index_of_the_format_that_is_not_read_says_nothing(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "m", model_weights(1), "safetensors")
    (folder / "pytorch_model.bin.index.json").write_text("{")
    (folder / "params.json").write_text("{")
    checkpoint = open_checkpoint(folder)
    assert checkpoint.warnings == ()
    assert checkpoint.small_files == ["config.json", "tokenizer.json", "tokenizer_config.json"]


@pytest.mark.parametrize("layout", ["safetensors-sharded", "bin-sharded"])
def test_one_tensor_in_two_files_is_an_error_only_where_they_differ(tmp_path: Path, layout: str) -> None:
    weights = model_weights(1)
    folder = write_checkpoint(tmp_path / "m", weights, layout)
    name = "model.layers.0.self_attn.q_proj.weight"
    other = next(path for path in sorted(folder.glob("*-of-*")) if name.encode() not in path.read_bytes())
    found = torch.load(other, weights_only=True) if other.suffix == ".bin" else load_file(other)

    def write(tensor: torch.Tensor) -> None:
        state = {**found, name: tensor}
        torch.save(state, other) if other.suffix == ".bin" else save_file(state, other)

    write(weights[name])
    assert _bytes_of(open_checkpoint(folder).tensors[name]) == _raw(weights[name])
    changed = weights[name].clone()
    changed[-1, -1] += 1
    for tensor in (changed, weights[name].float(), weights[name][:8].clone()):
        write(tensor)
        with pytest.raises(InputError, match=f"{name} lies in") as caught:
            open_checkpoint(folder)
        assert caught.value.reason == "DuplicateTensor"


@pytest.mark.parametrize("beside", [False, True])
def test_a_browsers_second_copy_of_a_shard_is_that_shard(tmp_path: Path, beside: bool) -> None:
    weights = model_weights(1)
    folder = write_checkpoint(tmp_path / "m", weights, "safetensors-sharded", index=False)
    shard = folder / "model-00002-of-00003.safetensors"
    copy = folder / "model-00002-of-00003 (1).safetensors"
    copy.write_bytes(shard.read_bytes())
    if not beside:
        shard.unlink()
    assert {name: _bytes_of(tensor) for name, tensor in open_checkpoint(folder).tensors.items()} == {
        name: _raw(tensor) for name, tensor in weights.items()
    }


@pytest.mark.parametrize("name", ["model.fp16.safetensors", "consolidated.safetensors", "weights.pt", "model.bin"])
def test_files_of_other_names_are_not_weights(tmp_path: Path, name: str) -> None:
    folder = write_checkpoint(tmp_path / "m", model_weights(1))
    (folder / "model.safetensors").rename(folder / name)
    with pytest.raises(InputError, match=r"holds no model\.safetensors") as caught:
        open_checkpoint(folder)
    assert caught.value.reason == "NotACheckpoint"


@pytest.mark.parametrize(
    ("model_type", "name", "ignored"),
    [
        ("gpt2", "transformer.h.0.attn.bias", True),
        ("gpt2", "h.0.attn.masked_bias", True),
        ("gpt2", "h.0.attn.c_attn.bias", False),
        ("gptj", "transformer.h.3.attn.bias", True),
        ("gpt_neox", "gpt_neox.layers.0.attention.masked_bias", True),
        ("gpt_neox", "gpt_neox.layers.0.attention.dense.bias", False),
        ("llama", "model.layers.0.attn.bias", False),
        ("llama", "model.layers.0.self_attn.rotary_emb.inv_freq", True),
        (["gpt2"], "h.0.attn.bias", False),
        (None, "model.layers.0.self_attn.rotary_emb.cos_cached", True),
    ],
)
def test_buffers_that_every_program_computes_are_not_tensors(model_type: object, name: str, ignored: bool) -> None:
    assert is_computed(name, model_type) == ignored
