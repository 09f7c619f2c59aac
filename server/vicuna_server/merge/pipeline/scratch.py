"""Weights on the volume on their way from a remote source: what earlier runs fetched, and the room it all takes."""

import re
from collections.abc import Sequence
from pathlib import Path

from vicuna_server.merge.arithmetic.layout import Shard
from vicuna_server.merge.pipeline.reading import files_in_order
from vicuna_server.merge.pipeline.window import Window
from vicuna_server.weights.remote import RemoteFile

__all__ = ["adopt", "bytes_at_once", "bytes_here"]

_STORED = re.compile(r"[0-9a-f]{16}-.+")


def adopt(folders: Sequence[Path], into: Path) -> None:
    """Move what earlier runs fetched, whole or half, from their folders into this one's; the larger wins."""
    for path in (path for folder in folders for path in folder.iterdir()):
        if _STORED.fullmatch(path.name) and path.is_file() and not path.is_symlink():
            target = into / path.name
            if not target.exists() or target.stat().st_size < path.stat().st_size:
                path.replace(target)


def bytes_here(folder: Path, shards: Sequence[Shard]) -> int:
    """Return how many bytes of remote files for these shards lie in a folder; what else was fetched is removed."""
    wanted = {file.stored_name for file in files_in_order(shards) if isinstance(file, RemoteFile)}
    size = 0
    for path in folder.iterdir():
        if path.name in wanted:
            size += path.stat().st_size
        elif _STORED.fullmatch(path.name):
            path.unlink()
    return size


def bytes_at_once(shards: Sequence[Shard]) -> int:
    """Return the most bytes that output and remote files take together at any moment while these shards are written."""
    window = Window(shards)
    most = written = 0
    for shard in shards:
        while window.next():
            pass
        written += shard.size
        most = max(most, window.bytes_held + written)
        window.finish()
    return most
