"""Deltas as people publish them: what does not fit is named by its cause, and nothing is written."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from support.checkpoints import VOCABULARY, Weights, delta_weights, model_weights, write_checkpoint
from vicuna_server.errors import InputError
from vicuna_server.merge.job import run_merge
from vicuna_server.merge.request import Request
from vicuna_server.run.control import Control
from vicuna_server.run.reporter import Silent

EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"
TIED, UNTIED = {"tie_word_embeddings": True}, {"tie_word_embeddings": False}
Side = tuple[Weights, dict[str, Any]]


@pytest.fixture
def merge(tmp_path: Path) -> Callable[[Side, Side], Weights]:
    def run(base: Side, delta: Side) -> Weights:
        folders = [
            write_checkpoint(tmp_path / name, side[0], config=side[1])
            for name, side in (("base", base), ("delta", delta))
        ]
        asked = Request(str(folders[0]), str(folders[1]), tmp_path / "out", chat_template="vicuna_v1.1")
        manifest = run_merge(asked, Control(Silent(), threading.Event()))
        return load_file(tmp_path / "out" / manifest.artifact_id / "model.safetensors")

    return run


def _without(weights: Weights, *words: str) -> Weights:
    return {name: tensor for name, tensor in weights.items() if not any(word in name for word in words)}


LLAVA = {"architectures": ["LlavaLlamaForCausalLM"], "vocab_size": VOCABULARY + 3}  # its model_type costs a process
PROJECTOR = {"model.mm_projector.weight": torch.ones(16, 8), "model.mm_projector.bias": torch.ones(16)}
FINE_TUNE = {name: tensor + delta_weights(2)[name] for name, tensor in model_weights(1).items()}


@pytest.mark.parametrize(
    ("base", "delta", "reason", "says"),
    [
        ((model_weights(1), {}), (FINE_TUNE, {}), "NotADelta", "looks like a whole model"),
        ((model_weights(1), {}), (_without(delta_weights(2), "embed", "lm_head"), {}), "TensorMissing", EMBEDDING),
        (
            (model_weights(1), {}),
            ({"base_model.model." + name: tensor for name, tensor in delta_weights(2).items()}, {}),
            "NotAPlainModel",
            "base_model.model.",
        ),
        (
            (model_weights(1), {}),
            (delta_weights(2, vocabulary=67) | PROJECTOR, LLAVA),
            "TensorMissing",
            "mm_projector",
        ),
        (
            (model_weights(1, vocabulary=65), {"vocab_size": 65}),
            (delta_weights(2), {}),
            "VocabularyMismatch",
            "65 rows in the base and 64 in the delta",
        ),
        ((_without(model_weights(1), HEAD), TIED), (delta_weights(2), UNTIED), "ConfigMismatch", "tie_word_embeddings"),
        ((_without(model_weights(1), HEAD), TIED), (delta_weights(2), TIED), "TensorMissing", HEAD),
        (
            (_without(model_weights(1), HEAD), UNTIED),
            (_without(delta_weights(2), HEAD), UNTIED),
            "TensorMissing",
            "does not tie the head",
        ),
    ],
)
def test_what_is_not_a_delta_of_this_base_is_named(
    tmp_path: Path, merge: Callable[[Side, Side], Weights], base: Side, delta: Side, reason: str, says: str
) -> None:
    with pytest.raises(InputError) as caught:
        merge(base, delta)
    assert (caught.value.reason, says in caught.value.message) == (reason, True), caught.value.message
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize("doubled", [False, True])
def test_a_tied_delta_is_added_once_bit_for_bit(merge: Callable[[Side, Side], Weights], doubled: bool) -> None:
    base, delta = _without(model_weights(1), HEAD), _without(delta_weights(2), HEAD)
    given = delta | ({HEAD: delta[EMBEDDING].clone()} if doubled else {})
    got = merge((base, TIED), (given, TIED))
    assert got.keys() == base.keys()
    assert all(torch.equal(got[name], tensor + delta[name]) for name, tensor in base.items())
