"""Choosing tokens."""

import math

import pytest
import torch

from vicuna_server.engine import GenerationRequest
from vicuna_server.engine.sampling import Sampler, choose_tokens
from vicuna_server.errors import EngineError

LOGITS = torch.tensor([1.0, 3.0, 2.0, -1.0])


def draws(count: int, **options: float) -> list[int]:
    sampler = Sampler(GenerationRequest("", seed=7, **options))  # type: ignore[arg-type]
    return [sampler.draw(LOGITS) for _ in range(count)]


def test_temperature_zero_takes_the_likeliest() -> None:
    sampler = Sampler(GenerationRequest("", temperature=0.0))
    assert choose_tokens(LOGITS[None], [sampler]) == [1]


def test_a_tiny_temperature_does_not_overflow() -> None:
    assert choose_tokens(LOGITS[None], [Sampler(GenerationRequest("", temperature=1e-40))]) == [1]
    assert set(draws(20, temperature=2e-4)) == {1}


def test_a_seed_repeats_its_draws_whatever_the_others_do() -> None:
    alone = draws(20)
    sampler, other = Sampler(GenerationRequest("", seed=7)), Sampler(GenerationRequest("", seed=8))
    together = [choose_tokens(torch.stack([LOGITS, LOGITS]), [other, sampler])[1] for _ in range(20)]
    assert together == alone
    assert len(set(alone)) > 1


def test_top_p_keeps_the_fewest_that_reach_it() -> None:
    # Probabilities 0.09, 0.66, 0.24, 0.01: 0.6 is reached by one token, 0.8 by two.
    assert set(draws(200, top_p=0.6)) == {1}
    assert set(draws(200, top_p=0.8)) == {1, 2}
    assert set(draws(2000, top_p=1.0)) == {0, 1, 2, 3}


def test_frequencies_follow_the_softmax() -> None:
    count = 4000
    share = draws(count).count(1) / count
    assert math.isclose(share, float(torch.softmax(LOGITS, 0)[1]), abs_tol=0.03)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_only_the_row_that_is_not_finite_fails(bad: float) -> None:
    greedy = Sampler(GenerationRequest("", temperature=0.0))
    broken = LOGITS.clone()
    broken[2] = bad
    first, second = choose_tokens(torch.stack([broken, LOGITS]), [greedy, greedy])
    assert isinstance(first, EngineError)
    assert first.reason == "NonFiniteLogits"
    assert second == 1
