"""A model is compared with its config: what is missing, misshapen, empty or another model's is named with its cure."""

from collections.abc import Callable
from typing import Any

import pytest

from vicuna_server.merge.preflight.architectures import Shape, skeleton_of
from vicuna_server.merge.preflight.whole import check_model
from vicuna_server.problems import Problems

Tensors = dict[str, tuple[str, Shape]]

LLAMA: dict[str, Any] = {
    "model_type": "llama", "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4,
    "vocab_size": 40,
}  # fmt: skip
TIED = LLAMA | {"tie_word_embeddings": True}
GPT2 = {"model_type": "gpt2", "n_embd": 32, "n_layer": 2, "n_head": 4, "vocab_size": 40, "n_positions": 64}
EMBEDDING, NORM, HEAD = "model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"
GATE, QUERY = "model.layers.1.mlp.gate_proj.weight", "model.layers.1.self_attn.q_proj.weight"


def tensors(config: dict[str, Any], dtype: str = "F16") -> Tensors:
    """All that a config promises; a tied head is left out."""
    skeleton = skeleton_of(config)
    assert skeleton is not None
    found = {}
    for name in skeleton.missing([]):
        shape = skeleton.shape(name)
        assert shape is not None
        found[name] = (dtype, shape)
    return found


def judged(config: dict[str, Any], found: Tensors) -> tuple[list[tuple[str, str]], list[str]]:
    problems = Problems()
    ignored = check_model("base", config, found, problems)
    return problems.found, ignored


@pytest.mark.parametrize("config", [LLAMA, TIED, GPT2])
def test_a_whole_model_passes(config: dict[str, Any]) -> None:
    assert judged(config, tensors(config)) == ([], [])


def test_an_equal_name_for_the_tied_head_passes() -> None:
    assert judged(TIED, tensors(LLAMA)) == ([], [])


def test_the_tied_embedding_may_be_there_under_the_heads_name_alone() -> None:
    """As safetensors' save_model leaves it; transformers ties the two the other way round."""
    found = {name: value for name, value in tensors(LLAMA).items() if name != EMBEDDING}
    assert judged(TIED, found) == ([], [])
    assert [reason for reason, _ in judged(LLAMA, found)[0]] == ["TensorMissing"]
    assert [reason for reason, _ in judged(TIED, _without(HEAD)(found))[0]] == ["TensorMissing"]


@pytest.mark.parametrize("config", [TIED, GPT2])
def test_names_as_automodel_saves_them_pass_where_nothing_is_missing(config: dict[str, Any]) -> None:
    bare = {name.partition(".")[2]: value for name, value in tensors(config).items()}
    assert judged(config, bare) == ([], [])


def test_the_rows_of_the_embedding_are_the_vocabulary() -> None:
    rows = {EMBEDDING: ("F16", (41, 32)), HEAD: ("F16", (41, 32))}
    assert judged(LLAMA, tensors(LLAMA) | rows) == ([], [])


def _without(*gone: str) -> Callable[[Tensors], Tensors]:
    return lambda found: {name: value for name, value in found.items() if not name.startswith(gone)}


def _with(dtype: str = "F16", **shapes: Shape) -> Callable[[Tensors], Tensors]:
    named = {"gate": GATE, "query": QUERY, "embedding": EMBEDDING, "head": HEAD, "norm": NORM}
    return lambda found: found | {named[key]: (dtype, shape) for key, shape in shapes.items()}


def _extra(*names: str, dtype: str = "F16", shape: Shape = (32,)) -> Callable[[Tensors], Tensors]:
    return lambda found: found | dict.fromkeys(names, (dtype, shape))


def _renamed(rename: Callable[[str], str]) -> Callable[[Tensors], Tensors]:
    return lambda found: {rename(name): value for name, value in found.items()}


def _layers(value: tuple[str, Shape]) -> Callable[[Tensors], Tensors]:
    return lambda found: {name: value if "layers" in name else one for name, one in found.items()}


def _reward(found: Tensors) -> Tensors:
    return _without(HEAD)(found) | {"score.weight": ("F16", (1, 32))}


@pytest.mark.parametrize(
    ("change", "reason", "says"),
    [
        (_without(HEAD), "TensorMissing", "base lacks lm_head.weight, and its config.json does not tie the head"),
        (_without(NORM), "TensorMissing", "base lacks model.norm.weight, which its config.json promises"),
        (_without(GATE), "TensorMissing", f"base lacks {GATE}, which its config.json promises"),
        (_without("model.layers.1."), "TensorMissing", "base lacks layer 1 of the 3 its config.json names"),
        (_without("model.layers.2."), "TensorMissing", "base lacks layer 2 of the 3 its config.json names"),
        (_without("model.layers."), "TensorMissing", "base lacks layer 0 of the 3"),
        (_without(EMBEDDING, HEAD), "TensorMissing", "base lacks model.embed_tokens.weight, lm_head.weight, which"),
        (_with(gate=(47, 32)), "ShapeMismatch", f"{GATE} is [47, 32] where its config.json wants [48, 32]"),
        (_with(gate=(1536,)), "ShapeMismatch", f"{GATE} is [1536] where its config.json wants [48, 32]"),
        (_with(norm=(32, 1)), "ShapeMismatch", f"{NORM} is [32, 1] where its config.json wants [32]"),
        (_with(embedding=(40, 31)), "ShapeMismatch", f"{EMBEDDING} is [40, 31] where its config.json wants [40, 32]"),
        (_with(head=(41, 32)), "VocabularyMismatch", "lm_head.weight has 41 rows and model.embed_tokens.weight 40"),
        (
            _with(embedding=(41, 32)),
            "VocabularyMismatch",
            "lm_head.weight has 40 rows and model.embed_tokens.weight 41",
        ),
        (_with(gate=(0,)), "EmptyTensors", f"1 of 30 tensors have no content, such as {GATE} of shape [0]"),
        (_with(norm=(1,)), "EmptyTensors", "run the zero_to_fp32.py"),
        (_with(gate=(0, 32)), "EmptyTensors", "of shape [0, 32]"),
        (_layers(("F16", (1,))), "EmptyTensors", "27 of 30 tensors have no content"),
        (_with("I8", gate=(48, 32)), "UnsupportedDtype", f"base holds {GATE} as I8 (the first is [48, 32]), quantised"),
        (_with("U8", gate=(48, 16)), "UnsupportedDtype", f"base holds {GATE} as U8 (the first is [48, 16])"),
        (_with("F8_E4M3", query=(32, 32)), "UnsupportedDtype", f"base holds {QUERY} as F8_E4M3"),
        (_extra(f"{QUERY[:-7]}.bias"), "UnexpectedTensors", "base holds model.layers.1.self_attn.q_proj.bias, which"),
        (_extra("model.layers.0.self_attn.q_norm.weight"), "UnexpectedTensors", "self_attn.q_norm.weight"),
        (_extra("model.layers.3.input_layernorm.weight"), "UnexpectedTensors", "model.layers.3.input_layernorm"),
        (_extra("lm_head.bias"), "UnexpectedTensors", "lm_head.bias"),
        (_renamed(lambda name: f"module.{name}"), "NotAPlainModel", "names 30 tensors with module. in front"),
        (_renamed(lambda name: f"module.{name}"), "NotAPlainModel", "model.module"),
        (_renamed(lambda name: f"_orig_mod.{name}"), "NotAPlainModel", "torch.compile"),
        (_renamed(lambda name: f"module._orig_mod.{name}"), "NotAPlainModel", "module."),
        (_renamed(lambda name: f"base_model.model.{name}"), "NotAPlainModel", "merge_and_unload()"),
        (_renamed(lambda name: f"model.{name}"), "NotAPlainModel", "model. is there twice"),
        (_renamed(lambda name: f"language_model.{name}"), "NotAPlainModel", "save the language model alone"),
        (
            _renamed(lambda name: name.replace("layers.1.", "layers.1._fsdp_wrapped_module.")),
            *("NotAPlainModel", "FULL_STATE_DICT"),
        ),
        (_renamed(lambda name: name.replace("q_proj.", "q_proj.base_layer.")), "NotAPlainModel", "PEFT still wraps"),
        (_extra("model.layers.0.self_attn.q_proj.lora_A.default.weight"), "NotAPlainModel", "merge_and_unload()"),
        (_extra("model.layers.0._flat_param"), "NotAPlainModel", "flattened parameters of FSDP"),
        (_reward, "NotAPlainModel", "reward model or classifier: it has score.weight and not lm_head.weight"),
        (
            lambda found: {name.removeprefix("model."): value for name, value in _without(HEAD)(found).items()},
            *("NotAPlainModel", "was saved from AutoModel: its names lack model. and it has no lm_head.weight"),
        ),
    ],
)
def test_what_is_wrong_is_named_alone_with_its_cure(
    change: Callable[[Tensors], Tensors], reason: str, says: str
) -> None:
    found, _ = judged(LLAMA, change(tensors(LLAMA)))
    assert [one for one, _ in found] == [reason]
    assert says in found[0][1]


@pytest.mark.parametrize(
    ("name", "dtype", "shape"),
    [
        ("v_head.summary.weight", "F32", (1, 32)),
        ("score.weight", "F16", (1, 32)),
        ("mtp.layers.0.weight", "BF16", (32, 32)),
        ("model.layers.0.self_attn.mask", "BOOL", (8, 8)),
        ("model.position_ids", "I64", (1, 64)),
        ("model.scale", "F32", ()),
    ],
)
def test_what_no_part_of_the_model_reads_may_be_left_out(name: str, dtype: str, shape: Shape) -> None:
    assert judged(LLAMA, tensors(LLAMA) | {name: (dtype, shape)}) == ([], [name])


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("vocab_size", float("inf")), ("hidden_size", -1), ("hidden_size", 0), ("hidden_size", 32.0),
        ("hidden_size", True), ("hidden_size", None), ("hidden_size", "32"), ("hidden_size", 10**400),
        ("num_hidden_layers", [3]), ("intermediate_size", {}), ("num_attention_heads", 2**41), ("head_dim", -8),
        ("num_key_value_heads", 3), ("num_attention_heads", 5), ("attention_bias", "yes"), ("mlp_bias", 1),
        ("tie_word_embeddings", "false"),
    ],
)  # fmt: skip
def test_fields_that_are_not_what_they_must_be_are_named(field: str, value: Any) -> None:
    config = LLAMA | {field: value}
    found, _ = judged(config, {NORM: ("F16", (32,))})
    assert [reason for reason, _ in found] == ["ConfigBroken"]
    assert found[0][1].startswith("base/config.json says ")
    assert field in found[0][1]
    assert len(found[0][1]) < 200


@pytest.mark.parametrize("value", [None, 3, ["llama"], {}])
def test_a_config_without_an_architecture_is_refused(value: Any) -> None:
    found, _ = judged(LLAMA | {"model_type": value}, tensors(LLAMA))
    assert [reason for reason, _ in found] == ["ConfigBroken"]
    assert "base/config.json says model_type is" in found[0][1]


@pytest.mark.parametrize("field", ["num_hidden_layers", "hidden_size", "intermediate_size", "vocab_size"])
def test_a_config_of_any_size_costs_nothing(field: str) -> None:
    found, _ = judged(LLAMA | {field: 2**40}, _without(EMBEDDING)(tensors(LLAMA)))
    assert found


def test_a_name_of_any_length_is_cut() -> None:
    found, _ = judged(LLAMA, tensors(LLAMA) | {f"model.layers.{'9' * 5000}.x": ("F16", (4,))})
    assert len(found[0][1]) < 500
