"""Looking up artifacts that are there already."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

from vicuna_server.errors import InputError
from vicuna_server.manifest import Manifest
from vicuna_server.merge.identity import Fingerprints
from vicuna_server.merge.volume.verify import fingerprints_of, verify_fast

__all__ = ["artifact_folders", "find_artifact", "find_by_inputs"]


def artifact_folders(root: Path) -> Iterator[Path]:
    """Yield every folder whose name is an artifactID, whole or not, by name."""
    for path in sorted(root.iterdir()):
        if re.fullmatch(r"[0-9a-f]{16}", path.name) and path.is_dir():
            yield path


def find_artifact(root: Path, artifact_id: str) -> Manifest | None:
    """Return the manifest of an artifact that is there and whole, as far as a fast look can tell.

    The folder's own time is set before the look: `prune` spares what a merge finds in this moment.
    """
    folder = root / artifact_id
    try:
        os.utime(folder)
    except FileNotFoundError:
        return None
    except OSError:  # a read-only volume will do
        pass
    manifest, faults = verify_fast(folder)
    return None if faults else manifest


def find_by_inputs(root: Path, known: Fingerprints, kind: str, dtype: str, recipe: int) -> Manifest | None:
    """Find a whole artifact by its inputs' fingerprints, before the sources themselves are at hand.

    What the inputs' types are is not known here: an artifact whose sums are those of an earlier version will do, where
    there is not one with today's.
    """
    found: list[Manifest] = []
    for folder in artifact_folders(root):
        try:
            manifest = Manifest.load(folder)
        except InputError:
            continue
        if manifest is None:
            continue
        made = manifest.recipe
        right_kind = kind in ("auto", made.kind) or known.delta is None
        if fingerprints_of(manifest) == known and (made.dtype, made.version) == (dtype, recipe) and right_kind:
            found.append(manifest)
    found.sort(key=lambda manifest: manifest.recipe.addition is None)
    return find_artifact(root, found[0].artifact_id) if found else None
