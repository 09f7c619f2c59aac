"""What is kept of responses: for whom, how much, how long."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vicuna_contract.serve_arguments import ServeArguments
from vicuna_server.api.cli import _kept_responses
from vicuna_server.api.responses.store import SHARE, ResponseStore, StoreLimits, written


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def response(ident: str, text: str = "") -> dict[str, Any]:
    return {"id": ident, "output": [{"id": f"msg_{ident}", "type": "message", "text": text}]}


def put(store: ResponseStore, owner: str, ident: str, text: str = "", inputs: tuple[bytes, ...] = ()) -> bool:
    return store.put(owner, ident, response(ident, text), inputs)


def test_nobody_but_its_caller_finds_a_response() -> None:
    store = ResponseStore(StoreLimits())
    assert put(store, "a", "one", inputs=written([{"id": "msg_in"}]))
    kept = store.get("a", "one")
    assert kept is not None
    assert json.loads(kept.response) == response("one")
    assert [json.loads(item)["id"] for item in kept.items] == ["msg_in", "msg_one"]
    for owner, ident in (("b", "one"), ("", "one"), ("a", "two")):
        assert store.get(owner, ident) is None
        assert not store.delete(owner, ident)
        assert store.item(owner, "msg_one" if ident == "one" else "msg_two") is None
    item = store.item("a", "msg_one")
    assert item is not None
    assert item["id"] == "msg_one"
    assert store.delete("a", "one")
    assert (store.get("a", "one"), store.item("a", "msg_one"), store.size, len(store)) == (None, None, 0, 0)


def test_without_a_caller_nothing_is_kept() -> None:
    store = ResponseStore(StoreLimits())
    assert not store.has_room("", ())
    assert not put(store, "", "one")
    assert len(store) == 0
    none = ResponseStore(StoreLimits(responses=0))
    assert not none.has_room("a", ())
    assert not put(none, "a", "one")


def test_what_is_kept_goes_after_its_time() -> None:
    clock = Clock()
    store = ResponseStore(StoreLimits(seconds=10), clock)
    put(store, "a", "one")
    clock.now = 5
    put(store, "b", "two")
    clock.now = 9.9
    assert store.get("a", "one") is not None
    clock.now = 10
    assert store.get("a", "one") is None
    assert (store.get("b", "two") is not None, len(store)) == (True, 1)


def test_a_caller_takes_its_share_and_no_more() -> None:
    store = ResponseStore(StoreLimits(responses=8))
    for number in range(2):
        put(store, "other", f"other {number}")
    for number in range(10):
        put(store, "greedy", f"g{number}")
    kept = [f"g{number}" for number in range(10) if store.get("greedy", f"g{number}")]
    assert kept == ["g8", "g9"]
    assert store.get("other", "other 0") is not None
    assert store.get("other", "other 1") is not None


def test_the_oldest_of_all_goes_where_all_together_are_too_many() -> None:
    store = ResponseStore(StoreLimits(responses=4))
    for owner in "abcde":
        put(store, owner, owner)
    assert [owner for owner in "abcde" if store.get(owner, owner)] == ["b", "c", "d", "e"]


def test_what_is_larger_than_a_share_is_not_kept_and_pushes_nothing_out() -> None:
    store = ResponseStore(StoreLimits(size=40_000))
    put(store, "a", "one")
    assert not put(store, "a", "large", "x" * 10_000)
    assert not put(store, "a", "long", inputs=(b"x" * 10_000,))
    assert not store.has_room("a", (b"x" * 10_000,))
    assert store.has_room("a", (b"x" * 1000,))
    assert (store.get("a", "one") is not None, len(store)) == (True, 1)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["put", "put", "put", "delete", "wait"]), st.sampled_from("abcdef"), st.integers(0, 9_000)
    ),
    max_size=60,
)


@given(STEPS)
def test_its_bounds_hold_whatever_happens(steps: list[tuple[str, str, int]]) -> None:
    clock, limits = Clock(), StoreLimits(responses=8, size=40_000, seconds=100)
    store = ResponseStore(limits, clock)
    ids: list[tuple[str, str]] = []
    for number, (what, owner, size) in enumerate(steps):
        if what == "put":
            ident = f"r{number}"
            fits = put(store, owner, ident, "x" * (size // 2), (b"y" * (size // 2),))
            json_bytes = len(json.dumps(response(ident), separators=(",", ":"))) + size // 2
            assert fits == (json_bytes + size // 2 + 1024 + 64 <= limits.size // SHARE)
            if fits:
                ids.append((owner, ident))
                assert store.get(owner, ident) is not None
        elif what == "delete" and ids:
            store.delete(*ids[size % len(ids)])
        elif what == "wait":
            clock.now += size / 100
        kept = [(each, found) for each in ids if (found := store.get(*each))]
        assert len(kept) == len(store) <= limits.responses
        assert store.size == sum(found.size for _, found in kept) <= limits.size
        for owner in "abcdef":
            own = [found.size for each, found in kept if each[0] == owner]
            assert len(own) <= limits.responses // SHARE
            assert sum(own) <= limits.size // SHARE
        assert all(found.until > clock.now for _, found in kept)


@pytest.mark.parametrize("count", [1, 3])
def test_few_may_be_kept_too(count: int) -> None:
    store = ResponseStore(StoreLimits(responses=count))
    for number in range(5):
        assert put(store, "a", f"r{number}")
    assert len(store) == 1


@pytest.mark.parametrize(
    ("words", "limits"),
    [
        ([], StoreLimits()),
        (["--kept-responses", "0", "--kept-responses-memory", "1Mi", "--kept-responses-seconds", "5"],
         StoreLimits(0, 2**20, 5)),
    ],
)  # fmt: skip
def test_flags_say_how_much_is_kept(words: list[str], limits: StoreLimits) -> None:
    args = ServeArguments.from_argv(["serve", "--model", "m", *words])
    assert _kept_responses(args) == limits
    assert ("--kept-responses" in args.to_argv()) == bool(words)
