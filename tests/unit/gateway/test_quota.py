"""Limits: which requests may start, and how many shared tokens one replica may spend."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.amount import examples
from vicuna_server.gateway.quota import KeyUsage, Quota, fits
from vicuna_server.gateway.sliding_window import SlidingWindow


def test_within_the_limit_any_number_begins_and_beyond_it_one_alone() -> None:
    key_usage = KeyUsage(reserved=60, under_way=2)
    assert fits(key_usage, 0, 40, 100)
    assert not fits(key_usage, 0, 41, 100)
    assert not fits(key_usage, 1, 40, 100)
    assert fits(KeyUsage(), 99, 1000, 100)
    assert not fits(KeyUsage(), 100, 1, 100)


def test_a_claim_is_a_share_of_what_is_left_or_what_is_needed() -> None:
    key_usage = KeyUsage(waiting=10)
    quota = Quota(key_usage, 1000)
    assert quota.ask(0, 2)
    assert quota.asked == 250
    quota.others = 900
    quota.grant()
    assert quota.granted == 100
    assert not quota.ask(0, 2)
    assert quota.exhausted
    quota.others = 600
    key_usage.waiting = 400
    assert quota.ask(50, 2)
    assert (quota.asked, quota.exhausted) == (400, False)
    quota.give_back(50)
    assert (quota.granted, quota.asked) == (50, 50)


def test_another_limit_is_claimed_anew() -> None:
    quota = Quota(KeyUsage(waiting=5), 1000, granted=300, asked=300, others=100)
    quota.set_limit(1000)
    assert quota.granted == 300
    quota.set_limit(200)
    assert quota.granted == 0
    quota.ask(30, 1)
    quota.grant()
    assert 35 <= quota.granted <= 100


@dataclass
class _Share:
    """A replica of the following property, which does one step of its protocol at a time."""

    quota: Quota
    stored: int = 0
    spent: int = 0
    steps: Iterator[None] = field(default_factory=lambda: iter(()))


@pytest.mark.long
@given(st.data())
@settings(max_examples=examples(300))
def test_grants_never_sum_up_to_more_than_the_limit(data: st.DataObject) -> None:
    limit = data.draw(st.integers(1, 1000))
    shares = [_Share(Quota(KeyUsage(), limit)) for _ in range(data.draw(st.integers(1, 4)))]

    def others(share: _Share) -> int:
        return sum(max(other.stored, other.spent) for other in shares if other is not share)

    def protocol(share: _Share) -> Iterator[None]:
        share.quota.key_usage.waiting = data.draw(st.integers(0, 400))
        share.quota.see(others(share), 0, 0.0)
        yield
        if not share.quota.ask(share.spent, len(shares)):
            return
        yield
        share.stored = max(share.spent, share.quota.asked)
        yield
        share.quota.see(others(share), 0, 0.0)
        yield
        share.quota.grant()

    for _ in range(data.draw(st.integers(5, 60))):
        share = data.draw(st.sampled_from(shares))
        if data.draw(st.integers(0, 9)) == 0 and share.steps is not None:
            share.steps = iter(())  # killed in the middle, or idle: what it had is given back first
            share.quota.give_back(share.spent)
        elif next(share.steps, share) is share:
            share.steps = protocol(share)
        share.spent = data.draw(st.integers(share.spent, max(share.spent, share.quota.granted)))
        assert sum(each.quota.granted for each in shares) <= limit


@pytest.mark.long
@given(st.data())
@settings(max_examples=examples(200))
def test_a_minute_is_passed_by_one_request_at_most(data: st.DataObject) -> None:
    limit, now = data.draw(st.integers(1, 300)), 0.0
    key_usage, recent, log = KeyUsage(), SlidingWindow(), list[tuple[float, int]]()
    running: list[list[int]] = []  # tokens that each may still use
    largest = 0
    for _ in range(data.draw(st.integers(1, 80))):
        now += data.draw(st.sampled_from([0.0, 0.3, 1.0, 7.0, 25.0]))
        most = data.draw(st.integers(1, 200))
        if fits(key_usage, recent.sum(now), most, limit):
            running.append([most])
            largest = max(largest, most)
            key_usage.under_way, key_usage.reserved = key_usage.under_way + 1, key_usage.reserved + most
        elif running:
            request = data.draw(st.sampled_from(running))
            used = data.draw(st.integers(0, request[0]))
            request[0] -= used
            key_usage.reserved -= used
            recent.add(used, now)
            log.append((now, used))
            if data.draw(st.booleans()):
                key_usage.reserved, key_usage.under_way = key_usage.reserved - request[0], key_usage.under_way - 1
                running.remove(request)
        for end, _ in log:
            assert sum(tokens for at, tokens in log if end - 60 < at <= end) <= limit + largest
