"""One merge from request to artifact."""

import contextlib
import hashlib
import json
from contextlib import ExitStack
from pathlib import Path

from vicuna_server.errors import VicunaError
from vicuna_server.manifest import Manifest
from vicuna_server.merge import hub, identity
from vicuna_server.merge.building import build
from vicuna_server.merge.inputs import Input, Sources
from vicuna_server.merge.plan import plan_request
from vicuna_server.merge.preflight import estimate_output
from vicuna_server.merge.problems import Problems
from vicuna_server.merge.progress import Progress
from vicuna_server.merge.reading import LocalStore
from vicuna_server.merge.request import Request
from vicuna_server.merge.sources import HubSource
from vicuna_server.merge.volume.artifact import find_artifact, find_by_inputs
from vicuna_server.merge.volume.claim import Claim, drop_claim
from vicuna_server.merge.volume.leftovers import Leftovers
from vicuna_server.merge.volume.staging import Staging, remove
from vicuna_server.merge.volume.storage import check_space, explain, require_space
from vicuna_server.merge.volume.sweeping import make_room, sweep

__all__ = ["run_merge"]


def run_merge(request: Request, progress: Progress) -> Manifest:
    """Make the artifact, or find it, and return its manifest; it lies in `request.output / artifactID`.

    Raises:
        VicunaError: everything that can go wrong, with reason, sentence and exit code.
    """
    sources = request.sources()
    root = request.output.absolute()
    try:
        root.mkdir(parents=True, exist_ok=True)
        return _Job(request, root, sources, progress).run()
    except OSError as error:
        raise explain(error, root) from error
    except VicunaError as error:
        for each in sources.all:  # a folder of ours means nothing to the user
            if each.folder and isinstance(each.source, HubSource):
                error.message = error.message.replace(str(each.folder), each.source.uri)
        raise


class _Job:
    """The steps of one merge, in order."""

    def __init__(self, request: Request, root: Path, sources: Sources, progress: Progress) -> None:
        self._request = request
        self._root = root
        self._sources = sources
        self._progress = progress

    def run(self) -> Manifest:
        with ExitStack() as stack:
            if any(isinstance(each.source, HubSource) for each in self._sources.all):
                found = self._find_known()
                if found:
                    return found
                found = self._fetch(stack)
                if found:
                    return found
            return self._merge()

    def _find_known(self) -> Manifest | None:
        """Look for the artifact by fingerprints that need no source at hand."""
        known = self._sources.fingerprints(Input.known_fingerprint)
        if known is None:
            return None
        return find_by_inputs(self._root, known, self._request.kind, self._request.dtype, identity.RECIPE_VERSION)

    def _fetch(self, stack: ExitStack) -> Manifest | None:
        """Download what lies on a hub; it is removed when `stack` unwinds."""
        uris = json.dumps([each.source.uri for each in self._sources.all])
        key = "src" + hashlib.sha256(uris.encode()).hexdigest()[:16]
        claim = stack.enter_context(Claim(self._root, key, self._progress))
        sweep(self._root, claim, self._progress)
        staging = stack.enter_context(Staging(self._root, key, claim))
        for folder in staging.seize():
            remove(folder)
        listings: list[tuple[Input, hub.Listing]] = []
        for each in self._sources.all:
            if isinstance(each.source, HubSource):
                listing = hub.list_repository(each.source, staging.path / "home")
                each.commit = listing.commit
                listings.append((each, listing))
        found = self._find_known()  # a branch's commit is known now; another merger may have finished
        if found:
            return found
        total = sum(hub.bytes_to_fetch(listing) for _, listing in listings)
        require_space(self._root, total)
        self._progress.begin(total)
        for each, listing in listings:
            each.folder = staging.path / each.role
            hub.download(listing, each.folder, lambda: self._progress.reach(_bytes_below(staging.path)))
        return None

    def _merge(self) -> Manifest:
        problems = Problems()
        plan = plan_request(self._request, self._sources, problems)
        base = self._sources.base.checkpoint
        if problems and base:  # without any, the exact number is judged where the artifact is not there already
            check_space(self._root, estimate_output(base, self._request.dtype), problems)
        problems.raise_if_any()
        for reason, message in problems.warnings:
            self._progress.warn(reason, message)
        assert plan is not None  # noqa: S101 - no plan means problems
        fingerprints = self._sources.fingerprints(Input.fingerprint)
        assert fingerprints is not None  # noqa: S101 - opened sources have one
        artifact_id = identity.artifact_id(fingerprints, plan.kind, self._request.dtype)
        found = find_artifact(self._root, artifact_id)
        if found:
            drop_claim(self._root, artifact_id)
            return found
        with Claim(self._root, artifact_id, self._progress) as claim:
            found = find_artifact(self._root, artifact_id)  # made while we waited
            if found:
                return found
            sweep(self._root, claim, self._progress)
            with Staging(self._root, artifact_id, claim) as staging:
                leftovers = Leftovers(staging.seize(), plan.shards)
                make_room(self._root, plan.bytes_to_write - leftovers.size, claim, self._progress)
                return build(
                    self._request,
                    self._sources,
                    plan,
                    fingerprints,
                    artifact_id,
                    staging=staging,
                    leftovers=leftovers,
                    store=LocalStore(),
                    progress=self._progress,
                )


def _bytes_below(folder: Path) -> int:
    """Return the size of all files below a folder that is being filled."""
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):  # the hub's client renames as it goes
            total += path.stat().st_size if path.is_file() else 0
    return total
