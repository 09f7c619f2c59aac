"""The formulas of the three strategies over every small fleet: each invariant in words, then over all of them."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest

from vicuna_contract import names as c
from vicuna_operator.api.conditions import format_time
from vicuna_operator.planning.deployments import DeploymentView
from vicuna_operator.planning.observed import PodView
from vicuna_operator.planning.sizes import LOST_AFTER, Fleet, is_lost

NOW = datetime(2026, 1, 1, tzinfo=UTC)
STRATEGIES = ("Surge", "Drain", "Recreate")


@dataclass(frozen=True)
class Pods:
    """How many pods of a revision are in which state; `size` is what its Deployment asks for."""

    ready: int = 0
    loading: int = 0
    pending: int = 0
    gated: int = 0
    leaving: int = 0

    @property
    def size(self) -> int:
        return self.ready + self.loading + self.pending + self.gated


def pod(revision: str, state: str, number: int) -> PodView:
    metadata = {"name": f"{revision}-{state}-{number}", "labels": {c.LABEL_REVISION: revision}}
    conditions = [{"type": "Ready", "status": str(state in ("ready", "leaving"))}]
    spec = {"nodeName": "n1"}
    if state in ("pending", "gated"):
        reason = {"pending": "Unschedulable", "gated": "SchedulingGated"}[state]
        conditions.append({"type": "PodScheduled", "status": "False", "reason": reason, "message": "no"})
        conditions[-1]["lastTransitionTime"] = format_time(NOW)
        spec = {}
    if state == "leaving":
        metadata["deletionTimestamp"] = format_time(NOW)
    return PodView.of({"metadata": metadata, "spec": spec, "status": {"phase": "Running", "conditions": conditions}})


def fleet(wanted: int, **revisions: Pods) -> Fleet:
    pods = []
    live = []
    for name, states in revisions.items():
        counts = {key: getattr(states, key) for key in ("ready", "loading", "pending", "gated", "leaving")}
        pods += [pod(name, state, number) for state, count in counts.items() for number in range(count)]
        metadata = {"name": name, "labels": {c.LABEL_REVISION: name}}
        live.append(DeploymentView.of({"metadata": metadata, "spec": {"replicas": states.size}}))
    return Fleet(live, pods, wanted)


def revision(at_most: int) -> Iterator[Pods]:
    for counts in itertools.product(range(at_most + 1), repeat=5):
        if sum(counts) <= at_most:
            yield Pods(*counts)


FLEETS = [
    (wanted, old, new) for wanted in (1, 2, 3) for old in revision(3) for new in revision(2) if old.size or new.size
]


def rolled(wanted: int, old: Pods, new: Pods, strategy: str, *, starved: bool = False) -> tuple[int, int]:
    """Return the sizes of old and new after a step."""
    ships = fleet(wanted, old=old, new=new)
    sizes = ships.roll("new", ships.live[0], strategy, starved=starved)
    return sizes["old"], sizes["new"]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_nobody_gets_more_than_is_wanted_nor_less_than_nothing(strategy: str) -> None:
    for wanted, old, new in FLEETS:
        for size in rolled(wanted, old, new, strategy):
            assert 0 <= size <= wanted


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_ready_pod_of_the_target_is_never_stopped(strategy: str) -> None:
    for wanted, old, new in FLEETS:
        assert rolled(wanted, old, new, strategy)[1] >= min(new.ready, wanted)


def test_surge_stops_a_pod_only_when_another_is_ready_in_its_place() -> None:
    for wanted, old, new in FLEETS:
        kept = min(old.ready, rolled(wanted, old, new, "Surge")[0])
        assert kept + new.ready >= min(wanted, old.ready + new.ready)


def test_surge_starts_one_pod_at_a_time() -> None:
    for wanted, old, new in FLEETS:
        assert rolled(wanted, old, new, "Surge")[1] <= max(new.ready + 1, new.ready)


def test_surge_waits_until_an_earlier_size_is_gone() -> None:
    assert rolled(2, Pods(ready=2, leaving=1), Pods(), "Surge") == (2, 0)
    assert rolled(2, Pods(ready=2), Pods(), "Surge") == (2, 1)
    assert rolled(2, Pods(ready=1, leaving=1), Pods(ready=1), "Surge") == (1, 2)


def test_drain_keeps_all_but_one_of_what_is_wanted_and_runs() -> None:
    for wanted, old, new in FLEETS:
        kept = min(old.ready, rolled(wanted, old, new, "Drain")[0])
        assert kept + new.ready >= min(wanted, old.ready + old.loading + new.ready) - 1 or kept == old.ready


def test_drain_stops_one_pod_for_a_starved_one_however_few_run() -> None:
    for wanted, old, new in FLEETS:
        before, after = (rolled(wanted, old, new, "Drain", starved=starved)[0] for starved in (False, True))
        running = old.ready + old.loading
        assert after == max(0, min(before, running - 1))


def test_drain_asks_for_no_more_old_pods_than_run() -> None:
    for wanted, old, new in FLEETS:
        assert rolled(wanted, old, new, "Drain")[0] <= old.ready + old.loading


def test_drain_starts_a_pod_only_where_one_has_gone_or_waits_already() -> None:
    for wanted, old, new in FLEETS:
        elsewhere = old.size + old.leaving
        assert rolled(wanted, old, new, "Drain")[1] <= max(new.ready, wanted - elsewhere, min(new.size, new.ready + 1))


def test_a_pod_that_waits_keeps_its_turn() -> None:
    assert rolled(2, Pods(ready=2), Pods(pending=1), "Drain") == (1, 1)
    assert rolled(1, Pods(ready=1), Pods(pending=1), "Drain") == (0, 1)


def test_recreate_starts_nothing_before_all_else_is_gone() -> None:
    for wanted, old, new in FLEETS:
        stays, starts = rolled(wanted, old, new, "Recreate")
        assert stays == 0
        assert starts == (wanted if not (old.size or old.leaving) else min(new.ready, wanted))


def test_on_the_way_back_ready_pods_stay_until_all_but_one_are_there() -> None:
    for wanted, bad, good in FLEETS:
        ships = fleet(wanted, bad=bad, good=good)
        sizes = ships.restore(ships.live[1])
        kept = min(bad.ready, sizes["bad"])
        assert kept + good.ready >= min(wanted - 1, bad.ready + good.ready)
        assert good.size <= sizes["good"] <= wanted or good.size > wanted
        assert sizes["bad"] <= bad.ready


def test_the_base_fills_up_what_the_others_lack() -> None:
    ships = fleet(3, old=Pods(ready=1), older=Pods(ready=1), new=Pods())
    assert ships.roll("new", ships.live[0], "Surge") == {"old": 2, "older": 1, "new": 1}
    assert ships.roll("new", ships.live[1], "Surge") == {"old": 1, "older": 2, "new": 1}
    assert ships.roll("new", None, "Surge") == {"old": 1, "older": 1, "new": 1}


def test_the_situation_changes_with_every_pod_and_place_and_with_nothing_else() -> None:
    assert fleet(2, old=Pods(ready=2), new=Pods(loading=1)).situation("new") == ""
    assert fleet(2, old=Pods(ready=2), new=Pods(gated=1)).situation("new") == ""
    told = [
        fleet(2, old=old, new=new).situation("new")
        for old, new in (
            (Pods(ready=2), Pods(pending=1)),
            (Pods(ready=1, leaving=1), Pods(pending=1)),
            (Pods(ready=1), Pods(pending=1)),
            (Pods(ready=1), Pods(pending=2)),
        )
    ]
    assert told[0] == told[1]  # who leaves holds its place
    assert len(set(told)) == 3


@pytest.mark.parametrize(
    ("new", "old", "ends"),
    [
        (Pods(ready=1, pending=1), Pods(), True),
        (Pods(ready=1, gated=1), Pods(), True),
        (Pods(ready=1, loading=1), Pods(), False),
        (Pods(pending=2), Pods(), False),
        (Pods(ready=1), Pods(), False),
        (Pods(ready=1, pending=1), Pods(ready=1), False),
        (Pods(ready=1, pending=1), Pods(pending=1), False),
        (Pods(ready=1, pending=1), Pods(leaving=1), False),
    ],
)
def test_a_rollout_ends_where_the_rest_only_waits_for_room(new: Pods, old: Pods, ends: bool) -> None:
    assert fleet(2, old=old, new=new).goes_no_further("new") is ends


def test_a_pod_is_lost_a_margin_after_its_grace_period() -> None:
    leaving = pod("old", "leaving", 0)
    assert not is_lost(pod("old", "ready", 0), NOW + timedelta(days=1))
    assert not is_lost(leaving, NOW + LOST_AFTER - timedelta(seconds=1))
    assert is_lost(leaving, NOW + LOST_AFTER)
