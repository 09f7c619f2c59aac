"""Whether a merged artifact must be verified: a server could not load it, or the user asks.

A verification is a merge Job with another environment: it reads every byte, and makes anew what is damaged. There is
one per claim and generation, and one more for each time the user asks.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from vicuna_contract import names as c
from vicuna_operator.api.model import Model
from vicuna_operator.planning.deployments import uids_on_pods
from vicuna_operator.planning.failures import Failure, server_failure
from vicuna_operator.planning.jobs import JobView
from vicuna_operator.planning.lenient import moment
from vicuna_operator.planning.meta import Meta
from vicuna_operator.planning.observed import ClaimView, Observed
from vicuna_operator.planning.pods import PodView

__all__ = ["DAMAGE", "VerificationRequest", "claim_annotations", "find_verification_request", "is_on_former_claim"]

DAMAGE = {"ArtifactDamaged", "ManifestBroken", "ModelNotFound"}


@dataclass(frozen=True)
class VerificationRequest:
    """Why an artifact is to be verified, if it is; `failure` is a server's, None where the user asks.

    `key` identifies the verification, empty where none is needed. `unresolved` is the Job that had verified the
    artifact before the server failed once more: there is nothing left to try.
    """

    key: str = ""
    failure: Failure | None = None
    unresolved: JobView | None = None

    @property
    def settled(self) -> bool:
        """Tell whether no verification is needed, or none would help."""
        return not self.key or self.unresolved is not None


def find_verification_request(
    model: Model, artifact_id: str, claim: ClaimView | None, jobs: Sequence[JobView], seen: Observed
) -> VerificationRequest:
    """Find a verification that is still to be done. `jobs` are those of the present merge key, by attempt."""
    verified = [job for job in jobs if job.meta.verification and job.succeeded]
    failure, now = _reported(model, artifact_id, seen, verified), _present_key(model, claim)
    if under_way := _key_under_way(jobs):
        return VerificationRequest(now if jobs[-1].failed else under_way, failure)
    if _is_requested(model, [job.meta.verification for job in verified], seen):
        return VerificationRequest(now, failure)
    return VerificationRequest() if failure is None else VerificationRequest(now, failure, _finished(verified, now))


def _finished(verified: Sequence[JobView], key: str) -> JobView | None:
    return next((job for job in verified if job.meta.verification == key), None)


def _present_key(model: Model, claim: ClaimView | None) -> str:
    """Return the key of the verification for the present claim, generation and request of the user."""
    uid = claim.meta.uid if claim is not None else ""
    return "/".join([uid, str(model.generation), model.annotations.get(c.ANNOTATION_VERIFY, "")])


def _key_under_way(jobs: Sequence[JobView]) -> str:
    """Return the key of the verification that the last attempt belongs to, if that has not succeeded."""
    return jobs[-1].meta.verification if jobs and not jobs[-1].succeeded else ""


def _is_requested(model: Model, verified: Sequence[str], seen: Observed) -> bool:
    """Tell whether the user asks for a verification that is not done yet; its Job may have been deleted since."""
    asked = model.annotations.get(c.ANNOTATION_VERIFY, "")
    taken = [*verified, *(item.meta.verification for item in seen.deployments)]
    return bool(asked) and not any(key.endswith(f"/{asked}") for key in taken)


def _reported(model: Model, artifact_id: str, seen: Observed, verified: Sequence[JobView]) -> Failure | None:
    """Return a server's failure to load the artifact since it was verified last."""
    verified_at = max((job.finished for job in verified if job.finished is not None), default=None)
    found = [failure for failure in _failures(model, artifact_id, seen) if _is_news(failure, verified_at, verified)]
    return max(found, key=lambda failure: failure.time, default=None)


def _failures(model: Model, artifact_id: str, seen: Observed) -> Iterator[Failure]:
    uids = uids_on_pods(model.uid, seen.deployments)
    for pod in seen.pods:
        labels = pod.meta.labels
        mine = labels.get(c.LABEL_MODEL_UID) in uids and labels.get(c.LABEL_ARTIFACT_ID) == artifact_id
        if pod.is_server and mine and (failure := _damage(pod)) is not None:
            yield failure


def _damage(pod: PodView) -> Failure | None:
    failure = None if pod.ready or pod.meta.deleting else server_failure(pod)
    return failure if failure is not None and failure.reason in DAMAGE else None


def _is_news(failure: Failure, verified_at: datetime | None, verified: Sequence[JobView]) -> bool:
    at = moment(failure.time)
    return not verified if at is None or verified_at is None else at > verified_at


def is_on_former_claim(child: Meta, claim: ClaimView | None) -> bool:
    """Tell whether the artifact of an object is on an earlier claim of this name, not on the present one.

    Earlier versions did not record the claim's uid: there the object must be younger than the claim.
    """
    if claim is None:
        return False
    if uid := child.annotations.get(c.ANNOTATION_CLAIM_UID):
        return uid != claim.meta.uid
    return claim.meta.created is not None and child.created is not None and child.created < claim.meta.created


def claim_annotations(child: Meta, claim: ClaimView | None) -> dict[str, str]:
    """Return the claim's uid as an annotation for an object that has not recorded it yet."""
    if (
        claim is None
        or claim.meta.deleting
        or c.ANNOTATION_CLAIM_UID in child.annotations
        or is_on_former_claim(child, claim)
    ):
        return {}
    here = child.annotations.get(c.ANNOTATION_CLAIM) == claim.meta.name
    return {c.ANNOTATION_CLAIM_UID: claim.meta.uid} if here else {}
