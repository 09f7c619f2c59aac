"""The observed serving side of a model: its Deployments and pods, and which revision serves."""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace
from datetime import datetime

from vicuna_contract import names as c
from vicuna_operator.api.model import Model
from vicuna_operator.planning.deployments import DeploymentView, uids_on_pods
from vicuna_operator.planning.diagnosis import PodDiagnosis, diagnose_pods, is_pulling
from vicuna_operator.planning.meta import Meta
from vicuna_operator.planning.observed import EventView, Observed
from vicuna_operator.planning.pods import PodView
from vicuna_operator.planning.scaling import last_use
from vicuna_operator.planning.sizes import Fleet, is_lost
from vicuna_operator.resources.common import spec_of

__all__ = ["Servers", "observe_servers", "status_revision"]


@dataclass(frozen=True)
class Servers:
    """The Deployments and serving pods of one model at one moment.

    `fleet` has the Deployments that are not being deleted, the youngest first, and the pods that have not ended;
    `lost` are those that should have. `active` is the revision that serves, None before the first.
    """

    fleet: Fleet
    pods: Sequence[PodView]  # of the fleet, and the last ended one of each revision without others
    lost: Sequence[PodView]
    events: Mapping[str, Sequence[EventView]]
    active: DeploymentView | None

    @property
    def live(self) -> Sequence[DeploymentView]:
        """Return the Deployments that are not being deleted."""
        return self.fleet.live

    def wanting(self, replicas: int) -> "Servers":
        """Return the same, with another number of replicas wanted."""
        return replace(self, fleet=replace(self.fleet, wanted=replicas))

    def find(self, revision: str) -> DeploymentView | None:
        """Return the Deployment of a revision, None where there is none."""
        return next((item for item in self.live if item.revision == revision), None)

    def diagnose(self, model: Model, revision: str) -> PodDiagnosis | None:
        """Find what keeps a revision's pods from being ready."""
        return diagnose_pods(spec_of(model).serving, revision, self.live, self.pods, self.events)

    def pulling(self, revision: str) -> Sequence[PodView]:
        """Return the pods of a revision whose image is being pulled."""
        return [pod for pod in self.fleet.starting(revision) if is_pulling(self.events.get(pod.meta.uid, ()))]

    def diagnose_placed(self, model: Model, revision: str) -> PodDiagnosis | None:
        """Find what keeps a revision's scheduled pods from being ready."""
        return diagnose_pods(spec_of(model).serving, revision, (), self.fleet.starting(revision), self.events)


def observe_servers(model: Model, seen: Observed, now: datetime) -> Servers:
    """Select what belongs to this model, not to an earlier one of its name."""
    own = [item for item in seen.deployments if item.meta.is_child_of(model.uid)]
    live = sorted(own, key=lambda item: _made(item.meta), reverse=True)
    wanted = 0 if spec_of(model).suspend else spec_of(model).serving.replicas
    running, lost, ended = _sorted_out(uids_on_pods(model.uid, own), seen.pods, now)
    fleet = Fleet(live, running, wanted)
    return Servers(fleet, [*running, *_last_words(ended, fleet)], lost, seen.events, _active(model, fleet))


def _sorted_out(
    uids: Set[str], pods: Sequence[PodView], now: datetime
) -> tuple[list[PodView], list[PodView], list[PodView]]:
    """Return the model's serving pods that count, those that should have ended, and those that have.

    One that never begins is among none of them.
    """
    running: list[PodView] = []
    lost: list[PodView] = []
    ended: list[PodView] = []
    for pod in pods:
        if pod.is_server and pod.meta.labels.get(c.LABEL_MODEL_UID) in uids and not pod.never_begins:
            (ended if pod.over else lost if is_lost(pod, now) else running).append(pod)
    return running, lost, ended


def _last_words(ended: Sequence[PodView], fleet: Fleet) -> Sequence[PodView]:
    """Return the last ended pod of each revision without another pod: older ones do not explain the present state."""
    present = {pod.revision for pod in fleet.pods}
    last = {pod.revision: pod for pod in sorted(ended, key=lambda pod: _made(pod.meta))}
    return [pod for revision, pod in last.items() if revision not in present]


def status_revision(model: Model, key: str) -> str | None:
    """Return the revision in `status.active` or `status.target`."""
    revision: str | None = (model.status.get(key) or {}).get("revision")
    return revision


def _active(model: Model, fleet: Fleet) -> DeploymentView | None:
    """Find the revision that serves: the one in the status while it has ready pods, else the one with most of them.

    Without ready pods it is the one in the status, and without a status the one that was complete last.
    """
    noted = status_revision(model, "active")
    last = next((item for item in fleet.live if item.revision == noted), None)
    best = max(fleet.live, key=lambda item: fleet.ready(item.revision), default=None)
    for item in (last, best):
        if item is not None and fleet.ready(item.revision):
            return item
    return last or max((item for item in fleet.live if item.completed), key=last_use, default=None)


def _made(meta: Meta) -> tuple[str, str]:
    return (meta.created.isoformat() if meta.created else "", meta.name)
