"""Which server keeps a response: by its id and the names of pods."""

import pytest

from vicuna_server.gateway.catalogue import Endpoint
from vicuna_server.gateway.holders import holders, referred_item
from vicuna_server.protocol.responses.ids import new_id, replica_of, replica_tag

A = Endpoint("http://a", replica=replica_tag("m-0123abcd-x-a"))
B = Endpoint("http://b", replica=replica_tag("m-0123abcd-x-b"))
STATIC = Endpoint("http://c")


def test_an_id_has_128_random_bits_and_names_its_server() -> None:
    tag = replica_tag("m-0123abcd-x-a")
    made = {new_id("resp", tag) for _ in range(100)}
    assert len(made) == 100
    assert all(replica_of(ident) == tag and len(ident) == len("resp_") + 12 + 32 for ident in made)
    assert tag not in "m-0123abcd-x-a"


@pytest.mark.parametrize(
    "ident", ["", "resp_1", "resp_" + "g" * 44, "resp_" + "0" * 45, "RESP_" + "0" * 44, "chatcmpl-" + "0" * 24]
)
def test_other_ids_name_no_server(ident: str) -> None:
    assert replica_of(ident) == ""
    assert holders([A, B, STATIC], ident) == []


def test_a_pods_name_counts_as_its_host_has_it() -> None:
    pod = "a" * 62 + "-" + "b" * 5
    assert replica_tag(pod) == replica_tag("a" * 62)
    assert replica_tag(pod) != replica_tag("a" * 61)


def test_the_server_that_an_id_names_keeps_it_or_one_whose_name_is_not_known() -> None:
    ident = new_id("resp", B.replica)
    assert holders([A, B, STATIC], ident) == [B]
    assert holders([A, STATIC], ident) == [STATIC]
    assert holders([A], ident) == []
    assert holders([], ident) == []


def test_an_item_that_a_body_refers_to_names_its_server() -> None:
    item = new_id("fc", B.replica)
    assert referred_item(b'{"input": [{"type": "item_reference", "id": "%b"}]}' % item.encode()) == item
    assert referred_item(b'{"input": [{"type": "message", "id": "%b"}]}' % item.encode()) == ""
    assert referred_item(b'{"input": [{"type": "item_reference", "id": "fc_1"}]}') == ""
    assert holders([A, B], item) == [B]
    assert holders([A, B], "") == []
