"""Every engine: what an answer says, how it is drawn, and where it ends."""

import asyncio
from typing import Any

import pytest

from support.engine_suite import WORDS, Subject, answer, asked, ends_of, idle
from vicuna_server.errors import RequestError


async def test_an_answer_has_as_many_tokens_as_asked_for_and_is_counted(subject: Subject) -> None:
    said = await answer(subject, asked())
    assert (said.last.tokens, said.last.finish_reason) == (24, "length")
    assert said.text
    assert said.generation.prompt_tokens == len(await subject.engine.tokenize(WORDS))
    assert said.generation.begun
    assert said.generation.over
    stats = subject.engine.stats
    assert (stats.running, stats.waiting, stats.finished) == (0, 0, 1)
    assert (stats.prompt_tokens, stats.generated_tokens) == (said.generation.prompt_tokens, 24)


async def test_the_likeliest_tokens_are_the_same_each_time_alone_and_in_company(subject: Subject) -> None:
    alone = await answer(subject, asked())
    others = [answer(subject, asked(f"{number} {WORDS}")) for number in range(3)]
    again, *_ = await asyncio.gather(answer(subject, asked()), *others)
    assert again.text == alone.text


async def test_a_seed_repeats_an_answer_and_another_seed_does_not(model: Subject) -> None:
    for seed in (5, -1, -(2**63), 2**63 - 1):
        drawn = asked(temperature=1.0, seed=seed)
        first = await answer(model, drawn)
        others = [answer(model, asked(temperature=1.0, seed=seed)) for seed in range(100, 103)]
        again, *rest = await asyncio.gather(answer(model, drawn), *others)
        assert again.text == first.text
        assert {one.text for one in rest} != {first.text}


@pytest.mark.parametrize("include", [False, True])
async def test_a_stop_string_ends_an_answer_and_no_part_of_it_shows(include: bool, subject: Subject) -> None:
    whole = await answer(subject, asked())
    stop = whole.text[5:8]
    end = whole.text.index(stop)
    said = await answer(subject, asked(stop=(stop, "never comes"), include_stop=include))
    assert said.text == whole.text[: end + len(stop) if include else end]
    assert said.last.finish_reason == "stop"
    assert said.last.tokens < 24
    await idle(subject)


async def test_stop_strings_count_behind_min_tokens_alone(subject: Subject) -> None:
    whole = await answer(subject, asked())
    said = await answer(subject, asked(stop=(whole.text[:2],), min_tokens=24))
    assert (said.text, said.last.tokens) == (whole.text, 24)


async def test_likelihoods_are_told_for_each_token(subject: Subject) -> None:
    said = await answer(subject, asked(max_tokens=10, logprobs=3))
    assert len(said.logprobs) == 10
    assert b"".join(one.text_bytes for one in said.logprobs).decode(errors="replace").startswith(said.text[:4])
    for one in said.logprobs:
        assert one.logprob <= 0
        assert len(one.top) == (3 if subject.has_tokenizer else len(one.top))
        assert [top.logprob for top in one.top] == sorted((top.logprob for top in one.top), reverse=True)
        assert one.top[0].token_id == one.token_id  # the likeliest was taken
        assert one.top[0].logprob == one.logprob
    none = await answer(subject, asked(max_tokens=4, logprobs=0))
    assert [len(one.top) for one in none.logprobs] == [0] * 4


async def test_ends_are_as_the_request_has_them(model: Subject) -> None:
    said = await answer(model, asked(logprobs=0))
    tokens = [one.token_id for one in said.logprobs]
    first = next(place for place in range(1, 24) if tokens[place] not in tokens[:place])
    stopped = await answer(model, asked(stop_token_ids=(tokens[first],)))
    assert (stopped.last.finish_reason, stopped.last.tokens) == ("stop", first + 1)
    late = await answer(model, asked(stop_token_ids=(tokens[first],), min_tokens=20))
    assert late.last.tokens >= 20
    (eos,) = ends_of(model)
    only: dict[str, Any] = {"logit_bias": ((eos, 100.0),)}
    at_once = await answer(model, asked(ignore_eos=False, **only))
    assert (at_once.text, at_once.last.tokens, at_once.last.finish_reason) == ("", 1, "stop")
    hidden = await answer(model, asked(max_tokens=5, **only))
    assert (hidden.text, hidden.last.tokens, hidden.last.finish_reason) == ("", 5, "length")
    shown = await answer(model, asked(max_tokens=3, skip_special_tokens=False, **only))
    assert shown.text == "</s>" * 3


async def test_only_what_is_allowed_comes_and_unwanted_words_do_not(model: Subject) -> None:
    allowed = await model.engine.tokenize("xyz", add_special_tokens=False)
    said = await answer(model, asked(allowed_token_ids=tuple(allowed)))
    assert said.text
    assert set(said.text) <= set("xyz")
    word = said.text[2:5]
    without = await answer(model, asked(allowed_token_ids=tuple(allowed), bad_words=(word,)))
    assert word in said.text
    assert word not in without.text
    for field in ("allowed_token_ids", "stop_token_ids"):
        wrong: dict[str, Any] = {field: (10**6,)}
        with pytest.raises(RequestError) as caught:
            await model.engine.submit(asked(**wrong))
        assert caught.value.param == field
