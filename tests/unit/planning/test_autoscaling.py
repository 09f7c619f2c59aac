"""The rules of autoscaling: bounds, windows, sleep; and that the number never flaps."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vicuna_operator.api.conditions import Reason
from vicuna_operator.api.types import AutoscalingSpec
from vicuna_operator.planning.autoscaling import Decision, Situation, decide, needed
from vicuna_operator.planning.demand import DemandView, Peak, ReplicaDemand, after_change

START = datetime(2026, 1, 1, tzinfo=UTC)
SPEC = AutoscalingSpec(min_replicas=0, max_replicas=4, target_requests=8, idle_seconds=60, scale_down_seconds=30)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


class Model:
    """One model whose replicas follow the decisions; demand is stated, time passes."""

    def __init__(self, spec: AutoscalingSpec = SPEC, current: int | None = 0) -> None:
        self.spec, self.current, self.now = spec, current, START
        self.since, self.requests, self.held = START, 0, 0
        self.peaks: tuple[Peak, ...] = ()
        self.trying = False
        self.idle_from: datetime | None = None
        self.last: Decision | None = None
        self.look_at: datetime | None = None

    @property
    def demand(self) -> DemandView:
        mine = [ReplicaDemand("gw", self.requests, self.held, self.now)] if self.requests or self.held else []
        return DemandView(self.since, mine, self.peaks)

    def ask(self, requests: int, held: int = 0) -> int:
        before = self.requests + self.held
        self.requests, self.held = requests, held
        self.peaks = after_change(self.peaks, before, requests + held, self.now)
        return self.decide()

    def decide(self, demand: DemandView | str | None = "its own", **situation: object) -> int:
        seen = self.demand if isinstance(demand, str) else demand
        given = Situation(seen, self.current, self.trying, self.idle_from, **situation)  # type: ignore[arg-type]
        self.last = decide(self.spec, given, self.now)
        again = self.last.requeue_after
        self.look_at = None if again is None else self.now + timedelta(seconds=max(again, 0.001))
        self.current = self.last.desired
        return self.current

    def wait(self, seconds: float) -> int:
        """Let time pass, with a decision only when the last one wanted another look."""
        end = self.now + timedelta(seconds=seconds)
        while self.look_at is not None and self.look_at <= end:
            self.now = self.look_at
            self.decide()
        self.now = end
        return self.current or 0


def awake(requests: int, **spec: int) -> Model:
    model = Model(SPEC.model_copy(update=spec))
    model.now = at(1000)
    model.ask(requests)
    return model


@pytest.mark.parametrize(
    ("requests", "replicas"), [(0, 0), (1, 1), (8, 1), (9, 2), (16, 2), (17, 3), (32, 4), (33, 4), (1000, 4)]
)
def test_one_more_than_the_replicas_are_enough_for_makes_another_up_to_the_most(requests: int, replicas: int) -> None:
    assert needed(SPEC, requests) == replicas
    assert Model().ask(requests) == replicas
    assert Model().ask(0, held=requests) == replicas


def test_there_are_more_at_once_and_fewer_only_after_the_window() -> None:
    model = awake(20)
    assert model.current == 3
    model.wait(5)
    assert model.ask(32) == 4
    assert model.ask(1) == 4
    assert model.wait(29.9) == 4
    assert model.wait(0.2) == 1


def test_after_the_window_there_are_as_many_as_were_needed_most_in_it() -> None:
    model = awake(32)
    model.ask(3)
    model.wait(20)
    assert model.ask(17) == 4
    model.ask(3)
    assert model.wait(10.1) == 3  # 17 requests were there 10 s ago
    assert model.wait(19.8) == 3
    assert model.wait(0.2) == 1


def test_a_break_begins_the_window_again() -> None:
    model = awake(32)
    model.ask(3)
    model.wait(29)
    model.ask(32)
    model.ask(3)
    assert model.wait(29.9) == 4
    assert model.wait(0.2) == 1


def test_a_model_sleeps_when_nobody_has_asked_for_the_idle_seconds_and_one_request_wakes_it() -> None:
    model = awake(1)
    model.ask(0)
    assert model.wait(59.9) == 1
    assert model.wait(0.2) == 0
    assert model.last is not None
    assert (model.last.reason, model.last.enough_for) == (Reason.ASLEEP, 0)
    assert model.wait(100_000) == 0
    assert model.ask(0, held=1) == 1


def test_requests_now_and_then_keep_it_awake() -> None:
    model = awake(1)
    for _ in range(20):
        model.ask(0)
        model.wait(59)
        assert model.ask(1) == 1


def test_the_idle_seconds_decide_about_sleep_however_long_the_other_window_is() -> None:
    model = awake(32, scale_down_seconds=3600)
    model.ask(0)
    assert model.wait(59.9) == 4
    assert model.wait(0.2) == 0


def test_with_a_least_number_it_never_sleeps() -> None:
    model = awake(32, min_replicas=2)
    model.ask(0)
    assert model.wait(100_000) == 2


@pytest.mark.parametrize("current", [0, 1, 3])
def test_demand_that_cannot_be_read_changes_nothing(current: int) -> None:
    model = Model(current=current)
    assert model.decide(None) == current
    assert model.last is not None
    assert (model.last.reason, model.last.requeue_after) == (Reason.DEMAND_UNKNOWN, None)
    assert not model.last.is_free


def test_a_window_that_was_not_watched_from_its_beginning_is_not_over() -> None:
    model = awake(32)
    model.now += timedelta(hours=1)
    model.since, model.requests, model.peaks = model.now, 0, ()  # the operator was restarted
    assert model.decide() == 4
    assert model.wait(29.9) == 4
    assert model.wait(0.2) == 1
    assert model.wait(29.7) == 1
    assert model.wait(0.2) == 0


def test_another_autoscaler_stops_it_where_it_is() -> None:
    model = awake(20)
    model.requests = 1000
    assert model.decide(rivals=("HorizontalPodAutoscaler a",)) == 3
    assert model.last is not None
    assert model.last.reason == Reason.TWO_SCALERS
    assert "HorizontalPodAutoscaler a" in model.last.message
    assert model.decide() == 4


def test_a_revision_is_tried_once_and_idleness_counts_from_its_end() -> None:
    model = Model(current=None)
    model.trying, model.now = True, at(1000)
    assert model.decide() == 1
    assert model.wait(100_000) == 1
    model.trying, model.idle_from = False, model.now
    model.decide()
    assert model.wait(59.9) == 1
    assert model.wait(0.2) == 0


def test_other_bounds_hold_at_once() -> None:
    model = awake(9)
    model.spec = SPEC.model_copy(update={"max_replicas": 1})
    assert model.decide() == 1
    model.spec = SPEC.model_copy(update={"min_replicas": 3})
    assert model.decide() == 3


def test_more_requests_than_the_most_replicas_need_wake_nobody() -> None:
    model = awake(33)
    assert model.last is not None
    assert model.last.enough_for is None
    assert model.last.reason == "MaxReplicas"
    assert awake(9).last.enough_for == 16  # type: ignore[union-attr]


specs = st.builds(
    lambda **fields: AutoscalingSpec(**fields),
    min_replicas=st.integers(0, 3),
    max_replicas=st.integers(3, 6),
    target_requests=st.integers(1, 10),
    idle_seconds=st.integers(1, 100),
    scale_down_seconds=st.integers(1, 100),
)
histories = st.lists(st.tuples(st.floats(0.5, 80), st.integers(0, 70), st.integers(0, 10)), min_size=1, max_size=25)


@given(specs, histories)
def test_bounds_hold_and_what_is_under_way_is_always_enough(
    spec: AutoscalingSpec, history: Sequence[tuple[float, int, int]]
) -> None:
    model = Model(spec)
    for seconds, requests, held in history:
        model.wait(seconds)
        desired = model.ask(requests, held)
        assert spec.min_replicas <= desired <= spec.max_replicas
        assert desired >= needed(spec, requests + held) >= min(needed(spec, requests), spec.max_replicas)
        assert model.decide() == desired, "deciding again changes nothing"


@given(specs, histories)
def test_fewer_are_never_decided_before_the_window_is_over(
    spec: AutoscalingSpec, history: Sequence[tuple[float, int, int]]
) -> None:
    """Kept as a list of what was needed when, and looked through anew at each decision."""
    model, told = Model(spec), [(START, 0)]
    for seconds, requests, held in history:
        before = model.current or 0
        model.wait(seconds)
        model.ask(requests, held)
        told.append((model.now, requests + held))
        ends = [*(when for when, _ in told[1:]), model.now + timedelta(seconds=1)]
        spans = [(end, total) for (_, total), end in zip(told, ends, strict=True)]
        if 0 < (model.current or 0) < before:
            begun = model.now - timedelta(seconds=spec.scale_down_seconds)
            assert (model.current or 0) >= max(needed(spec, total) for end, total in spans if end > begun)
        if model.current == 0 and before:
            begun = model.now - timedelta(seconds=spec.idle_seconds)
            assert not any(total for end, total in spans if end > begun)


@given(specs, st.integers(0, 70), st.integers(0, 70), st.floats(0.1, 0.9), st.integers(2, 20))
def test_demand_that_alternates_within_the_windows_never_flaps(
    spec: AutoscalingSpec, low: int, high: int, part: float, times: int
) -> None:
    model = Model(spec)
    period = part * min(spec.scale_down_seconds, spec.idle_seconds)
    seen = []
    for _ in range(times):
        for requests in (high, low):
            seen.append(model.ask(requests))
            model.wait(period / 2)
            seen.append(model.current or 0)
    assert seen == sorted(seen), "it only grows"


@given(specs, st.integers(0, 70), st.integers(0, 70))
def test_more_demand_never_means_fewer_replicas(spec: AutoscalingSpec, one: int, other: int) -> None:
    assert (needed(spec, one) <= needed(spec, other)) == (one <= other) or needed(spec, one) == needed(spec, other)
    assert (Model(spec).ask(min(one, other))) <= Model(spec).ask(max(one, other))


@given(specs, histories, st.integers(0, 70))
def test_under_constant_demand_it_comes_to_rest(
    spec: AutoscalingSpec, history: Sequence[tuple[float, int, int]], requests: int
) -> None:
    model = Model(spec)
    for seconds, under_way, held in history:
        model.wait(seconds)
        model.ask(under_way, held)
    model.ask(requests)
    model.wait(spec.scale_down_seconds + spec.idle_seconds + 1)
    assert model.current == needed(spec, requests)
    assert model.wait(10_000) == needed(spec, requests)
