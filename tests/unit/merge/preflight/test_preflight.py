"""What configs, headers and a few of the numbers say about base and delta."""

import re
import struct
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from support.amount import first
from support.memory_checkpoints import ZeroFile, memory_checkpoint
from vicuna_server.merge.planning.pairing import pair_tensors
from vicuna_server.merge.preflight import whole
from vicuna_server.merge.preflight.configs import check_pair, check_unquantised, unquantised
from vicuna_server.merge.preflight.contents import check_alone, check_contents, merged_beta
from vicuna_server.merge.preflight.kinds import resolve_kind
from vicuna_server.merge.preflight.sources import check_sources
from vicuna_server.merge.preflight.values import SampledPair, decode, read_vectors, sample_pairs
from vicuna_server.merge.preflight.whole import check_whole
from vicuna_server.problems import Problems
from vicuna_server.weights.checkpoint import Checkpoint
from vicuna_server.weights.tensors import Tensor, TensorSource

Arrays = dict[str, NDArray[Any]]
NORM = "model.norm.weight"


@pytest.fixture(autouse=True, scope="module")
def no_process() -> Iterator[None]:
    """Of an architecture that no table has nothing is known here: asking transformers is for component tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(whole, "compare_built", lambda *_: None)
        yield


def _reasons(problems: Problems) -> list[str]:
    return [reason for reason, _ in problems.found]


def _matrices(seed: int, size: float, rows: int = 96, columns: int = 64, dtype: str = "<f2") -> Arrays:
    random = np.random.default_rng(seed)
    names = [f"model.layers.{number}.mlp.up_proj.weight" for number in range(12)]
    return {name: (random.standard_normal((rows, columns)) * size).astype(dtype) for name in names}


def _model(seed: int = 1, **matrices: Any) -> Arrays:
    return _matrices(seed, 1.0, **matrices) | {NORM: np.full(64, 1.2, "<f2")}


def _delta(seed: int = 2, size: float = 0.1) -> Arrays:
    return _matrices(seed, size) | {NORM: np.full(64, 0.01, "<f2")}


def _sum(left: Arrays, right: Arrays) -> Arrays:
    return {name: left[name] + right[name] for name in left}


@pytest.mark.parametrize(
    ("dtype", "data", "want"),
    [
        ("F64", struct.pack("<2d", 1.5, -2.0), [1.5, -2.0]),
        ("F32", struct.pack("<2f", 1.5, -2.0), [1.5, -2.0]),
        ("F16", struct.pack("<2e", 1.5, -2.0), [1.5, -2.0]),
        ("BF16", bytes([0xC0, 0x3F, 0x00, 0xC0]), [1.5, -2.0]),
        ("BF16", bytes([0x80, 0x7F, 0xC0, 0x7F]), [float("inf"), float("nan")]),
    ],
)
def test_elements_of_every_float_type_are_decoded(dtype: str, data: bytes, want: list[float]) -> None:
    np.testing.assert_array_equal(decode(data, dtype), want)


def test_the_same_rows_of_both_are_sampled_from_matrices_spread_over_the_model() -> None:
    ours = {f"m{number}": np.full((200, 4), number, "<f4") for number in range(15)}
    ours["m7"] = np.arange(800, dtype="<f4").reshape(200, 4)
    theirs = {name: array.astype("<f2") for name, array in ours.items()} | {"m0": np.zeros((300, 4), "<f2")}
    pairs = list(sample_pairs(memory_checkpoint("a", ours), memory_checkpoint("b", theirs)))
    assert [pair.name for pair in pairs] == ["m0", "m2", "m4", "m6", "m8", "m10", "m12", "m14"]
    assert {pair.base.shape for pair in pairs} == {pair.delta.shape for pair in pairs} == {(64, 4)}
    only = list(sample_pairs(memory_checkpoint("a", {"m7": ours["m7"]}), memory_checkpoint("b", {"m7": theirs["m7"]})))
    np.testing.assert_array_equal(only[0].base, ours["m7"][68:132])
    np.testing.assert_array_equal(only[0].delta, only[0].base)


def test_preflight_of_the_widest_models_reads_64_mib_at_most() -> None:
    """A pair of 70B shape in float32."""
    files = []

    def checkpoint(name: str) -> Checkpoint:
        tensors: dict[str, TensorSource] = {}
        for layer in range(80):
            prefix = f"model.layers.{layer}."
            shapes: dict[str, tuple[int, ...]] = {f"{prefix}mlp.down_proj.weight": (8192, 28672)}
            shapes |= {f"{prefix}self_attn.q_proj.weight": (8192, 8192)}
            shapes |= {f"{prefix}{norm}.weight": (8192,) for norm in ("input_layernorm", "post_attention_layernorm")}
            for key, shape in shapes.items():
                files.append(ZeroFile(key, int(np.prod(shape)) * 4))
                tensors[key] = Tensor(key, "F32", shape, files[-1], 0)
        return Checkpoint(Path(name), {}, tensors, list(files), [])

    check_sources(checkpoint("base"), checkpoint("delta"), "auto", Problems())
    assert 2**24 < sum(sum(file.reads) for file in files) <= 2**26


def test_base_and_delta_that_are_what_they_should_be_pass() -> None:
    problems = Problems()
    check_contents(memory_checkpoint("base", _model()), memory_checkpoint("delta", _delta()), problems)
    assert not problems


@pytest.mark.parametrize(
    ("base", "delta", "reason", "says"),
    [
        (_model(), _model(), "SameCheckpoint", "base and delta hold the same weights"),
        (_delta(), _delta(), "SameCheckpoint", "base and delta hold the same weights"),
        (_delta(1), _delta(2), "NotABase", "base looks like a delta (its final norm averages 0.010"),
        (_delta(1), _model(2), "NotABase", "are the two swapped?"),
        (_model(1), _model(2), "NotADelta", "delta looks like a whole model (its final norm averages 1.200"),
        (_model(1), _sum(_model(1), _delta(2)), "NotADelta", "delta looks like a whole model"),
        (_sum(_model(1), _delta(2)), _delta(2), "AlreadyMerged", "base already contains this delta"),
    ],
)
def test_what_the_numbers_give_away(base: Arrays, delta: Arrays, reason: str, says: str) -> None:
    problems = Problems()
    check_contents(memory_checkpoint("base", base), memory_checkpoint("delta", delta), problems)
    assert _reasons(problems) == [reason]
    assert says in problems.found[0][1]


def test_values_that_are_not_numbers_are_counted_and_named() -> None:
    norm = np.array([1.0, np.nan, np.inf, 1.0], "<f2")
    problems = Problems()
    check_alone(memory_checkpoint("base", {NORM: norm, "bias": np.zeros(4, "<f4")}), problems)
    assert problems.found == [
        ("NonFinite", "base has values that are infinite or not a number in model.norm.weight (2 of 4); fetch it again")
    ]


@pytest.mark.parametrize("model_type", ["gemma", "gemma2"])
def test_norms_around_zero_say_nothing_where_one_is_added_to_them(model_type: str) -> None:
    problems = Problems()
    check_alone(memory_checkpoint("base", _delta(), model_type=model_type), problems)
    assert not problems


def _pairs(base: Arrays, delta: Arrays) -> list[SampledPair]:
    return list(sample_pairs(memory_checkpoint("base", base), memory_checkpoint("delta", delta)))


@pytest.mark.parametrize("size", [0.02, 0.05, 0.3, 1.0])
@pytest.mark.parametrize("seed", first(range(5), 2))
def test_a_merged_base_is_told_from_a_raw_one(size: float, seed: int) -> None:
    base, delta = _matrices(seed, 1.0), _matrices(seed + 100, size)
    assert merged_beta(_pairs(base, delta)) is None
    if size > 0.02:
        found = merged_beta(_pairs(_sum(base, delta), delta))
        assert found is not None
        assert abs(found - 1) < 8 / (size * np.sqrt(8 * 64 * 64))


@pytest.mark.parametrize("stretch", [-0.05, -0.01, 0.05, 0.2])
def test_fine_tuning_that_stretches_or_shrinks_weights_is_not_a_merge(stretch: float) -> None:
    base, noise = _matrices(1, 1.0), _matrices(2, 0.1)
    delta = {name: (stretch * base[name] + noise[name]).astype("<f2") for name in base}
    assert merged_beta(_pairs(base, delta)) is None


def test_one_matrix_alone_convicts_nobody() -> None:
    """A tiny model may hold a matrix that equals the delta's by accident; the others speak for themselves."""
    base, delta = _matrices(1, 0.1), _matrices(2, 0.1)
    loud = "model.layers.0.mlp.up_proj.weight"
    base[loud] = delta[loud] = delta[loud] * 10
    assert merged_beta(_pairs(base, delta)) is None


def test_an_all_zero_delta_is_not_a_merge() -> None:
    base = _matrices(1, 1.0)
    assert merged_beta(_pairs(base, {name: array * 0 for name, array in base.items()})) is None
    assert merged_beta([]) is None


LLAMA = {"model_type": "llama", "hidden_size": 64, "num_attention_heads": 4, "num_hidden_layers": 2}


@pytest.mark.parametrize(
    ("ours", "theirs", "says"),
    [
        ({"model_type": "gpt_neox"}, {}, "differ in architecture: model_type is gpt_neox against llama"),
        ({"hidden_size": 128}, {}, "differ in size: hidden_size is 128 against 64"),
        ({"num_hidden_layers": 4}, {}, "differ in size: num_hidden_layers is 4 against 2"),
        ({"num_key_value_heads": 2}, {}, "differ in size: num_key_value_heads is 2 against 4"),
        ({"rms_norm_eps": 1e-5}, {}, "differ in the computation: rms_norm_eps is 1e-05 against 1e-06"),
        ({}, {"rope_theta": 500000.0}, "rope_theta is 10000.0 against 500000.0"),
        ({}, {"rope_scaling": {"type": "linear", "factor": 4.0}}, "rope_scaling is default against"),
        ({"hidden_act": "gelu"}, {}, "hidden_act is gelu against silu"),
        ({"tie_word_embeddings": True}, {}, "tie_word_embeddings is True against False"),
        ({}, {"rope_parameters": {"rope_theta": 5.0, "rope_type": "default"}}, "rope_theta is 10000.0 against 5.0"),
    ],
)
def test_configs_that_do_not_go_together(ours: dict[str, Any], theirs: dict[str, Any], says: str) -> None:
    problems = Problems()
    base, delta = (memory_checkpoint(name, {}, **LLAMA | more) for name, more in (("base", ours), ("delta", theirs)))
    check_pair(base, delta, problems)
    assert "ConfigMismatch" in _reasons(problems)
    assert any(says in message for _, message in problems.found)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (
            {"rope_theta": 10000.0, "hidden_act": "silu"},
            {"rope_parameters": {"rope_theta": 10000, "rope_type": "default"}},
        ),
        ({"rope_scaling": {"rope_type": "linear", "factor": 2}}, {"rope_scaling": {"type": "linear", "factor": 2.0}}),
        ({"num_key_value_heads": 4, "head_dim": 16, "rms_norm_eps": 1e-6}, {"rope_scaling": None}),
        ({"vocab_size": 32000, "torch_dtype": "float16"}, {"vocab_size": 32001, "dtype": "float32"}),
    ],
)
def test_configs_that_mean_the_same_pass(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    problems = Problems()
    check_pair(
        memory_checkpoint("base", {}, **LLAMA | ours), memory_checkpoint("delta", {}, **LLAMA | theirs), problems
    )
    assert not problems
    assert not problems.warnings


def test_another_context_length_is_only_a_warning() -> None:
    problems = Problems()
    check_pair(
        memory_checkpoint("base", {}, max_position_embeddings=2048),
        memory_checkpoint("delta", {}, max_position_embeddings=4096),
        problems,
    )
    assert not problems
    assert [reason for reason, _ in problems.warnings] == ["ConfigDiffers"]


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
_KEYS = st.sampled_from(
    (
        *("model_type", "num_hidden_layers", "num_attention_heads", "hidden_size", "head_dim", "rope_scaling"),
        *("rope_theta", "rope_parameters", "quantization_config", "rms_norm_eps", "tie_word_embeddings"),
        "max_position_embeddings",
    )
)
_CONFIGS = st.dictionaries(_KEYS, _JSON)


@pytest.mark.long
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(_CONFIGS, _CONFIGS)
def test_no_config_whatever_it_says_breaks_the_judges(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    arrays = {"model.layers.0.x.weight": np.ones((4, 4), "<f2"), f"model.layers.{'9' * 5000}.x": np.ones(4, "<f2")}
    problems = Problems()
    base = memory_checkpoint("base", arrays, **ours)
    check_pair(base, memory_checkpoint("delta", {}, **theirs), problems)
    check_unquantised(base, problems)
    check_whole(base, problems)
    assert all(len(message) < 1000 for _, message in problems.found)


def test_a_layer_that_no_file_holds_is_named() -> None:
    problems = Problems()
    arrays = {f"model.layers.{number}.x.weight": np.ones(4, "<f2") for number in (0, 2)}
    check_whole(memory_checkpoint("base", arrays, num_hidden_layers=10**12), problems)
    assert problems.found[0][1].startswith("base lacks layer 1 of the 1000000000000")


@pytest.mark.parametrize(
    ("config", "tensor", "says"),
    [
        ({"quantization_config": {"quant_method": "gptq", "bits": 4}}, "a.qzeros", "base is quantised (gptq)"),
        ({"quantization_config": {"load_in_4bit": True}}, "a.weight.absmax", "its config.json has quantization_config"),
        ({}, "model.layers.0.self_attn.q_proj.qweight", "it holds model.layers.0.self_attn.q_proj.qweight"),
        ({"quantization_config": {}}, "model.layers.0.self_attn.q_proj.weight_scale", "it holds model.layers.0"),
    ],
)
def test_quantised_weights_are_refused(config: dict[str, Any], tensor: str, says: str) -> None:
    problems = Problems()
    check_unquantised(memory_checkpoint("base", {tensor: np.ones(4, "<f2")}, **config), problems)
    assert _reasons(problems) == ["QuantizedSource"]
    assert says in problems.found[0][1]


@pytest.mark.parametrize("dtype", ["U8", "I8", "I32", "F8_E4M3"])
def test_a_quantisation_config_beside_matrices_that_are_not_floats_is_believed(dtype: str) -> None:
    tensor = Tensor("a.weight", dtype, (4, 4), ZeroFile("a", 64), 0)
    problems = Problems()
    check_unquantised(
        Checkpoint(Path("base"), {"quantization_config": {"bits": 4}}, {"a.weight": tensor}, [], []), problems
    )
    assert _reasons(problems) == ["QuantizedSource"]
    assert "it holds a.weight" in problems.found[0][1]


@pytest.mark.parametrize("field", ["quantization_config", "quantization", "compression_config"])
def test_a_quantisation_config_left_over_on_plain_floats_is_a_warning(field: str) -> None:
    config = {field: {"quant_method": "bitsandbytes", "load_in_4bit": True}}
    problems = Problems()
    check_unquantised(memory_checkpoint("base", _model(), **config), problems)
    assert not problems
    assert [reason for reason, _ in problems.warnings] == ["QuantizationIgnored"]
    assert unquantised({"model_type": "llama", **config}) == {"model_type": "llama"}


_EMBEDDING, _HEAD = "model.embed_tokens.weight", "lm_head.weight"


@pytest.mark.parametrize("kind", ["auto", "additive-v0", "alpaca", "additive-v1.1"])
@pytest.mark.parametrize("longer", [_EMBEDDING, _HEAD])
@pytest.mark.parametrize("order", [(_EMBEDDING, _HEAD), (_HEAD, _EMBEDDING)])
def test_an_embedding_and_a_head_of_different_lengths_are_named(kind: str, longer: str, order: tuple[str, str]) -> None:
    base = memory_checkpoint("base", _model() | {name: np.ones((64, 8), "<f2") for name in order})
    rows = {name: 65 if name == longer else 64 for name in order}
    delta = memory_checkpoint("delta", _delta() | {name: np.ones((rows[name], 8), "<f2") for name in order})
    problems = Problems()
    resolve_kind(kind, base, delta, problems)
    assert "VocabularyMismatch" in _reasons(problems)
    assert f"{longer} of 65 rows where the base has 64" in problems.found[0][1]


_SHAPES = st.lists(st.integers(0, 3), max_size=3).map(tuple)


@given(st.tuples(_SHAPES, _SHAPES), st.tuples(_SHAPES, _SHAPES), st.sampled_from(("auto", "additive-v0", "alpaca")))
def test_no_shape_of_embedding_and_head_breaks_the_judges(
    ours: tuple[tuple[int, ...], ...], theirs: tuple[tuple[int, ...], ...], kind: str
) -> None:
    sides = [
        dict(zip((_EMBEDDING, _HEAD), (np.ones(one, "<f2") for one in shapes), strict=True))
        for shapes in (ours, theirs)
    ]
    base, delta = memory_checkpoint("base", sides[0]), memory_checkpoint("delta", sides[1])
    problems = Problems()
    resolved = resolve_kind(kind, base, delta, problems)
    check_sources(base, delta, kind, problems)
    list(pair_tensors(base, delta, resolved, "F16", problems))


@pytest.mark.long
def test_the_families_whose_norms_multiply_by_one_plus_weight_are_those_of_transformers() -> None:
    found = find_spec("transformers")
    assert found is not None
    assert found.origin is not None
    centred = set()
    for path in sorted((Path(found.origin).parent / "models").glob("*/modeling_*.py")):
        if re.search(r"1(\.0)?\s*\+\s*self\.weight|self\.weight\s*\+\s*1", path.read_text(encoding="utf-8")):
            config = (path.parent / path.name.replace("modeling", "configuration")).read_text(encoding="utf-8")
            centred |= set(re.findall(r'^    model_type = "(.+)"', config, re.MULTILINE))
    assert {"gemma", "nemotron", "qwen3_next"} <= centred
    for model_type in centred:
        problems = Problems()
        check_alone(memory_checkpoint("base", _delta(), model_type=model_type), problems)
        assert not problems, model_type


def test_a_stated_kind_that_the_rows_contradict() -> None:
    embedding = "model.embed_tokens.weight"
    base = memory_checkpoint("base", _model() | {embedding: np.ones((64, 8), "<f2")})
    delta = memory_checkpoint("delta", _delta() | {embedding: np.zeros((65, 8), "<f2")})
    for kind, want in (("additive-v1.1", ["KindMismatch"]), ("additive-v0", []), ("auto", [])):
        problems = Problems()
        check_sources(base, delta, kind, problems)
        assert _reasons(problems) == want, kind


def test_vectors_are_read_up_to_a_bound() -> None:
    arrays = {f"v{number}": np.ones(60_000, "<f4") for number in range(80)} | {"wide": np.ones(100_000, "<f4")}
    found = read_vectors(memory_checkpoint("base", arrays))
    assert 60 < len(found) < 80
    assert "wide" not in found
