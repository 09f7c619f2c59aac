"""Schemas that nobody wrote: whatever an engine answers under one is valid under it, or ends with "length"."""

import asyncio
import json
import random
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from support.schemas import SCHEMAS
from support.serving import tiny_engine, write_tiny_model
from vicuna_server.constraints import JsonSchema
from vicuna_server.engine import GenerationRequest
from vicuna_server.engine.grammar.matching import BYTES, byte_tokenizer, make_matcher
from vicuna_server.engine.grammar.process import grammar_of
from vicuna_server.engine.scripted.grammar import sample

pytestmark = pytest.mark.long  # hundreds of schemas; a model
MOST_STEPS = 400

_small = st.integers(-20, 20)
_values = st.none() | st.booleans() | _small | st.text(max_size=4)
_names = st.sampled_from(["a", "b", "größe", 'q"\\', "x y", "const", "items"])


def _bounded(kind: str, low: str, high: str, most: int) -> st.SearchStrategy[Any]:
    numbers = st.tuples(st.integers(0, most), st.integers(0, most)).map(sorted)
    return numbers.map(lambda pair: {"type": kind, low: pair[0], high: pair[1]})


def _objects(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    def build(properties: dict[str, Any], chosen: list[bool], more: Any) -> dict[str, Any]:
        required = [name for name, wanted in zip(properties, chosen, strict=False) if wanted]
        extra = {} if more is None else {"additionalProperties": more}
        return {"type": "object", "properties": properties, "required": required, **extra}

    several = st.dictionaries(_names, inner, max_size=3)
    return st.builds(build, several, st.lists(st.booleans(), min_size=3, max_size=3), st.none() | st.booleans() | inner)


def _larger(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    arrays = st.builds(
        lambda bounds, items: {**bounds, "items": items}, _bounded("array", "minItems", "maxItems", 3), inner
    )
    tuples = st.lists(inner, min_size=1, max_size=2).map(
        lambda items: {"type": "array", "prefixItems": items, "items": False, "minItems": len(items)}
    )
    unions = st.lists(inner, min_size=1, max_size=3).map(lambda several: {"anyOf": several})
    return _objects(inner) | arrays | tuples | unions


_leaves = st.one_of(
    _values.map(lambda value: {"const": value}),
    st.lists(_values, min_size=1, max_size=4).map(lambda values: {"enum": values}),
    _bounded("string", "minLength", "maxLength", 6),
    _bounded("integer", "minimum", "maximum", 40),
    st.integers(1, 7).map(lambda step: {"type": "integer", "multipleOf": step}),
    st.sampled_from([{"type": "boolean"}, {"type": "null"}, {"type": ["integer", "null"], "maximum": 9}]),
    st.sampled_from(["^a[0-9]{1,3}$", "x", "^(ab|cd)+$"]).map(lambda pattern: {"type": "string", "pattern": pattern}),
)
schemas = st.recursive(_leaves, _larger, max_leaves=8)


def walked(text: str, dice: random.Random) -> str | None:
    """Return what a model without any sense writes; None where it comes to no end."""
    matcher = make_matcher(byte_tokenizer(), text)
    written = bytearray()
    while len(written) < MOST_STEPS:
        mask = matcher.compute_bitmask()
        allowed = [token for token in range(BYTES + 1) if mask[token // 8] >> token % 8 & 1]
        assert allowed, bytes(written)
        token = dice.choice(allowed)
        if token == BYTES:
            return written.decode()
        written.append(token)
        assert matcher.consume_token(token)
        if matcher.is_stopped():
            return written.decode()
    return None


@settings(max_examples=100)
@given(schemas, st.integers(0, 2**32))
@example(
    {"type": "object", "properties": {'q"\\': {"const": None}}, "required": ['q"\\'], "additionalProperties": True}, 0
)
def test_a_text_that_the_grammar_allows_is_valid(schema: dict[str, Any], seed: int) -> None:
    made = grammar_of(JsonSchema(json.dumps(schema)))
    if "text" not in made:
        assert "nsatisfiable" in made["fault"] or "allows no text" in made["fault"], (schema, made)
        return
    jsonschema.validate(json.loads("".join(sample(made["text"]))), schema)
    if (text := walked(made["text"], random.Random(seed))) is not None:
        jsonschema.validate(json.loads(text), schema)


async def test_a_model_without_any_sense_under_the_schemas_that_clients_send(tmp_path: Path) -> None:
    async with tiny_engine(write_tiny_model(tmp_path / "model"), max_concurrency=40) as engine:

        async def answer(schema: Any, seed: int) -> bool:
            constraint = JsonSchema(json.dumps(schema))
            request = GenerationRequest("x", 200, temperature=1.0, seed=seed, constraint=constraint)
            async with await engine.submit(request) as generation:
                chunks = [chunk async for chunk in generation]
            if chunks[-1].finish_reason == "length":
                return False
            value = json.loads("".join(chunk.text for chunk in chunks))
            jsonschema.validate(value, schema, format_checker=jsonschema.FormatChecker())
            return True

        ended = await asyncio.gather(*(answer(schema, seed) for schema in SCHEMAS.values() for seed in range(2)))
    assert sum(ended) > len(SCHEMAS) / 2
