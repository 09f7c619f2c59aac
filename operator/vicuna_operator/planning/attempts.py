"""The attempts of one merge: start, watch, diagnose, try again or give up."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from vicuna_operator.api.conditions import Reason
from vicuna_operator.api.model import Model
from vicuna_operator.planning.actions import Action, Create, Delete, NewEvent, Ref
from vicuna_operator.planning.blocking import (
    claim_blocking_reason,
    find_blocking_reason,
    unbound_claims,
    waits_for_volume,
)
from vicuna_operator.planning.config import PlanConfig
from vicuna_operator.planning.diagnosis import POLL_SECONDS, STUCK_SECONDS
from vicuna_operator.planning.failures import Failure, merge_failure, remembered
from vicuna_operator.planning.job_outcome import mark_disrupted, stop_sidecars
from vicuna_operator.planning.jobs import JobView
from vicuna_operator.planning.meta import Meta
from vicuna_operator.planning.observed import ClaimView, Observed
from vicuna_operator.planning.pods import PodView
from vicuna_operator.planning.weights_stage import WeightsStage
from vicuna_operator.resources.common import claim_name, spec_of
from vicuna_operator.resources.merge_job import job_name, merge_job, source_claims

__all__ = ["Attempts", "claims_to_read", "delete_job"]

_BACKOFF_SECONDS = (10.0, 20.0, 40.0, 80.0, 160.0, 300.0)
_NOTHING_KNOWN = (Reason.MERGE_PENDING, "waiting for the merge pod to start")
_VOLUME_SECONDS = 30.0  # for a volume to be made
_LATE_MESSAGE = timedelta(seconds=10)  # a Job's completion and its pod's last state come by different watches


def claims_to_read(model: Model) -> Sequence[str]:
    """Return the claims that a plan for this model reads, its own storage first."""
    if model.spec is None:
        return ()
    return tuple(dict.fromkeys([claim_name(model), *(source.claim for source in source_claims(model).values())]))


def delete_job(job: JobView) -> Delete:
    """Return the action that removes a Job and its pod."""
    return Delete(Ref("batch/v1", "Job", job.meta.name), job.meta.uid)


@dataclass(frozen=True)
class Attempts:
    """Everything that decides about the next attempt. `jobs` are those of the present merge key, by attempt."""

    model: Model
    seen: Observed
    config: PlanConfig
    now: datetime
    jobs: Sequence[JobView]
    pods: Mapping[str, PodView]  # by Job name
    series: str
    shared_volume: bool
    verification: str = ""  # key of the verification that is requested; empty: none

    def next(self) -> WeightsStage:
        """Decide about the next attempt from the last one."""
        last = self.jobs[-1] if self.jobs else None
        if last is None or last.claim != claim_name(self.model) or last.meta.verification != self.verification:
            return self._start()
        pod = self.pods.get(last.meta.name)
        if last.succeeded:
            return self._after_success(last, pod)
        if last.failed:
            changed = last.series != self.series or self._has_grown(last)
            return self._start() if changed else self._after_failure(last, pod)
        return self._unfinished(last, pod)

    def _after_success(self, last: JobView, pod: PodView | None) -> WeightsStage:
        """Wait for the termination message of a completed Job: it names the artifact.

        If the message is lost, the merge runs again and finds the artifact in seconds.
        """
        late = last.finished is not None and self.now - last.finished < _LATE_MESSAGE
        if late and pod is not None and pod.terminated is None:
            return WeightsStage(
                None, Reason.MERGING, "reading the result", requeue_after=1.0, running=True, attempt=last.attempt
            )
        return self._start()

    def _has_grown(self, last: JobView) -> bool:
        """Tell whether the volume has another size than when a Job was made."""
        return bool(last.capacity and self._capacity()) and last.capacity != self._capacity()

    @property
    def _claim(self) -> ClaimView | None:
        return self.seen.claims.get(claim_name(self.model))

    def _capacity(self) -> str:
        return self._claim.capacity if self._claim is not None else ""

    @property
    def _next_attempt(self) -> int:
        return self.jobs[-1].attempt + 1 if self.jobs else 0

    def job(self) -> Mapping[str, Any]:
        """Build the Job of the next attempt."""
        spec = spec_of(self.model)
        return merge_job(
            self.model,
            attempt=self._next_attempt,
            series=self.series,
            image=spec.serving.image or self.config.server_image,
            pull_policy=spec.serving.image_pull_policy or self.config.server_image_pull_policy,
            shared_volume=self.shared_volume,
            capacity=self._capacity(),
            claim_uid=self._claim.meta.uid if self._claim is not None else "",
            verification=self.verification,
            platform_user=self.config.platform_user,
        )

    def _start(self) -> WeightsStage:
        model, attempt = self.model, self._next_attempt
        for name in claims_to_read(model):
            if name != claim_name(model) and self.seen.claims.get(name) is None:
                message = f"spec.weights: PersistentVolumeClaim {name} does not exist; create it in {model.namespace}"
                return WeightsStage(None, Reason.CLAIM_NOT_FOUND, message, requeue_after=POLL_SECONDS)
        return WeightsStage(
            None,
            *_NOTHING_KNOWN,
            actions=[Create(self.job())],
            new_events=[NewEvent("Normal", "MergeStarted", f"created Job {job_name(model, attempt)}")],
            attempt=attempt,
        )

    def _unfinished(self, job: JobView, pod: PodView | None) -> WeightsStage:
        if pod is None or pod.phase == "Pending":
            if job.series != self.series:
                # A Job that has not begun is replaced when resources or placement change; a running merge goes on.
                restart = self._start()
                return replace(restart, actions=[delete_job(job), *restart.actions])
            return self._not_started(job, pod)
        follow = self.config.merge_progress and pod.running
        return WeightsStage(
            None,
            Reason.MERGING,
            f"Job {job.meta.name} is merging the weights",
            running=True,
            attempt=job.attempt,
            merge_pod=pod.meta.name if follow else None,
            progress=self.seen.progress,
            requeue_after=POLL_SECONDS if follow else None,
        )

    def _not_started(self, job: JobView, pod: PodView | None) -> WeightsStage:
        """Say what keeps the merge pod from starting."""
        subject = pod.meta if pod is not None else job.meta
        # A pod without a node may wait for its volume; the Events of the claim say why.
        unbound = unbound_claims(self.seen.claims.values()) if pod is None or not pod.scheduled else []
        age = self._age(subject)
        stuck = age >= STUCK_SECONDS
        reason, message, step = self._hindrance(pod, subject, unbound, age)
        return WeightsStage(
            None,
            reason,
            message,
            step=step,
            attempt=job.attempt,
            ask_events=[subject.uid, *(claim.meta.uid for claim in unbound)] if stuck else (),
            requeue_after=POLL_SECONDS if stuck else STUCK_SECONDS - age,
        )

    def _hindrance(
        self, pod: PodView | None, subject: Meta, unbound: Sequence[ClaimView], age: float
    ) -> tuple[str, str, str]:
        """Return reason, message and next step of what keeps a merge pod from starting."""
        found = claim_blocking_reason(unbound, self.seen.events) or find_blocking_reason(
            pod, self.seen.events.get(subject.uid, ())
        )
        if found is None:
            return *_NOTHING_KNOWN, ""
        if waits_for_volume(pod, found) and age < _VOLUME_SECONDS:
            # The scheduler reports every new volume as missing at first.
            names = ", ".join(claim.meta.name for claim in unbound) or claim_name(self.model)
            return Reason.MERGE_PENDING, f"waiting for the volume of PersistentVolumeClaim {names}", ""
        return found.reason, f"merge: {found.message}", found.step

    def _age(self, subject: Meta) -> float:
        """Return an object's age in seconds; without a creation time it counts as stuck."""
        return (self.now - subject.created).total_seconds() if subject.created else STUCK_SECONDS

    def _ended(self, last: JobView) -> Sequence[JobView]:
        """Return the attempts that share one retry budget with the last one and left no artifact."""
        return [job for job in self.jobs if job.series == self.series and job.claim == last.claim and job.failed]

    def _after_failure(self, last: JobView, pod: PodView | None) -> WeightsStage:
        # The pod may have been deleted since it was diagnosed: that diagnosis still holds.
        known = remembered(self.model.status, last)
        failure = (known if pod is None else None) or merge_failure(last, pod)
        # The sidecars are stopped only once the status has the diagnosis: stopping them removes the pod.
        actions: list[Action] = [*stop_sidecars(last, pod)] if known is not None else []
        if failure.disruption and not last.disrupted:
            actions.append(mark_disrupted(last))
        stage = self._next_try(last, failure)
        return replace(stage, failure=failure, actions=[*actions, *stage.actions])

    def _next_try(self, last: JobView, failure: Failure) -> WeightsStage:
        """Decide whether, and when, to try again."""
        disrupted = failure.disruption or last.disrupted
        tries, budget = self._ended(last), spec_of(self.model).merge.retries
        failures = sum(not job.disrupted for job in tries if job is not last) + (not disrupted)
        if not disrupted and (not failure.retryable or failures > budget):
            tried = f" (tried {failures} times)" if failures > 1 else ""
            return WeightsStage(None, failure.reason, failure.message + tried, stalled=True, attempt=last.attempt)
        wait = _BACKOFF_SECONDS[min(len(tries), len(_BACKOFF_SECONDS)) - 1]
        left = self._left(last, wait)
        if left <= 0:
            return self._start()
        counted = "was disrupted" if disrupted else f"{failures} of {budget + 1} failed"
        return WeightsStage(
            None,
            Reason.MERGE_RETRYING,
            f"attempt {counted}: {failure.reason}: {failure.message}; the operator tries again by itself",
            attempt=last.attempt,
            requeue_after=max(0.1, left),
        )

    def _left(self, last: JobView, wait: float) -> float:
        """Return how many seconds of the wait after an attempt are left; 0 if its end is not known."""
        return wait - (self.now - last.finished).total_seconds() if last.finished else 0.0
