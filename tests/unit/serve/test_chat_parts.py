"""Parts of an answer in OpenAI's form: no event becomes too large, and both forms of calls are told alike."""

from itertools import repeat

import pytest

from vicuna_server.api.chat_parts import ChatParts
from vicuna_server.tools.formats import GENERIC
from vicuna_server.tools.parsing import OutputParser

LONG = '{"a": "' + "x" * 40_000 + '"}'
CALL = f'<tool_call>{{"name": "f", "arguments": {LONG}}}</tool_call>'


def parts(*, legacy: bool = False, reasoning: bool = True, streams: bool = False) -> ChatParts:
    new_id = repeat("id").__next__
    parser = OutputParser(GENERIC, {"f"}, new_id, thinks=True, parallel=not legacy, streams=streams)
    return ChatParts(parser, legacy=legacy, reasoning=reasoning)


def test_arguments_that_come_at_once_are_several_events() -> None:
    subject = parts()
    deltas = [delta for at in range(0, len(CALL), 7) for delta in subject.deltas(CALL[at : at + 7], last=False)]
    calls = [call for delta in deltas for call in delta["tool_calls"]]
    assert calls[0] == {"index": 0, "id": "id", "type": "function", "function": {"name": "f", "arguments": ""}}
    assert "".join(call["function"]["arguments"] for call in calls) == LONG
    assert max(len(call["function"]["arguments"]) for call in calls) <= 16 * 1024
    assert subject.finish_reason("stop") == "tool_calls"


@pytest.mark.parametrize("reasoning", [True, False])
def test_reasoning_is_told_by_both_names_or_not_at_all(reasoning: bool) -> None:
    message = parts(reasoning=reasoning).message("<think>Hm</think>Yes")
    told = {"reasoning": "Hm", "reasoning_content": "Hm"} if reasoning else {}
    assert message == {"role": "assistant", "content": "Yes", "refusal": None, **told}
    deltas = parts(reasoning=reasoning).deltas("<think>Hm</think>Yes", last=True)
    assert deltas == ([told, {"content": "Yes"}] if reasoning else [{"content": "Yes"}])


def test_the_older_form_has_one_call() -> None:
    call = '<tool_call>{"name": "f", "arguments": {}}</tool_call>'
    subject = parts(legacy=True)
    message = subject.message(call)
    assert message["function_call"] == {"name": "f", "arguments": "{}"}
    assert (message["content"], "tool_calls" in message) == (None, False)
    assert subject.finish_reason("stop") == "function_call"
    assert subject.finish_reason("length") == "length"


@pytest.mark.parametrize("reason", ["stop", "length"])
def test_a_call_that_a_stop_string_cut_off_is_not_the_reason(reason: str) -> None:
    subject = parts(streams=True)
    message = subject.message(CALL[:100])
    assert message["tool_calls"][0]["function"]["arguments"].startswith('{"a": "xxx')
    assert subject.finish_reason(reason) == reason
