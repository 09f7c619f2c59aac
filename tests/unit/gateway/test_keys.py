"""API keys in the Secret, and how many requests each may send."""

import json
from datetime import UTC, datetime
from secrets import token_urlsafe

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vicuna_server.gateway.keys import KeyRing, hash_of
from vicuna_server.gateway.rates import Rates


def _entry(token: str, **fields: object) -> bytes:
    return json.dumps({"sha256": hash_of(token), **fields}).encode()


def test_a_key_is_found_by_its_token_alone() -> None:
    token = token_urlsafe()
    ring = KeyRing.parse({"alice": _entry(token, models=["a/*", "*/vicuna"]), "bob": _entry(token_urlsafe())})
    key = ring.find(token)
    assert key is not None
    assert (key.name, key.sha256) == ("alice", hash_of(token))
    assert ring.find(key.sha256) is None
    assert ring.find(token_urlsafe()) is None
    assert [model for model in ("a/x", "b/x", "b/vicuna") if key.may_use(model)] == ["a/x", "b/vicuna"]


def test_a_default_namespace_allows_nothing() -> None:
    key = KeyRing.parse({"alice": _entry("secret", models=["a/*"], defaultNamespace="b")}).find("secret")
    assert key is not None
    assert (key.default_namespace, key.namespaces) == ("b", frozenset({"a"}))
    assert not key.may_use("b/x")


def test_a_key_never_shows_its_hash() -> None:
    key = KeyRing.parse({"alice": _entry("secret")}).find("secret")
    assert key is not None
    assert hash_of("secret") not in repr(key)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "not a JSON object"),
        (b"[]", "not a JSON object"),
        (b"{}", "sha256"),
        (b'{"sha256": "abc"}', "sha256"),
        (_entry("x", requestsPerMinute=0), "requestsPerMinute"),
        (_entry("x", tokensPerMinute=0), "tokensPerMinute"),
        (_entry("x", tokensPerDay=1.5), "tokensPerDay"),
        (_entry("x", tokensPerDay=10**400), "tokensPerDay"),
        (_entry("x", expires="tomorrow"), "expires"),
        (_entry("x", model=["a/*"]), "model"),
        (_entry("x", requestsPerMinute=10**400), "requestsPerMinute"),
        (_entry("x", defaultNamespace="Team A"), "defaultNamespace"),
        (_entry("x", defaultNamespace="*"), "defaultNamespace"),
        (b"[" * 5000, "not a JSON object"),
        (b'{"sha256":' + b"[" * 100_000, "not a JSON object"),
        (b'{"models": ' + b"9" * 5000 + b"}", "not a JSON object"),
    ],
)
def test_a_broken_entry_opens_nothing_and_spoils_no_other(content: bytes, problem: str) -> None:
    ring = KeyRing.parse({"broken": content, "good": _entry("token")})
    assert problem in ring.broken["broken"]
    assert len(ring) == 1
    assert ring.find("token") is not None


@given(st.dictionaries(st.text(max_size=5), st.binary(max_size=200), max_size=3))
def test_whatever_a_secret_holds_is_a_key_or_named_as_broken(entries: dict[str, bytes]) -> None:
    assert KeyRing.parse(entries).broken.keys() == entries.keys()


@pytest.mark.parametrize("expires", ["2027-01-01T00:00:00Z", "2027-01-01T00:00:00", "2027-01-01T02:00:00+02:00"])
def test_a_key_ends_at_its_time(expires: str) -> None:
    key = KeyRing.parse({"k": _entry("t", expires=expires)}).find("t")
    assert key is not None
    assert not key.expired(datetime(2026, 12, 31, 23, 59, 59, tzinfo=UTC))
    assert key.expired(datetime(2027, 1, 1, tzinfo=UTC))


def test_a_key_may_ask_its_rate_and_each_replica_grants_its_share() -> None:
    now = [100.0]
    rates = Rates(lambda: now[0])
    assert [rates.take("k", 4) for _ in range(4)] == [0] * 4
    assert rates.take("k", 4) == 61
    assert rates.take("other", 4) == 0
    assert rates.take("k", None) == 0
    now[0] += 61
    assert rates.take("k", 4) == 0
    rates.replicas = 2
    assert [rates.take("k", 4) > 0 for _ in range(2)] == [False, True]
    now[0] += 3600
    assert [rates.take("k", 4) > 0 for _ in range(3)] == [False, False, True]


def test_no_minute_has_more_requests_than_the_limit() -> None:
    now, let_in = [0.0], []
    rates = Rates(lambda: now[0])
    for _ in range(1000):
        now[0] += 0.3
        if not rates.take("k", 60):
            let_in.append(now[0])
    assert max(sum(1 for at in let_in if end - 60 < at <= end) for end in let_in) == 60
    assert len(let_in) >= 240
