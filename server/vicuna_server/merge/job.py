"""One merge from request to artifact."""

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path

from vicuna_contract.recipe import RECIPE_VERSION
from vicuna_contract.templates import AUTO, FROM_TOKENIZER, NO_TEMPLATE
from vicuna_server.artifacts.identity import Fingerprints
from vicuna_server.artifacts.identity import artifact_id as artifact_id_of
from vicuna_server.artifacts.lock import ArtifactLock, drop_lock
from vicuna_server.artifacts.lookup import find_artifact, find_by_inputs
from vicuna_server.artifacts.manifest import Manifest
from vicuna_server.artifacts.quarantine import verify_or_quarantine
from vicuna_server.artifacts.staging import Staging, remove
from vicuna_server.artifacts.sweeping import drop_staging, make_room, sweep
from vicuna_server.files.ledger import keeping
from vicuna_server.files.storage import check_space
from vicuna_server.merge.arithmetic.checksum import AlpacaChecksum
from vicuna_server.merge.arithmetic.layout import Shard
from vicuna_server.merge.building import build
from vicuna_server.merge.inputs import Input, Sources
from vicuna_server.merge.leftovers import Leftovers
from vicuna_server.merge.pipeline.reading import LocalStore, Store
from vicuna_server.merge.pipeline.scratch import adopt, bytes_here
from vicuna_server.merge.pipeline.store import RemoteStore
from vicuna_server.merge.planning.output_dtype import conversion_loss, resolve_dtype
from vicuna_server.merge.planning.plan import Plan, plan_request
from vicuna_server.merge.preflight.sources import estimate_output
from vicuna_server.merge.request import Request
from vicuna_server.merge.stated_digests import StatedDigests
from vicuna_server.problems import Problems
from vicuna_server.run.control import Control
from vicuna_server.weights.tokenizers.tokenizer import read_tokenizer

__all__ = ["run_merge"]


def run_merge(request: Request, control: Control) -> Manifest:
    """Make the artifact, or find it, and return its manifest; it lies in `request.output / artifactID`.

    The manifest's `chat_template` is what this request comes to, which an artifact that was found need not pin.

    Raises:
        VicunaError: everything that can go wrong, with reason, sentence and exit code.
    """
    sources = request.sources()
    root = request.output.absolute()
    with sources.explaining(root):
        root.mkdir(parents=True, exist_ok=True)
        digests = StatedDigests(sources)
        with keeping(digests.ledger):
            return _Job(request, root, sources, digests, control).run()


class _Job:
    """The steps of one merge, in order.

    Each step costs more than the one before, so the artifact is looked for before each of them: by digests and commits
    that are stated, before the network is asked; by the commits behind branches and tags, before small files are
    fetched; by its artifactID, once the plan is made; and again under the lock, since another merger may have made it
    while this one waited.
    """

    def __init__(
        self, request: Request, root: Path, sources: Sources, digests: StatedDigests, control: Control
    ) -> None:
        self._request = request
        self._root = root
        self._sources = sources
        self._digests = digests
        self._control = control
        self._checksum: AlpacaChecksum | None = None

    def run(self) -> Manifest:
        manifest = self._make_or_find()
        manifest = manifest.model_copy(update={"chat_template": self._template_of(manifest)})
        loss = conversion_loss(manifest)
        if loss:
            self._control.reporter.warning(*loss)
        if self._checksum is not None:
            self._checksum.report(self._control.reporter)
        elif self._request.alpaca_checksum:
            self._control.reporter.warning(
                "ChecksumUnknown",
                f"{manifest.artifact_id} was there already, so nothing was summed up; merge into another folder",
            )
        return manifest

    def _make_or_find(self) -> Manifest:
        if not self._sources.remote:
            return self._merge(None)
        found = self._find_known()
        if found:
            drop_staging(self._root, self._scratch_key, self._control.cancellation)
        return found or self._merge_from_remote()

    def _template_of(self, manifest: Manifest) -> str:
        """Return the name of the template that the artifact is asked to be served with.

        Raises:
            InputError: `ChatTemplateUnknown`, only of an artifact that was found.
        """
        asked, pinned = self._request.chat_template, manifest.chat_template
        if asked in (AUTO, pinned) and pinned != NO_TEMPLATE:
            return pinned
        if asked not in (AUTO, FROM_TOKENIZER):
            return asked
        tokenizer = read_tokenizer(self._root / manifest.artifact_id)
        source_id = (self._sources.delta or self._sources.base).repo_id
        return tokenizer.chat_template_for(asked, kind=manifest.recipe.kind, source_id=source_id)

    @property
    def _scratch_key(self) -> str:
        """What stands for the sources: runs that fetch the same share what has come."""
        uris = json.dumps([each.source.uri for each in self._sources.all])
        return "src" + hashlib.sha256(uris.encode()).hexdigest()[:16]

    def _find_known(self) -> Manifest | None:
        """Look for the artifact by fingerprints that are known without reading a source."""
        known = self._sources.fingerprints(Input.known_fingerprint)
        if known is None:
            return None
        found = find_by_inputs(self._root, known, self._request.kind, self._request.dtype, RECIPE_VERSION)
        return self._accept(found)

    def _merge_from_remote(self) -> Manifest:
        """Merge with a folder on the volume for what is fetched; it stays where a later run can go on with it."""
        with ArtifactLock(self._root, self._scratch_key, self._control.cancellation) as lock:
            sweep(self._root, lock, self._control.cancellation)
            with Staging(self._root, lock.key, lock) as staging:
                left = staging.seize()
                adopt(left, staging.path)
                for folder in left:
                    remove(folder)
                self._for_each(lambda each: each.look_up(self._control))
                found = self._find_known()  # a branch's commit is known now; another merger may have finished
                return found or self._merge_fetched(staging.path)

    def _merge_fetched(self, scratch: Path) -> Manifest:
        try:
            self._for_each(lambda each: each.bring_small_files(scratch, self._control.cancellation))
            return self._merge(scratch)
        finally:
            for each in self._sources.remote:
                if each.folder:
                    remove(each.folder)

    def _accept(self, found: Manifest | None) -> Manifest | None:
        """Verify what was found, if that is asked for; remove what runs left that died after it was there."""
        if found and self._request.verify_found:
            found = verify_or_quarantine(self._root, found, self._control)
        if found:
            drop_lock(self._root, found.artifact_id)
            drop_staging(self._root, found.artifact_id, self._control.cancellation)
        return found

    def _for_each(self, act: Callable[[Input], None]) -> None:
        """Do something with all inputs, and raise what is wrong with all of them."""
        problems = Problems()
        for each in self._sources.all:
            with problems.collecting():
                act(each)
        problems.raise_if_any()

    def _merge(self, scratch: Path | None) -> Manifest:
        """Merge what is here; `scratch` holds what was fetched, None where nothing is remote."""
        plan = self._plan()
        fingerprints = self._sources.fingerprints(Input.fingerprint)
        assert fingerprints is not None  # noqa: S101 - opened sources have one
        artifact_id = artifact_id_of(fingerprints, plan.kind, plan.dtype, plan.addition)
        found = self._accept(find_artifact(self._root, artifact_id))
        if found:
            return found
        plan.require_template()
        with ArtifactLock(self._root, artifact_id, self._control.cancellation) as lock:
            found = find_artifact(self._root, artifact_id)  # made while we waited
            return found or self._write(plan, fingerprints, artifact_id, lock, scratch)

    def _plan(self) -> Plan:
        """Open the sources and plan; raise everything that is wrong as one error."""
        problems = Problems()
        plan = plan_request(self._request, self._sources, problems)
        base = self._sources.base.checkpoint
        # A run that fails anyway says here that room is missing too. Otherwise `make_room` compares the exact number,
        # and only where the artifact has to be written.
        if problems and base:
            check_space(self._root, estimate_output(base, resolve_dtype(self._request.dtype, base)), problems)
        problems.raise_if_any()
        for reason, message in problems.warnings:
            self._control.reporter.warning(reason, self._sources.in_words(message))
        assert plan is not None  # noqa: S101 - no plan means problems
        return plan

    def _write(
        self, plan: Plan, fingerprints: Fingerprints, artifact_id: str, lock: ArtifactLock, scratch: Path | None
    ) -> Manifest:
        """Write the artifact under its lock, going on with what a dead run finished, and publish it."""
        cancellation, reporter = self._control.cancellation, self._control.reporter
        sweep(self._root, lock, cancellation)
        with Staging(self._root, artifact_id, lock) as staging:
            self._checksum = plan.checksum
            resumes = self._digests.resumable and not plan.checksum  # the checksum has to see every shard
            leftovers = Leftovers(staging.seize(), plan.shards if resumes else [])
            present = leftovers.size + (bytes_here(scratch, plan.shards) if scratch else 0)
            make_room(self._root, plan.bytes_at_once - present, lock, cancellation, reporter)
            return build(
                self._request,
                self._sources,
                plan,
                fingerprints,
                artifact_id,
                staging=staging,
                leftovers=leftovers,
                digests=self._digests,
                open_store=lambda shards: self._open_store(scratch, shards),
                control=self._control,
            )

    def _open_store(self, scratch: Path | None, shards: Sequence[Shard]) -> Store:
        return RemoteStore(scratch, shards, self._control) if scratch else LocalStore()
