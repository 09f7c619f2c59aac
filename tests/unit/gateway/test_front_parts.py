"""Capacity for requests, addresses behind proxies, and the limits of the process."""

import resource
from functools import partial
from ipaddress import ip_network
from pathlib import Path

import pytest

from vicuna_server.errors import OverloadedError
from vicuna_server.gateway import limits
from vicuna_server.gateway.addresses import Proxies
from vicuna_server.gateway.admission import Capacity
from vicuna_server.machine import memory_limit
from vicuna_server.protocol.quoting import quoted


def test_bytes_are_counted_for_each_key_and_in_all_and_given_back() -> None:
    capacity = Capacity(max_requests=3, body_bytes=100)
    one, two, three = capacity.admit("a"), capacity.admit("a"), capacity.admit("b")
    with pytest.raises(OverloadedError) as full:
        capacity.admit("c")
    assert (full.value.status, full.value.retry_after) == (503, 1)
    one.add_body(30)
    two.add_body(20)
    with pytest.raises(OverloadedError) as share:
        two.add_body(1)
    assert (share.value.status, share.value.code) == (429, "bodies_too_large")
    three.add_body(50)
    with pytest.raises(OverloadedError):
        three.add_body(1)
    one.release()
    three.add_body(0)
    two.add_body(1)
    for admitted in (two, three):
        admitted.release()
    assert (capacity.requests, capacity.bytes, len(capacity._bytes_of)) == (0, 0, 0)


def test_where_keys_are_not_used_there_is_no_share() -> None:
    capacity = Capacity(max_requests=3, body_bytes=100)
    capacity.admit("").add_body(100)
    with pytest.raises(OverloadedError) as full:
        capacity.admit("").add_body(1)
    assert full.value.status == 503


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("10.0.0.1", ["1.2.3.4"], "1.2.3.4"),
        ("10.0.0.1", ["6.6.6.6, 1.2.3.4"], "1.2.3.4"),
        ("10.0.0.1", ["6.6.6.6, 1.2.3.4, 10.9.9.9"], "1.2.3.4"),
        ("10.0.0.1", ["6.6.6.6", "1.2.3.4"], "1.2.3.4"),
        ("10.0.0.1", ["1.2.3.4:5678"], "1.2.3.4"),
        ("10.0.0.1", ["[2001:db8::1]:5678"], "2001:db8::1"),
        ("10.0.0.1", ["2001:db8::1"], "2001:db8::1"),
        ("10.0.0.1", ["unknown"], "10.0.0.1"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("::ffff:10.0.0.1", ["1.2.3.4"], "1.2.3.4"),
        ("fd00::1", ["1.2.3.4"], "1.2.3.4"),
        ("5.5.5.5", ["1.2.3.4"], "5.5.5.5"),
        ("", ["1.2.3.4"], ""),
    ],
)
def test_a_forwarded_address_is_believed_as_far_as_trusted_proxies_wrote_it(
    peer: str, forwarded: list[str], client: str
) -> None:
    assert Proxies([ip_network("10.0.0.0/8"), ip_network("fd00::/8")]).client(peer, forwarded) == client
    assert Proxies().client(peer, forwarded) == peer


@pytest.mark.parametrize(
    ("content", "bytes_"),
    [("536870912\n", 128 * 2**20), ("max\n", 128 * 2**20), (f"{2**63 - 4096}\n", 128 * 2**20), ("1073741824", 2**28)],
)
def test_bodies_get_a_quarter_of_the_containers_memory(content: str, bytes_: int, tmp_path: Path) -> None:
    for version, name in (("2", "memory.max"), ("1", "memory/memory.limit_in_bytes")):
        file = tmp_path / version / name
        file.parent.mkdir(parents=True)
        file.write_text(content)
        assert limits.body_memory(partial(memory_limit, tmp_path / version)) == bytes_


@pytest.mark.parametrize(
    ("soft", "most"), [(2**20, 3000), (resource.RLIM_INFINITY, 3000), (1024, 480), (256, 96), (20, 16)]
)
def test_each_connection_has_two_descriptors(soft: int, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, soft))
    assert limits.most_connections(3000) == most


@pytest.mark.parametrize("text", ["", "m", "a'b", "\x1b[0m\n", "\ud800", "x" * 200])
def test_a_short_text_is_quoted_whole(text: str) -> None:
    assert quoted(text) == repr(text)


@pytest.mark.parametrize("text", ["x" * 201, "\n" * 150, "\U000e0001" * 900_000])
def test_a_long_one_is_cut_and_prints(text: str) -> None:
    shown = quoted(text)
    assert len(shown) < 240
    assert shown.isprintable()
    assert f"({len(text)} characters)" in shown
