"""Masks of a grammar on logits: what may come next, where an answer ends, and rows that are stuck."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from vicuna_server.engine import GenerationRequest
from vicuna_server.engine.builtin.constraining import NO_MASKS, Follower, MaskMaker
from vicuna_server.engine.builtin.sampling import Choice, Sampler, choose_tokens
from vicuna_server.engine.grammar.lark import HEAD
from vicuna_server.engine.grammar.matching import make_matcher, make_tokenizer
from vicuna_server.errors import EngineError

END, SPECIAL = 4, 5
TOKENIZER = make_tokenizer(6, lambda token: [b"a", b"b", b"ab", b"c"][token], {END, SPECIAL})
GREEDY = GenerationRequest("x", temperature=0.0)
Choose = Callable[..., list[Choice | EngineError]]


@pytest.fixture
def maker() -> Iterator[MaskMaker]:
    made = MaskMaker()
    yield made
    made.close()


@pytest.fixture
def choose(maker: MaskMaker) -> Choose:
    """Choose the rows' tokens as a step does: their masks are made first."""

    def chosen(logits: torch.Tensor, *rows: Sampler) -> list[Choice | EngineError]:
        masks = maker.begin([row.follower for row in rows])
        return choose_tokens(logits, list(rows), masks.result())

    return chosen


def follower(grammar: str, ends: tuple[int, ...] = (END,)) -> Follower:
    return Follower(make_matcher(TOKENIZER, f"{HEAD}start: {grammar}"), 6, ends)


def under(grammar: str, **options: Any) -> Sampler:
    return Sampler(GenerationRequest("x", **options), [0], None, follower(grammar))


def allowed(maker: MaskMaker, one: Follower, size: int = 6) -> set[int]:
    """Return what may come, by both ways of asking."""
    masks, logits = maker.begin([None, one]).result(), torch.zeros(size)
    masks.apply(1, logits)
    tokens = set(torch.isfinite(logits).nonzero().flatten().tolist())
    assert tokens == {token for token in range(size) if masks.allows(1, token)}
    return tokens


def test_a_token_may_come_that_the_grammar_goes_on_with(maker: MaskMaker) -> None:
    one = follower('"ab" "c"?')
    assert allowed(maker, one) == {0, 2}
    one.note(0)
    assert allowed(maker, one) == {1}
    one.note(1)
    assert not one.complete
    assert allowed(maker, one) == {3, END}  # the answer may end here, and may go on
    one.note(3)
    assert one.complete


def test_logits_wider_than_the_vocabulary_are_ruled_out_too(maker: MaskMaker) -> None:
    one = follower('"a" "b"*')
    assert allowed(maker, one, 9) == {0, 2}
    one.note(0)
    assert allowed(maker, one, 9) == {1, END}


def test_an_end_comes_nowhere_else_whatever_it_is_as_text(maker: MaskMaker) -> None:
    one = follower('"a" "b"', ends=(END, 1))
    assert allowed(maker, one) == {0, 2}
    one.note(0)
    with pytest.raises(EngineError, match="no token"):
        allowed(maker, one)


def test_nothing_may_come_behind_what_the_grammar_does_not_allow(maker: MaskMaker) -> None:
    one = follower('"a" "b"*')
    one.note(3)
    assert not one.complete
    with pytest.raises(EngineError, match="no token"):
        allowed(maker, one)


def test_an_answer_that_no_end_is_known_for_ends_where_nothing_may_come() -> None:
    one = follower('"a"', ends=())
    one.note(0)
    assert one.complete


@pytest.mark.parametrize("options", [{"temperature": 0.0}, {"temperature": 1.0, "seed": 1}, {"top_k": 1, "seed": 1}])
@pytest.mark.parametrize(
    "more", [{}, {"min_p": 0.5}, {"typical_p": 0.2}, {"repetition_penalty": 2.0}, {"logit_bias": ((3, 100.0),)}]
)
def test_whatever_way_a_token_is_drawn_the_grammar_holds(
    options: dict[str, Any], more: dict[str, Any], choose: Choose
) -> None:
    sampler = under('"a" "b" ("a" "b")*', **{**options, **more})
    text = []
    for _ in range(8):
        (choice,) = choose(torch.tensor([[0.0, 1.0, -5.0, 9.0, 2.0, 8.0]]), sampler)
        assert isinstance(choice, Choice)
        text.append(choice.token)
        if choice.token == END:
            break
    assert "".join("" if token == END else ("a", "b", "ab")[token] for token in text) == "ab" * (len(text) // 2)


def test_a_row_gets_the_tokens_that_it_would_get_alone(choose: Choose) -> None:
    grammar = '("a" | "ab" | "c") ("b" | "c")*'

    def rows() -> list[Sampler]:
        drawn: list[dict[str, Any]] = [
            {"seed": 3},
            {"seed": 4, "top_p": 0.8},
            {"seed": 5, "presence_penalty": 1.0},
            {"temperature": 0.0},
        ]
        free = [Sampler(GenerationRequest("x", **options)) for options in drawn]
        ruled = [under(grammar, **options) for options in (*drawn, {"temperature": 0.0, "logit_bias": ((0, 3.0),)})]
        return [row for pair in zip(ruled, [*free, under('"c"+', temperature=0.0)], strict=True) for row in pair]

    logits = torch.randn(12, 10, 6, generator=torch.Generator().manual_seed(1))
    together, alone = rows(), rows()
    for step in logits:
        assert choose(step, *together) == [choose(step[row : row + 1], one)[0] for row, one in enumerate(alone)]


def test_the_likeliest_that_the_grammar_allows_is_the_greedy_choice(maker: MaskMaker, choose: Choose) -> None:
    sampler = under('("a" | "b" | "c")*', temperature=0.0)
    for logits in torch.randn(20, 6, generator=torch.Generator().manual_seed(2)):
        assert sampler.follower is not None
        may = allowed(maker, sampler.follower)
        (choice,) = choose(logits[None], sampler)
        assert isinstance(choice, Choice)
        assert choice.token == max(may, key=logits.tolist().__getitem__)
        if choice.token == END:
            break


def test_rows_with_and_without_a_grammar_and_likelihoods_of_raw_logits(choose: Choose) -> None:
    greedy: dict[str, Any] = {"temperature": 0.0, "logprobs": 1}
    first, middle, end = Sampler(GenerationRequest("x", **greedy)), under('"a"', **greedy), Sampler(GREEDY)
    logits = torch.tensor([[0.0, 0.0, 0.0, 5.0, 0.0, 0.0]] * 3)
    free, fixed, last = choose(logits, first, middle, end)
    assert isinstance(free, Choice)
    assert isinstance(fixed, Choice)
    assert (free.token, free.last, fixed.token, fixed.last) == (3, False, 0, True)
    assert last == Choice(3)
    assert fixed.top == free.top
    assert fixed.logprob == pytest.approx(float(logits[1].log_softmax(-1)[0]))


@pytest.mark.parametrize("options", [{"temperature": 0.0}, {"seed": 1}])
def test_a_row_that_is_stuck_fails_alone(options: dict[str, Any], choose: Choose) -> None:
    stuck = follower('"a" "b"', ends=(END, 1))
    stuck.note(0)
    failed, other = choose(
        torch.zeros(2, 6), Sampler(GenerationRequest("x", **options), follower=stuck), Sampler(GREEDY)
    )
    assert isinstance(failed, EngineError)
    assert isinstance(other, Choice)


def test_masks_that_nobody_waited_for_change_nothing(maker: MaskMaker) -> None:
    """A step that fails leaves its masks behind, and is run again row by row."""
    rows = [follower('"a" "b"*'), follower('"ab" "c"?')]
    maker.begin(rows)
    assert allowed(maker, rows[0]) == {0, 2}
    rows[0].note(0)
    assert allowed(maker, rows[1]) == {0, 2}
    assert allowed(maker, rows[0]) == {1, END}


def test_a_batch_without_a_grammar_has_no_masks(maker: MaskMaker) -> None:
    masks = maker.begin([None, None])
    assert masks.done()
    assert masks.result() is NO_MASKS
