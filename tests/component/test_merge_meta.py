"""Meta's own checkpoints through the whole of `vicuna-server merge`."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from support.adapters import adapter_config, write_adapter
from support.checkpoints import write_checkpoint, write_tokenizer
from support.meta import DIM, HEADS, LAYERS, VOCABULARY, WIDE, Weights, converted, whole_weights, write_meta
from vicuna_server.cli import main

_CONFIG = {
    "hidden_size": DIM,
    "intermediate_size": WIDE,
    "num_attention_heads": HEADS,
    "num_hidden_layers": LAYERS,
    "vocab_size": VOCABULARY,
}


@pytest.fixture(autouse=True)
def _log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VICUNA_TERMINATION_LOG", str(tmp_path / "log"))


def _merge(tmp_path: Path, *words: object) -> tuple[Path, Weights]:
    flags = ["--output", str(tmp_path / "out"), "--chat-template", "vicuna_v1.1"]
    assert main(["merge", *flags, *map(str, words)]) == 0, (tmp_path / "log").read_text()
    [folder] = [path for path in (tmp_path / "out").iterdir() if not path.name.startswith(".")]
    return folder, load_file(folder / "model.safetensors")


def _same(found: Weights, want: Weights) -> None:
    assert found.keys() == want.keys()
    for name, tensor in want.items():
        assert torch.equal(found[name], tensor), name


@pytest.mark.parametrize("parts", [1, 2, 4])
def test_a_delta_is_added_to_metas_parts(tmp_path: Path, parts: int) -> None:
    whole = whole_weights()
    base = converted(whole)
    random = torch.Generator().manual_seed(1)
    delta = {name: torch.randn(t.shape, generator=random).mul_(0.01).half() for name, t in base.items()}
    folder, found = _merge(
        tmp_path,
        *("--base", write_meta(tmp_path / "7B", whole, parts)),
        *("--delta", write_checkpoint(tmp_path / "delta", delta, "bin-sharded", config=_CONFIG)),
    )
    _same(found, {name: tensor + delta[name] for name, tensor in base.items()})
    assert (folder / "tokenizer.json").read_bytes() == (tmp_path / "delta" / "tokenizer.json").read_bytes()


def test_an_adapter_finds_its_rows_in_metas_parts(tmp_path: Path) -> None:
    whole = whole_weights()
    base = converted(whole)
    random = torch.Generator().manual_seed(1)
    module = "model.layers.0.self_attn.q_proj"
    down, up = (torch.randn(shape, generator=random) for shape in ((4, DIM), (DIM, 4)))
    factors = {f"{module}.lora_A.weight": down, f"{module}.lora_B.weight": up}
    adapter = write_adapter(tmp_path / "lora", factors, adapter_config())
    write_tokenizer(adapter)
    _, found = _merge(tmp_path, "--base", write_meta(tmp_path / "7B", whole, 2), "--adapter", adapter)
    changed = f"{module}.weight"
    _same(found, base | {changed: (base[changed].float() + (up @ down) * 2).half()})


def test_alone_it_becomes_an_artifact_that_transformers_loads(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    whole = whole_weights(torch.bfloat16, 2)
    source = write_meta(tmp_path / "LLaMA" / "7B", whole, 2, kv_heads=2)
    write_tokenizer(source)
    folder, found = _merge(tmp_path, "--base", source, "--dtype", "bfloat16")
    _same(found, converted(whole, 2))
    loaded: Any = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    model, info = loaded
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    assert (model.config.vocab_size, model.config.num_key_value_heads) == (VOCABULARY, 2)


def test_a_missing_part_ends_the_merge_with_its_reason(tmp_path: Path) -> None:
    source = write_meta(tmp_path / "7B", whole_weights(), 2)
    (source / "consolidated.01.pth").unlink()
    assert main(["merge", "--output", str(tmp_path / "out"), "--base", str(source)]) == 65
    message = json.loads((tmp_path / "log").read_text())
    assert message["reason"] == "TensorMissing"
    assert "are 1 of 2 parts" in message["message"]


def test_a_base_that_went_through_bfloat16_is_warned_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = {name: tensor.to(torch.bfloat16).half() for name, tensor in converted(whole_weights()).items()}
    delta = {name: torch.full_like(tensor, 0.001) for name, tensor in base.items()}
    write_checkpoint(tmp_path / "delta", delta, config=_CONFIG)
    _merge(tmp_path, "--base", write_checkpoint(tmp_path / "base", base, config=_CONFIG), "--delta", tmp_path / "delta")
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [event["reason"] for event in events if event["event"] == "warning"] == ["BaseLossy"]
