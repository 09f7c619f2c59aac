"""How likely prompts are: what evaluations by log likelihood ask for. Judge: transformers' own logits."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import openai
import pytest
import torch
from transformers import AutoModelForCausalLM

from support.serving import MODEL, Running, running, tiny_engine, write_tiny_model
from vicuna_server.engine import GenerationRequest
from vicuna_server.engine.builtin.decoder import TransformersDecoder
from vicuna_server.engine.builtin.engine import BuiltinEngine
from vicuna_server.engine.builtin.loading import LoadSettings
from vicuna_server.engine.builtin.scoring import SCORED_AT_ONCE

LONG = "The quick brown fox jumps over the lazy dog. " * 9


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("scored") / "model")


@pytest.fixture
async def engine(folder: Path) -> AsyncIterator[BuiltinEngine]:
    async with tiny_engine(folder) as subject:
        yield subject


@pytest.fixture
async def server(folder: Path) -> AsyncIterator[Running]:
    async with running(BuiltinEngine(LoadSettings(folder, dtype="float32", max_concurrency=4))) as live:
        yield live


def expected(folder: Path, ids: list[int]) -> torch.Tensor:
    """The log probabilities at each place behind the first token, shape (tokens - 1, vocabulary)."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype="float32").eval()
    with torch.inference_mode():
        logprobs: torch.Tensor = model(torch.tensor([ids])).logits[0, :-1].log_softmax(-1)
    return logprobs


@pytest.mark.parametrize("text", ["ab", "Grüße 😀", LONG], ids=["two", "letters", "several passes"])
async def test_every_token_is_as_likely_as_transformers_says(engine: BuiltinEngine, folder: Path, text: str) -> None:
    ids = engine.loaded.encoder.encode(text).ids
    wanted = expected(folder, ids)
    (tokens,) = await engine.score([text], 3, 10**6)
    assert [token.token_id for token in tokens] == ids
    assert (tokens[0].logprob, tokens[0].rank, tokens[0].top) == (None, None, ())
    own = wanted.gather(1, torch.tensor(ids[1:])[:, None])
    assert [token.logprob for token in tokens[1:]] == pytest.approx(own[:, 0].tolist(), abs=1e-4)
    assert [token.rank for token in tokens[1:]] == ((wanted > own).sum(-1) + 1).tolist()
    best = wanted.topk(3)
    assert [[one.token_id for one in token.top] for token in tokens[1:]] == best.indices.tolist()
    assert b"".join(token.text_bytes for token in tokens).decode() == text


async def test_logits_of_few_tokens_are_held_at_once(engine: BuiltinEngine) -> None:
    held: list[int] = []
    decoder: Any = engine.loaded.decoder
    every = decoder.every_logits

    def watched(batch: Any) -> torch.Tensor:
        logits: torch.Tensor = every(batch)
        held.append(len(logits))
        return logits

    decoder.every_logits = watched
    (tokens,) = await engine.score([LONG], 0, 10**6)
    assert len(tokens) > 3 * SCORED_AT_ONCE
    assert max(held) <= SCORED_AT_ONCE
    assert sum(held) >= len(tokens)


async def test_beside_answers_and_by_the_other_decoder_it_is_the_same(engine: BuiltinEngine, folder: Path) -> None:
    (alone,) = await engine.score([LONG], 2, 10**6)
    answers = [await engine.submit(GenerationRequest(LONG + str(n), max_tokens=40)) for n in range(3)]
    beside, again = await engine.score([LONG, LONG], 2, 10**6)
    for answer in answers:
        answer.cancel()
    plain = TransformersDecoder(AutoModelForCausalLM.from_pretrained(folder, dtype="float32").eval())
    engine.loaded.decoder.every_logits = plain.every_logits  # type: ignore[method-assign]
    (other,) = await engine.score([LONG], 2, 10**6)
    for scored in (beside, again, other):
        assert [one.token_id for one in scored] == [one.token_id for one in alone]
        assert [one.logprob for one in scored[1:]] == pytest.approx([one.logprob for one in alone[1:]], abs=1e-4)


async def test_echo_with_logprobs_as_evaluations_ask_for_it(server: Running, folder: Path) -> None:
    ids = (await server.http.post("/tokenize", json={"prompt": "Two llamas"})).json()["tokens"]
    wanted = expected(folder, ids)
    own = wanted.gather(1, torch.tensor(ids[1:])[:, None])[:, 0].tolist()
    for prompt in ("Two llamas", ids):
        answer = await server.client.completions.create(
            model=MODEL, prompt=prompt, echo=True, logprobs=1, max_tokens=1, temperature=0
        )
        (choice,) = answer.choices
        assert choice.logprobs is not None
        assert choice.logprobs.token_logprobs is not None
        assert choice.logprobs.tokens is not None
        assert choice.logprobs.top_logprobs is not None
        assert len(choice.logprobs.tokens) == len(ids) + 1
        assert choice.logprobs.token_logprobs[0] is None
        assert choice.logprobs.top_logprobs[0] is None
        assert choice.logprobs.token_logprobs[1:-1] == pytest.approx(own, abs=1e-4)
        assert choice.logprobs.text_offset == list(range(len("Two llamas") + 1))
        assert answer.usage is not None
        assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (len(ids), 1)


async def test_no_token_at_all_may_be_asked_for(server: Running) -> None:
    ask = server.client.completions.create
    silent = await ask(model=MODEL, prompt=["ab", "abc"], echo=True, logprobs=0, max_tokens=0, n=2)
    assert [choice.text for choice in silent.choices] == ["ab", "ab", "abc", "abc"]
    assert {choice.finish_reason for choice in silent.choices} == {"length"}
    assert [len(choice.logprobs.tokens or ()) for choice in silent.choices if choice.logprobs] == [2, 2, 3, 3]
    assert silent.usage is not None
    assert (silent.usage.prompt_tokens, silent.usage.completion_tokens) == (5, 0)
    stream = await ask(model=MODEL, prompt="ab", echo=True, logprobs=0, max_tokens=0, stream=True)
    events = [event.choices[0] async for event in stream]
    assert [(event.text, event.finish_reason) for event in events] == [("ab", None), ("", "length")]
    assert events[0].logprobs is not None
    assert len(events[0].logprobs.tokens or ()) == 2
    with pytest.raises(openai.BadRequestError, match="max_tokens"):
        await ask(model=MODEL, prompt="ab", max_tokens=0)


async def test_prompt_logprobs_in_vllms_form(server: Running, folder: Path) -> None:
    body = {"model": MODEL, "max_tokens": 1, "prompt_logprobs": 2}
    text = (await server.http.post("/v1/completions", json={**body, "prompt": "abc"})).json()["choices"][0]
    ids = (await server.http.post("/tokenize", json={"prompt": "abc"})).json()["tokens"]
    first, *others = text["prompt_logprobs"]
    assert first is None
    wanted = expected(folder, ids)
    for place, (told, token) in enumerate(zip(others, ids[1:], strict=True)):
        assert set(told) == {str(token), *map(str, wanted[place].topk(2).indices.tolist())}
        assert told[str(token)]["logprob"] == pytest.approx(float(wanted[place, token]), abs=1e-4)
        assert told[str(token)]["rank"] == int((wanted[place] > wanted[place, token]).sum()) + 1
        assert told[str(token)]["decoded_token"] == "bc"[place]
    chat = {**body, "messages": [{"role": "user", "content": "abc"}]}
    answer = (await server.http.post("/v1/chat/completions", json=chat)).json()
    assert len(answer["prompt_logprobs"]) == answer["usage"]["prompt_tokens"]


async def test_more_likelihoods_than_an_answer_can_hold_are_refused_before_they_are_computed(server: Running) -> None:
    body = {"model": MODEL, "prompt": [[5] * 4000] * 16, "echo": True, "logprobs": 20, "max_tokens": 0, "n": 4}
    refused = (await server.http.post("/v1/completions", json=body)).json()["error"]
    assert (refused["code"], refused["param"]) == ("answer_too_large", "prompt")
    assert server.engine.stats.prompt_tokens < 1000  # the smoke test's


async def test_a_long_prompt_is_streamed_in_events_of_a_bounded_size(server: Running) -> None:
    body = {"model": MODEL, "prompt": LONG, "echo": True, "logprobs": 20, "max_tokens": 0, "stream": True}
    raw = (await server.http.post("/v1/completions", json=body)).content
    events = [json.loads(one[6:]) for one in raw.split(b"\n\n") if one.startswith(b"data: {")]
    told = [event["choices"][0] for event in events]
    assert "".join(one["text"] for one in told) == LONG
    offsets = [offset for one in told if one["logprobs"] for offset in one["logprobs"]["text_offset"]]
    assert offsets == list(range(len(LONG)))
    assert max(map(len, raw.split(b"\n\n"))) < 32 * 1024


async def test_a_prompt_beyond_the_context_is_refused_before_it_runs(server: Running) -> None:
    with pytest.raises(openai.BadRequestError, match="maximum context length"):
        await server.client.completions.create(model=MODEL, prompt="x" * 5000, echo=True, logprobs=1, max_tokens=0)
    fits = await server.client.completions.create(model=MODEL, prompt=[5] * 4096, echo=True, logprobs=0, max_tokens=0)
    assert fits.usage is not None
    assert fits.usage.prompt_tokens == 4096
