"""Every engine: behind tokens that another server has generated, an answer goes on as it would have gone on there."""

import json
from typing import Any

import pytest

from support.engine_suite import BUILTIN, SCRIPTED, Subject, asked
from vicuna_server.constraints import JsonSchema
from vicuna_server.engine import OutputChunk
from vicuna_server.errors import RequestError

SCHEMA = JsonSchema(
    json.dumps({"type": "object", "properties": {"a": {"type": "array", "items": {"type": "integer"}}}})
)
SEEDED = {"temperature": 1.0, "seed": 7}

GREEDY: list[dict[str, Any]] = [{}, {"ignore_eos": False, "max_tokens": 60}, {"min_tokens": 5, "ignore_eos": False}]
DRAWN: list[dict[str, Any]] = [
    SEEDED,
    {**SEEDED, "top_p": 0.8, "top_k": 40},
    {**SEEDED, "presence_penalty": 1.5, "frequency_penalty": 0.7},
    {**SEEDED, "repetition_penalty": 1.3, "logit_bias": ((65, 3.0),)},
    {**SEEDED, "bad_words": ("a", "be"), "seed": -3},
    {"presence_penalty": 1.0, "frequency_penalty": 1.0},
    {"constraint": SCHEMA, "ignore_eos": False, "max_tokens": 80},
    {"constraint": SCHEMA, "ignore_eos": False, "max_tokens": 80, **SEEDED},
]


async def _chunks(subject: Subject, request: Any) -> list[OutputChunk]:
    async with await subject.engine.submit(request) as generation:
        return [chunk async for chunk in generation]


async def _check(subject: Subject, **options: Any) -> None:
    whole = await _chunks(subject, asked(**options))
    ids = [token for chunk in whole for token in chunk.ids]
    assert len(ids) == whole[-1].tokens > 0
    for known in sorted({1, 2, len(ids) // 2, len(ids) - 1, len(ids)}):
        assert await _chunks(subject, asked(**options, generated=tuple(ids[:known]))) == whole


@pytest.mark.parametrize("options", GREEDY)
async def test_a_greedy_answer_goes_on_the_same(options: dict[str, Any], subject: Subject) -> None:
    assert not subject.engine.why_off(asked(**options))
    await _check(subject, **options)


@pytest.mark.parametrize("options", DRAWN)
async def test_draws_penalties_and_formats_go_on_the_same(options: dict[str, Any], subject: Subject) -> None:
    if subject.engine.why_off(asked(**options)):
        assert subject.kind not in (SCRIPTED, BUILTIN)
        return
    await _check(subject, **options)


async def test_a_stop_string_across_the_break(model: Subject) -> None:
    text = "".join(chunk.text for chunk in await _chunks(model, asked(max_tokens=40)))
    stop = text[len(text) // 2 : len(text) // 2 + 4]
    await _check(model, max_tokens=40, stop=(stop,))


async def test_the_prompt_counts_where_the_known_tokens_are_all(subject: Subject) -> None:
    whole = await _chunks(subject, asked())
    ids = tuple(token for chunk in whole for token in chunk.ids)
    async with await subject.engine.submit(asked(generated=ids)) as generation:
        assert generation.over
        assert generation.begun
        assert generation.tokens == whole[-1].tokens


async def test_tokens_that_the_model_has_not_are_refused(subject: Subject) -> None:
    with pytest.raises(RequestError) as caught:
        await subject.engine.submit(asked(generated=(2**30,)))
    assert (caught.value.status, caught.value.code) == (409, "continuation_refused")
