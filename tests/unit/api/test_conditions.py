"""lastTransitionTime moves only when the status does."""

from datetime import UTC, datetime

from vicuna_operator.api.conditions import Condition, ConditionType, merge_conditions

EARLY, LATE = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC)


def test_transition_time_is_kept_while_the_status_is() -> None:
    first = merge_conditions([Condition(ConditionType.READY, False, "A", "a")], [], generation=1, now=EARLY)
    second = merge_conditions([Condition(ConditionType.READY, False, "B", "b")], first, generation=2, now=LATE)
    third = merge_conditions([Condition(ConditionType.READY, True, "C", "c")], second, generation=2, now=LATE)
    assert second[0]["lastTransitionTime"] == "2026-01-01T00:00:00Z"
    assert second[0]["reason"] == "B"
    assert third[0]["lastTransitionTime"] == "2026-01-02T00:00:00Z"
    assert third[0]["observedGeneration"] == 2


def test_none_is_unknown() -> None:
    (condition,) = merge_conditions([Condition(ConditionType.READY, None, "A")], [], generation=1, now=EARLY)
    assert condition["status"] == "Unknown"
