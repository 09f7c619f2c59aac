"""The progress of a merge for `status.merge`: bytes, percent, rate and remaining time."""

from collections.abc import Mapping
from typing import Any

from vicuna_operator.planning.weights_stage import WeightsStage

__all__ = ["merge_progress"]

_MOST = 2**63  # excludes infinity, which JSON may contain


def merge_progress(before: Mapping[str, Any] | None, weights: WeightsStage) -> Mapping[str, Any] | None:
    """Return the new `status.merge`; None where no merge has begun.

    `before` is the present one: a pass that has not read the log keeps what is known of the attempt.
    """
    if weights.artifact_id is not None:
        return _finished(before)
    if weights.attempt is None:
        return None
    known: Mapping[str, Any] = {"percent": 0, "attempt": weights.attempt}
    if before is not None and before.get("attempt") == weights.attempt:
        known = before
    return {**known, **_counted(weights.progress or {})}


def _finished(before: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    if before is None or before.get("percent") == 100:
        return before
    finished = {"percent": 100, **{key: before[key] for key in ("bytesTotal", "attempt") if key in before}}
    return {**finished, "bytesDone": before["bytesTotal"]} if "bytesTotal" in before else finished


def _counted(progress: Mapping[str, Any]) -> Mapping[str, int]:
    """Read a progress line; 100 percent is reported only with the artifact."""
    total, rate = _count(progress.get("bytesTotal")), _count(progress.get("bytesPerSecond"))
    if not total:
        return {}
    done = min(_count(progress.get("bytesDone")), total)
    counted = {"percent": min(99, 100 * done // total), "bytesDone": done, "bytesTotal": total}
    return {**counted, "bytesPerSecond": rate, "remainingSeconds": -(-(total - done) // rate)} if rate else counted


def _count(value: object) -> int:
    return int(value) if isinstance(value, int | float) and 0 <= value < _MOST else 0
