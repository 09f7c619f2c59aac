"""What is told of a rollout that is given up at its deadline: all of it, word for word."""

from datetime import UTC, datetime, timedelta

import pytest

from vicuna_operator.api.conditions import Reason, format_time
from vicuna_operator.planning.blocking import BlockingReason
from vicuna_operator.planning.diagnosis import PodDiagnosis, is_pulling, rollout_failure
from vicuna_operator.planning.failures import Failure
from vicuna_operator.planning.observed import EventView

OVERDUE = datetime(2026, 1, 1, 12, tzinfo=UTC)
LATE = "not ready within 75 s (spec.serving.rollout.progressDeadlineSeconds)"
FAILED = Failure("Crashed", "it ended", retryable=True, exit_code=70, pod="p", time="2026-01-01T11:00:00Z", log="line")


def at_the_deadline(diagnosis: PodDiagnosis | None, *, after: float = 0) -> Failure | None:
    now = OVERDUE + timedelta(seconds=after)
    return rollout_failure("r1", [], diagnosis, overdue=OVERDUE, deadline=75, now=now)


def test_nothing_is_known() -> None:
    told = f"revision r1 is {LATE}; see `kubectl logs` of its pods"
    expected = Failure(Reason.PROGRESS_DEADLINE_EXCEEDED, told, retryable=False, time=format_time(OVERDUE))
    assert at_the_deadline(None) == expected
    assert at_the_deadline(None, after=-1) is None
    assert rollout_failure("r1", [], None, overdue=None, deadline=75, now=OVERDUE) is None


def test_something_is_in_the_way() -> None:
    expected = Failure("Unschedulable", f"{LATE}: no room", retryable=False, time=format_time(OVERDUE))
    assert at_the_deadline(PodDiagnosis(BlockingReason("Unschedulable", "no room"))) == expected


def test_a_container_had_ended() -> None:
    """Its own pod, time and last lines stand with the reason of what is in the way now."""
    told = at_the_deadline(PodDiagnosis(BlockingReason("CrashLoop", "it waits"), FAILED))
    expected = Failure(
        "CrashLoop", f"{LATE}: it waits", retryable=False, exit_code=70, pod="p", time=FAILED.time, log="line"
    )
    assert told == expected


@pytest.mark.parametrize(
    ("reasons", "pulling"),
    [
        ([], False),
        (["Pulling"], True),
        (["Pulling", "Pulled"], False),
        (["Pulling", "Failed"], False),
        (["Pulling", "BackOff"], False),
        (["Pulling", "Created"], False),
        (["Pulling", "Started"], False),
        (["Failed", "Pulling"], True),
        (["Pulling", "Scheduled"], True),
        (["Scheduled"], False),
        (["Pulling", "BackOff", "Pulling", "Created"], False),
    ],
)
def test_the_last_word_of_the_kubelet_says_whether_an_image_is_on_its_way(reasons: list[str], pulling: bool) -> None:
    assert is_pulling([EventView("Normal", reason, "") for reason in reasons]) is pulling
