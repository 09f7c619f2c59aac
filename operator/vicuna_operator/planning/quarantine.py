"""Damaged artifacts that a verification has put aside on the model's own claim, removed once no server reads them.

Until then they lie beside the artifact that was made anew: a server that has loaded one goes on reading its files.
Where the Job is gone, or the claim is the user's, merges and `prune` remove such copies by their age.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from vicuna_contract import names as c
from vicuna_operator.planning.actions import Patch, Ref
from vicuna_operator.planning.jobs import JobView
from vicuna_operator.planning.pods import PodView

__all__ = ["Quarantined", "find_quarantined", "mark_removed", "removable"]

_REPLACED = "ArtifactReplaced"
_CLOCKS = timedelta(minutes=1)  # a kubelet's clock and the Job controller's may differ


@dataclass(frozen=True)
class Quarantined:
    """An artifact of which a damaged copy was put aside, no later than `until`."""

    artifact_id: str
    until: datetime


def find_quarantined(jobs: Iterable[JobView]) -> Sequence[Quarantined]:
    """Find what verifications have put aside and no clean-up has removed.

    Returns nothing while a verification is under way, has failed, or has not been read yet: it may put aside another
    copy. Servers that started before its end count as readers.
    """
    verifications = sorted(
        (job for job in jobs if job.meta.verification and not job.is_prune), key=lambda job: job.attempt
    )
    ended = [Quarantined(job.artifact_id, job.finished) for job in verifications if job.artifact_id and job.finished]
    if len(ended) < len(verifications):
        return []
    last = {item.artifact_id: item for item in ended}
    return [last[artifact_id] for artifact_id in sorted(_artifacts(verifications))]


def removable(quarantined: Sequence[Quarantined], pods: Sequence[PodView]) -> Sequence[str]:
    """Return the artifacts whose damaged copies no server can still read."""
    return [item.artifact_id for item in quarantined if not any(_may_read(pod, item) for pod in pods)]


def mark_removed(jobs: Iterable[JobView], removed: Sequence[str]) -> Sequence[Patch]:
    """Record on the Jobs of verifications that what they put aside is removed."""
    change = {"metadata": {"annotations": {c.ANNOTATION_ASIDE: "removed"}}}
    return [
        Patch(Ref("batch/v1", "Job", job.meta.name), job.meta.uid, change)
        for job in jobs
        if _has_quarantined(job) and job.artifact_id in removed
    ]


def _artifacts(verifications: Iterable[JobView]) -> set[str]:
    return {job.artifact_id for job in verifications if job.artifact_id and _has_quarantined(job)}


def _has_quarantined(job: JobView) -> bool:
    noted = c.ANNOTATION_ASIDE in job.meta.annotations or job.meta.deleting
    return job.succeeded and not job.is_prune and not noted and any(why == _REPLACED for why, _ in job.warnings)


def _may_read(pod: PodView, quarantined: Quarantined) -> bool:
    """Tell whether a server may have loaded the damaged copy. One that started later has loaded the new artifact."""
    if pod.over or not pod.running or not pod.is_server:
        return False
    mine = pod.meta.labels.get(c.LABEL_ARTIFACT_ID) == quarantined.artifact_id
    return mine and (pod.began is None or pod.began < quarantined.until + _CLOCKS)
