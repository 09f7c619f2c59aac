"""Why a pod or a Job failed: one reason, one message with the next step, and whether to retry."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from vicuna_contract import names as c
from vicuna_contract.exits import RETRYABLE_EXITS, ExitCode
from vicuna_contract.printable import printable
from vicuna_contract.termination import read_report
from vicuna_operator.api.conditions import Reason, format_time, one_line
from vicuna_operator.planning.blocking import find_blocking_reason
from vicuna_operator.planning.containers import Termination
from vicuna_operator.planning.engine_end import engine_cause, engine_errors
from vicuna_operator.planning.jobs import JobView
from vicuna_operator.planning.lenient import table, text, whole
from vicuna_operator.planning.pods import PodView

__all__ = ["Failure", "failure_report", "merge_failure", "remembered", "server_failure"]

_LOG_TOLD = 600  # characters, in a message
_SAID_NOTHING = (
    "the merge ended with exit code 0 and did not name its artifact; use an image of this operator's version, and let"
    " no policy change the container's command or its terminationMessagePath"
)
_LOG_KEPT = 2048
_LINES_KEPT = 12
_BY_SIGNAL = {ExitCode.INTERRUPTED, 128 + 15}
_OFF_THE_NODE = {"Evicted", "Preempting", "NodeShutdown", "Shutdown", "Terminated", "NodeLost"}


@dataclass(frozen=True)
class Failure:
    """Something that ended badly; `log` has the container's last lines."""

    reason: str
    message: str
    retryable: bool
    exit_code: int | None = None
    pod: str = ""
    time: str = ""
    log: str = ""

    @property
    def disruption(self) -> bool:
        """Tell whether the cluster ended it: an eviction, a node drained, lost or preempted, SIGTERM."""
        return self.reason in {Reason.EVICTED, Reason.POD_LOST} or self.exit_code in _BY_SIGNAL


def merge_failure(job: JobView, pod: PodView | None) -> Failure:
    """Tell why a failed merge Job failed."""
    when = format_time(job.finished) if job.finished else ""
    if pod is None:
        return Failure(
            Reason.POD_LOST,
            f"the pod of Job {job.meta.name} was deleted before it reported how it ended"
            + (f" ({job.condition_reason}: {job.condition_message})" if job.condition_reason else ""),
            retryable=True,
            time=when,
        )
    mute = pod.terminated is not None and pod.terminated.exit_code == 0
    return _pod_failure(pod, "merge") or Failure(
        Reason.MERGE_FAILED,
        _SAID_NOTHING if mute else job.condition_message or f"Job {job.meta.name} failed; {_see_log(pod)}",
        retryable=True,
        pod=pod.meta.name,
        time=when,
    )


def _see_log(pod: PodView) -> str:
    return f"see `kubectl logs {pod.meta.name} --container={c.MERGE_CONTAINER}`"


def remembered(status: Mapping[str, Any], job: JobView) -> Failure | None:
    """Read the diagnosis of a Job's pod from `status.lastFailure`; None where that is about another pod."""
    last = table(status, "lastFailure")
    pod, reason = text(last.get("pod")), text(last.get("reason"))
    exit_code = whole(last["exitCode"], 1) if "exitCode" in last else None
    if not pod.startswith(f"{job.meta.name}-"):
        return None
    retryable = reason == Reason.EVICTED if exit_code is None else exit_code in RETRYABLE_EXITS or exit_code > 128
    return Failure(
        reason,
        text(last.get("message")),
        retryable and reason != Reason.OOM_KILLED,
        exit_code,
        pod,
        text(last.get("time")),
        text(last.get("log")),
    )


def server_failure(pod: PodView) -> Failure | None:
    """Tell how a serving pod's container ended last, if it ended badly at all."""
    return _pod_failure(pod, "serving")


def failure_report(failure: Failure) -> dict[str, Any]:
    """Render a failure as `status.lastFailure` has it."""
    fields = {
        "reason": failure.reason,
        "message": one_line(failure.message)[:4096],
        "exitCode": failure.exit_code,
        "pod": failure.pod or None,
        "time": failure.time or None,
        "log": failure.log or None,
    }
    return {key: value for key, value in fields.items() if value is not None}


def _pod_failure(pod: PodView, what: str) -> Failure | None:
    ended = pod.terminated or pod.last_terminated
    if not _has_spoken(pod) and (failure := _cut_short(pod, ended, what)) is not None:
        return failure
    if ended is None:
        return _not_begun(pod, what) if pod.phase == "Failed" else None
    return None if ended.exit_code == 0 and what == "merge" else _container_failure(pod, ended, what)


def _cut_short(pod: PodView, ended: Termination | None, what: str) -> Failure | None:
    """Tell what ended a pod from outside: its deadline, or the cluster."""
    if pod.status_reason == "DeadlineExceeded":
        return Failure(
            Reason.DEADLINE_EXCEEDED,
            f"the {what} pod ran longer than its deadline; raise spec.merge.activeDeadlineSeconds",
            retryable=False,
            pod=pod.meta.name,
            time=_time(ended),
        )
    if pod.status_reason in _OFF_THE_NODE or pod.disruption or _is_lost(ended):
        return _taken(pod, ended, what)
    return None


def _has_spoken(pod: PodView) -> bool:
    """Tell whether the container ended by itself and gave a reason, before its pod was evicted or timed out."""
    if pod.terminated is None or pod.terminated.exit_code > 128 or pod.terminated.exit_code in _BY_SIGNAL:
        return False
    return read_report(pod.terminated.message) is not None


def _taken(pod: PodView, ended: Termination | None, what: str) -> Failure:
    cause = pod.status_message or pod.status_reason or pod.disruption or (ended.message if ended is not None else "")
    return Failure(
        Reason.EVICTED,
        f"the {what} pod was evicted from its node: {cause}; another pod is made automatically; if it happens again,"
        f" free the node or raise the pod's requests",
        retryable=True,
        pod=pod.meta.name,
        time=_time(ended),
    )


def _time(ended: Termination | None) -> str:
    return ended.finished if ended is not None else ""


def _is_lost(ended: Termination | None) -> bool:
    """Tell whether the kubelet found no trace of the container, as after its node's restart."""
    return ended is not None and ended.reason == "ContainerStatusUnknown"


def _not_begun(pod: PodView, what: str) -> Failure | None:
    """Tell why a pod failed before its own container started."""
    if pod.status_reason:
        return Failure(
            Reason.NODE_REFUSED,
            f"node {pod.node or '?'} refused the {what} pod: {pod.status_reason}: {pod.status_message}; check that"
            f" the node has what the pod requests, and that its device plugin works",
            retryable=True,
            pod=pod.meta.name,
        )
    found = find_blocking_reason(pod, ())
    return Failure(found.reason, found.message, retryable=True, pod=pod.meta.name) if found is not None else None


def _container_failure(pod: PodView, ended: Termination, what: str) -> Failure:
    of_engine = ended.container == c.ENGINE_CONTAINER
    return _engine_failure(pod, ended) if of_engine else _own_failure(pod, ended, what)


def _engine_failure(pod: PodView, ended: Termination) -> Failure:
    """Tell why vLLM ended: whatever its exit code, it was not asked to."""
    log, cause = _kept_lines(ended.message.strip()), engine_cause(ended.message)
    named = f"vLLM (container {c.ENGINE_CONTAINER})"
    failure = _crash(pod, ended, Reason.ENGINE_CRASHED, named, log, retryable=True)
    if ended.reason == "OOMKilled":
        message = f"vLLM ran out of memory; raise spec.serving.resources.limits.memory{_last_lines(log)}"
        return replace(failure, reason=Reason.OOM_KILLED, message=message, retryable=False)
    if cause is not None:
        message = f"vLLM ended: {one_line(cause.line)}; {cause.step}"
        return replace(failure, reason=cause.reason, message=message, retryable=False)
    if errors := engine_errors(ended.message):
        message = (
            f"{named} ended with exit code {ended.exit_code}; its errors: {' | '.join(errors)}; see its log for more"
        )
        return replace(failure, message=message)
    return failure


def _own_failure(pod: PodView, ended: Termination, what: str) -> Failure:
    report = read_report(ended.message)
    log = _kept_lines(report.log if report else ended.message.strip())
    retryable = ended.exit_code in RETRYABLE_EXITS or ended.exit_code > 128
    failure = _crash(pod, ended, Reason.CRASHED, f"the {what} container", log, retryable=retryable)
    if ended.reason == "OOMKilled":
        message = f"the {what} container ran out of memory; {_more_memory(pod, what)}{_last_lines(log)}"
        return replace(failure, reason=Reason.OOM_KILLED, message=message, retryable=False)
    if report is not None:
        return replace(
            failure,
            reason=report.reason,
            message=report.message or report.reason,
            retryable=ended.exit_code in RETRYABLE_EXITS if report.retryable is None else report.retryable,
        )
    return failure


def _crash(pod: PodView, ended: Termination, reason: Reason, named: str, log: str, *, retryable: bool) -> Failure:
    """Return the failure of a container of which no more is known than how it ended and what it printed last."""
    return Failure(
        reason,
        f"{named} ended with exit code {ended.exit_code}; see its log for the cause{_last_lines(log)}",
        retryable=retryable,
        exit_code=ended.exit_code,
        pod=pod.meta.name,
        time=ended.finished,
        log=log,
    )


def _more_memory(pod: PodView, what: str) -> str:
    if pod.with_engine:  # a front's limit is ours
        return "lower spec.serving.maxConcurrency"
    return f"raise {'spec.merge.resources' if what == 'merge' else 'spec.serving.resources'}.limits.memory"


def _kept_lines(log: str) -> str:
    """Return the last lines of a log, as many as fit into the status."""
    return "\n".join(printable(log).splitlines()[-_LINES_KEPT:])[-_LOG_KEPT:]


def _last_lines(log: str) -> str:
    tail = one_line(log[-_LOG_TOLD:])
    return f"; its last lines: {tail}" if tail else ""
