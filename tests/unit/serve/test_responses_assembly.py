"""Parts of an answer become items and events of `/v1/responses`; whoever follows the events has the same items."""

import itertools
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from vicuna_server.api.responses.assembly import Assembly, Event
from vicuna_server.protocol.chat_completion import ChatLogprob
from vicuna_server.tools.output import CallArguments, CallBegin, CallEnd, OutputPart, ReasoningText, Text


def logprob(token: str) -> ChatLogprob:
    return {"token": token, "logprob": -0.5, "bytes": list(token.encode()), "top_logprobs": []}


def assembly() -> Assembly:
    numbers = itertools.count()
    return Assembly(lambda prefix: f"{prefix}_{next(numbers)}")


def replayed(events: list[Event]) -> list[dict[str, Any]]:
    """Put items together from events alone, by the order that OpenAI's reference gives them."""
    items: list[dict[str, Any]] = []
    texts: list[str] = []
    stage = "closed"
    for event in events:
        kind = event["type"].removeprefix("response.")
        if kind == "output_item.added":
            assert stage == "closed"
            assert event["output_index"] == len(items)
            items.append({**event["item"]})
            assert items[-1]["status"] == "in_progress"
            texts, stage = [], "part" if items[-1]["type"] == "function_call" else "item"
            continue
        item = items[-1]
        assert event["output_index"] == len(items) - 1
        if kind == "output_item.done":
            assert stage == "done"
            ended = event["item"]
            assert ended["id"] == item["id"]
            told = ended["arguments"] if ended["type"] == "function_call" else ended["content"][0]["text"]
            assert told == "".join(texts)
            items[-1], stage = ended, "closed"
            continue
        assert event["item_id"] == item["id"]
        if kind == "content_part.added":
            assert (stage, event["part"]["text"], event["content_index"]) == ("item", "", 0)
            stage = "part"
        elif kind.endswith(".delta"):
            assert stage == "part"
            texts.append(event["delta"])
        elif kind == "content_part.done":
            assert (stage, event["part"]["text"]) == ("text done", "".join(texts))
            stage = "done"
        else:
            assert kind.endswith((".done",))
            assert stage == "part"
            assert event.get("arguments", event.get("text")) == "".join(texts)
            stage = "done" if kind == "function_call_arguments.done" else "text done"
    assert stage == "closed"
    return items


TEXTS = st.text(max_size=4)
CALLS = st.tuples(st.sampled_from(["f", "g"]), st.lists(TEXTS, max_size=3), st.booleans())


@st.composite
def answers(draw: st.DrawFn) -> list[list[OutputPart]]:
    """Return parts in the pieces in which they come; the last call perhaps does not end."""
    parts: list[OutputPart] = []
    kinds = draw(st.lists(st.sampled_from(["text", "reasoning", "call"]), max_size=8))
    calls = 0
    for place, kind in enumerate(kinds):
        if kind != "call":
            parts.append((Text if kind == "text" else ReasoningText)(draw(TEXTS)))
            continue
        name, arguments, ends = draw(CALLS)
        parts.append(CallBegin(calls, f"call_{calls}", name))
        parts += [CallArguments(calls, piece) for piece in arguments]
        if ends or place < len(kinds) - 1:
            parts.append(CallEnd(calls))
        calls += 1
    cuts = sorted(draw(st.lists(st.integers(0, len(parts)), max_size=4)))
    return [parts[start:stop] for start, stop in itertools.pairwise([0, *cuts, len(parts)])]


@given(answers(), st.booleans())
def test_the_items_are_what_the_events_tell(pieces: list[list[OutputPart]], cut: bool) -> None:
    subject = assembly()
    events = [event for piece in pieces for event in subject.push(piece)] + subject.end(cut=cut)
    assert replayed(events) == subject.output
    assert subject.output
    assert all(item["status"] == "completed" for item in subject.output[:-1])
    parts = [part for piece in pieces for part in piece]
    called = [item for item in subject.output if item["type"] == "function_call"]
    assert [(item["call_id"], item["name"]) for item in called] == [
        (part.ident, part.name) for part in parts if isinstance(part, CallBegin)
    ]
    assert "".join(item["arguments"] for item in called) == "".join(
        part.text for part in parts if isinstance(part, CallArguments)
    )
    said = [item["content"][0]["text"] for item in subject.output if item["type"] == "message"]
    assert "".join(said) == "".join(part.text for part in parts if isinstance(part, Text))
    thought = [item["content"][0]["text"] for item in subject.output if item["type"] == "reasoning"]
    assert "".join(thought) == "".join(part.text for part in parts if isinstance(part, ReasoningText))


@given(answers(), st.lists(st.integers(0, 10**6), max_size=5))
def test_however_parts_are_cut_the_items_are_the_same(pieces: list[list[OutputPart]], cuts: list[int]) -> None:
    parts = [part for piece in pieces for part in piece]
    places = sorted({cut % (len(parts) + 1) for cut in cuts})
    one, other = assembly(), assembly()
    one.push(parts)
    for start, stop in itertools.pairwise([0, *places, len(parts)]):
        other.push(parts[start:stop])
    one.end(cut=False)
    other.end(cut=False)
    assert one.output == other.output


def test_a_text_between_calls_is_a_message_of_its_own() -> None:
    subject = assembly()
    parts: list[OutputPart] = [ReasoningText("hm"), Text("I look"), CallBegin(0, "call_a", "f"), CallArguments(0, "{}")]
    subject.push([*parts, CallEnd(0), Text("and")])
    subject.push([Text(" more")])
    subject.end(cut=False)
    assert [(item["type"], item["id"]) for item in subject.output] == [
        ("reasoning", "rs_0"),
        ("message", "msg_1"),
        ("function_call", "fc_2"),
        ("message", "msg_3"),
    ]
    assert subject.output[3]["content"][0]["text"] == "and more"  # type: ignore[typeddict-item]


def test_a_cut_answer_ends_with_an_incomplete_item() -> None:
    subject = assembly()
    subject.push([CallBegin(0, "call_a", "f"), CallArguments(0, '{"a')])
    events = subject.end(cut=True)
    assert [event["type"] for event in events] == ["response.function_call_arguments.done", "response.output_item.done"]
    assert subject.output[-1]["status"] == "incomplete"
    assert subject.output[-1]["arguments"] == '{"a'  # type: ignore[typeddict-item]


def test_an_empty_answer_is_an_empty_message() -> None:
    subject = assembly()
    assert replayed(subject.push([Text("")]) + subject.end(cut=False))[0]["content"][0]["text"] == ""
    assert len(subject.output) == 1


def test_log_probabilities_are_told_with_the_text_of_a_message_and_not_of_calls() -> None:
    subject = assembly()
    first = subject.push([], [logprob("a")])  # the parser still holds the text back
    then = subject.push([Text("ab")], [logprob("b")])
    subject.push([CallBegin(0, "call_a", "f"), CallArguments(0, "{}"), CallEnd(0)], [logprob("{}")])
    subject.push([Text("c")], [logprob("c")])
    last = subject.push([], [logprob("d")]) + subject.end(cut=False)
    assert first == []
    told = [event["logprobs"] for event in then if event["type"] == "response.output_text.delta"]
    assert [[one["token"] for one in logprobs] for logprobs in told] == [["a", "b"]]
    tokens = [[one["token"] for one in item["content"][0]["logprobs"]] for item in replayed_messages(subject)]
    assert tokens == [["a", "b"], ["c", "d"]]
    assert last[0]["delta"] == ""


def replayed_messages(subject: Assembly) -> list[Any]:
    return [item for item in subject.output if item["type"] == "message"]
