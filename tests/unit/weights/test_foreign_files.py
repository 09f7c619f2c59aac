"""Folders and files that are something else than weights: what is there is named, and what to do with it."""

import gzip
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from support.adapters import adapter_config, low_rank_weights, write_adapter
from support.checkpoints import CONFIG, model_weights, write_checkpoint
from vicuna_server.errors import InputError
from vicuna_server.weights.adapters.folder import open_adapter
from vicuna_server.weights.checkpoint import open_checkpoint

_POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"ab" * 32 + b"\nsize 17\n"


def _refused(folder: Path, *, adapter: bool = False) -> InputError:
    with pytest.raises(InputError) as caught:
        open_adapter(folder) if adapter else open_checkpoint(folder)
    return caught.value


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
@pytest.mark.parametrize(
    ("content", "says"),
    [
        (_POINTER, "is a git-lfs pointer, not the weights; run git lfs pull"),
        (b"\n <!DOCTYPE html><html>Sign in</html>", "is a web page"),
        (b"Entry not found" + b" " * 64, "holds an error message ('Entry not found')"),
        (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "holds an error message"),
        (gzip.compress(b"x" * 100, mtime=0), "is a gzip archive"),
        (b"GGUF" + bytes(60), "is a GGUF file of llama.cpp"),
        (bytes(100_000), "holds zeros where its content should be"),
        (bytes(64) + b"\x17\x02 some bytes differ", "looks like an XOR of two files"),
    ],
)
def test_a_file_that_is_something_else_is_named(tmp_path: Path, name: str, content: bytes, says: str) -> None:
    folder = write_checkpoint(tmp_path / "m", {})
    (folder / "model.safetensors").unlink()
    (folder / name).write_bytes(content)
    error = _refused(folder)
    assert error.reason == "NotACheckpoint"
    assert f"{name} {says}" in error.message


@pytest.mark.parametrize("layout", ["safetensors", "bin"])
def test_an_xor_of_two_checkpoints_is_named(tmp_path: Path, layout: str) -> None:
    one, two = (write_checkpoint(tmp_path / str(seed), model_weights(seed), layout) for seed in (1, 2))
    path = next(path for path in two.iterdir() if path.suffix in (".safetensors", ".bin"))
    pairs = zip((one / path.name).read_bytes(), path.read_bytes(), strict=True)
    path.write_bytes(bytes(left ^ right for left, right in pairs))
    assert "looks like an XOR of two files" in _refused(two).message


def test_a_checkpoint_of_torch_under_the_other_formats_name_is_named(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "m", model_weights(1), "bin")
    (folder / "pytorch_model.bin").rename(folder / "model.safetensors")
    assert "is a checkpoint of torch, not safetensors" in _refused(folder).message


@pytest.mark.parametrize(
    ("files", "says"),
    [
        (["llama.Q4_K_M.gguf"], "llama.Q4_K_M.gguf, GGUF files"),
        (["pytorch_model_fsdp.bin"], "shards of FSDP"),
        (["pytorch_model_fsdp_0/__0_0.distcp"], "pytorch_model_fsdp_0/, shards of FSDP"),
        (["__0_0.distcp", "__1_0.distcp"], "shards of FSDP"),
        (["global_step100/mp_rank_00_model_states.pt", "zero_to_fp32.py"], "run its zero_to_fp32.py"),
        (["consolidated.safetensors"], "Mistral's own layout"),
        (["consolidated-00001-of-00002.safetensors"], "Mistral's own layout"),
        (["consolidated.00.pth"], "without their params.json"),
        (["model.fp16.safetensors"], "rename it to model.safetensors"),
        (["pytorch_model.fp16-00001-of-00002.bin"], "a variant by name"),
        (["adapter_model.safetensors"], "without their adapter_config.json"),
        (["model.safetensors.incomplete"], "unfinished downloads"),
        (["tf_model.h5"], "TensorFlow's weights"),
        (["flax_model.msgpack"], "Flax's weights"),
        (["weights.npz"], "MLX"),
        (["model.tar.gz"], "an archive; unpack it"),
        (["model.pt"], "a checkpoint of torch under a name of its own"),
        (["my-llama.safetensors"], "name it model.safetensors if it is the whole model"),
        (["checkpoint-9/model.safetensors", "checkpoint-100/model.safetensors"], "/checkpoint-100"),
        (["hf/model-00001-of-00002.safetensors"], "its weights lie in hf/; name "),
        (["README.md"], "it holds README.md, config.json"),
    ],
)
def test_what_lies_in_place_of_weights_is_named(tmp_path: Path, files: list[str], says: str) -> None:
    for name in files:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    error = _refused(tmp_path)
    assert error.reason == "NotACheckpoint"
    assert says in error.message


def test_an_empty_folder_is_named(tmp_path: Path) -> None:
    assert "it is empty; name a model" in _refused(tmp_path).message


def _cache(tmp_path: Path) -> tuple[Path, Path]:
    """A hub's cache of one repository: its folder, and its snapshot's, whose files are links."""
    source = write_checkpoint(tmp_path / "src", model_weights(1), "safetensors-sharded")
    repository = tmp_path / "hub" / "models--some--model"
    snapshot = repository / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (repository / "blobs").mkdir()
    for number, path in enumerate(sorted(source.iterdir())):
        (repository / "blobs" / str(number)).write_bytes(path.read_bytes())
        (snapshot / path.name).symlink_to(f"../../blobs/{number}")
    return repository, snapshot


def test_a_hubs_cache_is_named_by_what_is_meant(tmp_path: Path) -> None:
    repository, snapshot = _cache(tmp_path)
    assert open_checkpoint(snapshot).tensors.keys() == model_weights(1).keys()
    message = _refused(repository).message
    assert "the cache's folder of some/model" in message
    assert str(snapshot) in message
    assert "models--some--model/snapshots/<commit>" in _refused(repository.parent).message


def test_links_that_lead_nowhere_are_named(tmp_path: Path) -> None:
    repository, snapshot = _cache(tmp_path)
    (repository / "blobs" / "3").unlink()
    message = _refused(snapshot).message
    assert "is a link to ../../blobs/3, which is not there; mount or copy the whole cache" in message
    for blob in (repository / "blobs").iterdir():
        blob.unlink()
    message = _refused(snapshot).message
    assert "model-00001-of-00003.safetensors is a link to ../../blobs/" in message
    assert "and 3 more like it" in message  # two more shards, and their index


def test_a_config_that_is_a_link_to_nothing_is_named(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "m", model_weights(1))
    (folder / "config.json").unlink()
    (folder / "config.json").symlink_to("../gone")
    assert "config.json is a link to ../gone, which is not there" in _refused(folder).message


def test_a_shard_of_a_series_without_index_that_is_a_link_to_nothing_is_named(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "m", model_weights(1), "safetensors-sharded", index=False)
    (folder / "model-00002-of-00003.safetensors").unlink()
    assert "fetch the missing ones: model-00002-of-00003.safetensors" in _refused(folder).message
    (folder / "model-00002-of-00003.safetensors").symlink_to("gone")
    assert "has 2 of 3 weight files; model-00002-of-00003.safetensors is a link to gone" in _refused(folder).message


@pytest.mark.parametrize(("stale", "whole"), [("safetensors", "bin"), ("bin", "safetensors")])
@pytest.mark.parametrize("sharded", ["", "-sharded"])
def test_an_index_without_its_files_gives_way_to_a_whole_layout(
    tmp_path: Path, stale: str, whole: str, sharded: str
) -> None:
    other = write_checkpoint(tmp_path / "other", model_weights(1), f"{stale}-sharded")
    [index] = other.glob("*.index.json")
    folder = write_checkpoint(tmp_path / "m", model_weights(1), whole + sharded)
    (folder / index.name).write_bytes(index.read_bytes())
    checkpoint = open_checkpoint(folder)
    assert checkpoint.tensors.keys() == model_weights(1).keys()
    assert {file.name.rpartition(".")[2] for file in checkpoint.weight_files} == {whole}
    assert [reason for reason, _ in checkpoint.warnings] == (["IndexIgnored"] if stale == "safetensors" else [])
    assert index.name not in checkpoint.small_files


def test_an_index_of_other_shards_gives_way_to_one_whole_file(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "m", model_weights(1))
    (folder / "model.safetensors.index.json").write_text('{"weight_map": {"a": "model-00001-of-00002.safetensors"}}')
    checkpoint = open_checkpoint(folder)
    assert [file.name for file in checkpoint.weight_files] == ["model.safetensors"]
    assert [reason for reason, _ in checkpoint.warnings] == ["IndexIgnored"]


def test_an_index_some_of_whose_files_are_there_gives_way_to_nothing(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "m", model_weights(1), "safetensors-sharded")
    torch.save(model_weights(1), folder / "pytorch_model.bin")
    (folder / "model-00002-of-00003.safetensors").unlink()
    error = _refused(folder)
    assert error.reason == "TensorMissing"
    assert "names model-00002-of-00003.safetensors, which is not there" in error.message


def test_two_series_of_shards_are_named(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "m", model_weights(1), "safetensors-sharded", index=False)
    save_file({"a": torch.ones(2)}, folder / "model-00001-of-00004.safetensors")
    error = _refused(folder)
    assert error.reason == "DuplicateTensor"
    assert "shards of 2 saves, 3 of 3 (…-of-00003) and 1 of 4 (…-of-00004)" in error.message


@pytest.mark.parametrize("layout", ["safetensors", "bin"])
def test_an_adapter_that_was_saved_empty_is_named(tmp_path: Path, layout: str) -> None:
    for name, weights in (
        ("none", {}),
        ("zero", {key: torch.empty(0) for key in low_rank_weights(1)}),
    ):
        folder = write_adapter(tmp_path / name, weights, adapter_config(), layout=layout)
        error = _refused(folder, adapter=True)
        assert "was saved empty" in error.message
        assert "fetching it again does not help" in error.message


def test_a_model_that_was_saved_empty_is_named(tmp_path: Path) -> None:
    for layout in ("safetensors", "bin"):
        assert "was saved empty" in _refused(write_checkpoint(tmp_path / layout, {}, layout)).message


def test_what_an_adapters_folder_is_instead_is_named(tmp_path: Path) -> None:
    model = write_checkpoint(tmp_path / "m", model_weights(1))
    assert "it is a model's folder" in _refused(model, adapter=True).message
    trained = tmp_path / "runs"
    write_adapter(trained / "checkpoint-20", low_rank_weights(1), adapter_config())
    assert f"name the one that is meant, {trained / 'checkpoint-20'}" in _refused(trained, adapter=True).message
