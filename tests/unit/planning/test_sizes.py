"""The formulas of the three strategies over every small fleet: each invariant in words, then over all of them."""

import functools
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest

from support.amount import some
from vicuna_contract import names as c
from vicuna_operator.api.conditions import format_time
from vicuna_operator.planning.deployments import DeploymentView
from vicuna_operator.planning.pods import PodView
from vicuna_operator.planning.sizes import Fleet, is_lost

NOW = datetime(2026, 1, 1, tzinfo=UTC)
STRATEGIES = ("Surge", "Drain", "Recreate")


@dataclass(frozen=True)
class Pods:
    """How many pods of a revision are in which state; `size` is what its Deployment asks for.

    `withdrawn` ones never had a place, and are told to end.
    """

    ready: int = 0
    loading: int = 0
    pending: int = 0
    gated: int = 0
    terminating: int = 0
    withdrawn: int = 0

    @property
    def size(self) -> int:
        return self.ready + self.loading + self.pending + self.gated


@functools.cache
def pod(revision: str, state: str, number: int, since: datetime | None = NOW) -> PodView:
    metadata = {"name": f"{revision}-{state}-{number}", "labels": {c.LABEL_REVISION: revision}}
    conditions = [{"type": "Ready", "status": str(state in ("ready", "terminating"))}]
    spec = {"nodeName": "n1"}
    if state in ("pending", "gated", "withdrawn"):
        reason = "SchedulingGated" if state == "gated" else "Unschedulable"
        conditions.append({"type": "PodScheduled", "status": "False", "reason": reason, "message": "no"})
        conditions[-1]["lastTransitionTime"] = "" if since is None else format_time(since)
        spec = {}
    if state in ("terminating", "withdrawn"):
        metadata["deletionTimestamp"] = format_time(NOW)
    return PodView.of({"metadata": metadata, "spec": spec, "status": {"phase": "Running", "conditions": conditions}})


@functools.cache
def deployment(revision: str, size: int) -> DeploymentView:
    metadata = {"name": revision, "labels": {c.LABEL_REVISION: revision}}
    return DeploymentView.of({"metadata": metadata, "spec": {"replicas": size}})


def fleet(wanted: int, **revisions: Pods) -> Fleet:
    pods = []
    for name, states in revisions.items():
        pods += [pod(name, state, number) for state, count in vars(states).items() for number in range(count)]
    return Fleet([deployment(name, states.size) for name, states in revisions.items()], pods, wanted)


def revision(at_most: int) -> Iterator[Pods]:
    for counts in itertools.product(range(at_most + 1), repeat=5):
        if sum(counts) <= at_most:
            yield Pods(*counts)


FLEETS = some(
    [(wanted, old, new) for wanted in (1, 2, 3) for old in revision(3) for new in revision(2) if old.size or new.size]
)


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
    assert rolled(2, Pods(ready=2, terminating=1), Pods(), "Surge") == (2, 0)
    assert rolled(2, Pods(ready=2), Pods(), "Surge") == (2, 1)
    assert rolled(2, Pods(ready=1, terminating=1), Pods(ready=1), "Surge") == (1, 2)


def test_drain_keeps_all_but_one_of_what_is_wanted_and_runs() -> None:
    for wanted, old, new in FLEETS:
        kept = min(old.ready, rolled(wanted, old, new, "Drain")[0])
        assert kept + new.ready >= min(wanted, old.ready + old.loading + new.ready) - 1 or kept == old.ready


def test_drain_keeps_no_more_than_all_but_one_of_what_is_wanted() -> None:
    for wanted, old, new in FLEETS:
        assert rolled(wanted, old, new, "Drain")[0] + new.ready <= max(wanted - 1, new.ready)


def test_a_revision_without_a_deployment_gets_its_first_pod_when_there_is_room() -> None:
    for strategy in ("Surge", "Drain"):
        full, over = fleet(2, old=Pods(ready=2)), fleet(2, old=Pods(ready=2, terminating=1))
        sizes = [ships.roll("new", ships.live[0], strategy, starved=False)["new"] for ships in (full, over)]
        assert sizes == [int(strategy == "Surge"), 0]


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
        elsewhere = old.size + old.terminating
        assert rolled(wanted, old, new, "Drain")[1] <= max(new.ready, wanted - elsewhere, min(new.size, new.ready + 1))


def test_a_pod_that_waits_keeps_its_turn() -> None:
    assert rolled(2, Pods(ready=2), Pods(pending=1), "Drain") == (1, 1)
    assert rolled(1, Pods(ready=1), Pods(pending=1), "Drain") == (0, 1)


def test_recreate_starts_nothing_before_all_else_is_gone() -> None:
    for wanted, old, new in FLEETS:
        stays, starts = rolled(wanted, old, new, "Recreate")
        assert stays == 0
        assert starts == (wanted if not (old.size or old.terminating) else min(new.ready, wanted))


def restored(wanted: int, bad: Pods, good: Pods, *, starved: bool = False) -> tuple[int, int]:
    """Return the sizes of the bad and of the good revision after a step back."""
    ships = fleet(wanted, bad=bad, good=good)
    sizes = ships.restore(ships.live[1], starved=starved)
    return sizes["bad"], sizes["good"]


def test_on_the_way_back_ready_pods_stay_until_all_but_one_are_there() -> None:
    for wanted, bad, good in FLEETS:
        stays, _ = restored(wanted, bad, good)
        assert min(bad.ready, stays) + good.ready >= min(wanted - 1, bad.ready + good.ready)
        assert stays <= bad.ready


def test_on_the_way_back_all_but_one_are_enough() -> None:
    for wanted, bad, good in FLEETS:
        stays, _ = restored(wanted, bad, good)
        assert stays + good.ready <= max(wanted - 1, good.ready)


def test_on_the_way_back_one_goes_for_a_pod_that_waits_for_just_that() -> None:
    for wanted, bad, good in FLEETS:
        assert restored(wanted, bad, good, starved=True)[0] == min(
            restored(wanted, bad, good)[0], max(0, bad.ready + bad.loading - 1)
        )


def test_on_the_way_back_one_pod_more_than_wanted_may_exist_and_none_is_taken_back() -> None:
    for wanted, bad, good in FLEETS:
        exist = bad.size + bad.terminating
        assert restored(wanted, bad, good)[1] == min(wanted, max(good.size, wanted + 1 - exist))


def test_which_revision_is_the_younger_makes_no_difference() -> None:
    for wanted, old, new in FLEETS[::5]:
        for ships in (fleet(wanted, old=old, new=new), fleet(wanted, new=new, old=old)):
            before = next(item for item in ships.live if item.revision == "old")
            for strategy in STRATEGIES:
                sizes = ships.roll("new", before, strategy, starved=False)
                assert (sizes["old"], sizes["new"]) == rolled(wanted, old, new, strategy)
            sizes = ships.restore(before, starved=False)
            assert (sizes["new"], sizes["old"]) == restored(wanted, new, old)
    for ships in (fleet(2, old=Pods(ready=1), new=Pods(ready=1)), fleet(2, new=Pods(ready=1), old=Pods(ready=1))):
        assert ships.roll("new", None, "Surge", starved=False) == {"old": 1, "new": 2}


def test_the_base_fills_up_what_the_others_lack() -> None:
    ships = fleet(3, old=Pods(ready=1), older=Pods(ready=1), new=Pods())
    sizes = [ships.roll("new", base, "Surge", starved=False) for base in (*ships.live[:2], None)]
    assert sizes[0] == {"old": 2, "older": 1, "new": 1}
    assert sizes[1] == {"old": 1, "older": 2, "new": 1}
    assert sizes[2] == {"old": 1, "older": 1, "new": 1}


def test_of_several_that_make_way_the_one_that_serves_goes_last() -> None:
    one = Pods(ready=1)
    for ships in (fleet(2, old=one, older=one, new=one), fleet(2, older=one, old=one, new=one)):
        for base, other in (("old", "older"), ("older", "old")):
            before = next(item for item in ships.live if item.revision == base)
            assert ships.roll("new", before, "Surge", starved=False) == {base: 1, other: 0, "new": 2}


def test_what_has_no_pods_to_wait_for_gets_all_at_once() -> None:
    assert fleet(3, old=Pods(ready=1), older=Pods(), new=Pods()).all_on("new") == {"old": 0, "older": 0, "new": 3}
    assert fleet(3, old=Pods(ready=1)).all_on("new") == {"old": 0, "new": 3}


def test_others_serve_where_one_of_their_pods_is_ready() -> None:
    assert fleet(2, old=Pods(ready=1), new=Pods()).others_serve("new")
    assert not fleet(2, old=Pods(loading=1, pending=1, terminating=1), new=Pods(ready=2)).others_serve("new")
    assert not fleet(2, new=Pods(ready=2)).others_serve("new")


def test_the_situation_changes_with_every_pod_and_place_and_with_nothing_else() -> None:
    assert fleet(2, old=Pods(ready=2), new=Pods(loading=1)).situation("new") == ""
    assert fleet(2, old=Pods(ready=2), new=Pods(gated=1)).situation("new") == ""
    told = [
        fleet(2, old=old, new=new).situation("new")
        for old, new in (
            (Pods(ready=2), Pods(pending=1)),
            (Pods(ready=1, terminating=1), Pods(pending=1)),
            (Pods(ready=1), Pods(pending=1)),
            (Pods(ready=1), Pods(pending=2)),
        )
    ]
    assert told[0] == told[1]  # who leaves holds its place
    assert len(set(told)) == 3


@pytest.mark.parametrize(
    ("since", "told"),
    [
        ([NOW], "1/2/2026-01-01T00:00:00Z"),
        ([NOW, NOW - timedelta(seconds=9)], "2/2/2026-01-01T00:00:00Z"),
        ([None, NOW], "2/2/2026-01-01T00:00:00Z"),
        ([None], "1/2/"),
    ],
)
def test_the_situation_is_noted_as_earlier_versions_did(since: list[datetime | None], told: str) -> None:
    """With another text the wait for room would begin anew when the operator is upgraded."""
    waiting = [pod("new", "pending", number, moment) for number, moment in enumerate(since)]
    ships = fleet(2, old=Pods(ready=2, pending=1), new=Pods(gated=1, withdrawn=1))
    assert Fleet(ships.live, [*ships.pods, *waiting], 2).situation("new") == told


@pytest.mark.parametrize(
    ("old", "size", "alone"),
    [(Pods(), 0, True), (Pods(), 1, False), (Pods(terminating=1), 0, False), (Pods(pending=1), 1, False)],
)
def test_a_revision_is_alone_where_no_other_has_pods_nor_is_to_have_any(old: Pods, size: int, alone: bool) -> None:
    pods = fleet(2, old=old, new=Pods(ready=2)).pods
    assert Fleet([deployment("new", 2), deployment("old", size)], pods, 2).is_alone("new") is alone


def test_each_pod_is_told_by_where_it_stands() -> None:
    every = Pods(ready=1, loading=1, pending=1, gated=1, terminating=1, withdrawn=1)
    ships = fleet(3, old=every, new=every)
    assert [item.meta.name for item in ships.queue("new")] == ["new-pending-0"]
    assert [item.meta.name for item in ships.starting("new")] == ["new-loading-0"]
    assert [item.meta.name for item in ships.standing("new")] == ["old-ready-0", "old-loading-0"]
    assert [item.meta.name for item in ships.terminating] == ["old-terminating-0", "new-terminating-0"]
    assert (ships.ready("new"), ships.elsewhere("new")) == (1, 6)


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
        (Pods(ready=1, pending=1), Pods(terminating=1), False),
    ],
)
def test_a_rollout_ends_where_the_rest_only_waits_for_room(new: Pods, old: Pods, ends: bool) -> None:
    assert fleet(2, old=old, new=new).goes_no_further("new") is ends


def test_a_pod_is_lost_a_margin_after_its_grace_period() -> None:
    terminating = pod("old", "terminating", 0)
    assert not is_lost(pod("old", "ready", 0), NOW + timedelta(days=1))
    assert not is_lost(terminating, NOW + timedelta(seconds=59))
    assert is_lost(terminating, NOW + timedelta(seconds=60))
