"""The last rollouts of a model, newest first: which revision, when, how it ended and why."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from vicuna_operator.api.conditions import Outcome, format_time
from vicuna_operator.planning.deployments import DeploymentView
from vicuna_operator.planning.rollout import RolloutState
from vicuna_operator.planning.serving_stage import ServingStage

__all__ = ["with_outcomes"]

_LENGTH = 10


def with_outcomes(before: Sequence[Mapping[str, Any]], serving: ServingStage, now: datetime) -> list[Any]:
    """Return the history with the rollouts that have ended since; each end is recorded once."""
    known = {_identity(item) for item in before}
    return [*(item for item in _ended(serving, now) if _identity(item) not in known), *before][:_LENGTH]


def _ended(serving: ServingStage, now: datetime) -> list[dict[str, str]]:
    """Return the rollouts that have ended: superseded ones first, then the target's own."""
    ended = [_entry(item, Outcome.SUPERSEDED, format_time(now)) for item in serving.superseded]
    target, rollout = serving.target_deployment, serving.rollout
    if target is not None and rollout.state is RolloutState.ROLLED_BACK and rollout.failure is not None:
        failure = rollout.failure
        at = str(failure.get("at") or format_time(now))
        ended.append({**_entry(target, Outcome.ROLLED_BACK, at), "reason": str(failure["reason"])})
    elif target is not None and rollout.state is RolloutState.COMPLETE:
        completed = now if rollout.annotations else target.completed or now
        ended.append(_entry(target, Outcome.SUCCEEDED, format_time(completed)))
    return ended


def _entry(item: DeploymentView, outcome: Outcome, since: str) -> dict[str, str]:
    return {
        "revision": item.revision,
        "artifactID": item.artifact_id,
        **item.images,
        "since": since,
        "outcome": str(outcome),
        "reason": str(outcome),
    }


def _identity(entry: Mapping[str, Any]) -> tuple[object, ...]:
    return (entry.get("revision"), entry.get("outcome"), entry.get("since"))
