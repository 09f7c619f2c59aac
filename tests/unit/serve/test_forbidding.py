"""Tokens that may not come next."""

import pytest
import torch

from vicuna_server.engine import GenerationRequest
from vicuna_server.engine.builtin.forbidding import Forbidden
from vicuna_server.engine.builtin.sampling import Choice, Sampler, choose_tokens
from vicuna_server.engine.limits import check_tokens
from vicuna_server.errors import RequestError

LOGITS = torch.tensor([0.0, 1.0, 2.0, 3.0])


def greedy(forbidden: Forbidden, steps: int) -> list[int]:
    """Draw the likeliest of the same logits again and again; 3 is likelier than 2, 2 than 1, 1 than 0."""
    sampler, tokens = Sampler(GenerationRequest("", temperature=0.0), (), forbidden), []
    for _ in range(steps):
        (choice,) = choose_tokens(LOGITS[None], [sampler])
        assert isinstance(choice, Choice)
        tokens.append(choice.token)
    return tokens


def test_only_allowed_tokens_come() -> None:
    assert greedy(Forbidden(allowed=[0, 2]), 2) == [2, 2]


def test_a_word_of_one_token_never_comes() -> None:
    assert greedy(Forbidden(words=[[3]]), 2) == [2, 2]


def test_a_word_of_several_tokens_is_not_completed() -> None:
    assert greedy(Forbidden(words=[[3, 3]]), 4) == [3, 2, 3, 2]
    assert greedy(Forbidden(words=[[3, 3, 3], [3, 3, 2]]), 4) == [3, 3, 1, 3]


def test_a_word_comes_where_nothing_else_may() -> None:
    assert greedy(Forbidden(allowed=[3], words=[[3]]), 2) == [3, 3]


def test_no_end_comes_before_its_time() -> None:
    assert greedy(Forbidden(ends=[3], min_tokens=2), 4) == [2, 2, 3, 3]
    assert not Forbidden(ends=[3])


def test_a_drawn_token_is_an_allowed_one_too() -> None:
    sampler = Sampler(GenerationRequest("", seed=1), (), Forbidden(allowed=[0, 1]))
    drawn = {choose_tokens(LOGITS[None], [sampler])[0].token for _ in range(60)}  # type: ignore[union-attr]
    assert drawn == {0, 1}


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"stop_token_ids": (9,)}, "stop_token_ids"),
        ({"allowed_token_ids": (1, 8)}, "allowed_token_ids"),
        ({"logit_bias": ((8, 1.0),)}, "logit_bias"),
        ({"min_tokens": 11}, "min_tokens"),
        ({"min_tokens": 1, "allowed_token_ids": (2,)}, "allowed_token_ids"),
    ],
)
def test_what_cannot_be_is_refused_before_it_runs(options: dict[str, object], field: str) -> None:
    with pytest.raises(RequestError) as caught:
        check_tokens(GenerationRequest("", **options), 8, 10, {2})  # type: ignore[arg-type]
    assert caught.value.param == field
    check_tokens(GenerationRequest("", min_tokens=10, allowed_token_ids=(2, 3)), 8, 10, {2})
