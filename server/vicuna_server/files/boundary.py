"""How far a source reaches: the folder beneath which everything that is read of it must lie. Pure but for `resolve`."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from vicuna_contract import names

__all__ = ["Boundary", "boundary"]

_CACHE = re.compile(r"models--.+?--.+")
_ARTIFACTS = PurePath(names.ARTIFACTS_ROOT).name


@dataclass(frozen=True)
class Boundary:
    """Where the way to a folder begins, and that way.

    Attributes:
        root: nothing above it is read.
        way: names of the folders from there down to the one that is meant; empty for `root` itself.
        closed: names in `root` that belong to others.
        mounted: it is a volume's: what lies elsewhere is not the source's owner's to know of.
    """

    root: Path
    way: tuple[str, ...] = ()
    closed: frozenset[str] = frozenset()
    mounted: bool = False


def boundary(folder: Path, mounts: Sequence[Path] = ()) -> Boundary:
    """Say how far reading in a folder may reach.

    On a volume, to its mount, without the artifacts there, which are others'; of an artifact only to its own folder.
    Elsewhere to the folder itself, or to the hub's cache that holds it, whose files are links into its `blobs`.

    Args:
        folder: absolute, as a user or the operator named it.
        mounts: what stands for a container's mounts (`VICUNA_SOURCE_ROOTS`); empty: those that it has.
    """
    for root in _mounts(folder, mounts):
        way = folder.relative_to(root).parts
        if way[:1] == (_ARTIFACTS,) and len(way) > 1:
            return Boundary(root.joinpath(*way[:2]), way[2:], mounted=True)
        return Boundary(root, way, frozenset({_ARTIFACTS} - set(way[:1])), mounted=True)
    real = folder.resolve()
    for above in real.parents:
        if _CACHE.fullmatch(above.name) and (above / "blobs").is_dir():
            return Boundary(above, real.relative_to(above).parts)
    return Boundary(real)


def _mounts(folder: Path, stated: Sequence[Path]) -> list[Path]:
    """Return the mount that a folder lies in, if it lies in one."""
    roots = list(stated) or [Path(names.MODELS_MOUNT)]
    sources = Path(names.SOURCES_MOUNT)
    if not stated and folder != sources and folder.is_relative_to(sources):
        roots.append(sources / folder.relative_to(sources).parts[0])
    within = [root for root in roots if folder.is_relative_to(root)]
    return sorted(within, key=lambda root: len(root.parts))[-1:]
