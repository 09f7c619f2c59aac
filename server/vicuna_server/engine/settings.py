"""An engine's settings. They do not import torch, so that command lines start quickly."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from vicuna_server.artifacts.manifest import FileEntry, Manifest

__all__ = ["LoadSettings", "SchedulerSettings"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SchedulerSettings:
    """The scheduler's options.

    Attributes:
        max_concurrency: Generations at once.
        prefix_reuse: Whether requests share the keys and values of a common prefix.
    """

    max_concurrency: int = 32
    prefix_reuse: bool = True


@dataclass(frozen=True, slots=True)
class LoadSettings(SchedulerSettings):
    """What to load and how; values as on the command line.

    Attributes:
        folder: The artifact.
        pinned_template: Chat template of the manifest; None without a manifest.
        kind: The resolved kind of delta that the manifest names.
        source_id: ORG/NAME on a hub that the manifest names; empty for a folder, or without a manifest.
        files: What the manifest lists, to be hashed while it is loaded; empty without one.
        chat_template: A template's name, `auto`, or the path of a `.jinja` file.
        max_gpu_memory: Most bytes of weights on each GPU; None: what is free.
        kv_cache_memory: Bytes for keys and values; None: what is left.
    """

    folder: Path
    pinned_template: str | None = None
    kind: str = "none"
    source_id: str = ""
    chat_template: str = "auto"
    device: str = "auto"
    num_gpus: int = 0
    dtype: str = "auto"
    quantization: str = "none"
    max_gpu_memory: int | None = None
    context_length: int | None = None
    kv_cache_memory: int | None = None
    files: tuple[FileEntry, ...] = ()

    @classmethod
    def of(cls, folder: Path, manifest: Manifest | None, **more: Any) -> Self:
        """Take what a folder's manifest says, if it has one, and `more` of the attributes above."""
        if manifest is None:
            return cls(folder, **more)
        return cls(
            folder,
            pinned_template=manifest.chat_template,
            kind=manifest.recipe.kind,
            source_id=manifest.hub_id,
            files=tuple(manifest.files),
            **more,
        )
