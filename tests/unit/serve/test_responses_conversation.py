"""Items of `/v1/responses` as messages, and as what is kept and listed of them."""

import itertools
from typing import Any

import pytest

from vicuna_server.api.responses.conversation import kept_item, messages_of
from vicuna_server.api.responses.opening import open_conversation
from vicuna_server.api.responses.store import ResponseStore, StoreLimits, written
from vicuna_server.errors import RequestError
from vicuna_server.prompts import Message, ToolCall
from vicuna_server.protocol.responses.input_items import MAX_ITEMS, parsed_items
from vicuna_server.protocol.responses.request import ResponsesRequest

CALL = {"type": "function_call", "call_id": "c1", "name": "weather", "arguments": '{"city": "Köln"}'}
RESULT = {"type": "function_call_output", "call_id": "c1", "output": "sunny"}


def messages(*items: dict[str, Any], instructions: str | None = None) -> tuple[Message, ...]:
    return messages_of(instructions, parsed_items(list(items)))


def ids() -> Any:
    numbers = itertools.count()
    return lambda prefix: f"{prefix}_{next(numbers)}"


def test_messages_keep_their_order_and_developers_speak_as_the_system() -> None:
    assert messages(
        {"role": "developer", "content": "short"},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": t} for t in ("one", "two")]},
        {"role": "assistant", "content": [{"type": "output_text", "text": "three", "annotations": []}]},
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]},
        {"role": "user", "content": "four"},
        instructions="be kind",
    ) == (
        Message("system", "be kind"),
        Message("system", "short"),
        Message("user", "one\ntwo"),
        Message("assistant", "three\nno"),
        Message("user", "four"),
    )


def test_what_an_assistant_thinks_says_and_calls_is_one_message() -> None:
    other = {**CALL, "call_id": "c2", "name": "time"}
    assert messages(
        {"role": "user", "content": "weather and time?"},
        {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "two calls"}]},
        {"role": "assistant", "content": "I look"},
        CALL,
        other,
        RESULT,
        {**RESULT, "call_id": "c2", "output": [{"type": "input_text", "text": "noon"}]},
        {"role": "assistant", "content": "sunny noon"},
        {"role": "user", "content": "thanks"},
    ) == (
        Message("user", "weather and time?"),
        Message(
            "assistant",
            "I look",
            tool_calls=(ToolCall("c1", "weather", '{"city": "Köln"}'), ToolCall("c2", "time", '{"city": "Köln"}')),
            reasoning="two calls",
        ),
        Message("tool", "sunny", tool_call_id="c1", name="weather"),
        Message("tool", "noon", tool_call_id="c2", name="time"),
        Message("assistant", "sunny noon"),
        Message("user", "thanks"),
    )


def test_encrypted_reasoning_of_another_server_says_nothing() -> None:
    sealed = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "xyz"}
    assert messages({"role": "user", "content": "hi"}, sealed, {"role": "assistant", "content": "yes"})[1] == Message(
        "assistant", "yes"
    )


@pytest.mark.parametrize(
    ("items", "words"),
    [
        ([RESULT], "no function_call 'c1'"),
        ([{"role": "user", "content": "hi"}, CALL], "the call 'c1', whose result is missing"),
        ([{"role": "user", "content": "hi"}, {**CALL, "call_id": "c2"}, RESULT], "no function_call 'c1'"),
    ],
)
def test_calls_and_results_belong_together(items: list[dict[str, Any]], words: str) -> None:
    with pytest.raises(RequestError, match=words) as caught:
        messages(*items)
    assert (caught.value.status, caught.value.param) == (400, "input")


def test_what_is_kept_of_items_says_the_same_again() -> None:
    items: list[dict[str, Any]] = [
        {"role": "user", "content": "hi"},
        {"role": "developer", "content": [{"type": "input_text", "text": "short"}]},
        {"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}]},
        {"role": "assistant", "content": "I look"},
        CALL,
        RESULT,
    ]
    new_id = ids()
    kept: list[Any] = [kept_item(item, new_id) for item in parsed_items(items)]
    assert [(one["type"], one["id"], one["status"]) for one in kept] == [
        ("message", "msg_0", "completed"),
        ("message", "msg_1", "completed"),
        ("reasoning", "rs_2", "completed"),
        ("message", "msg_3", "completed"),
        ("function_call", "fc_4", "completed"),
        ("function_call_output", "fco_5", "completed"),
    ]
    assert messages(*kept) == messages(*items)


def request(**fields: Any) -> ResponsesRequest:
    return ResponsesRequest.model_validate({"model": "m", "input": "next", **fields})


def kept() -> ResponseStore:
    store = ResponseStore(StoreLimits())
    output = [{"id": "fc_1", "status": "completed", **CALL}]
    inputs = written([kept_item(item, ids()) for item in parsed_items([{"role": "user", "content": "weather?"}])])
    store.put("a", "resp_1", {"id": "resp_1", "output": output}, inputs)
    return store


def test_a_response_goes_on_from_the_one_before_without_its_instructions() -> None:
    store = kept()
    opened = open_conversation(request(previous_response_id="resp_1", input=[RESULT]), "a", store, ids())
    assert opened.messages == (
        Message("user", "weather?"),
        Message("assistant", "", tool_calls=(ToolCall("c1", "weather", '{"city": "Köln"}'),)),
        Message("tool", "sunny", tool_call_id="c1", name="weather"),
    )
    assert len(opened.inputs) == 3


def test_an_item_that_is_referred_to_is_read_from_what_is_kept() -> None:
    items = [{"role": "user", "content": "weather?"}, {"type": "item_reference", "id": "fc_1"}, RESULT]
    opened = open_conversation(request(input=items), "a", kept(), ids())
    assert opened.messages[1].tool_calls == (ToolCall("c1", "weather", '{"city": "Köln"}'),)


@pytest.mark.parametrize(
    ("caller", "fields", "status", "param", "code"),
    [
        ("b", {"previous_response_id": "resp_1"}, 404, "previous_response_id", "response_not_found"),
        ("a", {"previous_response_id": "resp_2"}, 404, "previous_response_id", "response_not_found"),
        ("", {"previous_response_id": "resp_1"}, 400, "previous_response_id", "responses_not_kept"),
        ("b", {"input": [{"id": "fc_1"}]}, 404, "input", "item_not_found"),
        ("", {"input": [{"id": "fc_1"}]}, 404, "input", "item_not_found"),
        ("a", {"input": [{"role": "user", "content": "x"}] * MAX_ITEMS, "previous_response_id": "resp_1"}, 400, "input",
         "invalid_value"),
    ],
)  # fmt: skip
def test_what_cannot_be_gone_on_with_is_refused(
    caller: str, fields: dict[str, Any], status: int, param: str, code: str
) -> None:
    with pytest.raises(RequestError) as caught:
        open_conversation(request(**fields), caller, kept(), ids())
    assert (caught.value.status, caught.value.param, caught.value.code) == (status, param, code)


def test_a_foreign_response_is_refused_in_the_words_for_one_that_does_not_exist() -> None:
    said = []
    for caller, ident in (("b", "resp_1"), ("a", "resp_2")):
        with pytest.raises(RequestError) as caught:
            open_conversation(request(previous_response_id=ident), caller, kept(), ids())
        said.append((caught.value.message, caught.value.code, caught.value.status))
    assert said[0] == said[1]
