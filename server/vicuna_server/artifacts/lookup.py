"""Looking up artifacts that are there already."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

from vicuna_contract.templates import AUTO
from vicuna_server.artifacts.identity import Fingerprints
from vicuna_server.artifacts.manifest import Manifest, Recipe
from vicuna_server.artifacts.verify import fingerprints_of, verify_fast
from vicuna_server.errors import InputError
from vicuna_server.files.beneath import read_file

__all__ = ["artifact_folders", "find_artifact", "find_by_inputs"]

_WITHOUT_DELTA = "none"


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
    except OSError:  # a read-only volume is fine
        pass
    manifest, faults = verify_fast(folder)
    return None if faults else manifest


def find_by_inputs(root: Path, known: Fingerprints, kind: str, dtype: str, recipe: int) -> Manifest | None:
    """Find a whole artifact by its inputs' fingerprints, before the sources themselves are at hand.

    What the inputs' types are is not known here: an artifact whose sums are those of an earlier version will do, where
    there is not one with today's, and the base's own type is what the manifest says that it is.
    """
    there = [_readable(folder) for folder in artifact_folders(root)]
    found = [
        one for one in there if one and fingerprints_of(one) == known and _is_made_so(one.recipe, kind, dtype, recipe)
    ]
    found.sort(key=lambda manifest: manifest.recipe.addition is None)
    return find_artifact(root, found[0].artifact_id) if found else None


def _readable(folder: Path) -> Manifest | None:
    try:
        return Manifest.load(folder, read_file)
    except InputError:
        return None


def _is_made_so(made: Recipe, kind: str, dtype: str, version: int) -> bool:
    """Whether a recipe is what was asked for; without a delta the kind that was asked for plays no part."""
    wanted = made.base_dtype if dtype == AUTO else dtype
    right_kind = kind in (AUTO, made.kind) or made.kind == _WITHOUT_DELTA
    return right_kind and (made.dtype, made.version) == (wanted, version)
