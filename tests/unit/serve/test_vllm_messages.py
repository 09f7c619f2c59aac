"""What goes to a vLLM server and what comes from it, as bytes."""

import json
from pathlib import Path
from typing import Any, cast

import pytest

from vicuna_server.engine import CacheScope, GenerationRequest, PromptToken, TopLogprob
from vicuna_server.engine.vllm.client import Health, VllmClient
from vicuna_server.engine.vllm.completion import check_supported, generation_body, scoring_body
from vicuna_server.engine.vllm.counters import Cache, cache_of, own_lines, progress_of
from vicuna_server.engine.vllm.drained import DrainedFile
from vicuna_server.engine.vllm.events import Event, EventReader, Likelihood, read_event
from vicuna_server.engine.vllm.failures import failed_response, failure
from vicuna_server.engine.vllm.progress import Progress
from vicuna_server.engine.vllm.scoring import prompt_tokens
from vicuna_server.engine.vllm.settings import VllmSettings
from vicuna_server.engine.vllm.watch import Watch
from vicuna_server.errors import EngineError, OverloadedError, RequestError


def body_of(**options: Any) -> dict[str, Any]:
    return generation_body(GenerationRequest("unused", **options), [1, 5, 7], {2, 9}, 11, "m")


def test_a_request_goes_as_token_ids_and_vllm_decides_no_end_by_itself() -> None:
    body = body_of()
    assert (body["prompt"], body["model"], body["max_tokens"]) == ([1, 5, 7], "m", 11)
    assert (body["ignore_eos"], body["stop_token_ids"], "stop" in body) == (True, [2, 9], False)
    assert (body["stream"], body["return_token_ids"], body["stream_options"]) == (True, True, {"include_usage": True})
    assert "n" not in body
    optional = {"seed", "logit_bias", "allowed_token_ids", "bad_words", "logprobs", "cache_salt"}
    assert not optional & set(body)


def test_every_field_of_a_request_has_its_place() -> None:
    stated: dict[str, Any] = {
        "temperature": 0.5,
        "top_p": 0.4,
        "top_k": 3,
        "min_p": 0.1,
        "repetition_penalty": 1.2,
        "presence_penalty": 0.3,
        "frequency_penalty": 0.2,
        "min_tokens": 4,
    }
    body = body_of(
        **stated,
        seed=7,
        logit_bias=((3, 1.5),),
        allowed_token_ids=(3, 4),
        bad_words=("no",),
        logprobs=0,
        scope=CacheScope("salt"),
    )
    assert {name: body[name] for name in stated} == stated
    assert (body["seed"], body["logit_bias"], body["allowed_token_ids"]) == (7, {"3": 1.5}, [3, 4])
    assert (body["bad_words"], body["logprobs"], body["return_tokens_as_token_ids"]) == (["no"], 0, True)
    assert body["cache_salt"] == "salt"


def test_values_that_vllm_takes_otherwise_are_put_its_way() -> None:
    assert 0 < body_of(top_p=0.0)["top_p"] < 0.001
    seeds = [body_of(seed=seed)["seed"] for seed in (-1, 0, 2**63 - 1, -(2**63))]
    assert seeds == [2**63 - 1, 0, 2**63 - 1, 0]  # -1 would be none at all
    without_end = generation_body(GenerationRequest("unused", min_tokens=4), [1], (), 11, "m")
    assert without_end["min_tokens"] == 0  # else the model's own end could not be within the answer
    with pytest.raises(RequestError, match="typical_p") as caught:
        check_supported(GenerationRequest("x", typical_p=0.9))
    assert (caught.value.status, caught.value.param) == (400, "typical_p")


def test_likelihoods_of_a_prompt_are_asked_for_with_one_token_behind() -> None:
    body = scoring_body([1, 2], 3, CacheScope("s"), "m")
    assert (body["prompt_logprobs"], body["max_tokens"], body["cache_salt"]) == (3, 1, "s")


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_events_are_read_however_they_are_cut(size: int) -> None:
    choice = {"index": 0, "text": "a\u2028b\x85c", "token_ids": [4, 5], "logprobs": None, "finish_reason": None}
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 16}}
    lines = [
        ": keep-alive",
        "",
        "data: " + json.dumps({"choices": [choice]}, ensure_ascii=False),
        "",
        "data: " + json.dumps({"choices": [], "usage": usage}),
        "",
        "data: [DONE]",
        "",
        'data: {"choices": []}',
        "",
    ]
    found: list[Event] = []

    def take(event: Event) -> bool:
        found.append(event)
        return False

    data, reader = "\n".join(lines).encode(), EventReader(take)
    assert any(reader.read(data[start : start + size]) for start in range(0, len(data), size))
    assert found == [Event((4, 5)), Event(cached_tokens=16)]


def test_no_event_is_read_behind_the_one_that_is_enough() -> None:
    reader = EventReader(lambda event: event.cached_tokens == 1)
    usage = b'data: {"choices": [], "usage": {"prompt_tokens_details": {"cached_tokens": 1}}}\n'
    assert reader.read(usage + b"data: not JSON\n")


def test_alternatives_come_likeliest_first_wherever_the_token_itself_stands() -> None:
    logprobs = {
        "tokens": ["token_id:8"],
        "token_logprobs": [-2.5],
        "top_logprobs": [{"token_id:8": -2.5, "token_id:3": -0.5, "token_id:4": -1.0}],
    }
    choice = {"index": 0, "text": "", "token_ids": [8], "logprobs": logprobs, "finish_reason": "length"}
    event = read_event(json.dumps({"choices": [choice]}).encode())
    assert event == Event((8,), (Likelihood(-2.5, ((3, -0.5), (4, -1.0), (8, -2.5))),), "length")


@pytest.mark.parametrize("data", [b"{", b"[]", b"{}", b'{"choices": [{"text": "no ids"}]}', b'{"choices": 3}'])
def test_what_is_not_of_this_vllm_is_said(data: bytes) -> None:
    with pytest.raises(EngineError, match="vLLM version"):
        read_event(data)


def test_errors_of_vllm_become_ours() -> None:
    assert read_event(b'{"error": {"message": "full", "code": 503}}').error == {"message": "full", "code": 503}
    refused = failed_response(
        400, b'{"error": {"message": "no", "type": "BadRequestError", "param": "top_p", "code": 400}}'
    )
    assert isinstance(refused, RequestError)
    assert (refused.status, refused.param, refused.message) == (400, "top_p", "vllm: no")
    for status, text in ((500, b'{"error": {"message": "shut"}}'), (503, b"<html>"), (404, b'{"detail": "Not Found"}')):
        away = failed_response(status, text)
        assert isinstance(away, OverloadedError)
        assert (away.status, away.code, away.retry_after) == (503, "engine_unavailable", 1)
    broken = failure({"message": "dead", "code": 500}, begun=True)
    assert isinstance(broken, EngineError)
    assert broken.reason == "GenerationFailed"


def test_scores_are_told_with_ranks() -> None:
    place = {"7": {"logprob": -3.0, "rank": 9}, "4": {"logprob": -0.5, "rank": 1}, "6": {"logprob": -0.7, "rank": 2}}
    answer = {"choices": [{"prompt_logprobs": [None, place]}]}
    told = prompt_tokens(answer, [1, 7], 2, lambda token: b"%d" % token)
    top = (TopLogprob(4, b"4", -0.5), TopLogprob(6, b"6", -0.7))
    assert told == [PromptToken(1, b"1"), PromptToken(7, b"7", -3.0, 9, top)]
    with pytest.raises(EngineError, match="log probabilities"):
        prompt_tokens(answer, [1, 7, 8], 2, lambda token: b"")


EXPOSITION = b"""# HELP python_info about
# TYPE python_info gauge
python_info{version="3"} 1.0
# HELP vllm:kv_cache_usage_perc Used
# TYPE vllm:kv_cache_usage_perc gauge
vllm:kv_cache_usage_perc{engine="0",model_name="m"} 0.25
# HELP vllm:generation_tokens_total Tokens
# TYPE vllm:generation_tokens_total counter
vllm:generation_tokens_total{engine="0",model_name="m"} 12.0
vllm:cache_config_info{block_size="16",num_gpu_blocks="100",engine="0"} 1.0
http_requests_total{handler="/v1/completions"} 3.0"""


def test_its_own_metrics_are_passed_on_and_read() -> None:
    assert own_lines(EXPOSITION) == b"".join(EXPOSITION.splitlines(keepends=True)[3:-1])
    assert cache_of(EXPOSITION) == Cache(400, 1600)
    assert progress_of(EXPOSITION) != progress_of(EXPOSITION.replace(b"12.0", b"13.0"))
    assert progress_of(EXPOSITION) == progress_of(EXPOSITION.replace(b"} 3.0", b"} 4.0"))
    assert cache_of(b"") is None


def test_silence_counts_from_the_last_thing_that_moved_while_something_runs() -> None:
    now = 100.0
    progress = Progress(lambda: now)
    now = 200.0
    assert progress.silence == 0  # nobody waits for anything
    progress.begin()
    now = 210.0
    assert progress.silence == 10
    progress.compare((b"1",))
    now = 220.0
    progress.compare((b"1",))
    assert progress.silence == 20
    progress.compare((b"2",))
    assert progress.silence == 0
    now = 230.0
    progress.move()
    progress.begin()
    assert progress.silence == 0
    progress.end()
    progress.end()
    assert progress.silence == 0


def test_a_drained_file_that_cannot_be_written_ends_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = DrainedFile(tmp_path / "missing" / "drained")
    file.remove()
    file.write()
    assert "cannot be written" in caplog.text
    DrainedFile(None).write()
    there = DrainedFile(tmp_path / "drained")
    there.write()
    there.write()
    assert (tmp_path / "drained").exists()
    there.remove()
    assert not (tmp_path / "drained").exists()


def test_requests_that_end_in_silence_add_up_until_something_comes() -> None:
    """Clients with a time limit below the engine's leave one after the other, and the engine hangs all the same."""
    now = [0.0]
    progress = Progress(lambda: now[0])
    for _ in range(3):
        progress.begin()
        now[0] += 25
        progress.end()
        now[0] += 1000
    assert progress.silence == 0  # nothing is under way
    progress.begin()
    assert progress.silence == 75
    progress.move()
    progress.end()
    progress.begin()
    assert progress.silence == 0


async def test_an_engine_that_has_come_back_begins_without_the_silence_before() -> None:
    class Healthy:
        async def health(self) -> Health:
            return Health.UP

    async def prove() -> None:
        return

    now = [0.0]
    progress = Progress(lambda: now[0])
    progress.begin()
    now[0] = 75.0
    progress.end()
    watch = Watch(cast(VllmClient, Healthy()), progress, VllmSettings("http://unused"), prove, lambda: None)
    await watch.started()
    progress.begin()
    assert progress.silence == 0
