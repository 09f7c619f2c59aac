"""What lies on an output volume: artifacts, and what unfinished merges left. Only looks."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from vicuna_contract.names import MANIFEST_NAME
from vicuna_server.artifacts.lock import seems_held
from vicuna_server.artifacts.lookup import artifact_folders
from vicuna_server.artifacts.manifest import Manifest
from vicuna_server.artifacts.staging import STAGING_PREFIX, staging_key
from vicuna_server.artifacts.verify import Fault, verify_fast
from vicuna_server.errors import InputError, UsageError
from vicuna_server.files.storage import measure

__all__ = ["Artifact", "Listing", "Origin", "Unfinished", "list_volume", "require_volume"]


class _Part(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)


class Origin(_Part):
    """One input of an artifact: base, delta or adapter."""

    role: str
    source: str
    fingerprint: str


class Artifact(_Part):
    """One artifact. What only its manifest could tell is None, or empty, where that cannot be read.

    Attributes:
        artifact_id: its folder's name.
        size: bytes of all its files, as they are.
        created_at: when it was made.
        used_at: when it was made, or last found by a merge that needed it.
        sources: in the order they were applied.
        faults: what a look without reading every byte finds wrong.
    """

    artifact_id: str = Field(alias="artifactID")
    kind: str | None = None
    dtype: str | None = None
    chat_template: str | None = None
    size: int
    created_at: datetime
    used_at: datetime
    sources: list[Origin] = Field(default_factory=list)
    faults: list[Fault] = Field(default_factory=list)


class Unfinished(_Part):
    """A folder in which a merge works, or worked.

    Attributes:
        name: the folder's own name.
        key: the artifactID it is to become; `src…` for what is fetched from a hub.
        size: bytes of all its files.
        changed_at: when it last changed.
        running: whether a merge seems to work in it.
    """

    name: str
    key: str
    size: int
    changed_at: datetime
    running: bool


class Listing(_Part):
    """Everything on one volume that merges made."""

    artifacts: list[Artifact]
    unfinished: list[Unfinished]


def require_volume(root: Path) -> None:
    """Raise `SourceNotFound` where there is no such folder, `UsageError` where it is an artifact itself."""
    if not root.is_dir():
        raise InputError("SourceNotFound", f"{root} is not a folder; give the one that holds the artifacts")
    if (root / MANIFEST_NAME).exists():
        raise UsageError(f"{root} is an artifact itself; give the folder that holds it: {root.absolute().parent}")


def list_volume(root: Path) -> Listing:
    """Look at all that merges made below `root`.

    Raises:
        InputError: `SourceNotFound`.
        UsageError: `root` is an artifact itself.
        OSError: it cannot be read.
    """
    require_volume(root)
    artifacts = [_artifact(folder) for folder in artifact_folders(root)]
    return Listing(
        artifacts=artifacts, unfinished=[_unfinished(path) for path in sorted(root.glob(f"{STAGING_PREFIX}*"))]
    )


def _artifact(folder: Path) -> Artifact:
    manifest, faults = verify_fast(folder)
    size, used = measure(folder)
    try:
        created = (folder / MANIFEST_NAME).stat().st_mtime
    except OSError:
        created = used
    recipe = manifest.recipe if manifest else None
    return Artifact(
        artifact_id=folder.name,
        kind=recipe and recipe.kind,
        dtype=recipe and recipe.dtype,
        chat_template=manifest and manifest.chat_template,
        size=size,
        created_at=_moment(created),
        used_at=_moment(used),
        sources=list(_origins(manifest)) if manifest else [],
        faults=faults,
    )


def _origins(manifest: Manifest) -> Iterator[Origin]:
    inputs = manifest.inputs
    pairs = [("base", inputs.base), *([("delta", inputs.delta)] if inputs.delta else [])]
    for role, source in (*pairs, *(("adapter", adapter) for adapter in inputs.adapters)):
        yield Origin(role=role, source=source.source, fingerprint=source.fingerprint)


def _unfinished(path: Path) -> Unfinished:
    key = staging_key(path)
    size, changed = measure(path)
    running = seems_held(path.parent, key)
    return Unfinished(name=path.name, key=key, size=size, changed_at=_moment(changed), running=running)


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
