"""The serving side of what is seen: one model's Deployments and pods, and which revision serves."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vicuna_contract import names as c
from vicuna_operator.api.model import Model
from vicuna_operator.planning.deployments import DeploymentView
from vicuna_operator.planning.observed import EventView, Observed, PodView
from vicuna_operator.planning.scaling import last_use
from vicuna_operator.planning.sizes import Fleet
from vicuna_operator.planning.trouble import Trouble, find_trouble
from vicuna_operator.resources.common import spec_of

__all__ = ["Servers", "noted_revision", "observe_servers"]


@dataclass(frozen=True)
class Servers:
    """The Deployments and serving pods of one model at one moment.

    `fleet` has the Deployments that are not being deleted, the youngest first, and the pods that have not ended;
    `pods` are all serving pods. `active` is the revision that serves, None before the first.
    """

    fleet: Fleet
    pods: Sequence[PodView]
    events: Mapping[str, Sequence[EventView]]
    active: DeploymentView | None

    @property
    def live(self) -> Sequence[DeploymentView]:
        """Return the Deployments that are not being deleted."""
        return self.fleet.live

    def find(self, revision: str) -> DeploymentView | None:
        """Return the Deployment of a revision, None where there is none."""
        return next((item for item in self.live if item.revision == revision), None)

    def trouble(self, model: Model, revision: str) -> Trouble | None:
        """Find what keeps a revision's pods from being ready."""
        return find_trouble(spec_of(model).serving, revision, self.live, self.pods, self.events)


def observe_servers(model: Model, seen: Observed) -> Servers:
    """Pick out what belongs to this very model, not to an earlier one of its name."""
    own = [item for item in seen.deployments if item.meta.is_child_of(model.uid)]
    live = sorted(own, key=_age, reverse=True)
    pods = [pod for pod in seen.pods if pod.is_server and pod.meta.labels.get(c.LABEL_MODEL_UID) == model.uid]
    wanted = 0 if spec_of(model).suspend else spec_of(model).serving.replicas
    fleet = Fleet(live, [pod for pod in pods if not pod.over], wanted)
    return Servers(fleet, pods, seen.events, _active(model, fleet))


def noted_revision(model: Model, key: str) -> str | None:
    """Return the revision that the status notes as `active` or as `target`."""
    revision: str | None = (model.status.get(key) or {}).get("revision")
    return revision


def _active(model: Model, fleet: Fleet) -> DeploymentView | None:
    """Find the revision that serves: the noted one while it has ready pods, else the one with most, else the noted.

    Where the status is lost, the one that was complete last takes the place of the noted one.
    """
    noted = noted_revision(model, "active")
    last = next((item for item in fleet.live if item.revision == noted), None)
    best = max(fleet.live, key=lambda item: fleet.ready(item.revision), default=None)
    for item in (last, best):
        if item is not None and fleet.ready(item.revision):
            return item
    return last or max((item for item in fleet.live if item.completed), key=last_use, default=None)


def _age(item: DeploymentView) -> tuple[str, str]:
    return (item.meta.created.isoformat() if item.meta.created else "", item.meta.name)
