"""The prefix cache changes no result: behind cached keys and values a model computes what it computes without them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
import torch

from support.serving import write_tiny_model
from vicuna_server.engine import EngineStats, Generation, GenerationRequest
from vicuna_server.engine.builtin.allocator import BLOCK_TOKENS
from vicuna_server.engine.builtin.decoder import Decoder
from vicuna_server.engine.builtin.loading import LoadedModel, LoadSettings, load_model
from vicuna_server.engine.builtin.prefix import SequenceTokens
from vicuna_server.engine.builtin.ragged import Pass
from vicuna_server.engine.builtin.sampling import Choice, Sampler
from vicuna_server.engine.builtin.scheduler import Scheduler
from vicuna_server.engine.builtin.sequence import Answering, Sequence
from vicuna_server.engine.settings import SchedulerSettings

SYSTEM = list(b"You are a helpful and honest assistant. " * 3)
QUESTION = [*SYSTEM, *b"What is the capital of France?"]
TOKENS = 5


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    folder: Path = write_tiny_model(tmp_path_factory.mktemp("tiny") / "model")
    return load_model(LoadSettings(folder, dtype="float32"))


class Recording:
    """A model whose logits are written down."""

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder
        self.shape = decoder.shape
        self.last = torch.empty(0)

    def logits(self, batch: Pass) -> torch.Tensor:
        self.last = self._decoder.logits(batch)
        return self.last


class Batch:
    """A batch driven by hand."""

    def __init__(self, loaded: LoadedModel, *, reuse: bool, capacity: int = 64 * BLOCK_TOKENS) -> None:
        self.stats, self._decoder = EngineStats(), Recording(loaded.decoder)
        settings = SchedulerSettings(max_concurrency=4, prefix_reuse=reuse)
        self.scheduler = Scheduler(cast(Any, self._decoder), capacity, self.stats, settings)

    def join(self, ids: list[int]) -> Sequence:
        sampler = Sampler(GenerationRequest("", temperature=0.0), ids)
        purpose = Answering(sampler, cast(Any, None), Generation(len(ids)), TOKENS)
        sequence = Sequence(SequenceTokens(list(ids)), purpose)
        self.scheduler.waiting.append(sequence)
        return sequence

    @torch.inference_mode()
    def step(self) -> None:
        for _, choice in self.scheduler.step():
            assert isinstance(choice, Choice)

    def answer(self, ids: list[int]) -> torch.Tensor:
        """Return the logits of each of an answer's tokens, while no other answer runs: shape (TOKENS, vocabulary)."""
        sequence = self.join(ids)
        logits: list[torch.Tensor] = []
        while len(logits) < TOKENS:
            self.step()
            if len(sequence.tokens.ids) > len(ids) + len(logits):
                logits.append(self._decoder.last[0].clone())
        self.scheduler.finish(sequence, keep=True)
        return torch.stack(logits)


def next_turn(batch: Batch) -> None:
    """Leave a block that the question takes over."""
    batch.answer(QUESTION[:-8])


def longer(batch: Batch) -> None:
    """Leave a block of which the question copies the beginning."""
    batch.answer([*SYSTEM, *b"Tell me a long story of a river, a mountain and the sea. " * 6])


def same(batch: Batch) -> None:
    """Leave a block with the whole question."""
    batch.answer(QUESTION)


def moved(batch: Batch) -> None:
    """Leave a block that moved while it grew."""
    growing, beside = batch.join(QUESTION[:BLOCK_TOKENS]), batch.join([65])
    batch.step()
    first = growing.tokens.block
    while len(growing.tokens.ids) < 5 * BLOCK_TOKENS:
        batch.step()
    assert growing.tokens.block is not first
    batch.scheduler.finish(beside, keep=False)
    batch.scheduler.finish(growing, keep=True)


@pytest.mark.parametrize("before", [next_turn, longer, same, moved])
def test_logits_behind_a_cached_beginning_are_those_without_a_cache(
    loaded: LoadedModel, before: Callable[[Batch], None]
) -> None:
    cached, anew = Batch(loaded, reuse=True), Batch(loaded, reuse=False)
    before(cached)
    hits = cached.stats.prefix_hit_tokens
    wanted = anew.answer(QUESTION)
    got = cached.answer(QUESTION)
    assert cached.stats.prefix_hit_tokens > hits
    assert anew.stats.prefix_hit_tokens == 0
    torch.testing.assert_close(got, wanted, atol=1e-4, rtol=1e-5)
