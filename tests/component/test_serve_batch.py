"""The running batch: whoever joins and leaves, and whenever, each sequence gets the tokens it would get alone."""

import random
from pathlib import Path
from typing import Any, cast

import pytest
import torch

from support.serving import write_tiny_model
from vicuna_server.engine import GenerationRequest
from vicuna_server.engine.batch import Batch, Outcome, Sequence
from vicuna_server.engine.loading import LoadedModel, LoadSettings, load_model
from vicuna_server.engine.sampling import Sampler

PROMPTS = [[65], list(b"Hello there"), list(b"x" * 300), list(b"1 2 3"), list(b"y" * 40), list(b"What?")]
TOKENS = 12


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    folder: Path = write_tiny_model(tmp_path_factory.mktemp("tiny") / "model")
    return load_model(LoadSettings(folder, dtype="float32"))


@pytest.fixture(scope="module")
def alone(loaded: LoadedModel) -> list[list[int]]:
    return [Driver(loaded).solo(ids) for ids in PROMPTS]


class Driver:
    """A batch driven by hand."""

    def __init__(self, loaded: LoadedModel) -> None:
        self.batch = Batch(loaded.model, loaded.placement.device, loaded.context_length)
        self.got: dict[int, list[int]] = {}

    def join(self, ids: list[int]) -> Sequence:
        unused = cast(Any, None)  # the text side, which a batch never touches
        sequence = Sequence(ids, Sampler(GenerationRequest("", temperature=0.0)), unused, unused)
        self.batch.join(sequence)
        self.got[id(sequence)] = []
        return sequence

    @torch.inference_mode()
    def turn(self) -> None:
        outcomes: list[Outcome] = self.batch.step() if self.batch.rows else []
        first = self.batch.prefill()
        for sequence, token in [*outcomes, *([first] if first else [])]:
            assert isinstance(token, int)
            sequence.last = token
            self.got[id(sequence)].append(token)

    def solo(self, ids: list[int]) -> list[int]:
        sequence = self.join(ids)
        while len(self.got[id(sequence)]) < TOKENS:
            self.turn()
        return self.got[id(sequence)]


@torch.inference_mode()
def test_a_row_leaves_while_another_has_not_begun(loaded: LoadedModel, alone: list[list[int]]) -> None:
    driver = Driver(loaded)
    first = driver.join(PROMPTS[0])
    driver.turn()
    second = driver.join(PROMPTS[1])
    driver.batch.leave(first)
    while len(driver.got[id(second)]) < TOKENS:
        driver.turn()
    assert driver.got[id(second)] == alone[1]


@pytest.mark.parametrize("seed", range(25))
@torch.inference_mode()
def test_any_order_of_joining_and_leaving(loaded: LoadedModel, alone: list[list[int]], seed: int) -> None:
    moves = random.Random(seed)
    driver = Driver(loaded)
    prompt_of: dict[int, int] = {}
    keep: list[Sequence] = []  # so that no id is used twice
    for _ in range(40):
        if driver.batch.joining is None and len(driver.batch) < 4 and moves.random() < 0.5:
            number = moves.randrange(len(PROMPTS))
            sequence = driver.join(PROMPTS[number])
            keep.append(sequence)
            prompt_of[id(sequence)] = number
        for sequence in driver.batch.sequences():
            if moves.random() < 0.15 or len(driver.got[id(sequence)]) >= TOKENS:
                driver.batch.leave(sequence)
        driver.turn()
    assert sum(map(len, driver.got.values())) > 20
    for key, number in prompt_of.items():
        assert driver.got[key] == alone[number][: len(driver.got[key])]
