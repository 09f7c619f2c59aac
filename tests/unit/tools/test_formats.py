"""Which format a template tells, what a constraint writes of it, and ids as its template wants them."""

import pytest

from support.characters import CHATML
from support.tool_templates import GRANITE_STYLE, LLAMA_STYLE, MISTRAL_ARGS_STYLE, MISTRAL_STYLE, QWEN_STYLE
from vicuna_server.tools.chat_format import PLAIN, ChatFormat, chat_format
from vicuna_server.tools.formats import (
    GENERIC,
    GRANITE,
    HERMES,
    LLAMA,
    MISTRAL,
    MISTRAL_ARGS,
    CallFormat,
    native_format,
)
from vicuna_server.tools.identifiers import call_id, fitting_id

STYLES = [
    (QWEN_STYLE, HERMES),
    (LLAMA_STYLE, LLAMA),
    (MISTRAL_STYLE, MISTRAL),
    (MISTRAL_ARGS_STYLE, MISTRAL_ARGS),
    (GRANITE_STYLE, GRANITE),
]
FORMATS = [form for _, form in STYLES]


@pytest.mark.parametrize(("template", "form"), STYLES)
def test_a_template_tells_its_format(template: str, form: CallFormat) -> None:
    assert native_format(template) == form


@pytest.mark.parametrize(
    "template",
    [
        CHATML,
        "{% for m in messages %}<tool_call>{% endfor %}",
        "<tools>{{ '<tools>' + \"tools\" }}{% if xml_tools or message.tools %}<tool_call>{% endif %}",
        "{% if tools %}{{ tools }}{% endif %}",
        QWEN_STYLE.replace("<tool_call>", "<tool_call><function=x>"),
        QWEN_STYLE.replace("<tool_call>", "<tool_call><arg_key>"),
    ],
)
def test_a_template_without_tools_or_with_calls_of_another_form_tells_none(template: str) -> None:
    assert native_format(template) is None
    assert chat_format(template, ()).calls == GENERIC


@pytest.mark.parametrize("form", [GENERIC, *FORMATS])
def test_what_a_constraint_writes_begins_with_its_trigger_and_is_read_again(form: CallFormat) -> None:
    written = form.form("get-time", "{}")
    assert written.begin.startswith(form.trigger)
    assert form.trigger.startswith(form.triggers)
    found = form.opening.match(written.begin + "{")
    assert found is not None
    assert (found["name"], found.end()) == ("get-time", len(written.begin))
    assert form.closing.fullmatch(written.end)


@pytest.mark.parametrize(
    ("template", "tokens", "thinks"),
    [
        (QWEN_STYLE, (), True),
        (CHATML, (), False),
        (CHATML, ("<think>", "</think>"), True),
        (CHATML, ("<think>",), False),
        (None, (), False),
    ],
)
def test_reasoning_is_told_from_template_or_vocabulary(
    template: str | None, tokens: tuple[str, ...], thinks: bool
) -> None:
    assert chat_format(template, tokens).thinks is thinks


def test_a_built_in_template_knows_no_tools() -> None:
    assert chat_format(None, ()) == PLAIN == ChatFormat(GENERIC, native=False, thinks=False)


def test_ids_are_those_of_an_answers_calls_and_fit() -> None:
    assert len({call_id(GENERIC, answer, number) for answer in "ab" for number in range(50)}) == 100
    assert call_id(GENERIC, "a", 1) == call_id(GENERIC, "a", 1)
    assert fitting_id(call_id(GENERIC, "a", 1), GENERIC).startswith("call_")
    fit = fitting_id("call_1", MISTRAL)
    assert (len(fit), fit.isalnum(), fit) == (9, True, fitting_id("call_1", MISTRAL))
    assert fit != fitting_id("call_2", MISTRAL)
    own = call_id(MISTRAL, "a", 0)
    assert fitting_id(own, MISTRAL) == own
