"""LoRA adapters merged with base and delta: the numbers are peft's, and what cannot be merged is refused by name."""

import argparse
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from support.adapters import adapter_config, low_rank_weights, merged_by_peft, ulps, write_adapter, written_by_peft
from support.checkpoints import HIDDEN, VOCABULARY, Weights, delta_weights, model_weights, write_checkpoint
from support.checkpoints import write_tokenizer as tokenizer_into
from vicuna_operator.api.model import parse_model
from vicuna_operator.resources.merge_job import merge_job
from vicuna_server.cli import main
from vicuna_server.errors import InputError
from vicuna_server.merge import cli, request
from vicuna_server.merge.job import run_merge
from vicuna_server.run.control import Control
from vicuna_server.run.reporter import make_reporter
from vicuna_server.weights.adapters.folder import open_adapter

EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"
Q_PROJ = "model.layers.0.self_attn.q_proj"
DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}
Merge = Callable[..., tuple[Weights, Path]]


@pytest.fixture
def merge(tmp_path: Path) -> Merge:
    def run(base: Path, *adapters: Path, **options: Any) -> tuple[Weights, Path]:
        named = tuple((str(adapter), None) for adapter in adapters)
        words: dict[str, Any] = {"base": str(base), "delta": None, "chat_template": "alpaca", "adapters": named}
        asked = request.Request(output=tmp_path / "out", **(words | options))
        manifest = run_merge(asked, Control(make_reporter(quiet=True), threading.Event()))
        folder = tmp_path / "out" / manifest.artifact_id
        return load_file(folder / "model.safetensors"), folder

    return run


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "base", model_weights(1))


def _assert_within_one_ulp(got: Weights, want: Weights) -> None:
    assert got.keys() == want.keys()
    assert {name: distance for name in want if (distance := ulps(got[name], want[name])) > 1} == {}


def _vocabulary(seed: int, rows: int, dtype: torch.dtype = torch.float32) -> Weights:
    return {name: model_weights(seed, dtype, rows)[name] for name in (EMBEDDING, HEAD)}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("stored", DTYPES)
@pytest.mark.parametrize("layout", ["safetensors", "bin"])
def test_a_merged_adapter_is_what_peft_makes_of_it(
    tmp_path: Path, base: Path, merge: Merge, dtype: str, stored: str, layout: str
) -> None:
    factors = low_rank_weights(2, dtype=DTYPES[stored])
    adapter = write_adapter(tmp_path / "lora", factors, adapter_config(), layout=layout)
    got, _ = merge(base, adapter, dtype=dtype)
    plain = {name: tensor.to(DTYPES[dtype]) for name, tensor in model_weights(1).items()}
    _assert_within_one_ulp(got, merged_by_peft(plain, [adapter]))
    assert sum(not torch.equal(got[name], plain[name]) for name in got) == len(factors) // 2


@pytest.mark.parametrize(
    ("fields", "ranks"),
    [
        ({"use_rslora": True}, {}),
        ({"fan_in_fan_out": True}, {}),
        ({"rank_pattern": {"q_proj": 2}, "alpha_pattern": {"v_proj": 3}}, {"q_proj": 2}),
        ({"rank_pattern": {".*layers.[01].mlp.up_proj": 6, "up_proj": 1}, "use_rslora": True}, {"up_proj": 6}),
        ({"alpha_pattern": {"^model.layers.1.self_attn.q_proj": 3.5, "proj": 1}}, {}),
        ({"init_lora_weights": "gaussian", "loftq_config": {}, "runtime_config": {"a": 1}, "unknown": None}, {}),
    ],
)
def test_scales_and_ranks_are_pefts(
    tmp_path: Path, base: Path, merge: Merge, fields: dict[str, Any], ranks: dict[str, Any]
) -> None:
    adapter = write_adapter(tmp_path / "lora", low_rank_weights(2, **ranks), adapter_config(**fields))
    got, _ = merge(base, adapter)
    _assert_within_one_ulp(got, merged_by_peft(model_weights(1), [adapter]))


@pytest.mark.parametrize(
    ("vocabulary", "config"),
    [
        (None, {"target_modules": "all-linear", "use_rslora": True, "lora_dropout": 0.1}),
        (None, {"target_modules": r".*layers\.1.*_proj", "init_lora_weights": "orthogonal", "r": 2}),
        (None, {"target_modules": ["q_proj", "down_proj"], "layers_to_transform": [1], "layers_pattern": "layers"}),
        (None, {"target_modules": "all-linear", "exclude_modules": ["down_proj", "v_proj"]}),
        (
            None,
            {
                "target_modules": ["q_proj", "up_proj"],
                "exclude_modules": r".*layers\.0\..*",
                "layers_to_transform": None,
            },
        ),
        (
            None,
            {
                "target_modules": r".*\.(0|1)\.(self_attn\.(q|v)|mlp\.up)_proj",
                "rank_pattern": {"v_proj": 2, r"layers\.1\.mlp\.up_proj": 6},
                "alpha_pattern": {"^model.layers.0.self_attn.q_proj": 32, "up_proj": 3},
                "use_rslora": True,
            },
        ),
        (70, {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens", "lm_head", "input_layernorm"]}),
        (70, {"target_modules": ["q_proj", "embed_tokens", "lm_head"], "rank_pattern": {"embed_tokens": 3}}),
    ],
)
def test_what_peft_wrote_is_understood(
    tmp_path: Path, base: Path, merge: Merge, vocabulary: int | None, config: dict[str, Any]
) -> None:
    adapter = written_by_peft(tmp_path / "lora", model_weights(1), vocabulary=vocabulary, **config)
    got, _ = merge(base, adapter)
    _assert_within_one_ulp(got, merged_by_peft(model_weights(1), [adapter], vocabulary=vocabulary))


def test_several_are_merged_in_the_order_given(tmp_path: Path, base: Path, merge: Merge) -> None:
    first = write_adapter(tmp_path / "1", low_rank_weights(2), adapter_config())
    second = write_adapter(tmp_path / "2", low_rank_weights(3, 8), adapter_config(r=8))
    got, _ = merge(base, first, second)
    _assert_within_one_ulp(got, merged_by_peft(model_weights(1), [first, second]))


def test_on_top_of_a_delta_cut_into_pieces(
    tmp_path: Path, base: Path, merge: Merge, monkeypatch: pytest.MonkeyPatch
) -> None:
    delta = write_checkpoint(tmp_path / "delta", delta_weights(5), "bin-sharded")
    adapter = write_adapter(tmp_path / "lora", low_rank_weights(2), adapter_config())
    monkeypatch.setattr(request, "CHUNK_BYTES", 100)  # a few rows each
    got, folder = merge(base, adapter, delta=str(delta))
    vicuna = {name: tensor + delta_weights(5)[name] for name, tensor in model_weights(1).items()}
    _assert_within_one_ulp(got, merged_by_peft(vicuna, [adapter]))
    inputs = json.loads((folder / "vicuna-manifest.json").read_text())["inputs"]
    assert [each["source"] for each in inputs["adapters"]] == [adapter.as_uri()]


def test_whole_tensors_replace_and_the_vocabulary_grows(tmp_path: Path, base: Path, merge: Merge) -> None:
    rows = VOCABULARY + 5
    weights = low_rank_weights(2) | _vocabulary(7, rows)
    adapter = write_adapter(tmp_path / "lora", weights, adapter_config(modules_to_save=["embed_tokens", "lm_head"]))
    tokenizer_into(adapter, rows)
    got, folder = merge(base, adapter)
    _assert_within_one_ulp(got, merged_by_peft(model_weights(1), [adapter], vocabulary=rows))
    assert json.loads((folder / "config.json").read_text())["vocab_size"] == rows
    assert (folder / "tokenizer.json").read_bytes() == (adapter / "tokenizer.json").read_bytes()


def test_the_last_replacement_wins_and_a_change_before_it_is_gone(tmp_path: Path, base: Path, merge: Merge) -> None:
    config = adapter_config(modules_to_save=["embed_tokens", "lm_head"])
    first = write_adapter(tmp_path / "1", low_rank_weights(2) | _vocabulary(7, VOCABULARY + 1), config)
    last = write_adapter(tmp_path / "2", low_rank_weights(3) | _vocabulary(8, VOCABULARY + 2), config)
    for folder, rows in ((first, VOCABULARY + 1), (last, VOCABULARY + 2)):
        tokenizer_into(folder, rows)
    got, artifact = merge(base, first, last)
    assert torch.equal(got[EMBEDDING], _vocabulary(8, VOCABULARY + 2)[EMBEDDING].half())
    assert len(json.loads((artifact / "tokenizer.json").read_text())["model"]["vocab"]) == VOCABULARY + 2

    whole = write_adapter(tmp_path / "3", {f"{Q_PROJ}.weight": model_weights(9)[f"{Q_PROJ}.weight"]}, config)
    got, artifact = merge(base, first, whole)
    assert torch.equal(got[f"{Q_PROJ}.weight"], model_weights(9)[f"{Q_PROJ}.weight"])
    assert len(json.loads((artifact / "tokenizer.json").read_text())["model"]["vocab"]) == VOCABULARY + 1


def test_an_embedding_is_changed_by_rank_too(tmp_path: Path, base: Path, merge: Merge) -> None:
    rows = VOCABULARY + 3
    random = torch.Generator().manual_seed(4)
    weights = {
        "model.embed_tokens.lora_embedding_A": torch.randn(4, rows, generator=random),
        "model.embed_tokens.lora_embedding_B": torch.randn(HIDDEN, 4, generator=random),
        "lm_head.lora_A.weight": torch.randn(4, HIDDEN, generator=random),
        "lm_head.lora_B.weight": torch.randn(rows, 4, generator=random),
        "model.embed_tokens.base_layer.weight": _vocabulary(7, rows)[EMBEDDING],
        "lm_head.base_layer.weight": _vocabulary(7, rows)[HEAD],
    }
    config = adapter_config(target_modules=["embed_tokens", "lm_head"])
    adapter = write_adapter(tmp_path / "lora", weights, config)
    got, _ = merge(base, adapter)
    _assert_within_one_ulp(got, merged_by_peft(model_weights(1), [adapter], vocabulary=rows))


def test_names_may_lack_pefts_prefix_or_carry_its_wrappers(tmp_path: Path, base: Path, merge: Merge) -> None:
    weights = low_rank_weights(2) | _vocabulary(7, VOCABULARY)
    config = adapter_config(modules_to_save=["embed_tokens", "lm_head"])
    plain = write_adapter(tmp_path / "plain", weights, config)
    bare = write_adapter(tmp_path / "bare", weights, config, prefix="")
    wrapped = {name.replace(".lora_A.", ".lora_A.default.").replace("lm_head.", "lm_head.modules_to_save."): tensor
               for name, tensor in weights.items()}  # fmt: skip
    wrapped["lm_head.original_module.weight"] = torch.zeros(3, 3)
    live = write_adapter(tmp_path / "live", wrapped, config)
    want, _ = merge(base, plain)
    for other in (bare, live):
        got, _ = merge(base, other)
        assert got.keys() == want.keys()
        assert all(torch.equal(got[name], want[name]) for name in want)


def test_a_whole_state_dict_saved_as_an_adapter_is_its_adapter(tmp_path: Path, base: Path, merge: Merge) -> None:
    """As scripts save it that rename pytorch_model.bin: the base's tensors inside, some of them in their wrappers."""
    factors, config = low_rank_weights(2), adapter_config()
    wrapped = {name.removesuffix(".lora_A.weight") for name in factors}
    whole = {
        (name.replace(".weight", ".base_layer.weight") if name.removesuffix(".weight") in wrapped else name): tensor
        for name, tensor in model_weights(1).items()
    }
    want, _ = merge(base, write_adapter(tmp_path / "plain", factors, config))
    got, _ = merge(base, write_adapter(tmp_path / "whole", factors | whole, config, layout="bin"))
    assert got.keys() == want.keys()
    assert all(torch.equal(got[name], want[name]) for name in want)


def test_another_adapters_name_in_the_file_is_named(tmp_path: Path, base: Path, merge: Merge) -> None:
    weights = {name.replace(".weight", ".my_task.weight"): tensor for name, tensor in low_rank_weights(2).items()}
    with pytest.raises(InputError, match="my_task") as caught:
        merge(base, write_adapter(tmp_path / "lora", weights, adapter_config()))
    assert caught.value.reason == "UnsupportedAdapter"


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"peft_type": "ADALORA"}, "peft_type"),
        ({"use_dora": True}, "use_dora"),
        ({"lora_bias": True}, "lora_bias"),
        ({"bias": "all"}, "bias"),
        ({"target_parameters": ["experts.up"]}, "target_parameters"),
        ({"init_lora_weights": "pissa_niter_4"}, "init_lora_weights"),
        ({"init_lora_weights": "olora"}, "init_lora_weights"),
        ({"init_lora_weights": "corda"}, "init_lora_weights"),
        ({"init_lora_weights": "loftq"}, "init_lora_weights"),
        ({"layer_replication": [[0, 2]]}, "layer_replication"),
        ({"megatron_config": {"x": 1}}, "megatron_config"),
        ({"trainable_token_indices": [1]}, "trainable_token_indices"),
        ({"use_qalora": True}, "use_qalora"),
        ({"alora_invocation_tokens": [1]}, "alora_invocation_tokens"),
        ({"some_later_invention": {"x": 1}}, "some_later_invention"),
        ({"alpha_pattern": {"(a+)+b": 4}}, "alpha_pattern"),
        ({"rank_pattern": {"(a|a)" * 30: 4}}, "rank_pattern"),
    ],
)
def test_variants_are_refused_by_the_fields_name(
    tmp_path: Path, base: Path, merge: Merge, fields: dict[str, Any], named: str
) -> None:
    adapter = write_adapter(tmp_path / "lora", low_rank_weights(2), adapter_config(**fields))
    with pytest.raises(InputError, match=named) as caught:
        merge(base, adapter)
    assert caught.value.reason == "UnsupportedAdapter"
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize(
    "name", [f"{Q_PROJ}.lora_magnitude_vector", f"{Q_PROJ}.lora_B.bias", "model.embed_tokens.token_adapter.x"]
)
def test_variants_are_refused_by_their_tensors_too(tmp_path: Path, base: Path, merge: Merge, name: str) -> None:
    adapter = write_adapter(tmp_path / "lora", low_rank_weights(2) | {name: torch.ones(16)}, adapter_config())
    with pytest.raises(InputError, match=name) as caught:
        merge(base, adapter)
    assert caught.value.reason == "UnsupportedAdapter"


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"r": 0}, "r is 0"),
        ({"r": 5}, "of rank 5"),
        ({"r": True}, "r is true"),
        ({"lora_alpha": "8"}, 'lora_alpha is "8"'),
        ({"lora_alpha": 10**400}, "lora_alpha"),
        ({"rank_pattern": [4]}, "rank_pattern is not an object"),
        ({"rank_pattern": {"[": 4}}, "rank_pattern has a pattern"),
        ({"alpha_pattern": {"q_proj": None}}, "alpha_pattern.q_proj is null"),
    ],
)
def test_a_broken_configuration_is_named(
    tmp_path: Path, base: Path, merge: Merge, fields: dict[str, Any], problem: str
) -> None:
    adapter = write_adapter(tmp_path / "lora", low_rank_weights(2), adapter_config(**fields))
    with pytest.raises(InputError, match=problem.replace("[", r"\[")) as caught:
        merge(base, adapter)
    assert caught.value.reason == "NotAnAdapter"


def test_a_pickle_that_could_run_code_is_refused(tmp_path: Path, base: Path, merge: Merge) -> None:
    class Hostile:
        def __reduce__(self) -> tuple[Any, ...]:
            return (print, ("never run",))

    adapter = write_adapter(tmp_path / "lora", {}, adapter_config(), layout="bin")
    torch.save({f"{Q_PROJ}.lora_A.weight": Hostile()}, adapter / "adapter_model.bin")
    with pytest.raises(InputError) as caught:
        merge(base, adapter)
    assert caught.value.reason == "UnsafePickle"


def _half_a_pair(weights: Weights) -> Weights:
    return {name: tensor for name, tensor in weights.items() if name != f"{Q_PROJ}.lora_B.weight"}


@pytest.mark.parametrize(
    ("weights", "reason", "words"),
    [
        (
            {name.replace("layers", "blocks"): tensor for name, tensor in low_rank_weights(2).items()},
            "TensorMissing",
            "8 of 8 tensors that the model lacks, such as model.blocks.*, where it has model.layers.*somebody/llama",
        ),
        (
            {name: torch.cat([tensor, tensor], 1 - ("lora_B" in name)) for name, tensor in low_rank_weights(2).items()},
            "ShapeMismatch",
            r"down_proj.weight as one of \[32, 64\], but it is \[16, 32\] \(and 7 more\); .*somebody/llama",
        ),
        ({"model.norm.weight": torch.ones(8)}, "ShapeMismatch", r"norm.weight, \[16\], by \[8\]"),
        (_vocabulary(7, VOCABULARY - 1), "VocabularyMismatch", "of 64 rows by one of 63; a vocabulary may only grow"),
        ({EMBEDDING: _vocabulary(7, 70)[EMBEDDING]}, "VocabularyMismatch", "has 70 rows and lm_head.weight 64"),
        ({HEAD: torch.ones(64, 16, dtype=torch.int32)}, "UnsupportedDtype", "is I32"),
        (_half_a_pair(low_rank_weights(2)), "NotAnAdapter", "one of lora_A and lora_B of model.layers.0.self_attn.q"),
        ({"lm_head.original_module.weight": torch.ones(2)}, "NotAnAdapter", "holds no tensors"),
    ],
)
def test_an_adapter_that_does_not_fit_is_a_listed_problem(
    tmp_path: Path, base: Path, merge: Merge, weights: Weights, reason: str, words: str
) -> None:
    adapter = write_adapter(tmp_path / "lora", weights, adapter_config(r=4))
    with pytest.raises(InputError, match=words) as caught:
        merge(base, adapter)
    assert caught.value.reason == reason


def test_a_vocabulary_may_not_shrink_again(tmp_path: Path, base: Path, merge: Merge) -> None:
    larger, smaller = (write_adapter(tmp_path / str(rows), _vocabulary(7, rows), adapter_config()) for rows in (70, 68))
    merge(base, smaller, larger)
    with pytest.raises(InputError, match="of 70 rows by one of 68") as caught:
        merge(base, larger, smaller)
    assert caught.value.reason == "VocabularyMismatch"


_TIED = {name: tensor for name, tensor in model_weights(1).items() if name != HEAD}
_LONGER = VOCABULARY + 5


def _tied(folder: Path) -> Path:
    return write_checkpoint(folder, _TIED, config={"tie_word_embeddings": True})


@pytest.mark.parametrize(
    ("replaced", "config"),
    [
        ({EMBEDDING: 2}, {}),
        ({HEAD: 2}, {}),
        ({EMBEDDING: 2, HEAD: 2}, {}),
        ({EMBEDDING: 2, HEAD: 2}, {"ensure_weight_tying": True, "modules_to_save": ["embed_tokens"]}),
        ({EMBEDDING: 2}, {"modules_to_save": ["embed_tokens"]}),
        ({HEAD: 2}, {"modules_to_save": ["lm_head"]}),
        ({EMBEDDING: 2, HEAD: 3}, {"modules_to_save": ["embed_tokens", "lm_head"]}),
        ({EMBEDDING: 2, HEAD: 3}, {"modules_to_save": ["model.embed_tokens", "lm_head"]}),
    ],
)
@pytest.mark.parametrize("rows", [VOCABULARY, _LONGER])
def test_a_tied_model_becomes_what_peft_makes_of_it(
    tmp_path: Path, merge: Merge, replaced: dict[str, int], config: dict[str, Any], rows: int
) -> None:
    vocabulary = {name: _vocabulary(seed, rows)[name if seed == 2 else HEAD] for name, seed in replaced.items()}
    if list(replaced.values()) == [2, 2]:
        vocabulary[HEAD] = vocabulary[EMBEDDING].clone()
    adapter = write_adapter(tmp_path / "lora", low_rank_weights(2) | vocabulary, adapter_config(**config))
    tokenizer_into(adapter, rows)
    parted = any(module in EMBEDDING + HEAD for module in config.get("modules_to_save", ()))
    if rows > VOCABULARY and parted and len(replaced) == 1:
        with pytest.raises(InputError, match="save the adapter with both") as caught:
            merge(_tied(tmp_path / "tied"), adapter)
        assert caught.value.reason == "UnsupportedAdapter"
        return
    got, folder = merge(_tied(tmp_path / "tied"), adapter)
    want = merged_by_peft(_TIED, [adapter], vocabulary=rows)
    assert (HEAD in got) == (not torch.equal(want[HEAD], want[EMBEDDING]))
    written = json.loads((folder / "config.json").read_text())
    assert written["tie_word_embeddings"] == (HEAD not in got)
    assert written["vocab_size"] == rows
    _assert_within_one_ulp({HEAD: got[EMBEDDING], **got}, want)


def test_what_has_no_one_meaning_in_a_tied_model_is_refused(tmp_path: Path, merge: Merge) -> None:
    base = _tied(tmp_path / "tied")
    got, _ = merge(base, write_adapter(tmp_path / "lora", low_rank_weights(2), adapter_config()))
    assert got.keys() == _TIED.keys()
    both = {HEAD: model_weights(2)[HEAD], EMBEDDING: model_weights(2)[EMBEDDING]}
    head = {
        f"lm_head.lora_{side}.weight": torch.ones(shape) for side, shape in zip("AB", ((4, 16), (64, 4)), strict=True)
    }
    for number, state in enumerate((both, head)):
        parting = write_adapter(tmp_path / str(number), state, adapter_config())
        with pytest.raises(InputError, match="tie_word_embeddings"):
            merge(base, parting)


def _companion(adapter: Path, name: str, state: Weights) -> Path:
    torch.save(state, adapter / name) if name.endswith(".bin") else save_file(state, adapter / name)
    return adapter


@pytest.mark.parametrize(
    "name",
    ["trainable_params.bin", "trainable_params.safetensors", "non_lora_trainables.bin", "non_lora_state_dict.bin"],
)
@pytest.mark.parametrize("prefix", ["", "base_model.model."])
def test_trained_weights_beside_an_adapter_are_merged_with_it(
    tmp_path: Path, base: Path, merge: Merge, name: str, prefix: str
) -> None:
    adapter = write_adapter(tmp_path / "lora", low_rank_weights(2), adapter_config())
    _, without = merge(base, adapter)
    norm, up = "model.norm.weight", "model.layers.0.mlp.up_proj.weight"
    trained = {norm: torch.full((16,), 1.5), up: model_weights(5)[up].float()}
    _companion(adapter, name, {prefix + key: tensor for key, tensor in trained.items()})
    got, folder = merge(base, adapter)
    want = model_weights(1) | {key: tensor.half() for key, tensor in trained.items()}
    _assert_within_one_ulp(
        got, merged_by_peft(want, [write_adapter(tmp_path / "same", low_rank_weights(2), adapter_config())])
    )
    assert folder != without
    assert json.loads((folder / "vicuna-manifest.json").read_text())["recipe"]["addition"] == "companions"


@pytest.mark.parametrize("name", ["new_embeddings.safetensors", "value_head.bin", "embeddings.pt", "mm_projector.bin"])
def test_weights_beside_an_adapter_that_cannot_be_placed_are_named(
    tmp_path: Path, base: Path, merge: Merge, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    adapter = write_adapter(tmp_path / "lora", low_rank_weights(2), adapter_config())
    _companion(adapter, name, {"input_embeddings": torch.ones(4, 16)})
    with pytest.raises(InputError, match=f"holds {name} beside the adapter's weights") as caught:
        merge(base, adapter)
    assert caught.value.reason == "UnsupportedAdapter"
    assert main(["inspect", str(adapter)]) == 65
    assert name in capsys.readouterr().out


def test_what_lies_beside_an_adapter_and_is_not_a_part_of_it(tmp_path: Path, base: Path, merge: Merge) -> None:
    adapter = write_adapter(tmp_path / "lora", low_rank_weights(2), adapter_config())
    _, without = merge(base, adapter)
    for name in (
        "optimizer.pt",
        "scheduler.pt",
        "rng_state_0.pth",
        "training_args.bin",
        "scaler.pt",
        "model.safetensors",
    ):
        (adapter / name).write_bytes(b"x")
    assert merge(base, adapter)[1] == without
    assert [reason for reason, _ in open_adapter(adapter).warnings] == ["AdapterFilesIgnored"]


def test_a_tensor_in_the_adapter_and_beside_it_with_other_values_is_named(
    tmp_path: Path, base: Path, merge: Merge
) -> None:
    saved = {"model.norm.weight": torch.ones(16)}
    adapter = write_adapter(tmp_path / "lora", low_rank_weights(2) | saved, adapter_config(modules_to_save=["norm"]))
    _companion(adapter, "trainable_params.bin", saved)
    merge(base, adapter)
    _companion(adapter, "trainable_params.bin", {"model.norm.weight": torch.zeros(16)})
    with pytest.raises(InputError, match="with other values") as caught:
        merge(base, adapter)
    assert caught.value.reason == "DuplicateTensor"


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "base_model.model.", "model."])
def test_a_wrappers_prefix_is_named_and_what_takes_it_away(
    tmp_path: Path, base: Path, merge: Merge, prefix: str
) -> None:
    weights = {prefix + name: tensor for name, tensor in low_rank_weights(2).items()}
    with pytest.raises(InputError, match=f"names begin with '{prefix}'") as caught:
        merge(base, write_adapter(tmp_path / "lora", weights, adapter_config()))
    assert "give the base" not in caught.value.message


def test_every_problem_of_every_source_is_listed_at_once(tmp_path: Path, merge: Merge) -> None:
    broken = write_checkpoint(tmp_path / "base", model_weights(1), tokenizer=False)
    one = write_adapter(tmp_path / "1", low_rank_weights(2), adapter_config(use_dora=True))
    two = write_adapter(tmp_path / "2", {"model.norm.weight": torch.ones(8)}, adapter_config())
    with pytest.raises(InputError) as caught:
        merge(broken, one, two)
    assert [word in caught.value.message for word in ("use_dora", "norm.weight", "TokenizerBroken")] == [True] * 3


def test_without_a_tokenizer_the_base_needs_none_where_an_adapter_has_one(tmp_path: Path, merge: Merge) -> None:
    bare = write_checkpoint(tmp_path / "base", model_weights(1), tokenizer=False)
    adapter = write_adapter(tmp_path / "lora", low_rank_weights(2), adapter_config())
    tokenizer_into(adapter)
    _, folder = merge(bare, adapter)
    assert (folder / "tokenizer.json").read_bytes() == (adapter / "tokenizer.json").read_bytes()


def test_flags_pair_each_digest_with_the_adapter_before_it(
    tmp_path: Path, base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    adapters = [
        write_adapter(tmp_path / name, low_rank_weights(seed), adapter_config()) for seed, name in enumerate("ab")
    ]
    assert main(["inspect", "--json", "--digest", str(adapters[1])]) == 0
    digest = json.loads(capsys.readouterr().out)["sources"][0]["digest"]
    words = ["merge", "--base", str(base), "--output", str(tmp_path / "out"), "--chat-template", "alpaca"]
    words += ["--adapter", str(adapters[0]), "--adapter", str(adapters[1]), "--adapter-digest"]
    assert main([*words, digest]) == 0
    assert main([*words, "0" * 64]) == 65
    assert "DigestMismatch" in capsys.readouterr().err
    for wrong in (["--adapter-digest", digest, *words[1:-1]], [*words[1:], digest, "--adapter-digest", digest]):
        with pytest.raises(SystemExit) as caught:
            main(["merge", *wrong])
        assert caught.value.code == 64


def test_the_operators_command_is_read_as_it_is_meant() -> None:
    adapters = [
        {"source": "pvc://loras/one", "digest": "a" * 64},
        {"source": "hf://me/two", "revision": "f" * 40},
        {"source": "pvc://loras/three", "digest": "b" * 64},
    ]
    spec = {"weights": {"base": {"source": "pvc://inputs/base"}, "adapters": adapters}, "storage": {"size": "40Gi"}}
    model = parse_model({"metadata": {"name": "demo", "namespace": "ns", "uid": "u"}, "spec": spec})
    assert model.spec_error is None
    job = merge_job(model, attempt=0, series="", image="", pull_policy="Never", shared_volume=True, capacity="")
    (container,) = job["spec"]["template"]["spec"]["containers"]
    parser = argparse.ArgumentParser()
    cli.add_arguments(parser)
    words = container["args"]
    assert parser.parse_args(words[words.index("merge") + 1 :]).adapters == (
        ("file:///sources/adapter-0/one", "a" * 64),
        ("hf://me/two@" + "f" * 40, None),
        ("file:///sources/adapter-2/three", "b" * 64),
    )


def test_the_artifact_depends_on_the_adapters_and_their_order(tmp_path: Path, base: Path, merge: Merge) -> None:
    adapters = [
        write_adapter(tmp_path / name, low_rank_weights(seed), adapter_config()) for seed, name in enumerate("ab")
    ]
    folders = [merge(base, *chosen)[1] for chosen in ([], adapters[:1], adapters, adapters[::-1], adapters)]
    assert len(set(folders)) == 4
    assert folders[2] == folders[4]


def test_inspect_says_what_an_adapter_is(tmp_path: Path, base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = low_rank_weights(2, q_proj=2) | _vocabulary(7, VOCABULARY)
    fields = {"rank_pattern": {"q_proj": 2}, "use_rslora": True}
    adapter = write_adapter(tmp_path / "lora", weights, adapter_config(**fields))
    assert main(["inspect", "--json", str(adapter)]) == 0
    (source,) = json.loads(capsys.readouterr().out)["sources"]
    assert (source["type"], source["layout"], source["tensors"]) == ("adapter", "safetensors", len(weights))
    assert source["adapter"] == {
        "rank": 4, "ranks": [2, 4], "alpha": 8, "rslora": True, "base": "somebody/llama",
        "targets": ["down_proj", "q_proj", "up_proj", "v_proj"], "changed": 8, "replaced": [HEAD, EMBEDDING],
    }  # fmt: skip
    assert main(["inspect", str(adapter)]) == 0
    text = capsys.readouterr().out
    assert all(word in text for word in ("rank 2/4", "somebody/llama", "8 matrices", EMBEDDING))
    assert main(["inspect", str(base), "--adapter", str(adapter), "--chat-template", "alpaca"]) == 0
    assert main(["inspect", str(base), str(adapter), "--chat-template", "alpaca"]) == 65
    assert "IsAnAdapter" in capsys.readouterr().out
