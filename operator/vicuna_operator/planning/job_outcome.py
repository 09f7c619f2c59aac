"""How a Job's work ended, as its pod says before the Job does, or instead of it.

Kubernetes ends a Job when all containers of its pod have ended. A sidecar that an admission webhook has added, such as
a service mesh's proxy, never ends. So only the operator's own container counts.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from vicuna_contract import names as c
from vicuna_contract.termination import read_report
from vicuna_operator.planning.actions import Patch, Ref
from vicuna_operator.planning.jobs import JobView
from vicuna_operator.planning.lenient import moment
from vicuna_operator.planning.pods import PodView

__all__ = [
    "END_NOW",
    "mark_disrupted",
    "pods_by_job",
    "running_sidecars",
    "stop_sidecars",
    "with_merge_outcome",
    "with_outcome",
]

# A running Job may get a deadline. Then it fails, and Job and termination message stay readable. Some versions of
# Kubernetes would replace a deleted pod, and a deleted Job would take its record with it.
END_NOW = {"activeDeadlineSeconds": 1}


def pods_by_job(jobs: Iterable[JobView], pods: Iterable[PodView]) -> Mapping[str, PodView]:
    """Return the youngest pod of each Job by the Job's name; pods of an earlier Job of that name do not count."""
    uids = {job.meta.uid: job.meta.name for job in jobs}
    old_to_young = sorted(pods, key=lambda pod: pod.meta.created.timestamp() if pod.meta.created else 0.0)
    return {uids[pod.meta.owner_uid]: pod for pod in old_to_young if pod.meta.owner_uid in uids}


def with_outcome(job: JobView, pod: PodView | None) -> JobView:
    """Return a Job as its own container left it, whatever the Job's conditions say."""
    if job.artifact_id:
        return replace(job, succeeded=True, failed=False)
    last = pod.terminated if pod is not None else None
    if last is None or job.succeeded:
        return job
    if last.exit_code == 0:
        report = read_report(last.message)
        published = report is not None and report.artifact_id is not None
        done = published or not job.failed
        return replace(job, succeeded=done, failed=not done, finished=job.finished or moment(last.finished))
    return replace(job, failed=True, finished=job.finished or moment(last.finished))


def with_merge_outcome(job: JobView, pod: PodView | None) -> JobView:
    """Return a merge's Job as `with_outcome` does; one that ended well without naming its artifact has failed."""
    job = with_outcome(job, pod)
    last = pod.terminated if pod is not None else None
    if not job.succeeded or job.artifact_id or last is None or last.exit_code != 0:
        return job
    report = read_report(last.message)
    named = report is not None and report.artifact_id is not None
    return job if named else replace(job, succeeded=False, failed=True, finished=job.finished or moment(last.finished))


def running_sidecars(pod: PodView | None) -> Sequence[str]:
    """Return the containers that still run although the operator's own has ended, and so keep the Job open."""
    if pod is None or pod.terminated is None or pod.over:
        return ()
    return [item.name for item in pod.others if item.running]


def stop_sidecars(job: JobView, pod: PodView | None) -> list[Patch]:
    """End a Job that only sidecars keep from ending: its pod holds the volume."""
    if job.deadline or not running_sidecars(pod):
        return []
    return [Patch(Ref("batch/v1", "Job", job.meta.name), job.meta.uid, {"spec": END_NOW})]


def mark_disrupted(job: JobView) -> Patch:
    """Record on a Job that it does not count against `spec.merge.retries`; its pod may be gone by then."""
    change = {"metadata": {"annotations": {c.ANNOTATION_DISRUPTED: "true"}}}
    return Patch(Ref("batch/v1", "Job", job.meta.name), job.meta.uid, change)
