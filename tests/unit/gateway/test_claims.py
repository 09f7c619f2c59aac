"""Limits: who may begin, and what one replica may spend of what all share."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vicuna_server.gateway.claims import Account, Claim, fits
from vicuna_server.gateway.recent import Recent


def test_within_the_limit_any_number_begins_and_beyond_it_one_alone() -> None:
    account = Account(held=60, under_way=2)
    assert fits(account, 0, 40, 100)
    assert not fits(account, 0, 41, 100)
    assert not fits(account, 1, 40, 100)
    assert fits(Account(), 99, 1000, 100)
    assert not fits(Account(), 100, 1, 100)


def test_a_claim_is_a_share_of_what_is_left_or_what_is_needed() -> None:
    account = Account(waiting=10)
    claim = Claim(account, 1000)
    assert claim.ask(0, 2)
    assert claim.asked == 250
    claim.others = 900
    claim.grant()
    assert claim.granted == 100
    assert not claim.ask(0, 2)
    assert claim.exhausted
    claim.others = 600
    account.waiting = 400
    assert claim.ask(50, 2)
    assert (claim.asked, claim.exhausted) == (400, False)
    claim.give_back(50)
    assert (claim.granted, claim.asked) == (50, 50)


def test_another_limit_is_claimed_anew() -> None:
    claim = Claim(Account(waiting=5), 1000, granted=300, asked=300, others=100)
    claim.restate(1000)
    assert claim.granted == 300
    claim.restate(200)
    assert claim.granted == 0
    claim.ask(30, 1)
    claim.grant()
    assert 35 <= claim.granted <= 100


@dataclass
class _Share:
    """A replica of the following property, which does one step of its protocol at a time."""

    claim: Claim
    stored: int = 0
    spent: int = 0
    steps: Iterator[None] = field(default_factory=lambda: iter(()))


@pytest.mark.long
@given(st.data())
@settings(max_examples=300)
def test_grants_never_sum_up_to_more_than_the_limit(data: st.DataObject) -> None:
    limit = data.draw(st.integers(1, 1000))
    shares = [_Share(Claim(Account(), limit)) for _ in range(data.draw(st.integers(1, 4)))]

    def others(share: _Share) -> int:
        return sum(max(other.stored, other.spent) for other in shares if other is not share)

    def protocol(share: _Share) -> Iterator[None]:
        share.claim.account.waiting = data.draw(st.integers(0, 400))
        share.claim.see(others(share), 0, 0.0)
        yield
        if not share.claim.ask(share.spent, len(shares)):
            return
        yield
        share.stored = max(share.spent, share.claim.asked)
        yield
        share.claim.see(others(share), 0, 0.0)
        yield
        share.claim.grant()

    for _ in range(data.draw(st.integers(5, 60))):
        share = data.draw(st.sampled_from(shares))
        if data.draw(st.integers(0, 9)) == 0 and share.steps is not None:
            share.steps = iter(())  # killed in the middle, or idle: what it had is given back first
            share.claim.give_back(share.spent)
        elif next(share.steps, share) is share:
            share.steps = protocol(share)
        share.spent = data.draw(st.integers(share.spent, max(share.spent, share.claim.granted)))
        assert sum(each.claim.granted for each in shares) <= limit


@pytest.mark.long
@given(st.data())
@settings(max_examples=200)
def test_a_minute_is_passed_by_one_request_at_most(data: st.DataObject) -> None:
    limit, now = data.draw(st.integers(1, 300)), 0.0
    account, recent, log = Account(), Recent(), list[tuple[float, int]]()
    running: list[list[int]] = []  # tokens that each may still use
    largest = 0
    for _ in range(data.draw(st.integers(1, 80))):
        now += data.draw(st.sampled_from([0.0, 0.3, 1.0, 7.0, 25.0]))
        most = data.draw(st.integers(1, 200))
        if fits(account, recent.sum(now), most, limit):
            running.append([most])
            largest = max(largest, most)
            account.under_way, account.held = account.under_way + 1, account.held + most
        elif running:
            request = data.draw(st.sampled_from(running))
            used = data.draw(st.integers(0, request[0]))
            request[0] -= used
            account.held -= used
            recent.add(used, now)
            log.append((now, used))
            if data.draw(st.booleans()):
                account.held, account.under_way = account.held - request[0], account.under_way - 1
                running.remove(request)
        for end, _ in log:
            assert sum(tokens for at, tokens in log if end - 60 < at <= end) <= limit + largest
