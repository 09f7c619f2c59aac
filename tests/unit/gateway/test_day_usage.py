"""A day's counts are written to a slot once, and none is lost, whatever happens to a write."""

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from vicuna_server.gateway.day_usage import DayUsage
from vicuna_server.gateway.quota import KeyUsage
from vicuna_server.gateway.slot import Slot

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)
DAY = "2026-11-30"
FRESH = Slot.fresh("sys", "gw", DAY)


def _day(me: str = "a/1", *slots: Slot) -> DayUsage:
    day = DayUsage(DAY, me)
    day.take(slots, FRESH, NOW, "")
    return day


def _stored(slot: Slot, version: str = "1") -> Slot:
    return replace(slot, metadata={**slot.metadata, "resourceVersion": version})


def _completion(slot: Slot) -> int:
    return slot.usage["alice", "m", "completionTokens"]


def test_what_is_counted_while_a_write_is_under_way_is_written_next() -> None:
    day = _day()
    day.count("alice", "m", 1, 10, 5)
    sent = day.filled(NOW)
    day.count("alice", "m", 0, 0, 3)
    day.wrote(sent, _stored(sent))
    assert not day.is_written
    again = day.filled(NOW)
    assert (_completion(sent), _completion(again)) == (5, 8)
    assert (again.holder, again.metadata["resourceVersion"]) == ("a/1", "1")
    day.wrote(again, _stored(again, "2"))
    assert day.is_written
    assert day.spent("alice") == 18


def test_a_write_without_an_answer_that_came_through_is_not_counted_again() -> None:
    day = _day()
    day.count("alice", "m", 1, 0, 5)
    first = day.filled(NOW)
    day.count("alice", "m", 0, 0, 2)
    day.filled(NOW)  # sent again; refused, since the first one is there
    day.lose()
    day.take([_stored(first)], FRESH, NOW, "")
    sent = day.filled(NOW)
    assert (sent.name, _completion(sent)) == (first.name, 7)
    day.wrote(sent, _stored(sent, "2"))
    assert day.is_written


def test_a_write_without_an_answer_that_did_not_come_through_is_written_again() -> None:
    day = _day()
    day.count("alice", "m", 1, 0, 5)
    sent = day.filled(NOW)
    day.wrote(sent, _stored(sent))
    day.count("alice", "m", 0, 0, 2)
    day.filled(NOW)
    day.lose()
    day.take([_stored(sent)], FRESH, NOW, "")
    assert _completion(day.filled(NOW)) == 7


def test_a_slot_that_was_lost_keeps_what_was_written_and_the_rest_goes_elsewhere() -> None:
    for came_through in (False, True):
        day = _day()
        day.count("alice", "m", 1, 0, 5)
        sent = day.filled(NOW)
        day.wrote(sent, _stored(sent))
        day.count("alice", "m", 0, 0, 2)
        last = day.filled(NOW)
        found = _stored(last if came_through else sent, "2")
        taker = _day("b/1", replace(found, renewed=NOW - timedelta(minutes=1)))
        taker.count("alice", "m", 1, 0, 100)
        taken = taker.filled(NOW)
        assert _completion(taken) == _completion(found) + 100
        day.lose()
        day.take([_stored(taken, "3")], FRESH, NOW, "")
        moved = day.filled(NOW)
        assert moved.number == 1
        assert _completion(moved) == (0 if came_through else 2)


def test_what_a_holder_claimed_that_ended_without_a_word_is_spent_and_not_used() -> None:
    gone = replace(
        _stored(FRESH), holder="a/0", usage=Counter({("alice", "m", "promptTokens"): 30}), claims={"alice": 500}
    )
    day = _day("b/1", gone)
    assert day.spent("alice") == 500
    day.count("alice", "m", 1, 7, 0)
    assert day.spent("alice") == 507
    sent = day.filled(NOW)
    assert sent.claims == {"alice": 507}
    assert sent.usage["alice", "m", "promptTokens"] == 37
    assert sent.former == (("a/0", 0),)


def test_a_slot_that_is_let_go_claims_what_is_spent_and_no_more() -> None:
    day = _day()
    quota = day.quota("alice", KeyUsage(waiting=50), 1000)
    quota.ask(0, 1)
    day.count("alice", "m", 1, 5, 6)
    assert day.filled(NOW).claims == {"alice": 500}
    sent = day.filled(NOW, release=True)
    assert (sent.holder, sent.claims, sent.former) == ("", {"alice": 11}, (("a/1", 2),))
    successor = _day("b/1", _stored(sent))
    assert successor.slot is not None
    assert (successor.slot.name, successor.spent("alice")) == (sent.name, 11)


def test_what_others_have_is_what_they_used_or_claimed() -> None:
    def other(number: int, **what: object) -> Slot:
        return replace(FRESH, metadata={**FRESH.metadata, "name": f"gw-{DAY}-{number}"}, holder="x/1", **what)  # type: ignore[arg-type]

    used = Counter({("alice", "m", "promptTokens"): 30, ("alice", "n", "completionTokens"): 5})
    day = _day()
    quota = day.quota("alice", KeyUsage(), 1000)
    day.see([other(0, claims={"alice": 9}), other(1, usage=used), other(2, usage=used, claims={"alice": 100})], 5.0)
    assert (quota.others, quota.used, quota.read) == (135, 70, 5.0)
