"""Models of many architectures, merged: plain transformers finds no key missing, unexpected or mismatched."""

import json
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from support.checkpoints import Weights, write_tokenizer
from support.whole import load_whole
from vicuna_server.errors import InputError
from vicuna_server.merge.job import run_merge
from vicuna_server.merge.preflight.siblings import odd_one_out
from vicuna_server.merge.preflight.whole import check_model
from vicuna_server.merge.request import Request
from vicuna_server.problems import Problems
from vicuna_server.run.control import Control
from vicuna_server.run.reporter import make_reporter

ROWS, WIDTH = 64, 32
SIZES = {"vocab_size": ROWS, "hidden_size": WIDTH, "num_hidden_layers": 2, "num_attention_heads": 4}
ENDS = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": None}
LLAMA = SIZES | ENDS | {"intermediate_size": 48, "num_key_value_heads": 2, "max_position_embeddings": 64}
GPT = ENDS | {"vocab_size": ROWS, "n_embd": WIDTH, "n_layer": 2, "n_head": 4, "n_positions": 64}
TABLE: dict[str, dict[str, Any]] = {
    "llama": LLAMA,
    "mistral": LLAMA | {"sliding_window": None},
    "qwen2": LLAMA,
    "gpt_neox": LLAMA,
    "gptj": GPT | {"rotary_dim": 4},
    "gpt2": GPT,
    "opt": LLAMA | {"ffn_dim": 48},
    "phi": LLAMA,
}
BUILT: dict[str, dict[str, Any]] = {
    "bloom": ENDS | {"vocab_size": ROWS, "hidden_size": WIDTH, "n_layer": 2, "n_head": 4},
    "mixtral": LLAMA | {"num_local_experts": 3, "sliding_window": None},
}
MASK = torch.ones(1, 1, 64, 64, dtype=torch.bool).tril()
BUFFERS: dict[str, dict[str, torch.Tensor]] = {  # as transformers 4 and earlier saved them
    "gpt2": {"transformer.h.0.attn.bias": MASK, "transformer.h.1.attn.masked_bias": torch.tensor(-1e4)},
    "gptj": {"transformer.h.0.attn.bias": MASK.to(torch.uint8), "transformer.h.0.attn.masked_bias": torch.tensor(-1e9)},
    "gpt_neox": {
        "gpt_neox.layers.0.attention.bias": MASK,
        "gpt_neox.layers.0.attention.masked_bias": torch.tensor(-1e9),
        "gpt_neox.layers.1.attention.rotary_emb.inv_freq": torch.ones(4),
    },
}
Merge = Callable[..., Path]


@pytest.fixture
def merge(tmp_path: Path) -> Merge:
    def run(base: Path, delta: Path | None = None) -> Path:
        words: dict[str, Any] = {"base": str(base), "chat_template": "vicuna_v1.1", "dtype": "float32"}
        request = Request(output=tmp_path / "out", **words, delta=str(delta) if delta else None)
        manifest = run_merge(request, Control(make_reporter(quiet=True), threading.Event()))
        return tmp_path / "out" / manifest.artifact_id

    return run


def _saved(folder: Path, model_type: str, config: dict[str, Any], *, scale: float = 1.0) -> tuple[Path, Weights]:
    """Let transformers make a random model and save it; its norms become `scale`."""
    hub: Any = transformers
    torch.manual_seed(len(folder.name))
    model = hub.AutoModelForCausalLM.from_config(hub.AutoConfig.for_model(model_type, **config))
    for name, parameter in model.named_parameters():
        if parameter.dim() == 1 and ("norm" in name or ".ln_" in name):
            parameter.data.fill_(scale)
    model.save_pretrained(folder)
    write_tokenizer(folder)
    return folder, load_file(folder / "model.safetensors")


def _rewrite(folder: Path, weights: Weights) -> None:
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize("model_type", [*TABLE, *BUILT])
def test_an_artifact_is_whole_for_plain_transformers(
    request: pytest.FixtureRequest, merge: Merge, tmp_path: Path, model_type: str
) -> None:
    if model_type == "mixtral":  # bloom's is asked of a process
        request.getfixturevalue("asked_here")
    base, weights = _saved(tmp_path / "base", model_type, (TABLE | BUILT)[model_type])
    found = merge(base)
    got = load_file(found / "model.safetensors")
    assert got.keys() == weights.keys()
    assert all(torch.equal(got[name], tensor) for name, tensor in weights.items())
    load_whole(found)


@pytest.mark.parametrize("with_buffers", ["base", "delta"])
@pytest.mark.parametrize("model_type", list(BUFFERS))
def test_masks_in_one_of_base_and_delta_are_ignored(
    merge: Merge, tmp_path: Path, model_type: str, with_buffers: str
) -> None:
    folders = {}
    for name, scale in (("base", 1.0), ("delta", 0.01)):
        folders[name], weights = _saved(tmp_path / name, model_type, TABLE[model_type], scale=scale)
        if name == with_buffers:
            _rewrite(folders[name], weights | BUFFERS[model_type])
    found = merge(folders["base"], folders["delta"])
    assert not load_file(found / "model.safetensors").keys() & BUFFERS[model_type].keys()
    load_whole(found)


def test_names_as_the_first_releases_of_gpt2_and_gpt_neox_have_them_are_whole(merge: Merge, tmp_path: Path) -> None:
    renames: dict[str, Callable[[str], str]] = {
        "gpt2": lambda name: name.removeprefix("transformer."),
        "gpt_neox": lambda name: name.replace("lm_head.", "embed_out."),
    }
    for model_type, rename in renames.items():
        folder, weights = _saved(tmp_path / model_type, model_type, TABLE[model_type])
        _rewrite(folder, {rename(name): tensor for name, tensor in weights.items()})
        load_whole(merge(folder))


def test_a_tied_embedding_under_the_heads_name_alone_is_whole(merge: Merge, tmp_path: Path) -> None:
    folder, weights = _saved(tmp_path / "base", "llama", TABLE["llama"] | {"tie_word_embeddings": True})
    weights["lm_head.weight"] = weights.pop("model.embed_tokens.weight")
    _rewrite(folder, weights)
    model = load_whole(merge(folder))
    assert torch.equal(model.model.embed_tokens.weight, weights["lm_head.weight"])


def test_a_cause_is_told_without_its_consequences(merge: Merge, tmp_path: Path) -> None:
    folders = {}
    for name, scale in (("base", 1.0), ("delta", 0.01)):
        folders[name], weights = _saved(tmp_path / name, "llama", TABLE["llama"], scale=scale)
    for change, reason in (
        ({f"module.{name}": tensor for name, tensor in weights.items()}, "NotAPlainModel"),
        ({name: torch.zeros(0) for name in weights}, "EmptyTensors"),
        ({f"{name.removesuffix('weight')}qweight": tensor for name, tensor in weights.items()}, "QuantizedSource"),
    ):
        _rewrite(folders["delta"], change)
        with pytest.raises(InputError) as caught:
            merge(folders["base"], folders["delta"])
        assert caught.value.reason == reason
        assert not re.search(r"(Tensor|Shape|Vocabulary|Unexpected)\w+: ", caught.value.message)


def test_what_no_part_of_the_model_reads_is_left_out(merge: Merge, tmp_path: Path) -> None:
    folder, weights = _saved(tmp_path / "base", "llama", TABLE["llama"])
    _rewrite(folder, weights | {"v_head.summary.weight": torch.ones(1, WIDTH), "model.steps": torch.tensor([3])})
    found = merge(folder)
    assert load_file(found / "model.safetensors").keys() == weights.keys()
    load_whole(found)


@pytest.mark.usefixtures("asked_here")
@pytest.mark.parametrize(
    ("model_type", "change", "reason", "says"),
    [
        ("bloom", lambda w: w | {"transformer.h.0.x.weight": torch.ones(2)}, "UnexpectedTensors", "transformer.h.0.x"),
        ("mixtral", lambda w: _less(w, "lm_head.weight"), "TensorMissing", "lacks lm_head.weight, and its config.json"),
        pytest.param(
            *("mixtral", lambda w: _less(w, _expert(w)), "ShapeMismatch", "is not there, as it is in others"),
            marks=pytest.mark.full,
        ),
    ],
)
def test_what_is_wrong_with_an_architecture_of_no_table_is_named(
    merge: Merge, tmp_path: Path, model_type: str, change: Callable[[Weights], Weights], reason: str, says: str
) -> None:
    folder, weights = _saved(tmp_path / "base", model_type, BUILT[model_type])
    _rewrite(folder, change(weights))
    with pytest.raises(InputError) as caught:
        merge(folder)
    assert caught.value.reason == reason
    assert says in caught.value.message


def _less(weights: Weights, name: str) -> Weights:
    return {key: tensor for key, tensor in weights.items() if key != name}


def _expert(weights: Weights) -> str:
    return next(name for name in weights if ".1." in name and "expert" in name)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("hidden_size", 10**15),
        pytest.param("num_hidden_layers", 10**9, marks=pytest.mark.full),
        pytest.param("num_local_experts", float("inf"), marks=pytest.mark.full),
    ],
)
def test_a_hostile_config_ends_in_bounds(merge: Merge, tmp_path: Path, field: str, value: Any) -> None:
    folder, _ = _saved(tmp_path / "base", "mixtral", BUILT["mixtral"])
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {field: value}))
    with pytest.raises(InputError, match=r"config\.json describes a model that cannot be built") as caught:
        merge(folder)
    assert caught.value.reason == "ConfigBroken"
    assert len(caught.value.message) < 600


@pytest.mark.usefixtures("asked_here")
def test_an_architecture_that_transformers_does_not_know_is_judged_by_its_outline() -> None:
    tensors = {f"t.layers.{n}.a.weight": ("F16", (2, 2)) for n in range(2)} | {"t.embedding.weight": ("F16", (4, 2))}
    problems = Problems()
    config = {"model_type": "nobody_knows", "num_layers": 2}
    assert check_model("base", config, tensors, problems) == []
    assert not problems
    check_model("base", config | {"num_layers": 3}, tensors, problems)
    assert [reason for reason, _ in problems.found] == ["TensorMissing"]
    assert "lacks layer 2 of the 3" in problems.found[0][1]


def test_a_tensor_unlike_its_like_is_found() -> None:
    names = [f"model.layers.{layer}.experts.{expert}.w{{1}}.weight" for layer in range(2) for expert in range(3)]
    tensors = dict.fromkeys(names, ("F16", (4, 2)))
    assert odd_one_out(tensors) is None
    assert odd_one_out(tensors | {names[4]: ("F16", (4, 3))}) == f"{names[4]} is [4, 3] where the others are [4, 2]"
    assert odd_one_out({name: tensors[name] for name in names[:4] + names[5:]}) == (
        f"{names[4]} is not there, as it is in others"
    )
