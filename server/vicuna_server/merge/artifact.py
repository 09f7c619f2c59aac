"""Artifact folders: looked up, staged, published by one rename, and swept up after runs that died."""

import errno
import os
import shutil
from pathlib import Path

from vicuna_server.errors import InputError
from vicuna_server.manifest import MANIFEST_NAME, Manifest
from vicuna_server.merge.claim import CLAIM_PREFIX, Claim
from vicuna_server.merge.identity import Fingerprints

__all__ = ["Staging", "find_artifact", "find_by_inputs", "sweep"]

_STAGING_PREFIX = ".staging-"


def find_artifact(root: Path, artifact_id: str) -> Manifest | None:
    """Return the manifest of an artifact that is there and whole: every file present with its size."""
    folder = root / artifact_id
    try:
        manifest = Manifest.load(folder)
    except InputError:
        return None
    if manifest is None or manifest.artifact_id != artifact_id:
        return None
    for entry in manifest.files:
        try:
            if (folder / entry.path).stat().st_size != entry.size:
                return None
        except OSError:
            return None
    return manifest


def find_by_inputs(root: Path, known: Fingerprints, kind: str, dtype: str, recipe: int) -> Manifest | None:
    """Find a whole artifact by its inputs' fingerprints, before the sources themselves are at hand."""
    for path in sorted(root.glob(f"[0-9a-f]*/{MANIFEST_NAME}")):
        try:
            manifest = Manifest.load(path.parent)
        except InputError:
            continue
        if manifest is None:
            continue
        inputs, made = manifest.inputs, manifest.recipe
        found = Fingerprints(
            inputs.base.fingerprint,
            inputs.delta.fingerprint if inputs.delta else None,
            tuple(adapter.fingerprint for adapter in inputs.adapters),
        )
        right_kind = kind in ("auto", made.kind) or known.delta is None
        if found == known and (made.dtype, made.version) == (dtype, recipe) and right_kind:
            return find_artifact(root, path.parent.name)
    return None


def sweep(root: Path, claim: Claim) -> None:
    """Remove what dead runs left: staging of this key by others, and any staging that nobody claims."""
    for path in root.glob(f"{_STAGING_PREFIX}*"):
        key, _, nonce = path.name.removeprefix(_STAGING_PREFIX).rpartition("-")
        ours = f"{CLAIM_PREFIX}{key}" == claim.path.name
        if (ours and nonce != claim.nonce) or not (root / f"{CLAIM_PREFIX}{key}").exists():
            shutil.rmtree(path, ignore_errors=True)
    for path in root.glob(f"{claim.path.name}.*"):  # a takeover that died half-way
        path.unlink(missing_ok=True)


class Staging:
    """A hidden folder that becomes visible whole or not at all; a context manager that removes what is left."""

    def __init__(self, root: Path, key: str, claim: Claim) -> None:
        self.root = root
        self.path = root / f"{_STAGING_PREFIX}{key}-{claim.nonce}"
        self._claim = claim

    def __enter__(self) -> "Staging":
        self.path.mkdir()
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self.path, ignore_errors=True)

    def write(self, name: str, content: bytes) -> None:
        """Write one small file and make it durable."""
        descriptor = os.open(self.path / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(descriptor)

    def publish(self, manifest: Manifest) -> None:
        """Write the manifest last, make the folder durable and rename it to its artifactID.

        An equal artifact that another merger published meanwhile is as good; a broken one is put aside first.
        """
        self.write(MANIFEST_NAME, manifest.to_json().encode())
        _fsync_folder(self.path)
        target = self.root / manifest.artifact_id
        self._claim.require()
        try:
            self.path.rename(target)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                raise
            if find_artifact(self.root, manifest.artifact_id) is None:
                self._replace_broken(target)
        _fsync_folder(self.root)

    def _replace_broken(self, target: Path) -> None:
        aside = self.path.with_name(f"{self.path.name}.broken")  # swept as staging should this run die here
        target.rename(aside)
        self.path.rename(target)
        if aside.is_dir():
            shutil.rmtree(aside, ignore_errors=True)
        else:
            aside.unlink(missing_ok=True)


def _fsync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
