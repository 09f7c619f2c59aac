"""Slots of the store: what is read, what is written, which one is taken."""

import json
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import jsonschema
import pytest

from support import crd_schema
from vicuna_contract.usage import OTHER
from vicuna_server.gateway.slot import MOST_BYTES, MOST_ROWS, Slot, Usage, bounded, bounded_claims, lowest_free

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)
FRESH = Slot.fresh("sys", "gw", "2026-11-30")
FULL = replace(
    FRESH,
    holder="gw-a/1",
    write=7,
    former=(("gw-b/2", 3),),
    renewed=NOW,
    usage=Counter({("alice", "team/x", "requests"): 2, ("alice", "team/x", "promptTokens"): 30}),
    claims={"alice": 500},
)


def _slot(number: int, holder: str = "", age: float = 0.0) -> Slot:
    metadata = {"name": f"gw-2026-11-30-{number}", "resourceVersion": "1"}
    return Slot(metadata, "2026-11-30", holder=holder, renewed=NOW - timedelta(seconds=age))


def test_what_is_written_is_read_again_and_fits_the_definition() -> None:
    body = json.loads(json.dumps(FULL.body()))
    assert Slot.of(body) == FULL
    schema = crd_schema.schema("vicunausages")
    assert crd_schema.pruned(
        {k: v for k, v in body.items() if k not in ("apiVersion", "kind", "metadata")}, schema
    ) == {k: v for k, v in body.items() if k not in ("apiVersion", "kind", "metadata")}
    jsonschema.Draft4Validator(schema).validate(body)
    assert body["metadata"]["labels"]["vicuna.dev/day"] == "2026-11-30"


@pytest.mark.parametrize(
    "odd",
    [
        {},
        {"usage": "x", "claims": 3, "renewedAt": 7, "holder": None, "write": -1},
        {"usage": [None, {"key": 1}, {"key": "a", "model": "m", "requests": "x", "promptTokens": -5}]},
        {"claims": [None, {"tokens": 5}, {"key": "a", "tokens": True}], "renewedAt": "2026-11-30T00:00:00"},
    ],
)
def test_an_object_that_somebody_else_wrote_is_read_as_far_as_it_can_be(odd: dict[str, Any]) -> None:
    slot = Slot.of({"metadata": {"name": "gw-2026-11-30-0"}, **odd})
    assert not slot.usage
    assert not slot.tokens()["a"]
    Slot.of(slot.body())


def test_of_a_key_counts_what_was_used_or_claimed() -> None:
    assert FULL.tokens() == {"alice": 500}
    assert replace(FULL, claims={"alice": 20, "bob": 5}).tokens() == {"alice": 30, "bob": 5}


def test_the_first_slot_is_taken_whose_holder_is_gone() -> None:
    def taken(*slots: Slot, ended: str = "") -> str:
        return lowest_free(slots, FRESH, NOW, ended).name

    assert taken() == "gw-2026-11-30-0"
    assert taken(_slot(0, "a/1", 29)) == "gw-2026-11-30-1"
    assert taken(_slot(0, "a/1", 31), _slot(1)) == "gw-2026-11-30-0"
    assert taken(_slot(2), _slot(0, "a/1"), _slot(1, "b/1", 40)) == "gw-2026-11-30-1"
    assert taken(_slot(0, "a/1"), ended="a/") == "gw-2026-11-30-0"
    assert taken(_slot(0, "a/1"), _slot(2, "b/1")) == "gw-2026-11-30-1"
    assert taken(Slot({"name": "hand-made"}, "2026-11-30")) == "gw-2026-11-30-0"
    assert "resourceVersion" not in lowest_free([_slot(0, "a/1")], FRESH, NOW, "").metadata


def test_an_object_does_not_outgrow_its_room() -> None:
    long = "k" * 253
    many: Usage = Counter({(f"key-{n}", "team/x", "promptTokens"): 1 for n in range(MOST_ROWS + 5)})
    sums = bounded(Counter(), many)
    assert sums[OTHER, OTHER, "promptTokens"] == 5
    assert sums.total() == many.total()
    known = bounded(sums, Counter({("key-0", "team/x", "promptTokens"): 1, ("new", "team/x", "promptTokens"): 1}))
    assert (known["key-0", "team/x", "promptTokens"], known[OTHER, OTHER, "promptTokens"]) == (2, 6)
    large: Usage = Counter({(f"{long}{n}", "m" * 192, "completionTokens"): 2**40 for n in range(MOST_ROWS)})
    body = replace(FULL, usage=bounded(Counter(), large)).body()
    assert len(json.dumps(body, separators=(",", ":"))) < MOST_BYTES * 1.1
    claims = bounded_claims({f"{long}{n}": n for n in range(10_000)})
    assert 800 < len(claims) < 1000
    assert min(claims.values()) == 10_000 - len(claims)
