"""What merges must serve: small models of many kinds, merged, then asked over HTTP; plain transformers is the judge."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from support.adapters import written_by_peft
from support.checkpoints import delta_weights, model_weights, write_checkpoint, write_tokenizer
from support.llama3 import llama_3_tokenizer
from support.meta import whole_weights, write_meta
from support.serving import MODEL, running
from support.whole import load_whole
from vicuna_server.api.lifecycle import Lifecycle
from vicuna_server.artifacts.manifest import Manifest
from vicuna_server.engine.builtin.engine import BuiltinEngine
from vicuna_server.engine.settings import LoadSettings
from vicuna_server.merge.job import run_merge
from vicuna_server.merge.request import Request
from vicuna_server.run.control import Control
from vicuna_server.run.reporter import Silent

ROWS, POSITIONS, TOKENS = 64, 256, 12
PROMPT = [5, 9, 40, 17, 20, 33, 8]
SMALL: dict[str, Any] = {
    "vocab_size": ROWS, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": POSITIONS, "bos_token_id": 1, "eos_token_id": 2,
    "pad_token_id": None,
}  # fmt: skip
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}
LONG = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "grouped": ("llama", {}),
    "tied": ("llama", {"tie_word_embeddings": True}),
    "biases": ("llama", {"attention_bias": True, "mlp_bias": True}),  # InternLM's kind
    "wide heads": ("llama", {"head_dim": 16}),
    "linear rope": ("llama", {"rope_scaling": {"type": "linear", "factor": 2.0}}),
    "dynamic rope": ("llama", {"rope_scaling": {"type": "dynamic", "factor": 2.0}}),
    "yarn": ("llama", {"rope_scaling": YARN}),
    "llama 3.1": ("llama", {"rope_theta": 5e5, "rope_scaling": LONG | {"original_max_position_embeddings": 64}}),
    "mistral": ("mistral", {"sliding_window": None}),
    "mixtral": ("mixtral", {"sliding_window": None, "num_local_experts": 3}),
    "qwen2": ("qwen2", {}),
    "qwen3": ("qwen3", {"head_dim": 16}),
    "gemma": ("gemma", {"head_dim": 16}),
    "phi": ("phi", {}),
    "phi3": ("phi3", {"pad_token_id": 0}),
    "gpt_neox": ("gpt_neox", {"num_key_value_heads": None}),
}
Merge = Callable[..., Path]
pytestmark = pytest.mark.usefixtures("asked_here")


class Listening(Silent):
    """Remembers the reasons of warnings."""

    def __init__(self) -> None:
        self.warned: list[str] = []

    def warning(self, reason: str, message: str) -> None:
        self.warned.append(reason)


@pytest.fixture
def heard() -> Listening:
    return Listening()


@pytest.fixture
def merge(tmp_path: Path, heard: Listening) -> Merge:
    def run(base: Path, **options: Any) -> Path:
        words: dict[str, Any] = {"delta": None, "dtype": "float32", "chat_template": "vicuna_v1.1"}
        asked = Request(base=str(base), output=tmp_path / "out", **(words | options))
        manifest = run_merge(asked, Control(heard, threading.Event()))
        return tmp_path / "out" / manifest.artifact_id

    return run


def _published(folder: Path, model_type: str, config: dict[str, Any]) -> Path:
    """Let transformers make a random model, sure enough of its words for no rounding to change them."""
    hub: Any = transformers
    torch.manual_seed(7)
    model = hub.AutoModelForCausalLM.from_config(hub.AutoConfig.for_model(model_type, **config)).float()
    for name, parameter in model.named_parameters():
        if parameter.dim() == 1:
            parameter.data.add_(torch.randn_like(parameter) * 0.1)
        elif "gate.weight" not in name and "embed" not in name:
            parameter.data.mul_(8)
    model.save_pretrained(folder)
    write_tokenizer(folder)
    return folder


def _said_by_transformers(folder: Path) -> str:
    model, hub = load_whole(folder).float().eval(), transformers
    plain = {"do_sample": False, "max_new_tokens": TOKENS, "suppress_tokens": [2], "pad_token_id": 0}
    with torch.no_grad():
        ids = model.generate(torch.tensor([PROMPT]), **plain)[0, len(PROMPT) :].tolist()
    assert len(ids) == TOKENS
    tokenizer: Any = hub.AutoTokenizer.from_pretrained(folder)
    return str(tokenizer.decode(ids, skip_special_tokens=True))


async def _said_by_the_server(folder: Path, prompt: Any = PROMPT, bias: int = -100, tokens: int = TOKENS) -> str:
    settings = LoadSettings.of(folder, Manifest.load(folder), dtype="float32", kv_cache_memory=2**24)
    async with running(BuiltinEngine(settings)) as server:
        answer = await server.client.completions.create(
            model=MODEL, prompt=prompt, max_tokens=tokens, temperature=0, logit_bias={"2": bias}
        )
        return answer.choices[0].text


def _words(text: str) -> list[str]:
    """The tokenizer's words know no spaces."""
    return text.replace(" ", "").replace("<", " <").replace("w", " w").split()


async def _require_the_same(folder: Path) -> None:
    want = _words(_said_by_transformers(folder))
    assert len(set(want)) > 2, want
    assert _words(await _said_by_the_server(folder)) == want


@pytest.mark.parametrize("kind", list(KINDS))
async def test_the_server_says_what_transformers_says(tmp_path: Path, merge: Merge, kind: str) -> None:
    model_type, fields = KINDS[kind]
    await _require_the_same(merge(_published(tmp_path / "base", model_type, SMALL | fields)))


async def test_so_it_does_of_base_and_delta_and_adapter(tmp_path: Path, merge: Merge) -> None:
    base = model_weights(1)
    wide = {"max_position_embeddings": POSITIONS}
    adapter = written_by_peft(tmp_path / "lora", base, r=4, lora_alpha=64, target_modules="all-linear")
    folder = merge(
        write_checkpoint(tmp_path / "base", base, "bin-sharded", config=wide),
        delta=str(write_checkpoint(tmp_path / "delta", delta_weights(2), config=wide)),
        adapters=((str(adapter), None),),
    )
    await _require_the_same(folder)


async def test_a_head_that_the_config_denies_is_the_one_that_answers(tmp_path: Path, merge: Merge) -> None:
    weights = {name: tensor.float() * 4 for name, tensor in model_weights(3).items()}
    config = {"tie_word_embeddings": True, "max_position_embeddings": POSITIONS}
    await _require_the_same(merge(write_checkpoint(tmp_path / "base", weights, config=config)))


async def test_an_answer_of_llama_3_does_not_end_at_the_token_of_llamas_end(tmp_path: Path, merge: Merge) -> None:
    base = write_meta(tmp_path / "8B", whole_weights(torch.bfloat16), 1, rope_theta=500000.0)
    llama_3_tokenizer(base)
    folder = merge(base)
    assert await _said_by_the_server(folder, "w3", bias=100, tokens=5) == "#####"


@pytest.mark.parametrize(
    ("model_type", "fields"),
    [
        ("mistral", {"sliding_window": 8}),
        ("gpt2", {"n_embd": 32, "n_head": 4, "n_layer": 2}),
        ("stablelm", {}),
    ],
)
async def test_what_the_merge_says_no_server_has_is_refused_by_the_server(
    tmp_path: Path, merge: Merge, heard: Listening, model_type: str, fields: dict[str, Any]
) -> None:
    folder = merge(_published(tmp_path / "base", model_type, SMALL | fields))
    assert heard.warned == ["ModelUnsupported"]
    engine = BuiltinEngine(LoadSettings.of(folder, Manifest.load(folder), dtype="float32"))
    lifecycle = Lifecycle()
    await lifecycle.start_up(engine)
    await engine.close()
    assert lifecycle.failure is not None
    assert lifecycle.failure.reason == "ModelUnsupported"
