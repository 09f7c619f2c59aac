"""The OpenAPI document as a promise: schemathesis makes requests from it, right and wrong ones, and judges."""

from collections.abc import Iterator
from typing import Any

import hypothesis
import pytest
import schemathesis
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance

from support.serving import MODEL, in_background, running
from vicuna_server.engine.scripted import ScriptedEngine, ScriptedSettings

EXAMPLES = 20
"""Per route, kind of check and mode: seconds in all."""


@pytest.fixture(scope="module")
def api() -> Iterator[Any]:
    with in_background(running(ScriptedEngine(ScriptedSettings(tokens=3, context_length=256)))) as live:
        yield schemathesis.openapi.from_url(f"{live.url}/openapi.json")


ROUTES = [
    ("GET", "/v1/models"),
    ("GET", "/v1/models/{name}"),
    ("POST", "/v1/chat/completions"),
    ("POST", "/v1/completions"),
    ("POST", "/v1/embeddings"),
    ("POST", "/v1/responses"),
    ("GET", "/v1/responses/{response_id}"),
    ("DELETE", "/v1/responses/{response_id}"),
    ("GET", "/v1/responses/{response_id}/input_items"),
    ("POST", "/tokenize"),
    ("POST", "/detokenize"),
    ("GET", "/livez"),
    ("GET", "/readyz"),
    ("GET", "/enginez"),
    ("GET", "/metrics"),
]


def test_the_list_here_is_the_documents(api: Any) -> None:
    documented = {(one.ok().method.upper(), one.ok().path) for one in api.get_all_operations()}
    assert documented == set(ROUTES)


REFUSED = {"functions", "response_format", "modalities", "suffix", "best_of", "dimensions", "logit_bias"}
DEPENDENT = {"stream_options", "top_logprobs", "echo", "max_tokens", "max_completion_tokens", "max_output_tokens"}
DEPENDENT |= {"include", "n", "prompt_logprobs", "previous_response_id"}
DEPENDENT |= {"add_generation_prompt", "continue_final_message", "tool_choice", "function_call"}
DEPENDENT |= {"structured_outputs", "guided_json", "guided_regex", "guided_choice", "guided_grammar"}


def make_answerable(path: str, body: Any) -> None:
    """Take out what is refused for reasons that a schema cannot say."""
    if not isinstance(body, dict):
        return
    for name in REFUSED | DEPENDENT:
        body.pop(name, None)
    if "model" in body:
        body["model"] = MODEL
    if path == "/v1/responses":
        body["input"] = "text"
    for message in body.get("messages") or ():
        message.pop("tool_calls", None)
        message.pop("function_call", None)
        message.pop("audio", None)
        message["content"] = message.get("content") or "text"
    if body.get("messages"):
        body["messages"][0]["role"] = "user"
    if path == "/tokenize":  # either a conversation or a text
        body["prompt"] = None if body.get("messages") else body.get("prompt") or "text"


CASES = [(GenerationMode.POSITIVE, *route) for route in ROUTES]
CASES += [(GenerationMode.NEGATIVE, *route) for route in ROUTES if route[0] == "POST"]


@pytest.mark.parametrize(("mode", "method", "path"), CASES)
def test_responses_match_the_document(mode: GenerationMode, method: str, path: str, api: Any) -> None:
    operation = api[path][method]
    # What a schema cannot say, such as that stream_options need a stream, is refused with 400 and its reason.
    left_out = [positive_data_acceptance]

    @hypothesis.settings(
        max_examples=EXAMPLES, deadline=None, derandomize=True, suppress_health_check=list(hypothesis.HealthCheck)
    )
    @hypothesis.given(operation.as_strategy(generation_mode=mode))
    def judge(case: Any) -> None:
        if mode is GenerationMode.POSITIVE:
            make_answerable(path, case.body)
        statuses.add(case.call_and_validate(timeout=30, excluded_checks=left_out).status_code)

    statuses: set[int] = set()
    judge()
    assert (
        mode is GenerationMode.NEGATIVE or path.endswith(("{name}", "{response_id}", "/input_items")) or 200 in statuses
    )
