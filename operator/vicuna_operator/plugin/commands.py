"""The subcommands of `kubectl vicuna`."""

import json
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from vicuna_contract import names as c
from vicuna_contract.exits import ExitCode
from vicuna_operator.api.conditions import ConditionType, Reason, format_time
from vicuna_operator.errors import PluginError
from vicuna_operator.planning.lenient import whole
from vicuna_operator.planning.verification import DAMAGE
from vicuna_operator.plugin.absence import read_absence
from vicuna_operator.plugin.history import columns_of, history_rows, table
from vicuna_operator.plugin.kubectl import Kubectl
from vicuna_operator.plugin.model_objects import ModelObjects, current_condition, read_model
from vicuna_operator.plugin.rollback import choose_revision, managers_of, spec_of_revision, stated_revisions
from vicuna_operator.plugin.terminal import say, warn
from vicuna_operator.plugin.tree import render, status_tree
from vicuna_operator.plugin.why import explain
from vicuna_operator.plugin.why import render as render_why

__all__ = ["history", "restart", "retry", "rollback", "status", "takeover", "upgrade", "wait", "why"]

_RESOURCE = f"{c.PLURAL}.{c.GROUP}"
_LOOK_SECONDS = 1.0


def status(
    kubectl: Kubectl, name: str, *, as_json: bool, now: Callable[[], datetime] = lambda: datetime.now(UTC)
) -> int:
    """Print a model's tree."""
    objects = ModelObjects.read(kubectl, name, events=True)
    _warn_of_absence(kubectl, objects.body, now)
    tree = status_tree(objects)
    say(json.dumps(tree.as_dict(), indent=2) if as_json else render(tree))
    return 0


def why(kubectl: Kubectl, name: str, *, as_json: bool, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> int:
    """Print what a model waits for, since when, and the next step."""
    body = read_model(kubectl, name)
    _warn_of_absence(kubectl, body, now)
    selector = f"--field-selector=involvedObject.uid={body['metadata'].get('uid', '')}"
    answer = explain(body, kubectl.read("get", "events", selector)["items"])
    say(json.dumps(answer.as_dict(), indent=2) if as_json else render_why(answer, now()))
    return 0


def history(kubectl: Kubectl, name: str, *, as_json: bool) -> int:
    """Print the last rollouts, and which of their revisions are kept for a rollback."""
    rows = history_rows(ModelObjects.read(kubectl, name))
    if as_json:
        say(json.dumps(rows, indent=2))
    else:
        say(table(rows, columns_of(rows)) if rows else f"{name} has not served yet")
    return 0


def rollback(kubectl: Kubectl, name: str, *, to: str | None, dry_run: bool) -> int:
    """Set the spec back to that of a kept revision; nothing is merged for it."""
    objects = ModelObjects.read(kubectl, name)
    item = choose_revision(objects, to)
    after = spec_of_revision(objects, item)
    if item.revision in stated_revisions(objects):
        say(f"{name} is set to revision {item.revision} already")
        return 0
    for manager, field in managers_of(objects.body, after):
        warn(f"warning: {field} is managed by {manager}, which may set it again; change it at its source too")
    if dry_run:
        say(json.dumps({"spec": after}, indent=2))
        return 0
    # The generation is tested, not the resourceVersion: only the spec must be as we read it, the status changes often.
    patch = [
        {"op": "test", "path": "/metadata/generation", "value": objects.model.generation},
        {"op": "replace", "path": "/spec", "value": after},
    ]
    kubectl.write(
        "patch", _RESOURCE, name, "--type=json", f"--patch={json.dumps(patch)}", "--field-manager=kubectl-vicuna"
    )
    say(f"{name} goes back to revision {item.revision}; follow it with `kubectl vicuna wait {name}`")
    return 0


def retry(kubectl: Kubectl, name: str) -> int:
    """Request a retry of what failed; where nothing has, or the artifact is damaged, request its verification."""
    before, moment = read_model(kubectl, name), str(int(time.time()))
    stalled = current_condition(before, ConditionType.STALLED)
    failed = stalled.get("reason") if stalled.get("status") == "True" else None
    annotations = {c.ANNOTATION_RETRY: moment}
    message = f"{name} ({failed}): the operator tries again what failed" if failed else f"{name} is not stalled"
    damaged = {failed, ((before.get("status") or {}).get("lastFailure") or {}).get("reason")} & DAMAGE
    if (failed is None or damaged) and current_condition(before, ConditionType.WEIGHTS_READY).get("status") == "True":
        annotations[c.ANNOTATION_VERIFY] = moment
        message += "; a Job reads every byte of its artifact and makes anew what is damaged, while its pods go on"
    elif failed is None:
        message += ": the operator tries again at once what has failed so far, with all its retries"
    _annotate(kubectl, name, annotations)
    say(message)
    return 0


def restart(kubectl: Kubectl, name: str, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> int:
    """Replace all pods by new ones of the same spec, as a rollout does: the pods get a new annotation."""
    body = read_model(kubectl, name)
    spec = body.get("spec") or {}
    serving = spec.get("serving") or {}
    if spec.get("suspend") or _replicas(body) == 0:
        say(f"{name} has no pods: spec.suspend or spec.serving.replicas says so")
        return 0
    if _stops_all(serving, _replicas(body)):
        strategy = serving["rollout"]["strategy"]
        warn(f"warning: spec.serving.rollout.strategy {strategy} stops every pod before the new ones load")
    change = {"serving": {"podAnnotations": {c.ANNOTATION_RESTARTED: format_time(now())}}}
    kubectl.write(
        "patch",
        _RESOURCE,
        name,
        "--type=merge",
        f"--patch={json.dumps({'spec': change})}",
        "--field-manager=kubectl-vicuna",
    )
    say(f"{name} gets new pods, as in a rollout; follow it with `kubectl vicuna wait {name}`")
    return 0


def _stops_all(serving: Mapping[str, Any], replicas: int) -> bool:
    strategy = (serving.get("rollout") or {}).get("strategy")
    return strategy == "Recreate" or (strategy == "Drain" and replicas == 1)


def _replicas(body: Mapping[str, Any]) -> int:
    """Return how many replicas there should be; one that is asleep has one for what is new."""
    serving = (body.get("spec") or {}).get("serving") or {}
    if serving.get("autoscaling"):
        return max(1, whole(((body.get("status") or {}).get("autoscaling") or {}).get("desiredReplicas"), 1))
    return whole(serving.get("replicas"), 1)


def upgrade(kubectl: Kubectl, name: str) -> int:
    """Ask for the operator's present default image."""
    body = read_model(kubectl, name)
    status = body.get("status") or {}
    stated = _stated_images(body)
    if stated and not status.get("imageOutdated"):  # of two images, the other may be a default that is outdated
        raise PluginError(f"{' and '.join(stated)}; change it there")
    revision = (status.get("target") or {}).get("revision")
    if not revision:
        raise PluginError(f"{name} has no revision yet; its first one takes the default image anyway")
    if not status.get("imageOutdated"):
        say(f"{name} runs on the default image already")
        return 0
    _annotate(kubectl, name, {c.ANNOTATION_UPGRADE: str(revision)})
    say(f"{name} takes the operator's default image; follow it with `kubectl vicuna wait {name}`")
    return 0


def _stated_images(body: Mapping[str, Any]) -> list[str]:
    serving = (body.get("spec") or {}).get("serving") or {}
    return [f"spec.serving.{name} states {serving[name]}" for name in ("image", "engineImage") if serving.get(name)]


def takeover(kubectl: Kubectl, name: str, *, by: str) -> int:
    """Say which operator works on a model from now on."""
    namespace, _, lease = by.partition("/")
    if not namespace or not lease or "/" in lease:
        message = f"--by {by}: give NAMESPACE/LEASE of an operator, such as vicuna-system/vicuna-operator"
        raise PluginError(message, ExitCode.USAGE)
    before = (read_model(kubectl, name).get("status") or {}).get("managedBy")
    _annotate(kubectl, name, {c.ANNOTATION_MANAGED_BY: by})
    since = f", which {before} did until now" if before and before != by else ""
    say(f"the operator with the Lease {by} works on {name} from now on{since}")
    return 0


def wait(
    kubectl: Kubectl,
    name: str,
    *,
    timeout: float,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> int:
    """Wait until the model is Ready or asleep; 1 as soon as it is stalled, 124 when the time is over."""
    end = clock() + timeout
    shown = ""
    while True:
        body = read_model(kubectl, name)
        ready, stalled = current_condition(body, ConditionType.READY), current_condition(body, ConditionType.STALLED)
        if ready.get("status") == "True":
            say(f"{name} is ready")
            return 0
        if ready.get("reason") == Reason.ASLEEP:
            say(f"{name} is asleep: {ready.get('message')}")
            return 0
        if stalled.get("status") == "True":
            raise PluginError(f"{name} is stalled: {stalled.get('reason')}: {stalled.get('message')}")
        now = f"{ready.get('reason', 'Unknown')}: {ready.get('message', 'no operator has seen this generation yet')}"
        if now != shown:
            warn(now)
            shown = now
        if clock() >= end:
            raise PluginError(f"{name} is not ready within {timeout:.0f} s: {now}", 124)
        sleep(_LOOK_SECONDS)


def _warn_of_absence(kubectl: Kubectl, body: Mapping[str, Any], now: Callable[[], datetime]) -> None:
    if message := read_absence(kubectl, body, now()):
        warn(f"warning: {message}")


def _annotate(kubectl: Kubectl, name: str, annotations: Mapping[str, str]) -> None:
    words = [f"{key}={value}" for key, value in annotations.items()]
    kubectl.write("annotate", _RESOURCE, name, *words, "--overwrite", "--field-manager=kubectl-vicuna")
