"""What is believed of a server's list of models, and what is known of a model with several revisions."""

import json
from typing import Any

import pytest

from vicuna_server.gateway.abilities import NOTHING, Abilities, common, read_abilities
from vicuna_server.gateway.catalogue import Endpoint
from vicuna_server.gateway.known_abilities import KnownAbilities, ask_again_after, source_of
from vicuna_server.protocol.models import Capabilities

ALL: Capabilities = {
    "chat": True,
    "completions": True,
    "embeddings": False,
    "tools": "native",
    "tool_format": "hermes",
    "reasoning": False,
}
KEY = ("team", "tiny")
ONE, SAME, OTHER = (
    Endpoint("http://10.0.0.1:8000", "aaaaaaaa"),
    Endpoint("http://10.0.0.2:8000", "aaaaaaaa"),
    Endpoint("http://10.0.0.3:8000", "bbbbbbbb"),
)


def _list(**fields: Any) -> bytes:
    entries = [{"id": "another", "max_model_len": 7}, {"id": "tiny", "object": "model", **fields}]
    return json.dumps({"object": "list", "data": entries}).encode()


def test_the_entry_of_the_model_is_read() -> None:
    assert read_abilities(_list(max_model_len=4096, capabilities=ALL), "tiny") == Abilities(4096, ALL)
    assert read_abilities(_list(max_model_len=4096), "another") == Abilities(7)
    assert read_abilities(_list(max_model_len=4096), "elsewhere") == NOTHING


def test_fields_that_are_not_known_are_left_out() -> None:
    told = read_abilities(_list(max_model_len=1, capabilities={**ALL, "evil": "<script>"}, owned_by="evil"), "tiny")
    assert told == Abilities(1, ALL)


def test_an_older_server_tells_nothing() -> None:
    assert read_abilities(_list(), "tiny") == NOTHING


@pytest.mark.parametrize("length", [0, -1, 2**31, 10**400, 1.5, "4096", True, None, [1], {}])
def test_a_context_out_of_bounds_is_not_believed(length: object) -> None:
    assert read_abilities(_list(max_model_len=length, capabilities=ALL), "tiny") == Abilities(None, ALL)


_WRONG: dict[str, list[object]] = {
    **{name: [1, None, "true"] for name in ("chat", "completions", "embeddings", "reasoning")},
    "tools": ["<b>", True, [], {}, 0, ""],
    "tool_format": ["", "x" * 33, "<b>", "a b", "hermes\n", "é", 1, [], {}],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in _WRONG.items() for value in values])
def test_capabilities_of_another_form_are_not_believed(name: str, value: object) -> None:
    assert read_abilities(_list(max_model_len=9, capabilities={**ALL, name: value}), "tiny") == Abilities(9)


@pytest.mark.parametrize("name", ALL)
def test_capabilities_with_one_missing_are_not_believed(name: str) -> None:
    rest = {each: value for each, value in ALL.items() if each != name}
    assert read_abilities(_list(capabilities=rest), "tiny") == NOTHING


@pytest.mark.parametrize("capabilities", [None, [], "x", 1, [ALL], {}])
def test_capabilities_that_are_no_object_are_not_believed(capabilities: object) -> None:
    assert read_abilities(_list(capabilities=capabilities), "tiny") == NOTHING


@pytest.mark.parametrize(
    "text",
    [
        *[b"", b"x", b"[]", b"{}", b"null", b"\xff\xfe", b"[" * 60_000, b'{"data":{}}', b'{"data":null}'],
        *[b'{"data":[1,null,[],"tiny"]}', b'{"data":[{"id":["tiny"]}]}', b'{"data":' + b"9" * 5000 + b"}"],
    ],
)
def test_no_bytes_raise(text: bytes) -> None:
    assert read_abilities(text, "tiny") == NOTHING


def test_of_several_the_shortest_context_counts_and_capabilities_that_all_agree_on() -> None:
    without: Capabilities = {**ALL, "chat": False}
    assert common([]) == NOTHING
    assert common([Abilities(8, ALL), NOTHING, Abilities(4, ALL), Abilities(6)]) == Abilities(4, ALL)
    assert common([Abilities(8, ALL), Abilities(8, without)]) == Abilities(8)


def test_a_revision_is_asked_once_whatever_its_number_of_pods() -> None:
    known = KnownAbilities()
    assert known.follow(KEY, [ONE]) == ({"aaaaaaaa"}, set())
    assert known.follow(KEY, [ONE, SAME]) == (set(), set())
    assert known.follow(KEY, [SAME]) == (set(), set())
    assert known.follow(KEY, [SAME, OTHER]) == ({"bbbbbbbb"}, set())


def test_what_a_revision_told_is_forgotten_with_its_last_endpoint() -> None:
    known = KnownAbilities()
    known.follow(KEY, [ONE, SAME, OTHER])
    known.tell(KEY, "aaaaaaaa", Abilities(4))
    known.tell(KEY, "bbbbbbbb", Abilities(8))
    assert known.of(KEY) == Abilities(4)
    assert known.follow(KEY, [OTHER]) == (set(), {"aaaaaaaa"})
    assert known.of(KEY) == Abilities(8)
    assert known.follow(KEY, [ONE, OTHER]) == ({"aaaaaaaa"}, set()), "asked again"
    assert known.of(KEY) == Abilities(8)
    assert known.follow(KEY, []) == (set(), {"aaaaaaaa", "bbbbbbbb"})
    known.tell(KEY, "bbbbbbbb", Abilities(8))
    assert known.of(KEY) == NOTHING, "it came too late"
    assert known._told == {}


def test_a_server_without_a_revision_is_a_source_of_its_own() -> None:
    assert [source_of(each) for each in (ONE, Endpoint("http://a:1"))] == ["aaaaaaaa", "http://a:1"]


def test_waits_grow_up_to_five_minutes() -> None:
    assert [ask_again_after(tries) for tries in (1, 2, 3, 9, 10, 10**6)] == [1, 2, 4, 256, 300, 300]
