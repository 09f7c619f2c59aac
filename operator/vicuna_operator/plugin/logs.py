"""`kubectl vicuna logs`: whose logs of a model are shown."""

from collections.abc import Mapping, Sequence
from typing import Any

from vicuna_contract import names as c
from vicuna_operator.api.conditions import ConditionType
from vicuna_operator.errors import PluginError
from vicuna_operator.plugin.kubectl import Kubectl
from vicuna_operator.plugin.model_objects import current_condition, read_model
from vicuna_operator.plugin.terminal import say, warn

__all__ = ["show_logs"]

_MAX_STREAMS = 128  # of kubectl logs


def show_logs(
    kubectl: Kubectl, name: str, *, merge: bool, follow: bool, previous: bool, tail: int, engine: bool = False
) -> int:
    """Show what the servers print, or vLLM beside them; before there are any, or if asked for, what the merge prints.

    Where no pod is left, show the last lines that the status keeps of the one that failed last.
    """
    body = read_model(kubectl, name)
    merging = merge or (not engine and current_condition(body, ConditionType.WEIGHTS_READY).get("status") != "True")
    part = c.NAME_MERGE if merging else c.NAME_SERVER
    selector = f"--selector={c.LABEL_MODEL}={name},{c.LABEL_NAME}={part}"
    pods = kubectl.read("get", "pods", selector)["items"]
    if not pods:
        return _last_lines(name, body)
    container = c.MERGE_CONTAINER if merging else c.SERVER_CONTAINER  # a sidecar has a log of its own
    if engine:
        container = c.ENGINE_CONTAINER
        selector += _with_engine(name, pods)
    words = ["logs", selector, f"--container={container}", "--prefix", f"--tail={tail}"]
    words += [f"--max-log-requests={_MAX_STREAMS}"]
    words += ["--follow"] if follow else []
    words += ["--previous"] if previous else []
    return kubectl.show(*words)


def _with_engine(name: str, pods: Sequence[Mapping[str, Any]]) -> str:
    """Return what a selector must add, so that it finds the pods with vLLM alone: kubectl refuses the others."""
    revisions = {
        str(pod["metadata"]["labels"].get(c.LABEL_REVISION))
        for pod in pods
        for container in (pod.get("spec") or {}).get("containers") or ()
        if container.get("name") == c.ENGINE_CONTAINER
    }
    if not revisions:
        raise PluginError(f"{name} has no pod with vLLM; leave --engine out, or set spec.serving.engine to vllm")
    return f",{c.LABEL_REVISION} in ({','.join(sorted(revisions))})"


def _last_lines(name: str, body: Mapping[str, Any]) -> int:
    last = body.get("status", {}).get("lastFailure") or {}
    if not last.get("log"):
        raise PluginError(f"{name} has no pod to read logs from; see `kubectl vicuna status {name}`")
    warn(f"no pod is left; {last.get('pod')} ended with {last.get('reason')} at {last.get('time')} after these lines:")
    say(str(last["log"]))
    return 0
