"""Meta's own checkpoints: converted on the fly, bit for bit as transformers' script would without bfloat16."""

import json
from math import prod
from pathlib import Path
from typing import Any

import pytest
import torch

from support.meta import DIM, HEADS, LAYERS, VOCABULARY, WIDE, converted, whole_weights, write_meta
from vicuna_server.errors import InputError
from vicuna_server.weights.checkpoint import Checkpoint, open_checkpoint
from vicuna_server.weights.tensors import TensorSource, read_elements


def _raw(tensor: torch.Tensor) -> bytes:
    return bytes(tensor.contiguous().view(torch.uint8).numpy().tobytes())


def _in_pieces(tensor: TensorSource, units: int) -> bytes:
    stride = tensor.unit * units
    starts = range(0, tensor.elements, stride)
    return b"".join(read_elements(tensor, start, min(start + stride, tensor.elements)) for start in starts)


def _check(checkpoint: Checkpoint, want: dict[str, torch.Tensor]) -> None:
    assert checkpoint.tensors.keys() == want.keys()
    for name, tensor in want.items():
        found = checkpoint.tensors[name]
        assert (found.name, found.shape, found.elements) == (name, tuple(tensor.shape), prod(found.shape))
        assert found.elements % found.unit == 0
        for units in (1, 3, 10_000):
            assert _in_pieces(found, units) == _raw(tensor), name


@pytest.mark.long
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize(("parts", "kv_heads"), [(1, HEADS), (2, HEADS), (4, HEADS), (1, 2), (2, 2)])
def test_parts_become_what_transformers_makes_of_them(
    tmp_path: Path, parts: int, kv_heads: int, dtype: torch.dtype
) -> None:
    weights = whole_weights(dtype, kv_heads)
    checkpoint = open_checkpoint(write_meta(tmp_path / "7B", weights, parts, kv_heads=kv_heads))
    _check(checkpoint, converted(weights, kv_heads))
    assert checkpoint.config["torch_dtype"] == str(dtype).removeprefix("torch.")


def test_an_embedding_cut_by_rows_is_joined_by_rows(tmp_path: Path) -> None:
    weights = whole_weights()
    folder = write_meta(tmp_path / "8B", weights, 2)
    for part in range(2):
        path = folder / f"consolidated.{part:02}.pth"
        state = torch.load(path, weights_only=True)
        state["tok_embeddings.weight"] = weights["tok_embeddings.weight"].chunk(2, 0)[part].clone()
        torch.save(state, path)
    _check(open_checkpoint(folder), converted(weights))


def test_reads_are_long_and_in_file_order(tmp_path: Path) -> None:
    checkpoint = open_checkpoint(write_meta(tmp_path / "7B", whole_weights(), 2))
    for tensor in checkpoint.tensors.values():
        spans = tensor.spans(0, tensor.elements)
        assert len(spans) == len(tensor.files)
        assert sum(length for span in spans for _, length in span.places) == tensor.nbytes


def test_the_config_is_made_from_params_and_tensors(tmp_path: Path) -> None:
    weights = whole_weights(torch.float32, 2)
    folder = write_meta(tmp_path / "7B", weights, 2, kv_heads=2, norm_eps=1e-5)
    config = open_checkpoint(folder).config
    assert config["vocab_size"] == VOCABULARY
    assert (config["hidden_size"], config["intermediate_size"], config["num_hidden_layers"]) == (DIM, WIDE, LAYERS)
    assert (config["num_attention_heads"], config["num_key_value_heads"]) == (HEADS, 2)
    assert (config["rms_norm_eps"], config["rope_theta"], config["tie_word_embeddings"]) == (1e-5, 10000.0, False)


@pytest.mark.long
@pytest.mark.transformers
def test_transformers_takes_the_config_and_the_names_of_the_tensors(tmp_path: Path) -> None:
    from transformers import AutoConfig, AutoModelForCausalLM

    weights = whole_weights(torch.float32, 2)
    config = open_checkpoint(write_meta(tmp_path / "7B", weights, 2, kv_heads=2, norm_eps=1e-5)).config
    made = tmp_path / "made"
    made.mkdir()
    (made / "config.json").write_text(json.dumps(config))
    model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(made), dtype=torch.float32)
    model.load_state_dict(converted(weights, 2))


@pytest.mark.parametrize(
    ("dtype", "params", "length"),
    [
        (torch.float16, {}, 2048),
        (torch.bfloat16, {}, 4096),
        (torch.bfloat16, {"rope_theta": 1e6}, 16384),
        (torch.float16, {"max_seq_len": 512}, 512),
    ],
)
def test_the_length_follows_the_generation(
    tmp_path: Path, dtype: torch.dtype, params: dict[str, Any], length: int
) -> None:
    folder = write_meta(tmp_path / "7B", whole_weights(dtype), 1, **params)
    assert open_checkpoint(folder).config["max_position_embeddings"] == length


def test_the_tokenizer_may_lie_above(tmp_path: Path) -> None:
    folder = write_meta(tmp_path / "LLaMA" / "7B", whole_weights(), 1)
    assert open_checkpoint(folder).tokenizer_folder is None
    (tmp_path / "LLaMA" / "tokenizer.model").write_bytes(b"x")
    checkpoint = open_checkpoint(folder)
    assert checkpoint.tokenizer_folder == tmp_path / "LLaMA"
    assert [file.name for file in checkpoint.files] == ["consolidated.00.pth", "params.json", "tokenizer.model"]
    (folder / "tokenizer.model").write_bytes(b"y")
    assert open_checkpoint(folder).tokenizer_folder is None


def _without(folder: Path, name: str, part: int = 1) -> None:
    path = folder / f"consolidated.{part:02}.pth"
    state = torch.load(path, weights_only=True)
    del state[name]
    torch.save(state, path)


def _with(folder: Path, part: int = 1, **tensors: torch.Tensor) -> None:
    path = folder / f"consolidated.{part:02}.pth"
    names = {name.replace("__", "."): tensor for name, tensor in tensors.items()}
    torch.save(torch.load(path, weights_only=True) | names, path)


def _params(folder: Path, **params: object) -> None:
    path = folder / "params.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | params))


@pytest.mark.parametrize(
    ("damage", "reason", "words"),
    [
        (lambda f: (f / "consolidated.03.pth").unlink(), "TensorMissing", "are 3 of 4 parts"),
        (lambda f: (f / "consolidated.01.pth").unlink(), "TensorMissing", "lacks consolidated.01.pth"),
        (lambda f: _without(f, "norm.weight"), "TensorMissing", "lacks norm.weight"),
        (lambda f: _without(f, "output.weight", 0), "TensorMissing", "lm_head.weight"),
        (lambda f: _with(f, norm__weight=torch.ones(DIM)), "ShapeMismatch", "norm.weight is F32 [32]"),
        (lambda f: _with(f, 0, extra__weight=torch.ones(2)), "NotACheckpoint", "extra.weight"),
        (lambda f: _params(f, dim=DIM * 2, n_heads=HEADS * 2), "TensorMissing", "are 4 of 8 parts"),
        (lambda f: _params(f, dim=DIM + 8), "ShapeMismatch", "heads of 10 rows"),
        (lambda f: _params(f, n_kv_heads=2), "ShapeMismatch", "k_proj"),
        (lambda f: _params(f, n_heads=1), "ShapeMismatch", "heads of 32 rows"),
        (lambda f: _params(f, n_heads=0), "NotACheckpoint", "that no LLaMA can have"),
        (lambda f: _params(f, dim="big"), "NotACheckpoint", "that no LLaMA can have"),
        (lambda f: _params(f, n_kv_heads=-1), "NotACheckpoint", "that no LLaMA can have"),
        (lambda f: _params(f, use_scaled_rope=True), "NotACheckpoint", "scaled rope"),
        (lambda f: (f / "params.json").write_text("[1]"), "NotACheckpoint", "params.json is not a description"),
        (lambda f: (f / "params.json").unlink(), "NotACheckpoint", "params.json"),
    ],
)
def test_what_is_wrong_with_parts_is_said(tmp_path: Path, damage: object, reason: str, words: str) -> None:
    folder = write_meta(tmp_path / "7B", whole_weights(), 4)
    assert callable(damage)
    damage(folder)
    with pytest.raises(InputError) as caught:
        open_checkpoint(folder)
    assert (caught.value.reason, words in caught.value.message) == (reason, True), caught.value.message
