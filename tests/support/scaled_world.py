"""A World with one model that has autoscaling, and a gateway that states a demand."""

from dataclasses import replace
from typing import Any

from support.cluster import model_body
from support.world import World
from vicuna_operator.api.model import Model
from vicuna_operator.planning.demand import DemandView, Peak, ReplicaDemand, after_change
from vicuna_operator.planning.observed import Observed

__all__ = ["SETTINGS", "SHARED", "Scaled"]

SETTINGS = {"minReplicas": 0, "maxReplicas": 4, "targetRequests": 8, "idleSeconds": 600, "scaleDownSeconds": 300}
SHARED = {"size": "10Gi", "accessMode": "ReadWriteMany"}


class Scaled(World):
    """A world whose gateway states a demand."""

    def __init__(self, *, rollout: dict[str, Any] | None = None, gpus: int = 100, **settings: Any) -> None:
        serving = {"autoscaling": {**SETTINGS, **settings}, "rollout": rollout or {}}
        super().__init__(model_body(serving=serving, storage=SHARED), gpus=gpus)
        self.since = self.now
        self.peaks: tuple[Peak, ...] = ()
        self.requests = 0
        self.readable = True
        self.rivals: tuple[str, ...] = ()

    def ask(self, requests: int) -> None:
        self.peaks = after_change(self.peaks, self.requests, requests, self.now)
        self.requests = requests

    def observe(self, model: Model) -> Observed:
        mine = [ReplicaDemand("gw-1", self.requests, 0, self.now)] if self.requests else []
        demand = DemandView(self.since, mine, self.peaks) if self.readable else None
        return replace(super().observe(model), demand=demand, autoscalers=self.rivals)

    @property
    def desired(self) -> int | None:
        found: int | None = (self.status.get("autoscaling") or {}).get("desiredReplicas")
        return found

    def summary(self) -> tuple[str, str, str, str]:
        """Return phase, and what Ready, Available and Stalled say."""
        conditions = [self.condition(kind) for kind in ("Ready", "Available", "Stalled")]
        said = [f"{item['status']}/{item['reason']}" for item in conditions]
        return (self.status["phase"], *said)

    def sleep(self) -> None:
        """Let the idle time pass, and everything come to rest."""
        self.ask(0)
        self.settle()
        self.tick(601)
        self.settle()

    def asleep(self) -> "Scaled":
        self.deploy()
        self.sleep()
        assert not self.server_pods()
        return self
