"""Histories of calls: joined, ordered and named so that templates render them, as text where they know no tools."""

import pytest

from vicuna_server.errors import RequestError
from vicuna_server.prompts import Conversation, Message, Tool, ToolCall, get_template
from vicuna_server.tools.formats import HERMES, LLAMA, MISTRAL
from vicuna_server.tools.generic_prompt import as_text, described
from vicuna_server.tools.history import UNNAMED, fitted, settled

TOOL = Tool("weather", "Of a city", {"type": "object", "properties": {"city": {"type": "string"}}})
USER = Message("user", "How is Oslo?")


def calling(*calls: tuple[str, str], content: str = "") -> Message:
    return Message("assistant", content, tuple(ToolCall(ident, name, "{}") for ident, name in calls))


def result(content: str, ident: str | None = None, name: str | None = None) -> Message:
    return Message("tool", content, tool_call_id=ident, name=name)


def test_results_and_what_follows_calls_are_not_joined() -> None:
    call = calling(("1", "a"))
    said = [USER, call, result("x", "1"), result("y", "2"), Message("user", "b"), Message("user", "c")]
    turns = Conversation.of(said).turns
    assert turns == (*said[:4], Message("user", "b\nc"))
    assert Conversation.of([USER, call, Message("assistant", "d")]).turns[1:] == (call, Message("assistant", "d"))


def test_text_and_calls_of_two_messages_are_one() -> None:
    first = Message("assistant", "Let me see.", reasoning="Hm")
    assert Conversation.of([USER, first, calling(("1", "a")), result("x")]).turns[1] == Message(
        "assistant", "Let me see.", (ToolCall("1", "a", "{}"),), reasoning="Hm"
    )


def test_a_result_gets_the_name_of_its_call() -> None:
    said = settled([calling(("1", "a"), ("2", "b")), result("y", "2"), result("x", "1")])
    assert [(one.tool_call_id, one.name) for one in said[1:]] == [("2", "b"), ("1", "a")]


def test_a_result_without_an_id_belongs_to_the_first_call_without_one() -> None:
    said = settled([calling(("", "a"), ("", "b"), ("", "a")), result("x"), result("y", name="a"), result("z")])
    idents = [call.ident for call in said[0].tool_calls]
    assert len({*idents}) == 3
    assert [one.tool_call_id for one in said[1:]] == [idents[0], idents[2], idents[1]]
    assert [one.name for one in said[1:]] == ["a", "a", "b"]


def test_a_stray_result_has_an_id_and_a_name() -> None:
    stray, named = settled([result("x"), result("y", "9", "b"), USER])[:2]
    assert stray.tool_call_id
    assert (stray.name, named.tool_call_id, named.name) == (UNNAMED, "9", "b")


def test_calls_that_come_last_lack_their_results() -> None:
    with pytest.raises(RequestError, match="their results must come next"):
        settled([USER, calling(("1", "a"))])


def test_ids_fit_the_template_and_still_match() -> None:
    said = fitted(settled([calling(("call_1", "a")), result("x", "call_1")]), MISTRAL)
    assert said[0].tool_calls[0].ident == said[1].tool_call_id
    assert len(str(said[1].tool_call_id)) == 9
    same = settled([calling(("call_1", "a")), result("x", "call_1")])
    assert fitted(same, HERMES) == same


def test_calls_are_written_one_by_one_where_a_template_takes_one() -> None:
    several = calling(("1", "a"), ("2", "b"), content="Both.")
    said = settled([USER, several, result("y", "2"), result("x", "1"), result("z", "9"), USER])
    shown = [(one.role, one.content, [call.ident for call in one.tool_calls]) for one in fitted(said, LLAMA)]
    assert shown == [
        ("user", USER.content, []),
        ("assistant", "Both.", ["1"]),
        ("tool", "x", []),
        ("assistant", "", ["2"]),
        ("tool", "y", []),
        ("tool", "z", []),
        ("user", USER.content, []),
    ]


def test_tools_are_described_behind_the_system_text() -> None:
    text = described([TOOL])
    own, added, user = as_text([USER], [TOOL], "Be kind.")
    assert (own, added, user) == (Message("system", "Be kind."), Message("system", text), USER)
    theirs = Message("system", "Be brief.")
    assert as_text([theirs, USER], [TOOL], "Be kind.") == (theirs, Message("system", text), USER)
    assert as_text([USER], [TOOL], None) == (Message("system", text), USER)
    assert as_text([USER], [], "Be kind.") == (USER,)


def test_a_template_without_system_messages_has_them_in_the_users_first() -> None:
    (user,) = as_text([USER], [TOOL], None, takes_system=False)
    assert user == Message("user", f"{described([TOOL])}\n\n{USER.content}")
    assert as_text([result("x", "1", "a")], [TOOL], None, takes_system=False)[0].role == "user"


def test_the_description_is_the_documented_text() -> None:
    assert described([TOOL, Tool("time", "", {"type": "object"})]) == (
        "# Tools\n\nYou can call functions to answer the user. These are the functions, each as a JSON object on a "
        "line:\n"
        '{"name": "weather", "description": "Of a city", "parameters": {"type": "object", "properties": {"city": '
        '{"type": "string"}}}}\n'
        '{"name": "time", "parameters": {"type": "object"}}\n\n'
        "To call a function, write its name and its arguments like this, on a line of its own:\n"
        '<tool_call>{"name": "NAME", "arguments": {"ARGUMENT": VALUE}}</tool_call>\n'
        "The result then comes in <tool_response></tool_response>. Where no function helps, answer in plain text."
    )


def test_calls_and_results_are_text() -> None:
    call = Message("assistant", "Let me see.", (ToolCall("1", "a", '{"b": 1}'), ToolCall("2", "c", "{broken")))
    said = as_text([USER, call, result('He said "x"\n', "1", "a")], [], None)
    assert said[1] == Message(
        "assistant",
        'Let me see.\n<tool_call>{"name": "a", "arguments": {"b": 1}}</tool_call>\n'
        '<tool_call>{"name": "c", "arguments": "{broken"}</tool_call>',
    )
    response = '<tool_response>{"name": "a", "content": "He said \\"x\\"\\n"}</tool_response>'
    assert said[2] == Message("user", response)


def test_vicunas_prompt_with_tools() -> None:
    template = get_template("vicuna_v1.1")
    said = settled([USER, calling(("1", "weather")), result("sunny", "1")])
    prompt = template.render(Conversation.of(as_text(said, [TOOL], template.system))).text()
    assert prompt == (
        f"{template.system}\n{described([TOOL])} USER: How is Oslo? "
        'ASSISTANT: <tool_call>{"name": "weather", "arguments": {}}</tool_call></s>'
        'USER: <tool_response>{"name": "weather", "content": "sunny"}</tool_response> ASSISTANT:'
    )
