"""Delays between tries."""

import random

import pytest

from vicuna_contract.backoff import Backoff


def test_delays_double_up_to_the_most_and_begin_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(random, "uniform", lambda low, high: high)
    backoff = Backoff(0.5, 3)
    assert [backoff.next() for _ in range(5)] == [0.5, 1, 2, 3, 3]
    backoff.reset()
    assert backoff.next() == 0.5


def test_a_delay_is_shortened_by_half_at_most() -> None:
    backoff = Backoff(8, 8)
    assert all(4 <= backoff.next() <= 8 for _ in range(100))
