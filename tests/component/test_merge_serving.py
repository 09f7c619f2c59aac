"""Models that the server will refuse: told by preflight and `inspect`, as the server itself would."""

import json
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from support.checkpoints import model_weights, write_checkpoint
from vicuna_server.engine.builtin.decoder import TransformersDecoder
from vicuna_server.engine.builtin.kv import KeyValueStore
from vicuna_server.engine.builtin.ragged import Chunk, Pass
from vicuna_server.errors import EngineError
from vicuna_server.merge.job import run_merge
from vicuna_server.merge.preflight.built_child import is_served
from vicuna_server.merge.preflight.serving import UNSERVED_TYPES, check_served
from vicuna_server.merge.request import Request
from vicuna_server.problems import Problems
from vicuna_server.run.control import Control
from vicuna_server.run.reporter import Silent
from vicuna_server.weights.checkpoint import open_checkpoint

pytestmark = pytest.mark.usefixtures("asked_here")
CODE = {"AutoConfig": "configuration_x.XConfig", "AutoModelForCausalLM": "modeling_x.X"}


def _judged(folder: Path) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    problems = Problems()
    check_served(open_checkpoint(folder), problems)
    return problems.found, problems.warnings


class _Listening(Silent):
    def __init__(self) -> None:
        self.warned: list[str] = []

    def warning(self, reason: str, message: str) -> None:
        self.warned.append(reason)


def test_program_files_of_a_known_architecture_are_left_out_with_a_warning(tmp_path: Path) -> None:
    base = write_checkpoint(tmp_path / "base", model_weights(1), config={"auto_map": CODE})
    config = json.loads((base / "tokenizer_config.json").read_text())
    (base / "tokenizer_config.json").write_text(json.dumps(config | {"auto_map": {"AutoTokenizer": ["t.T", None]}}))
    heard = _Listening()
    request = Request(base=str(base), delta=None, output=tmp_path / "out", chat_template="alpaca")
    artifact = tmp_path / "out" / run_merge(request, Control(heard, threading.Event())).artifact_id
    assert "RemoteCode" in heard.warned
    for name in ("config.json", "tokenizer_config.json"):
        assert "auto_map" not in json.loads((artifact / name).read_text())


@pytest.mark.parametrize(
    ("config", "reason", "says"),
    [
        (
            {"model_type": "chatglm", "architectures": ["ChatGLMModel"], "auto_map": CODE},
            "RemoteCode",
            "ChatGLMModel needs",
        ),
        ({"model_type": "t5", "architectures": ["T5ForConditionalGeneration"]}, "ModelUnsupported", "T5ForConditional"),
        ({"model_type": "distilbert", "architectures": ["DistilBertForMaskedLM"]}, "ModelUnsupported", "DistilBertFor"),
    ],
)
def test_what_no_server_can_load_is_a_problem(tmp_path: Path, config: dict[str, Any], reason: str, says: str) -> None:
    folder = write_checkpoint(tmp_path / "m", {"shared.weight": torch.ones(64, 16)}, config=config)
    [(found, message)], _ = _judged(folder)
    assert found == reason
    assert says in message


def test_an_architecture_that_nobody_here_knows_is_a_warning(tmp_path: Path) -> None:
    config = {"model_type": "next_year", "architectures": ["NextYearForCausalLM"]}
    found, [(reason, message)] = _judged(
        write_checkpoint(tmp_path / "m", {"a.weight": torch.ones(64, 16)}, config=config)
    )
    assert not found
    assert reason == "ModelUnsupported"
    assert "does not know next_year models" in message


def test_a_sliding_window_is_a_warning(tmp_path: Path) -> None:
    config = {"model_type": "mistral", "architectures": ["MistralForCausalLM"], "sliding_window": 8}
    found, [(reason, message)] = _judged(write_checkpoint(tmp_path / "m", model_weights(1), config=config))
    assert not found
    assert reason == "ModelUnsupported"
    assert "sliding_window" in message


def _tiny(model_type: str, **more: Any) -> Any:
    hub: Any = transformers
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "vocab_size": 64}
    sizes |= {"intermediate_size": 24, "num_key_value_heads": 2, "head_dim": 8, "pad_token_id": 0}
    config = hub.AutoConfig.for_model(model_type, **{**sizes, **more})
    torch.manual_seed(1)
    return hub.AutoModelForCausalLM.from_config(config).float().eval()


def _answers(model: Any) -> None:
    """Let the server's decoder read four tokens, the last two on their own."""
    with torch.no_grad():
        decoder = TransformersDecoder(model)
        store = KeyValueStore(decoder.shape, 8)
        for start in (0, 2):
            assert decoder.logits(Pass([Chunk([5, 6], start, 0)], store)).isfinite().all()


LATENT = {"kv_lora_rank": 8, "q_lora_rank": None, "qk_nope_head_dim": 8, "qk_rope_head_dim": 4, "v_head_dim": 8}


@pytest.mark.parametrize(
    ("model_type", "more"),
    [
        *((name, {}) for name in ("gpt2", "gptj", "opt", "bloom", "codegen", "gpt_bigcode")),
        *((name, {}) for name in ("stablelm", "bert", "diffllama", "falcon_h1")),
        ("minicpm3", LATENT),
    ],
)
def test_what_is_told_of_a_family_is_what_the_server_says(model_type: str, more: dict[str, Any]) -> None:
    model = _tiny(model_type, **more)
    assert model_type in UNSERVED_TYPES or not is_served(model)
    with pytest.raises(EngineError) as caught:
        _answers(model)
    assert caught.value.reason == "ModelUnsupported"


@pytest.mark.parametrize("model_type", ["gpt_neox", "phi", "qwen2", "olmo2", "cohere", "granite", "glm4", "starcoder2"])
def test_families_of_which_nothing_is_told_are_served(model_type: str) -> None:
    model = _tiny(model_type)
    assert model_type not in UNSERVED_TYPES
    assert is_served(model)
    _answers(model)


def test_heads_that_a_config_makes_up_are_not_a_fault_within() -> None:
    """GPT-NeoX knows no groups of heads, whatever its config.json says."""
    with pytest.raises(EngineError, match=r"heads that config\.json names"):
        _answers(_tiny("gpt_neox", num_key_value_heads=1))
