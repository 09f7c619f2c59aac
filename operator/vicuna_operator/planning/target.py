"""Which revision should serve: by the artifact, the image and the spec; and which one to go back to."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain

from vicuna_contract import names as c
from vicuna_operator.api.model import Model
from vicuna_operator.api.types import VicunaModelSpec
from vicuna_operator.planning.config import PlanConfig
from vicuna_operator.planning.deployments import DeploymentView
from vicuna_operator.planning.rollout import AnnotationChanges, find_last_known_good
from vicuna_operator.planning.scaling import last_use
from vicuna_operator.planning.servers import Servers, status_revision
from vicuna_operator.resources.common import spec_of
from vicuna_operator.resources.identity import revision
from vicuna_operator.resources.images import Images

__all__ = ["Target", "choose_target"]


@dataclass(frozen=True)
class Target:
    """The revision that should serve.

    `deployment` is None before there is one, `last_known_good` where there is no revision to go back to.
    """

    revision: str
    artifact_id: str
    digest: str | None
    images: Images
    deployment: DeploymentView | None
    last_known_good: DeploymentView | None

    def annotations(self, model: Model) -> AnnotationChanges:
        """Return what its Deployment has yet to record: the default images by which the present spec makes it."""
        there = self.deployment
        if there is None:
            return {}
        known = {
            c.ANNOTATION_DEFAULT_IMAGE: there.default_image,
            c.ANNOTATION_DEFAULT_ENGINE_IMAGE: there.default_engine_image,
        }
        defaults = self.images.defaults(spec_of(model).serving)
        return {name: image for name, image in defaults.items() if known[name] != image}


def choose_target(model: Model, artifact_id: str, digest: str | None, servers: Servers, config: PlanConfig) -> Target:
    """Return the revision that the spec asks for; `digest` is of the artifact's files, None where it is not known."""
    images = _images(model, artifact_id, servers, config)
    name = _name(model, artifact_id, digest, images, servers)
    return Target(
        revision=name,
        artifact_id=artifact_id,
        digest=digest,
        images=images,
        deployment=servers.find(name),
        last_known_good=find_last_known_good(servers.live, name, servers.active),
    )


def _name(model: Model, artifact_id: str, digest: str | None, images: Images, servers: Servers) -> str:
    """Return the revision's name. The digest is a part of it only beside a revision with other bytes.

    Two merges of the same inputs may give different bytes. So a running revision keeps its name when its digest becomes
    known, and pods that demand the first bytes never get others.
    """
    given = partial(revision, spec_of(model), artifact_id=artifact_id, image=images.server, engine_image=images.engine)
    first = given()
    if digest is None:
        return first
    other, there = given(digest=digest), servers.find(first)
    if there is None:
        return other if servers.find(other) else first
    return first if there.artifact_digest in (None, digest) else other


def _images(model: Model, artifact_id: str, servers: Servers, config: PlanConfig) -> Images:
    """Resolve the images once per revision: an existing revision keeps the default images it was made with.

    So does a revision that is restarted (`kubectl vicuna restart`). An image that the spec stated is not kept. The
    revision that the annotation `vicuna.dev/upgrade` names changes to the present default. A revision whose rollout
    failed is chosen only if no other fits.
    """
    spec = spec_of(model)
    present = config.images(spec.serving)
    if not present.defaults(spec.serving):
        return present
    kept, twins = _kept(model, servers)
    found = chain(
        (_inherited(item, spec, partial(item.is_made_by, spec, artifact_id)) for item in kept),
        (_inherited(item, spec, partial(item.is_restart_of, spec, artifact_id)) for item in twins),
    )
    return next((images for images in found if images is not None), present)


def _kept(model: Model, servers: Servers) -> tuple[Sequence[DeploymentView], Sequence[DeploymentView]]:
    """Return the revisions that may keep their image, and those whose image a restart may keep, in order of choice.

    A restart neither upgrades nor reverts an upgrade: an image that an upgrade has replaced is not kept by restarts.
    """
    outdated = model.annotations.get(c.ANNOTATION_UPGRADE)
    noted = [status_revision(model, key) for key in ("target", "active")]
    kept = sorted((item for item in servers.live if item.revision != outdated), key=last_use, reverse=True)
    kept.sort(
        key=lambda item: (
            item.failed is not None,
            noted.index(item.revision) if item.revision in noted else len(noted),
        )
    )
    given_up = {_defaults(item) for item in servers.live if item.revision == outdated}
    return kept, [item for item in kept if _defaults(item) not in given_up]


def _defaults(item: DeploymentView) -> tuple[str | None, str | None]:
    return item.default_image, item.default_engine_image


def _inherited(item: DeploymentView, spec: VicunaModelSpec, fits: Callable[[Images], bool]) -> Images | None:
    """Return the images by which the spec makes a revision with that one's defaults; None where it makes another."""
    images = item.images_for(spec)
    if images is None:
        return None
    # Earlier versions did not record the image, and a policy may have pinned it by digest since.
    candidates = (images, replace(images, server=images.server.partition("@")[0]))
    return next((one for one in candidates if fits(one)), None)
