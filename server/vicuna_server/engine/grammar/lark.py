"""Constraints as one text in llguidance's dialect of Lark, which vLLM's "guidance" backend takes as `grammar` too.

Source: llguidance 1.8, docs/syntax.md ("Inline JSON Schemas", "Lazy lexemes", "Tool calling") and docs/json_schema.md
(`x-guidance`). JSON has at most one blank behind a comma or colon: where blanks are free, small models go on with them.
"""

import json
import re
from collections.abc import Callable
from typing import Any

from vicuna_server.constraints import AnyJsonObject, Choice, JsonSchema, Regex, ToolCalls

__all__ = ["HEAD", "lark_of", "literal"]

HEAD = '%llguidance {"no_forcing": true}\n'
"""In front of every grammar: the model chooses how text is cut into tokens also where only one text may come."""

_ANY = "/(?s:.*)/"
_ONE_BLANK: dict[str, object] = {"whitespace_flexible": False, "item_separator": ", ?", "key_separator": ": ?"}
_COMPACT: dict[str, object] = {"whitespace_flexible": False}

Schema = Callable[[str, str], Any]
"""Returns a schema, ready to be enforced, of its JSON text and the field of the request that it stands in."""


def lark_of(
    constraint: AnyJsonObject | JsonSchema | Regex | Choice | ToolCalls, schema: Schema, trigger_id: int | None = None
) -> str:
    """Return the grammar of a constraint.

    Args:
        constraint: Any but a grammar, which is one already.
        schema: See `Schema`.
        trigger_id: Id of the special token that a trigger also is; None: it is letters alone.

    Raises:
        ValueError: There is nothing to choose from, or a text has half of a surrogate pair, which no model writes.
    """
    if isinstance(constraint, Regex):
        return f"{HEAD}start: TEXT\nTEXT: /{_within_slashes(constraint.pattern)}/\n"
    if isinstance(constraint, Choice):
        if not constraint.options:
            raise ValueError("no option is given; name one at least")
        return f"{HEAD}start: {' | '.join(map(literal, constraint.options))}\n"
    if isinstance(constraint, ToolCalls):
        return HEAD + _calls(constraint, schema, trigger_id)
    return f"{HEAD}start: {_json(constraint, schema)}\n"


def literal(text: str) -> str:
    """Return a text as Lark writes it.

    Raises:
        ValueError: It has half of a surrogate pair.
    """
    _check_whole(text)
    if any(letter < " " and letter not in "\n\r\t" for letter in text):
        return f"/{''.join(map(_escaped, text))}/"
    return json.dumps(text, ensure_ascii=False)


def _check_whole(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError("it has half of a surrogate pair; send whole characters") from error


def _escaped(letter: str) -> str:
    return letter if letter.isalnum() else f"\\x{{{ord(letter):x}}}"


def _json(constraint: AnyJsonObject | JsonSchema, schema: Schema) -> str:
    if isinstance(constraint, AnyJsonObject):
        return _inline({"type": "object"}, _ONE_BLANK)
    spaces = _ONE_BLANK if constraint.whitespace else _COMPACT
    return _inline(schema(constraint.schema, constraint.param), spaces)


def _inline(schema: Any, spaces: dict[str, object]) -> str:
    fields = {"x-guidance": spaces, **schema} if isinstance(schema, dict) else schema
    return f"%json {json.dumps(fields)}"


def _within_slashes(pattern: str) -> str:
    """Return a regular expression that matches as a whole, without the marks of both ends that say so."""
    pattern = pattern.removeprefix("^")
    if re.search(r"(?<!\\)(\\\\)*\$\Z", pattern):
        pattern = pattern[:-1]
    _check_whole(pattern)
    if re.search(r"(?<!\\)(\\\\)*\\\Z", pattern):
        raise ValueError("a backslash stands at its end; write it twice, or leave it out")
    return re.sub(r"\\.|[/\n\r]", lambda found: _SLASHED.get(found[0], found[0]), pattern, flags=re.DOTALL)


_SLASHED = {"/": "\\/", "\n": "\\n", "\r": "\\r", "\\\n": "\\n", "\\\r": "\\r"}


def _calls(calls: ToolCalls, schema: Schema, trigger_id: int | None) -> str:
    token = None if trigger_id is None else f"<[{trigger_id}]>"
    trigger = literal(calls.trigger)
    lines = [f"start: {_start(calls)}", f"form: {_any_of('form', len(calls.forms))}"]
    if calls.required or calls.otherwise is not None:
        lines.append(f"call: {_or(trigger, token)} form")
    else:
        lines += [f"TEXT: {_ANY}", f"announced[lazy]: TEXT {trigger}"]
        lines.append(f"call: {_or('announced', token and f'TEXT {token}')} form")
    if calls.otherwise is not None:
        lines.append(f"otherwise: {_json(calls.otherwise, schema)}")
    for index, form in enumerate(calls.forms):
        if not form.begin.startswith(calls.trigger):
            raise RuntimeError("the form of a call does not begin with its trigger")
        arguments = _inline(schema(form.schema, form.param), _ONE_BLANK)
        parts = [_some(form.begin[len(calls.trigger) :]), arguments, _some(form.end)]
        lines.append(f"form_{index}: {' '.join(filter(None, parts))}")
    return "\n".join(lines) + "\n"


def _start(calls: ToolCalls) -> str:
    if calls.required or calls.otherwise is not None:
        several = f"call ({_some(calls.between)} call)*" if calls.parallel else "call"
        return several if calls.required else f"otherwise | {several}"
    return "call* TEXT" if calls.parallel else "TEXT | call"


def _any_of(name: str, count: int) -> str:
    return " | ".join(f"{name}_{index}" for index in range(count))


def _or(first: str, second: str | None) -> str:
    return first if second is None else f"({first} | {second})"


def _some(text: str) -> str:
    return literal(text) if text else ""
