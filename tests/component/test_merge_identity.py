"""Ids, positions, classes and tying in an artifact are those of its tokenizer and weights, also to transformers."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from support.checkpoints import VOCABULARY, delta_weights, model_weights, write_checkpoint, write_tokenizer
from support.llama3 import llama_3_tokenizer
from support.meta import converted, whole_weights, write_meta
from vicuna_server.cli import main

EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"
Merge = Callable[..., tuple[int, Path, dict[str, str], str]]


@pytest.fixture
def merge(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Merge:
    def run(*words: object) -> tuple[int, Path, dict[str, str], str]:
        code = main(["merge", *map(str, words), "--output", str(tmp_path / "out"), "--chat-template", "alpaca"])
        said = capsys.readouterr()
        events: list[dict[str, Any]] = [json.loads(line) for line in said.out.splitlines()]
        warnings = {event["reason"]: event["message"] for event in events if event["event"] == "warning"}
        return code, Path(events[-1].get("path", "nowhere") if events else "nowhere"), warnings, said.err

    return run


def _inspect(capsys: pytest.CaptureFixture[str], *words: object) -> dict[str, str]:
    main(["inspect", "--json", *map(str, words)])
    (source,) = json.loads(capsys.readouterr().out)["sources"]
    return {one["reason"]: one["message"] for one in source["warnings"]}


def _read(folder: Path, name: str = "config.json") -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / name).read_text())
    return content


BOS, END, TURN = VOCABULARY - 3, VOCABULARY - 2, VOCABULARY - 1


@pytest.mark.parametrize(
    ("stated", "eos", "ends"),
    [
        ({}, END, [END, TURN]),
        ({"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|eot_id|>"}, TURN, None),
    ],
)
def test_metas_llama_3_gets_its_own_tokenizers_ids(
    tmp_path: Path, merge: Merge, stated: dict[str, str], eos: int, ends: list[int] | None
) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    weights = whole_weights(torch.bfloat16)
    base = write_meta(tmp_path / "8B", weights, 1, rope_theta=500000.0)
    llama_3_tokenizer(base, **stated)
    code, folder, warnings, err = merge("--base", base, "--dtype", "bfloat16")
    assert (code, warnings) == (0, {}), err
    config = _read(folder)
    assert (config["bos_token_id"], config["eos_token_id"]) == (BOS, eos)
    assert config["max_position_embeddings"] == 8192
    generation: Any = AutoModelForCausalLM.from_pretrained(folder).generation_config
    assert (generation.bos_token_id, generation.eos_token_id) == (BOS, ends or eos)
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, len(tokenizer)) == (BOS, eos, VOCABULARY)
    found = load_file(folder / "model.safetensors")
    assert all(torch.equal(found[name], tensor) for name, tensor in converted(weights).items())


def test_ids_of_the_first_conversions_are_repaired(
    tmp_path: Path, merge: Merge, capsys: pytest.CaptureFixture[str]
) -> None:
    ids = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": -1}
    names = {"architectures": ["LLaMAForCausalLM"], "tokenizer_class": "LLaMATokenizer"}
    base = write_checkpoint(tmp_path / "base", model_weights(1), config={**ids, **names})
    (base / "generation_config.json").write_text(json.dumps({**ids, "max_length": 7}))
    told = _inspect(capsys, base)
    assert "eos_token_id 1 ('<s>')" in told["TokenIdsRepaired"] or "pad_token_id -1" in told["TokenIdsRepaired"]
    code, folder, warnings, _ = merge("--base", base)
    assert (code, list(warnings)) == (0, ["TokenIdsRepaired"])
    right = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": None}
    config = _read(folder)
    assert {key: config[key] for key in right} == right
    assert _read(folder, "generation_config.json") == {**right, "max_length": 7}
    assert config["architectures"] == ["LlamaForCausalLM"]
    assert config["tokenizer_class"] == _read(folder, "tokenizer_config.json")["tokenizer_class"]


def test_what_transformers_cannot_read_of_generation_config_is_left_out(
    tmp_path: Path, merge: Merge, capsys: pytest.CaptureFixture[str]
) -> None:
    base = write_checkpoint(tmp_path / "base", model_weights(1))
    sound = {"bos_token_id": 1, "eos_token_id": 2, "max_new_tokens": 7}
    odd = {"cache_implementation": "quantised", "num_return_sequences": 3}
    (base / "generation_config.json").write_text(json.dumps(sound | odd))
    told = _inspect(capsys, base)["GenerationFieldsIgnored"]
    assert 'cache_implementation is "quantised" (and 1 more)' in told
    code, folder, warnings, _ = merge("--base", base)
    assert (code, warnings) == (0, {"GenerationFieldsIgnored": told})
    assert _read(folder, "generation_config.json") == sound


def test_the_ids_are_those_of_the_tokenizer_that_goes_in(tmp_path: Path, merge: Merge) -> None:
    base = write_checkpoint(tmp_path / "base", model_weights(1), config={"eos_token_id": 2})
    delta = write_checkpoint(tmp_path / "delta", delta_weights(2), config={"eos_token_id": 2}, tokenizer=False)
    llama_3_tokenizer(delta, tokenizer_class="LlamaTokenizerFast")
    _, folder, warnings, _ = merge("--base", base, "--delta", delta)
    assert "eos_token_id 2 ('#')" in warnings["TokenIdsRepaired"] or "bos_token_id 1" in warnings["TokenIdsRepaired"]
    config = _read(folder)
    assert (config["bos_token_id"], config["eos_token_id"]) == (BOS, END)
    assert _read(folder, "tokenizer_config.json")["tokenizer_class"] == "PreTrainedTokenizerFast"


@pytest.mark.parametrize("name", ["LlamaTokenizer", "LlamaTokenizerFast"])
def test_a_byte_level_tokenizer_under_llamas_class_keeps_its_ids(tmp_path: Path, merge: Merge, name: str) -> None:
    """As of DeepSeek's distillations: under that class some versions of transformers lose the spaces."""
    from tokenizers import Tokenizer
    from transformers import AutoTokenizer

    base = write_checkpoint(tmp_path / "base", model_weights(1), tokenizer=False)
    llama_3_tokenizer(base, tokenizer_class=name, bos_token="<|begin_of_text|>", eos_token="<|end_of_text|>")
    (base / "tokenizer.model").unlink()
    raw = Tokenizer.from_file(str(base / "tokenizer.json"))
    _, folder, _, err = merge("--base", base)
    assert _read(folder, "tokenizer_config.json")["tokenizer_class"] == "PreTrainedTokenizerFast", err
    plain: Any = AutoTokenizer.from_pretrained(folder)
    ids = plain("w1#w2", add_special_tokens=False)["input_ids"]
    assert ids == raw.encode("w1#w2", add_special_tokens=False).ids
    assert plain.decode([2, 4, 5]) == raw.decode([2, 4, 5])


def test_a_tokenizer_with_more_ids_than_rows_is_told_before_the_merge(
    tmp_path: Path, merge: Merge, capsys: pytest.CaptureFixture[str]
) -> None:
    base = write_checkpoint(tmp_path / "base", model_weights(1), tokenizer=False)
    write_tokenizer(base, VOCABULARY + 2, pad_token=f"w{VOCABULARY - 3}")
    told = _inspect(capsys, base)["TokensWithoutRow"]
    assert f"'w{VOCABULARY - 3}' ({VOCABULARY})" in told
    code, folder, warnings, _ = merge("--base", base)
    assert (code, warnings["TokensWithoutRow"]) == (0, told)
    assert _read(folder).get("pad_token_id") is None
    write_tokenizer(base, VOCABULARY + 2, eos_token=f"w{VOCABULARY - 2}")
    code, _, _, err = merge("--base", base)
    assert code == 65
    assert "VocabularyMismatch" in err
    assert "eos_token is among them" in err


@pytest.mark.parametrize("with_delta", [False, True])
@pytest.mark.parametrize("rows", [slice(0, VOCABULARY), slice(5, 6)])
def test_a_head_that_the_config_denies_is_kept_and_the_config_made_true(
    tmp_path: Path, merge: Merge, capsys: pytest.CaptureFixture[str], with_delta: bool, rows: slice
) -> None:
    from transformers import AutoModelForCausalLM

    weights = model_weights(1)
    weights[HEAD] = weights[EMBEDDING].clone()
    weights[HEAD][rows] += 1
    tied = {"tie_word_embeddings": True}
    words: list[object] = ["--base", write_checkpoint(tmp_path / "base", weights, config=tied)]
    assert "HeadNotTied" in _inspect(capsys, tmp_path / "base")
    want = weights
    if with_delta:
        delta = delta_weights(2)
        delta[HEAD] = delta[EMBEDDING].clone()
        words += ["--delta", write_checkpoint(tmp_path / "delta", delta, config=tied)]
        want = {name: tensor + delta[name] for name, tensor in weights.items()}
    code, folder, warnings, _ = merge(*words)
    assert (code, list(warnings)) == (0, ["HeadNotTied"])
    assert _read(folder)["tie_word_embeddings"] is False
    loaded: Any = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    model, info = loaded
    assert not info["missing_keys"] | info["unexpected_keys"]
    assert torch.equal(model.lm_head.weight, want[HEAD])
    assert torch.equal(model.model.embed_tokens.weight, want[EMBEDDING])


def test_a_tied_model_stays_tied(tmp_path: Path, merge: Merge) -> None:
    weights = model_weights(1)
    weights[HEAD] = weights[EMBEDDING].clone()
    _, folder, warnings, _ = merge(
        "--base", write_checkpoint(tmp_path / "base", weights, config={"tie_word_embeddings": True})
    )
    assert warnings == {}
    assert _read(folder)["tie_word_embeddings"] is True
    assert HEAD not in load_file(folder / "model.safetensors")
