"""Which revision should serve: by the artifact, the image and the spec; and which one to go back to."""

from dataclasses import dataclass

from vicuna_contract import names as c
from vicuna_operator.api.model import Model
from vicuna_operator.planning.config import PlanConfig
from vicuna_operator.planning.deployments import DeploymentView
from vicuna_operator.planning.rollout import last_good
from vicuna_operator.planning.servers import Servers, noted_revision
from vicuna_operator.resources.common import spec_of
from vicuna_operator.resources.identity import revision

__all__ = ["Target", "choose_target"]


@dataclass(frozen=True)
class Target:
    """The revision that should serve.

    `fresh` is its Deployment, None before there is one; `good` the revision to go back to, None where there is none.
    """

    revision: str
    artifact_id: str
    image: str
    fresh: DeploymentView | None
    good: DeploymentView | None


def choose_target(model: Model, artifact_id: str, servers: Servers, config: PlanConfig) -> Target:
    """Say which revision the spec asks for."""
    image = _image(model, artifact_id, servers, config)
    name = revision(spec_of(model), artifact_id=artifact_id, image=image)
    return Target(
        revision=name,
        artifact_id=artifact_id,
        image=image,
        fresh=servers.find(name),
        good=last_good(servers.live, name, servers.active),
    )


def _image(model: Model, artifact_id: str, servers: Servers, config: PlanConfig) -> str:
    """Resolve the image once per revision: a revision that exists keeps the default it was made with.

    The one that the annotation `vicuna.dev/upgrade` names gives its image up for the present default.
    """
    spec = spec_of(model)
    if spec.serving.image is not None:
        return spec.serving.image
    outdated = model.annotations.get(c.ANNOTATION_UPGRADE)
    noted = [noted_revision(model, key) for key in ("target", "active")]
    for item in sorted(
        servers.live, key=lambda item: noted.index(item.revision) if item.revision in noted else len(noted)
    ):
        fits = revision(spec, artifact_id=artifact_id, image=item.image) == item.revision
        if fits and item.revision != outdated:
            return item.image
    return config.server_image
