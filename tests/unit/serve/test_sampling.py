"""Choosing tokens."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from support.amount import first
from vicuna_server.engine import GenerationRequest
from vicuna_server.engine.builtin.filtering import filtered
from vicuna_server.engine.builtin.sampling import Choice, Sampler, choose_tokens
from vicuna_server.errors import EngineError

LOGITS = torch.tensor([1.0, 3.0, 2.0, -1.0])


def sampler(prompt: tuple[int, ...] = (), **options: Any) -> Sampler:
    return Sampler(GenerationRequest("", **{"seed": 7, **options}), prompt)


def draws(count: int, logits: Tensor = LOGITS, prompt: tuple[int, ...] = (), **options: Any) -> list[int]:
    """Draw one token after the other, from the same logits each time."""
    subject, tokens = sampler(prompt, **options), []
    for _ in range(count):
        (choice,) = choose_tokens(logits[None], [subject])
        assert isinstance(choice, Choice)
        tokens.append(choice.token)
    return tokens


def test_temperature_zero_takes_the_likeliest() -> None:
    assert draws(2, temperature=0.0) == [1, 1]


def test_a_tiny_temperature_does_not_overflow() -> None:
    assert draws(1, temperature=1e-40) == [1]
    assert set(draws(20, temperature=2e-4)) == {1}


def test_a_seed_repeats_its_draws_whatever_the_others_do() -> None:
    alone = draws(20)
    subject, other, greedy = sampler(), sampler(seed=8), sampler(temperature=0.0)
    together = []
    for _ in range(20):
        _, _, choice = choose_tokens(torch.stack([LOGITS, LOGITS, LOGITS]), [other, greedy, subject])
        assert isinstance(choice, Choice)
        together.append(choice.token)
    assert together == alone
    assert len(set(alone)) > 1
    assert draws(20, seed=8) != alone


def test_a_negative_seed_is_another_seed() -> None:
    assert draws(20, seed=-8) == draws(20, seed=-8)
    assert draws(20, seed=-8) != draws(20, seed=8)


@pytest.mark.transformers
@pytest.mark.parametrize("mass", [0.05, 0.3, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("others", [{}, {"top_k": 20}, {"top_p": 0.8}, {"min_p": 0.05}], ids=str)
def test_typical_p_keeps_what_transformers_keeps(mass: float, others: dict[str, Any]) -> None:
    from transformers import MinPLogitsWarper, TopKLogitsWarper, TopPLogitsWarper, TypicalLogitsWarper

    warpers: dict[str, Any] = {"top_k": TopKLogitsWarper, "top_p": TopPLogitsWarper, "min_p": MinPLogitsWarper}
    logits = torch.randn(500, generator=torch.Generator().manual_seed(5)) * 3
    scores = logits[None]
    for name, value in others.items():
        scores = warpers[name](value)(None, scores)
    wanted = set(TypicalLogitsWarper(mass)(None, scores)[0].isfinite().nonzero().flatten().tolist())
    kept, order = filtered(logits.softmax(-1), GenerationRequest("", typical_p=mass, **others))
    assert set(order.tolist()) == wanted
    assert len(kept) == len(wanted)


def test_top_p_keeps_the_fewest_that_reach_it() -> None:
    # Probabilities 0.09, 0.66, 0.24, 0.01: 0.6 is reached by one token, 0.8 by two.
    assert set(draws(200, top_p=0.6)) == {1}
    assert set(draws(200, top_p=0.8)) == {1, 2}
    assert set(draws(600, top_p=1.0)) == {0, 1, 2, 3}
    assert set(draws(50, top_p=0.0)) == {1}


@pytest.mark.long
def test_top_p_beyond_the_head_that_is_looked_at_first() -> None:
    even = torch.zeros(1000)
    assert len(set(draws(6000, even, top_p=0.5))) > 450
    assert len(set(draws(6000, even, top_p=0.5))) <= 500


def test_top_k_comes_before_top_p() -> None:
    assert set(draws(300, top_k=2)) == {1, 2}
    # Among the two likeliest 0.73 and 0.27: 0.7 is reached by the first of them, which has only 0.66 of all.
    assert set(draws(300, top_k=2, top_p=0.7)) == {1}


def test_min_p_is_relative_to_the_likeliest() -> None:
    # Relative to the likeliest: 0.135, 1, 0.37, 0.018.
    assert set(draws(500, min_p=0.1)) == {0, 1, 2}
    assert set(draws(500, min_p=0.3)) == {1, 2}
    assert set(draws(50, min_p=1.0)) == {1}


@pytest.mark.parametrize("temperature", first([0.7, 1.0, 2.0]))
def test_frequencies_follow_the_softmax(temperature: float) -> None:
    count = 1500
    share = draws(count, temperature=temperature).count(1) / count
    assert math.isclose(share, float(torch.softmax(LOGITS / temperature, 0)[1]), abs_tol=0.03)


def test_a_bias_moves_a_token_to_the_front_or_out() -> None:
    assert draws(1, temperature=0.0, logit_bias=((3, 5.0),)) == [3]
    assert set(draws(500, logit_bias=((1, -100.0),))) == {0, 2, 3}


def test_presence_counts_once_and_frequency_each_time() -> None:
    # Greedy over 1, 3, 2, -1: each choice lowers its own logit.
    assert draws(4, temperature=0.0, presence_penalty=1.5) == [1, 2, 1, 1]
    assert draws(5, temperature=0.0, frequency_penalty=1.5) == [1, 2, 1, 0, 2]


def test_repetition_counts_the_prompt_and_both_signs() -> None:
    assert draws(3, temperature=0.0, repetition_penalty=4.0) == [1, 2, 0]
    assert draws(1, temperature=0.0, repetition_penalty=4.0, prompt=(1,)) == [2]
    negative = torch.tensor([-1.0, -2.0])
    assert draws(1, negative, temperature=0.0, repetition_penalty=4.0, prompt=(0,)) == [1]


@pytest.mark.transformers
def test_repetition_is_as_in_transformers() -> None:
    from transformers import RepetitionPenaltyLogitsProcessor

    logits = torch.randn(50, generator=torch.Generator().manual_seed(3))
    prompt = (3, 9, 9, 41)
    wanted = RepetitionPenaltyLogitsProcessor(1.3)(torch.tensor([prompt]), logits[None].clone())[0]
    adjusted = logits.clone()
    sampler(prompt, repetition_penalty=1.3).adjust(adjusted)
    assert torch.allclose(adjusted, wanted)


def test_log_probabilities_are_those_of_the_raw_logits() -> None:
    subject = sampler(temperature=0.0, logprobs=2, logit_bias=((3, 100.0),))
    (choice,) = choose_tokens(LOGITS[None], [subject])
    wanted = LOGITS.log_softmax(0).tolist()
    assert isinstance(choice, Choice)
    assert choice.token == 3
    assert choice.logprob == pytest.approx(wanted[3])
    assert [token for token, _ in choice.top] == [1, 2]
    assert [value for _, value in choice.top] == pytest.approx([wanted[1], wanted[2]])


def test_log_probability_of_the_token_alone() -> None:
    (choice,) = choose_tokens(LOGITS[None], [sampler(temperature=0.0, logprobs=0)])
    assert isinstance(choice, Choice)
    assert choice.logprob is not None
    assert choice.top == ()


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_only_the_row_that_is_not_finite_fails(bad: float, temperature: float) -> None:
    broken = LOGITS.clone()
    broken[2] = bad
    subjects = [sampler(temperature=temperature), sampler(temperature=0.0)]
    first, second = choose_tokens(torch.stack([broken, LOGITS]), subjects)
    assert isinstance(first, EngineError)
    assert first.reason == "NonFiniteLogits"
    assert second == Choice(1)
