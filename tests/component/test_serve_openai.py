"""The official openai client against a live server with the scripted engine."""

import json
import logging
from collections.abc import AsyncIterator
from typing import Any

import httpx
import openai
import pytest

from support.serving import MODEL, NO_TLS, Running, eventually, running
from vicuna_server.asgi.access_log import ACCESS_LOG
from vicuna_server.engine import Generation, GenerationRequest
from vicuna_server.engine.scripted import ScriptedEngine, ScriptedSettings

HELLO: list[Any] = [{"role": "user", "content": "red green blue"}]


class Recording(ScriptedEngine):
    """Keeps the requests it gets; the first is the smoke test's."""

    def __init__(self, settings: ScriptedSettings) -> None:
        super().__init__(settings)
        self.requests: list[GenerationRequest] = []

    async def submit(self, request: GenerationRequest) -> Generation:
        self.requests.append(request)
        return await super().submit(request)


@pytest.fixture
async def server() -> AsyncIterator[Running]:
    async with running(ScriptedEngine(ScriptedSettings(tokens=5, context_length=50)), max_body_bytes=4000) as live:
        yield live


async def test_models(server: Running) -> None:
    listed = await server.client.models.list()
    assert [model.id for model in listed.data] == [MODEL]
    one = await server.client.models.retrieve(MODEL)
    assert one == listed.data[0]
    assert one.model_extra == {
        "max_model_len": 50,
        "capabilities": {
            "chat": True,
            "completions": True,
            "embeddings": True,
            "tools": "generic",
            "tool_format": "generic",
            "reasoning": False,
        },
    }
    with pytest.raises(openai.NotFoundError):
        await server.client.models.retrieve("other")


async def test_a_whole_response(server: Running) -> None:
    answer = await server.client.chat.completions.create(model=MODEL, messages=HELLO)
    assert answer.choices[0].message.content == "red green blue red green "
    assert answer.choices[0].message.role == "assistant"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (3, 6, 9)


async def test_a_streamed_response_with_usage(server: Running) -> None:
    stream = await server.client.chat.completions.create(
        model=MODEL, messages=HELLO, stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == "red green blue red green "
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop"
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert (chunks[-1].usage.prompt_tokens, chunks[-1].usage.completion_tokens) == (3, 6)
    assert len({chunk.id for chunk in chunks}) == 1


async def test_the_stream_ends_with_done_and_has_no_usage_unasked(server: Running) -> None:
    async with httpx.AsyncClient(verify=NO_TLS) as http:
        response = await http.post(
            f"{server.url}/v1/chat/completions", json={"model": MODEL, "messages": HELLO, "stream": True}
        )
    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.text.endswith("\n\ndata: [DONE]\n\n")
    assert '"usage"' not in response.text


async def test_limits_and_stop_strings(server: Running) -> None:
    ask = server.client.chat.completions.create
    short = await ask(model=MODEL, messages=HELLO, max_completion_tokens=2)
    assert (short.choices[0].message.content, short.choices[0].finish_reason) == ("red green ", "length")
    assert short.usage is not None
    assert short.usage.completion_tokens == 2
    stopped = await ask(model=MODEL, messages=HELLO, stop=["n bl"])
    assert (stopped.choices[0].message.content, stopped.choices[0].finish_reason) == ("red gree", "stop")


async def test_completions(server: Running) -> None:
    whole = await server.client.completions.create(model=MODEL, prompt="one two")
    assert whole.choices[0].text == "one two one two one "
    assert whole.usage is not None
    assert whole.usage.completion_tokens == 6
    stream = await server.client.completions.create(model=MODEL, prompt="one two", stream=True, max_tokens=3)
    chunks = [chunk async for chunk in stream]
    assert "".join(chunk.choices[0].text for chunk in chunks) == "one two one "
    assert chunks[-1].choices[0].finish_reason == "length"


async def test_several_choices_each_with_its_own_seed() -> None:
    engine = Recording(ScriptedSettings(tokens=2))
    async with running(engine) as live:
        answer = await live.client.chat.completions.create(model=MODEL, messages=HELLO, n=3, seed=7)
        assert [(one.index, one.message.content) for one in answer.choices] == [(i, "red green ") for i in range(3)]
        assert answer.usage is not None
        assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (3, 9)  # the prompt counts once
        stream = await live.client.chat.completions.create(
            model=MODEL, messages=HELLO, n=2, stream=True, stream_options={"include_usage": True}
        )
        texts, ends = ["", ""], []
        async for chunk in stream:
            for choice in chunk.choices:
                texts[choice.index] += choice.delta.content or ""
                ends += [choice.index] if choice.finish_reason else []
        assert (texts, sorted(ends)) == (["red green "] * 2, [0, 1])
        assert chunk.usage is not None
        assert (chunk.usage.prompt_tokens, chunk.usage.completion_tokens) == (3, 6)
    assert [request.seed for request in engine.requests] == [None, 7, 8, 9, None, None]


async def test_choices_beyond_the_queue_are_refused_together() -> None:
    slow = ScriptedSettings(tokens=10**6, tokens_per_second=100, context_length=10**7)
    async with running(ScriptedEngine(slow, max_concurrency=1)) as live:
        with pytest.raises(openai.RateLimitError):
            await live.client.chat.completions.create(model=MODEL, messages=HELLO, n=6)
        stats = live.engine.stats
        await eventually(lambda: (stats.running, stats.waiting) == (0, 0))


async def test_every_sampling_field_reaches_the_engine() -> None:
    engine = Recording(ScriptedSettings(tokens=2))
    fields: dict[str, Any] = {"top_k": 5, "min_p": 0.1, "repetition_penalty": 1.2, "typical_p": 0.7}
    ends = {"ignore_eos": True, "min_tokens": 3, "stop_token_ids": [7, 8], "include_stop_str_in_output": True}
    words = {"allowed_token_ids": [1, 2], "bad_words": ["no"], "skip_special_tokens": False}
    async with running(engine) as live:
        await live.client.chat.completions.create(
            model=MODEL,
            messages=HELLO,
            temperature=0.5,
            top_p=0.9,
            presence_penalty=0.3,
            frequency_penalty=-0.4,
            logit_bias={"3": -5},
            logprobs=True,
            top_logprobs=2,
            stop="x",
            max_tokens=9,
            extra_body={**fields, **ends, **words},
        )
    sent = engine.requests[-1]
    assert (sent.typical_p, sent.ignore_eos, sent.min_tokens, sent.stop_token_ids) == (0.7, True, 3, (7, 8))
    assert (sent.include_stop, sent.skip_special_tokens) == (True, False)
    assert (sent.allowed_token_ids, sent.bad_words) == ((1, 2), ("no",))
    assert (sent.temperature, sent.top_p, sent.top_k, sent.min_p) == (0.5, 0.9, 5, 0.1)
    assert (sent.repetition_penalty, sent.presence_penalty, sent.frequency_penalty) == (1.2, 0.3, -0.4)
    assert (sent.logit_bias, sent.logprobs, sent.stop, sent.max_tokens) == (((3, -5.0),), 2, ("x",), 9)


async def test_an_unknown_field_is_counted_by_a_bounded_name(server: Running) -> None:
    names = ["brand_new", *(f"made_up_{number}" for number in range(80)), "x" * 500, "Übel", 'quote"']
    await server.client.chat.completions.create(
        model=MODEL, messages=HELLO, max_tokens=1, extra_body=dict.fromkeys(names, 1)
    )
    async with httpx.AsyncClient(verify=NO_TLS) as client:
        lines = (await client.get(f"{server.url}/metrics")).text.splitlines()
    counted = [line for line in lines if line.startswith("vicuna_unknown_fields_total{")]
    assert 'vicuna_unknown_fields_total{field="brand_new"} 1.0' in counted
    assert len(counted) == 51
    assert 'vicuna_unknown_fields_total{field="other"} 34.0' in counted


async def test_log_probabilities(server: Running) -> None:
    ask = server.client.chat.completions.create
    whole = await ask(model=MODEL, messages=HELLO, max_tokens=2, logprobs=True, top_logprobs=1)
    assert whole.choices[0].logprobs is not None
    tokens = whole.choices[0].logprobs.content or []
    assert [(one.token, one.logprob, bytes(one.bytes or ())) for one in tokens] == [
        ("red ", 0.0, b"red "),
        ("green ", 0.0, b"green "),
    ]
    assert [one.top_logprobs[0].token for one in tokens] == ["red ", "green "]
    stream = await ask(model=MODEL, messages=HELLO, max_tokens=2, logprobs=True, stream=True)
    streamed = [
        one.token
        async for chunk in stream
        for choice in chunk.choices
        for one in (choice.logprobs.content or [] if choice.logprobs else [])
    ]
    assert streamed == ["red ", "green "]
    plain = await server.client.completions.create(model=MODEL, prompt="one two", logprobs=1, max_tokens=3)
    shown = plain.choices[0].logprobs
    assert shown is not None
    assert (shown.tokens, shown.text_offset) == (["one ", "two ", "one "], [0, 4, 8])
    assert (shown.token_logprobs, shown.top_logprobs) == ([0.0] * 3, [{"one ": 0.0}, {"two ": 0.0}, {"one ": 0.0}])


async def test_completions_of_several_prompts_and_of_token_ids(server: Running) -> None:
    ask = server.client.completions.create
    many = await ask(model=MODEL, prompt=["one two", "three"], n=2, max_tokens=2)
    assert [(one.index, one.text) for one in many.choices] == [
        (0, "one two "),
        (1, "one two "),
        (2, "three three "),
        (3, "three three "),
    ]
    assert many.usage is not None
    assert (many.usage.prompt_tokens, many.usage.completion_tokens) == (3, 8)
    ids = (await server.http.post("/tokenize", json={"prompt": "five six"})).json()["tokens"]
    for prompt in (ids, [ids]):
        echoed = await ask(model=MODEL, prompt=prompt, echo=True, max_tokens=1)
        assert echoed.choices[0].text == "five sixfive "
    stream = await ask(model=MODEL, prompt=["a", "b"], echo=True, stream=True, max_tokens=1)
    texts = ["", ""]
    async for chunk in stream:
        texts[chunk.choices[0].index] += chunk.choices[0].text
    assert texts == ["aa ", "bb "]


async def test_embeddings(server: Running) -> None:
    # The official client asks for base64 unless told otherwise.
    coded = await server.client.embeddings.create(model=MODEL, input=["one two", "three"])
    plain = await server.client.embeddings.create(model=MODEL, input="one two", encoding_format="float")
    assert [one.index for one in coded.data] == [0, 1]
    assert coded.data[0].embedding == pytest.approx(plain.data[0].embedding, abs=1e-6)
    assert sum(number**2 for number in plain.data[0].embedding) == pytest.approx(1)
    assert (coded.usage.prompt_tokens, coded.usage.total_tokens) == (3, 3)
    with pytest.raises(openai.BadRequestError, match="shortened"):
        await server.client.embeddings.create(model=MODEL, input="x", dimensions=2)
    with pytest.raises(openai.BadRequestError, match="context length is 50"):
        await server.client.embeddings.create(model=MODEL, input="x " * 60)


async def test_tokens_of_texts_and_conversations(server: Running) -> None:
    text = (await server.http.post("/tokenize", json={"model": MODEL, "prompt": "red green red"})).json()
    assert (text["count"], text["max_model_len"]) == (3, 50)
    assert text["tokens"][0] == text["tokens"][2]
    chat = (await server.http.post("/tokenize", json={"messages": HELLO})).json()
    assert chat["count"] == 3
    back = await server.http.post("/detokenize", json={"tokens": text["tokens"]})
    assert back.json() == {"prompt": "red green red"}
    for path, body in (
        ("/tokenize", {"prompt": "a", "messages": HELLO}),
        ("/tokenize", {}),
        ("/detokenize", {"tokens": [10**6]}),
        ("/detokenize", {"model": "other", "tokens": []}),
    ):
        refused = await server.http.post(path, json=body)
        assert refused.status_code in (400, 404)
        assert refused.json()["error"]["message"]


async def test_errors_by_class(server: Running) -> None:
    ask = server.client.chat.completions.create
    with pytest.raises(openai.NotFoundError) as unknown:
        await ask(model="gpt-4", messages=HELLO)
    assert unknown.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as too_hot:
        await ask(model=MODEL, messages=HELLO, temperature=9)
    assert too_hot.value.param == "temperature"
    with pytest.raises(openai.BadRequestError, match=r"context length is 50 tokens.*needs 103") as too_long:
        await ask(model=MODEL, messages=HELLO, max_tokens=100, stream=True)
    assert too_long.value.code == "context_length_exceeded"


@pytest.mark.parametrize(
    ("method", "path", "content", "status"),
    [
        ("GET", "/nope", b"", 404),
        ("GET", "/v1/chat/completions", b"", 405),
        ("POST", "/v1/chat/completions", b"{", 400),
        ("POST", "/v1/chat/completions", b"x" * 5000, 413),
        ("POST", "/v1/completions", b"", 400),
    ],
)
async def test_every_error_has_openais_shape(
    method: str, path: str, content: bytes, status: int, server: Running
) -> None:
    async with httpx.AsyncClient(verify=NO_TLS) as http:
        response = await http.request(method, server.url + path, content=content)
    assert response.status_code == status
    assert set(response.json()["error"]) == {"message", "type", "param", "code"}
    assert response.headers["x-vicuna-revision"] == "rev1"
    assert response.headers["x-request-id"]


async def test_a_body_without_announced_length_is_bounded_too(server: Running) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(30):
            yield b"x" * 1000

    async with httpx.AsyncClient(verify=NO_TLS) as http:
        response = await http.post(f"{server.url}/v1/chat/completions", content=endless())
    assert response.status_code == 413


async def test_request_ids_are_kept_when_harmless(server: Running) -> None:
    async with httpx.AsyncClient(verify=NO_TLS) as http:
        kept = await http.get(f"{server.url}/livez", headers={"x-request-id": "abc-1"})
        replaced = await http.get(f"{server.url}/livez", headers={"x-request-id": "a b"})
    assert kept.headers["x-request-id"] == "abc-1"
    assert replaced.headers["x-request-id"] != "a b"


async def test_metrics_count_requests_and_tokens(server: Running) -> None:
    await server.client.chat.completions.create(model=MODEL, messages=HELLO)
    async with httpx.AsyncClient(verify=NO_TLS) as http:
        await http.get(f"{server.url}/some/scanner/path")
        text = (await http.get(f"{server.url}/metrics")).text
    # The smoke test before readiness generated one token more.
    assert "vicuna_generated_tokens_total 7.0" in text
    assert 'vicuna_http_requests_total{route="/v1/chat/completions",status="200"} 1.0' in text
    assert "vicuna_time_to_first_token_seconds_count 1.0" in text
    assert "vicuna_time_per_output_token_seconds_count 1.0" in text
    for name in ("vicuna_kv_cache_tokens", "vicuna_requests_running", "vicuna_requests_waiting"):
        assert f"\n{name} 0.0" in text
    assert "scanner" not in text


async def test_the_access_log_has_one_json_object_per_request_and_no_text(
    server: Running, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger=ACCESS_LOG)
    await server.client.chat.completions.create(model=MODEL, messages=HELLO)
    await server.http.get("/livez")
    await server.http.get("/secret/red?green")
    lines = [json.loads(record.getMessage()) for record in caplog.records if record.name == ACCESS_LOG]
    assert [(one["route"], one["status"], one["method"]) for one in lines] == [
        ("/v1/chat/completions", 200, "POST"),
        ("other", 404, "GET"),
    ]
    assert lines[0]["usage"]["completion_tokens"] == 6
    assert lines[0]["id"]
    assert "red" not in caplog.text
    assert "green" not in caplog.text
