"""Makes a constraint's grammar and tries it, in a process that has limits of time and memory; `compiling` asks it."""

import json
import re
from collections.abc import Iterable
from typing import Any

from llguidance import LLMatcher
from llguidance.gbnf_to_lark import any_to_lark

from vicuna_contract.printable import printable
from vicuna_server.constraints import Choice, Constraint, Grammar, JsonSchema, Regex, ToolCalls
from vicuna_server.engine.child_process import Answers, work
from vicuna_server.engine.grammar.lark import HEAD, lark_of
from vicuna_server.engine.grammar.matching import byte_tokenizer, make_matcher
from vicuna_server.engine.grammar.schema import MOST_LETTERS, SchemaError, cleaned, subschemas
from vicuna_server.engine.grammar.wire import read

__all__ = ["MOST_SECONDS", "grammar_of"]

MOST_SECONDS = 2
"""Of processor time for one constraint; a schema of 100 KiB needs a tenth."""
_MOST_QUOTED = 300
"""Letters of the library's own words in a message."""
_MOST_TRIED = 1000
"""Schemas within a schema that are tried alone, to find the one at fault."""


class _FaultError(Exception):
    """A constraint cannot be honoured: in which field, and why."""

    def __init__(self, param: str, why: str) -> None:
        super().__init__(why)
        self.told = {"fault": why, "param": param}


def grammar_of(constraint: Constraint, trigger_id: int | None = None) -> dict[str, Any]:
    """Return the grammar as `text`, or why there is none as `fault` and where as `param`."""
    try:
        return {"text": _grammar(constraint, trigger_id)}
    except _FaultError as fault:
        return fault.told


def _grammar(constraint: Constraint, trigger_id: int | None) -> str:
    schemas: dict[tuple[str, str], Any] = {}

    def schema(text: str, param: str) -> Any:
        if (param, text) not in schemas:
            schemas[param, text] = _schema(text, param)
        return schemas[param, text]

    if isinstance(constraint, Grammar):
        text = whole = _from_notation(constraint)
    else:
        try:
            # Tried with the trigger as letters: the tokenizer here has no special tokens.
            text, whole = lark_of(constraint, schema), lark_of(constraint, schema, trigger_id)
        except ValueError as error:
            raise _FaultError(_param(constraint), str(error)) from error
    if why := _why_not(text):
        for (param, _), one in schemas.items():
            _blame(one, param)
        raise _FaultError(_param(constraint), _sentence(why))
    return whole


def _from_notation(grammar: Grammar) -> str:
    try:
        return HEAD + str(any_to_lark(grammar.text))
    except (MemoryError, RecursionError):
        raise
    except Exception as error:  # the reader of GBNF raises bare exceptions
        raise _FaultError(grammar.param, _sentence(str(error))) from error


def _schema(text: str, param: str) -> Any:
    if len(text) > MOST_LETTERS:
        raise _FaultError(param, f"{len(text)} letters of JSON, and {MOST_LETTERS} are the most; send a smaller schema")
    try:
        schema = cleaned(json.loads(text))
    except SchemaError as error:
        raise _FaultError(_place(param, error.path), error.why) from error
    except ValueError as error:
        raise _FaultError(param, f"not valid JSON ({error}); send a JSON Schema") from error
    if schema is False:
        raise _FaultError(param, "the schema false allows nothing; send one that allows something")
    return {} if schema is True else schema


def _why_not(text: str) -> str:
    """Return why a grammar cannot be used; nothing where it can."""
    try:
        matcher = make_matcher(byte_tokenizer(), text)
    except ValueError as error:
        return str(error)
    mask = matcher.compute_bitmask()
    return "" if any(mask) and not matcher.is_error() else "it allows no text at all"


def _blame(whole: Any, param: str) -> None:
    """Raise the fault of the innermost of the schemas within one that cannot be used alone, if there is one."""
    named = {key: whole[key] for key in ("$defs", "definitions") if key in whole}
    for tried, (path, one) in enumerate(subschemas(whole)):
        if isinstance(one, bool) or tried >= _MOST_TRIED:
            continue
        grammar = LLMatcher.grammar_from_json_schema(json.dumps({**named, **one}))
        why = LLMatcher.validate_grammar(grammar)
        if why and "Pointer" not in why:  # one that points to elsewhere cannot be tried alone
            at = (*path, "pattern") if "egex" in why and "pattern" in one else path
            raise _FaultError(_place(param, at), _sentence(why))


def _place(param: str, path: Iterable[str | int]) -> str:
    return ".".join((param, *map(str, path)))


def _param(constraint: Constraint) -> str:
    if isinstance(constraint, JsonSchema | Regex | Choice | Grammar):
        return constraint.param
    return "tools" if isinstance(constraint, ToolCalls) else "response_format"


def _sentence(why: str) -> str:
    """Return the library's words without the lines of our text that it quotes."""
    lines = [line.strip() for line in why.splitlines() if not _QUOTED_LINE.match(line)]
    words = _PLACE.sub("", " ".join(filter(None, lines)))
    return f"it cannot be enforced: {printable(words)[:_MOST_QUOTED]}"


_QUOTED_LINE = re.compile(r"\s*([0-9]+ \||\^+\s*$)")
_PLACE = re.compile(r"^(at )?[0-9]+\([0-9]+\): (failed to compile JSON schema: )?")


def _opened(first: Any) -> Answers:
    del first
    byte_tokenizer()
    return lambda asked: grammar_of(read(asked["constraint"]), asked["trigger_id"])


if __name__ == "__main__":
    work(_opened)
