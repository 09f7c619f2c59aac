"""A model and its children as kubectl shows them, read once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from vicuna_contract import names as c
from vicuna_operator.api.conditions import find_condition
from vicuna_operator.api.model import Model, parse_model
from vicuna_operator.planning.deployments import DeploymentView
from vicuna_operator.planning.jobs import JobView
from vicuna_operator.planning.observed import ClaimView, EventView
from vicuna_operator.planning.pods import PodView
from vicuna_operator.plugin.kubectl import Kubectl

__all__ = ["ModelObjects", "current_condition", "read_model"]

_CHILDREN = "jobs,deployments,pods,persistentvolumeclaims"
_ASKED = 5  # pods whose Events are read, a call each


@dataclass(frozen=True)
class ModelObjects:
    """`body` is the model's object with its managedFields, `model` the same parsed; `events` are by the pod's uid."""

    body: Mapping[str, Any]
    model: Model
    jobs: Sequence[JobView] = ()
    deployments: Sequence[DeploymentView] = ()
    pods: Sequence[PodView] = ()
    claims: Sequence[ClaimView] = ()
    claim_sizes: Mapping[str, str] = field(default_factory=dict)  # what each asks for
    events: Mapping[str, Sequence[EventView]] = field(default_factory=dict)

    @classmethod
    def read(cls, kubectl: Kubectl, name: str, *, events: bool = False) -> Self:
        """Read a model with its children, and with the Events of a few pods that do not run.

        Raises:
            PluginError: the model does not exist, or kubectl cannot say.
        """
        body = read_model(kubectl, name)
        model = parse_model(body)
        found = _children(kubectl, name)
        pods = [PodView.of(item) for item in found["Pod"]]
        return cls(
            body,
            model,
            [JobView.of(item) for item in found["Job"]],
            [DeploymentView.of(item) for item in found["Deployment"]],
            pods,
            [ClaimView.of(item) for item in found["PersistentVolumeClaim"]],
            {item["metadata"]["name"]: _asked_size(item) for item in found["PersistentVolumeClaim"]},
            _events_of_waiting(kubectl, pods) if events else {},
        )

    @property
    def status(self) -> Mapping[str, Any]:
        """Return the model's status."""
        return self.model.status

    def revision_in(self, member: str) -> str:
        """Return the revision in `status.active` or `status.target`; empty where there is none."""
        return str((self.status.get(member) or {}).get("revision", ""))


def read_model(kubectl: Kubectl, name: str) -> dict[str, Any]:
    """Read the model's object.

    Raises:
        PluginError: it does not exist, or kubectl cannot say.
    """
    return kubectl.read("get", f"{c.PLURAL}.{c.GROUP}", name, "--show-managed-fields")


def current_condition(body: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    """Find a condition of the present generation; empty where there is none."""
    generation = body["metadata"].get("generation")
    found = find_condition(body.get("status") or {}, kind)
    return found if found.get("observedGeneration") == generation else {}


def _children(kubectl: Kubectl, name: str) -> Mapping[str, Sequence[Any]]:
    """Read what belongs to a model, in one call, and sort it by kind."""
    selector = f"{c.LABEL_MODEL}={name}"
    found: dict[str, list[Any]] = {"Job": [], "Deployment": [], "Pod": [], "PersistentVolumeClaim": []}
    for item in kubectl.read("get", _CHILDREN, f"--selector={selector}")["items"]:
        found[item["kind"]].append(item)
    return found


def _asked_size(claim: Mapping[str, Any]) -> str:
    requests = ((claim.get("spec") or {}).get("resources") or {}).get("requests") or {}
    return str(requests.get("storage", ""))


def _events_of_waiting(kubectl: Kubectl, pods: Sequence[PodView]) -> Mapping[str, Sequence[EventView]]:
    waiting = [pod for pod in pods if not (pod.running or pod.terminated)]
    return {pod.meta.uid: _events(kubectl, pod.meta.uid) for pod in waiting[:_ASKED]}


def _events(kubectl: Kubectl, uid: str) -> Sequence[EventView]:
    items = kubectl.read("get", "events", f"--field-selector=involvedObject.uid={uid}")["items"]
    items.sort(key=lambda body: str(body.get("lastTimestamp") or body.get("eventTime") or ""))
    return [EventView.of(item) for item in items]
