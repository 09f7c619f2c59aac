"""Constraints as grammars: which texts they allow, where a call is announced and where not."""

import json
from typing import Any

import pytest

from vicuna_server.constraints import (
    AnyJsonObject,
    CallForm,
    Choice,
    Constraint,
    Grammar,
    JsonSchema,
    Regex,
    ToolCalls,
)
from vicuna_server.engine.grammar.matching import BYTES, byte_tokenizer, make_matcher, make_tokenizer
from vicuna_server.engine.grammar.process import grammar_of
from vicuna_server.engine.grammar.wire import read, written

LOOK = CallForm(
    '<call>{"name": "look", "arguments": ', '{"type": "object", "properties": {"n": {"const": 1}}}', "}</call>"
)
WALK = CallForm('<call>{"name": "walk", "arguments": ', '{"type": "object", "maxProperties": 0}', "}</call>")
LOOKED, WALKED = (
    '<call>{"name": "look", "arguments": {"n": 1}}</call>',
    '<call>{"name": "walk", "arguments": {}}</call>',
)


def state(constraint: Constraint, text: str) -> str:
    """Return "whole" where a text is allowed, "begun" where something is missing, "wrong" where it cannot come."""
    made = grammar_of(constraint)
    assert "text" in made, made
    matcher = make_matcher(byte_tokenizer(), made["text"])
    data = text.encode()
    if matcher.try_consume_tokens(list(data)) < len(data):
        return "wrong"
    return "whole" if matcher.is_accepting() else "begun"


ODD = [
    "",
    "a",
    'é😀"\\\n\t/#x',
    "{% \x01 \x7f",
    "it's // not",
    "\x00",
    "<|x|>",
    "$",
    "${a}",
    " ",
    "%json",
    "\r\n",
    "\u2028",
]


def test_a_choice_is_one_of_the_texts_whatever_letters_it_has() -> None:
    for option in ODD:
        assert state(Choice(tuple(ODD)), option) == "whole"
        assert state(Choice((option,)), option) == "whole"
        assert state(Choice((option,)), f"{option}x") == "wrong"


@pytest.mark.parametrize(
    ("pattern", "right", "wrong"),
    [
        ("a/b", "a/b", "a"),
        (r"a\/b", "a/b", "a"),
        ("^a|b$", "b", "ab"),
        (r"^\d+$", "12", "1a"),
        (r"a\$", "a$", "a"),
        (r"a\\$", "a\\", "a$"),
        ("a\nb", "a\nb", "ab"),
        (r"[/#\"']+", "#/\"'", "a"),
        (r"\w+@\w+\.com", "é@b.com", "a@b"),
        ("(?i)abc", "ABC", "abd"),
        ("", "", "a"),
        ("//", "//", "/"),
    ],
)
def test_a_regular_expression_matches_as_a_whole(pattern: str, right: str, wrong: str) -> None:
    assert state(Regex(pattern), right) == "whole"
    assert state(Regex(pattern), wrong) != "whole"


def test_grammars_in_both_notations() -> None:
    lark = Grammar('start: "(" start ")" | "x"')
    assert state(lark, "((x))") == "whole"
    assert state(lark, "((x)") == "begun"
    gbnf = Grammar('root ::= "a" item*\nitem ::= [0-9] "," # a comment')
    assert state(gbnf, "a1,2,") == "whole"
    assert state(gbnf, "a1") == "begun"


@pytest.mark.parametrize(
    "constraint",
    [
        Regex("("),
        Regex("(?<=a)b"),
        Regex("a\\"),
        Regex("\ud800"),
        Choice(()),
        Choice(("\udfff",)),
        Grammar("nonsense"),
        Grammar("start: unknown"),
        Grammar("start: <|im_end|>"),
        Grammar("start: <[3000]>"),
        Grammar("root ::= root2"),
        Grammar("\x00"),
        Grammar("start: start"),
    ],
    ids=repr,
)
def test_what_is_no_grammar_is_refused(constraint: Constraint) -> None:
    made = grammar_of(constraint)
    assert made["param"] == "structured_outputs", made
    assert len(made["fault"]) < 500


def test_without_blanks() -> None:
    schema = JsonSchema('{"type": "object", "properties": {"a": {"const": [1, 2]}}}', whitespace=False)
    assert state(schema, '{"a":[1,2]}') == "whole"
    assert state(schema, '{"a": ') == "wrong"
    assert state(AnyJsonObject(), '{"a": [1, {}]}') == "whole"
    assert state(AnyJsonObject(), "[") == "wrong"


def calls(**more: Any) -> ToolCalls:
    return ToolCalls("<call>", (LOOK, WALK), **more)


def test_text_and_calls_where_none_must_come() -> None:
    for text in ("", "Hello <cal", LOOKED, f"Well. {LOOKED}", f"{LOOKED}\n{WALKED} done", f"{LOOKED} and {WALKED}"):
        assert state(calls(), text) == "whole", text
    for text in ("<call>", "x<call>{", LOOKED[:-1]):
        assert state(calls(), text) == "begun", text
    for text in ("<call>x", '<call>{"name": "run"', LOOKED.replace("1", "2"), f"a{WALKED}<call>y"):
        assert state(calls(), text) == "wrong", text


def test_one_call_alone() -> None:
    one = calls(parallel=False)
    assert state(one, f"Well. {LOOKED}") == "whole"
    assert state(one, f"{LOOKED} ") == "wrong"
    must = calls(parallel=False, required=True)
    assert state(must, WALKED) == "whole"
    assert state(must, f"{WALKED}\n") == "wrong"
    assert state(must, "W") == "wrong"
    assert state(must, "") == "begun"


def test_calls_that_must_come_have_only_what_is_between_them() -> None:
    must = calls(required=True, between="\n")
    assert state(must, f"{LOOKED}\n{WALKED}") == "whole"
    assert state(must, f"{LOOKED}\n") == "begun"
    assert state(must, f"{LOOKED} ") == "wrong"


def test_a_format_for_answers_without_a_call() -> None:
    either = calls(otherwise=JsonSchema('{"const": "none"}'))
    assert state(either, '"none"') == "whole"
    assert state(either, LOOKED) == "whole"
    assert state(either, "text") == "wrong"
    assert state(either, f'"none"{LOOKED}') == "wrong"


def test_a_trigger_is_taken_as_letters_and_as_a_token() -> None:
    made = grammar_of(calls(), BYTES + 1)["text"]
    tokenizer = make_tokenizer(BYTES + 2, lambda token: bytes([token]), {BYTES, BYTES + 1})
    rest = list(LOOKED.removeprefix("<call>").encode())
    for announced in (list(b"Well. <call>"), [*b"Well. ", BYTES + 1], [BYTES + 1]):
        matcher = make_matcher(tokenizer, made)
        assert matcher.try_consume_tokens([*announced, *rest]) == len(announced) + len(rest)
        assert matcher.is_accepting()
        matcher = make_matcher(tokenizer, made)
        assert matcher.try_consume_tokens([*announced, *b"x"]) == len(announced)
    matcher = make_matcher(tokenizer, made)
    assert matcher.try_consume_tokens([*b"a", BYTES]) == 1  # no other special token comes
    must = make_matcher(tokenizer, grammar_of(calls(required=True), BYTES + 1)["text"])
    assert must.try_consume_tokens([BYTES + 1, *rest]) == len(rest) + 1


def test_a_schema_of_a_call_is_refused_with_its_place() -> None:
    wrong = CallForm("<call>", json.dumps({"properties": {"a": {"not": {}}}}), "", "tools.1.function.parameters")
    made = grammar_of(ToolCalls("<call>", (LOOK, wrong)))
    assert made["param"] == "tools.1.function.parameters.properties.a.not"


def test_tokens_without_bytes_never_come() -> None:
    tokenizer = make_tokenizer(4, lambda token: [b"", b"a", b"", b"b"][token])
    matcher = make_matcher(tokenizer, "start: /(?s:.*)/")
    assert [matcher.compute_bitmask()[0] >> token & 1 for token in range(5)] == [0, 1, 0, 1, 1]


@pytest.mark.parametrize(
    "constraint",
    [
        AnyJsonObject(),
        JsonSchema("{}", "p", whitespace=False),
        Regex("a"),
        Choice(("a", "b")),
        Grammar("x"),
        calls(otherwise=AnyJsonObject(), between=" ", parallel=False),
    ],
    ids=lambda one: type(one).__name__,
)
def test_a_constraint_survives_its_way_to_the_process(constraint: Constraint) -> None:
    assert read(json.loads(json.dumps(written(constraint)))) == constraint
