"""Masks of a grammar on logits: what may come next, where an answer ends, and rows that are stuck."""

from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any

import pytest
import torch

from vicuna_server.engine import GenerationRequest
from vicuna_server.engine.builtin.constraining import Follower
from vicuna_server.engine.builtin.sampling import Choice, Sampler, choose_tokens
from vicuna_server.engine.grammar.lark import HEAD
from vicuna_server.engine.grammar.matching import make_matcher, make_tokenizer
from vicuna_server.errors import EngineError

END, SPECIAL = 4, 5
TOKENIZER = make_tokenizer(6, lambda token: [b"a", b"b", b"ab", b"c"][token], {END, SPECIAL})


@pytest.fixture
def pool() -> Iterator[Executor]:
    with ThreadPoolExecutor(2) as made:
        yield made


def follower(grammar: str, pool: Executor, ends: tuple[int, ...] = (END,)) -> Follower:
    return Follower(make_matcher(TOKENIZER, f"{HEAD}start: {grammar}"), 6, ends, pool)


def allowed(one: Follower, size: int = 6) -> set[int]:
    logits = torch.zeros(size)
    one.apply(logits)
    return set(torch.isfinite(logits).nonzero().flatten().tolist())


def test_a_token_may_come_that_the_grammar_goes_on_with(pool: Executor) -> None:
    one = follower('"ab" "c"?', pool)
    assert allowed(one) == {0, 2}
    one.note(0)
    assert allowed(one) == {1}
    one.note(1)
    assert not one.complete
    assert allowed(one) == {3, END}  # the answer may end here, and may go on
    one.note(3)
    assert one.complete


def test_logits_wider_than_the_vocabulary_are_ruled_out_too(pool: Executor) -> None:
    one = follower('"a" "b"*', pool)
    assert allowed(one, 9) == {0, 2}
    one.note(0)
    assert allowed(one, 9) == {1, END}


def test_an_end_comes_nowhere_else_whatever_it_is_as_text(pool: Executor) -> None:
    one = follower('"a" "b"', pool, ends=(END, 1))
    assert allowed(one) == {0, 2}
    one.note(0)
    with pytest.raises(EngineError, match="no token"):
        one.apply(torch.zeros(6))


def test_an_answer_that_no_end_is_known_for_ends_where_nothing_may_come(pool: Executor) -> None:
    one = follower('"a"', pool, ends=())
    one.note(0)
    assert one.complete


@pytest.mark.parametrize("options", [{"temperature": 0.0}, {"temperature": 1.0, "seed": 1}, {"top_k": 1, "seed": 1}])
@pytest.mark.parametrize(
    "more", [{}, {"min_p": 0.5}, {"typical_p": 0.2}, {"repetition_penalty": 2.0}, {"logit_bias": ((3, 100.0),)}]
)
def test_whatever_way_a_token_is_drawn_the_grammar_holds(
    options: dict[str, Any], more: dict[str, Any], pool: Executor
) -> None:
    request = GenerationRequest("x", **{**options, **more})
    sampler = Sampler(request, [0], None, follower('"a" "b" ("a" "b")*', pool))
    text = []
    for _ in range(8):
        (choice,) = choose_tokens(torch.tensor([[0.0, 1.0, -5.0, 9.0, 2.0, 8.0]]), [sampler])
        assert isinstance(choice, Choice)
        text.append(choice.token)
        if choice.token == END:
            break
    assert "".join("" if token == END else ("a", "b", "ab")[token] for token in text) == "ab" * (len(text) // 2)


def test_rows_with_and_without_a_grammar_and_likelihoods_of_raw_logits(pool: Executor) -> None:
    greedy = GenerationRequest("x", temperature=0.0, logprobs=1)
    rows = [Sampler(greedy), Sampler(greedy, follower=follower('"a"', pool)), Sampler(greedy)]
    logits = torch.tensor([[0.0, 0.0, 0.0, 5.0, 0.0, 0.0]] * 3)
    free, fixed, last = choose_tokens(logits, rows)
    assert isinstance(free, Choice)
    assert isinstance(fixed, Choice)
    assert (free, last) == (last, free)
    assert (free.token, free.last, fixed.token, fixed.last) == (3, False, 0, True)
    assert fixed.top == free.top
    assert fixed.logprob == pytest.approx(float(logits[1].log_softmax(-1)[0]))


def test_a_row_that_is_stuck_fails_alone(pool: Executor) -> None:
    stuck = follower('"a" "b"', pool, ends=(END, 1))
    stuck.note(0)
    greedy = GenerationRequest("x", temperature=0.0)
    failed, other = choose_tokens(torch.zeros(2, 6), [Sampler(greedy, follower=stuck), Sampler(greedy)])
    assert isinstance(failed, EngineError)
    assert isinstance(other, Choice)
