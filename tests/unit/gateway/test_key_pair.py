"""Key pairs in the Secret: made once, rotated only on request, and so that all pods know the new key."""

import pytest

from support.signing import Pair
from vicuna_contract.signing import joined, public_keys
from vicuna_server.errors import InputError
from vicuna_server.gateway.key_pair import KeyPairs

PAIR = Pair()


def test_fresh_ones_are_two_and_all_different() -> None:
    one, two = KeyPairs.fresh(), KeyPairs.fresh()
    keys = {*public_keys(one.public()), *public_keys(two.public())}
    assert len(keys) == 4
    assert KeyPairs.of(one.entries()) == one


def test_nothing_changes_unless_another_rotation_is_asked_for() -> None:
    pairs = KeyPairs.fresh("2026")
    assert pairs.rotated("") is pairs
    assert pairs.rotated("2026") is pairs
    later = pairs.rotated("2027")
    assert later.rotated("2026") is later, "to go back to an earlier release rotates nothing"


def test_a_rotation_uses_the_key_that_pods_know_and_tells_of_the_next() -> None:
    first = KeyPairs.fresh()
    second = first.rotated("a")
    third = second.rotated("b")
    assert (second.current, second.rotations) == (first.next, ("a",))
    known, told = public_keys(first.public()), public_keys(second.public())
    assert told[:2] == known, "gateways that have not started anew still sign with the former key"
    assert len(told) == 3
    assert public_keys(third.public())[:2] == told[1:], "of former keys only the last is kept"
    assert KeyPairs.of(third.entries(), ("a", "b")) == third


def test_a_pair_of_ones_own_needs_no_next_until_it_is_rotated() -> None:
    own = KeyPairs.of({"current": PAIR.pem})
    assert own.public() == joined([PAIR.public])
    assert own.rotated("") is own
    with pytest.raises(InputError, match="next"):
        own.rotated("a")


@pytest.mark.parametrize(
    ("entries", "named"),
    [
        ({}, "current"),
        ({"current": b"x"}, "current"),
        ({"current": PAIR.pem, "next": b"\xff"}, "next"),
        ({"current": PAIR.pem, "previous-public": b"\xff"}, "previous-public"),
        ({"current": PAIR.pem, "previous-public": b"AAAA"}, "previous-public"),
    ],
)
def test_what_is_broken_is_named_and_not_replaced(entries: dict[str, bytes], named: str) -> None:
    with pytest.raises(InputError, match=named):
        KeyPairs.of(entries)
