"""Whether an artifact is what its manifest says, by a look at every file or by every byte."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from vicuna_contract.names import MANIFEST_NAME
from vicuna_server.artifacts.digests import hash_file
from vicuna_server.artifacts.identity import Fingerprints, artifact_id
from vicuna_server.artifacts.manifest import FileEntry, Manifest
from vicuna_server.errors import InputError
from vicuna_server.files.beneath import read_file
from vicuna_server.files.data_file import LocalFile
from vicuna_server.weights.formats.safetensors_format import read_tensors

__all__ = ["NOT_SEALED", "Fault", "fingerprints_of", "verify", "verify_fast"]


@dataclass(frozen=True)
class Fault:
    """One file that is not as it should be, and how."""

    file: str
    what: str


NOT_SEALED = Fault(MANIFEST_NAME, "has no checksum of its own")
"""What earlier versions made has none."""


def verify_fast(folder: Path) -> tuple[Manifest | None, list[Fault]]:
    """Check the manifest against itself, every file's size and every shard's header; milliseconds.

    Returns:
        The manifest, if it can be read, and what is wrong; an artifact without faults has a manifest.
    """
    try:
        manifest = Manifest.load(folder, read_file)
    except InputError as error:
        return None, [Fault(MANIFEST_NAME, error.message)]
    if manifest is None:
        return None, [Fault(MANIFEST_NAME, "is not there")]
    return manifest, [*_manifest_faults(folder, manifest), *_file_faults(folder, manifest)]


def verify(folder: Path, advance: Callable[[int], None]) -> tuple[Manifest | None, list[Fault]]:
    """Check what `verify_fast` does, that nothing else lies in the folder, and the sha256 of every file.

    The manifest holds its own checksum, so that one changed byte anywhere in the artifact is found. `advance` is
    called with each count of bytes that was read.

    Raises:
        InterruptedRunError: `advance` says so.
    """
    manifest, faults = verify_fast(folder)
    if manifest is None:
        return None, faults
    if not Manifest.is_sealed(folder):
        faults.append(NOT_SEALED)
    bad = {fault.file for fault in faults}
    for entry in manifest.files:
        if entry.path not in bad:
            faults += _content_faults(folder, entry, advance)
    known = {entry.path for entry in manifest.files} | {MANIFEST_NAME}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if not path.is_dir() and name not in known:
            faults.append(Fault(name, "does not belong to it; remove it"))
    return manifest, faults


def fingerprints_of(manifest: Manifest) -> Fingerprints:
    """Return what stands for the inputs that a manifest names."""
    inputs = manifest.inputs
    delta = inputs.delta.fingerprint if inputs.delta else None
    return Fingerprints(inputs.base.fingerprint, delta, tuple(each.fingerprint for each in inputs.adapters))


def _content_faults(folder: Path, entry: FileEntry, advance: Callable[[int], None]) -> Iterator[Fault]:
    try:
        if hash_file(LocalFile(folder / entry.path), advance) != entry.sha256:
            yield Fault(entry.path, "has other bytes than its sha256 says")
    except OSError as error:  # a broken disk, or it is being removed
        yield Fault(entry.path, f"cannot be read: {error.strerror}")
    except InputError as error:
        yield Fault(entry.path, f"is not a file of its own: {error.message}")


def _manifest_faults(folder: Path, manifest: Manifest) -> Iterator[Fault]:
    made = manifest.recipe
    computed = artifact_id(fingerprints_of(manifest), made.kind, made.dtype, made.addition, made.version)
    for what, found in (("its inputs make", computed), ("its folder is", folder.name)):
        if found != manifest.artifact_id:
            yield Fault(MANIFEST_NAME, f"names artifact {manifest.artifact_id}, but {what} {found}")
    total = sum(entry.size for entry in manifest.files)
    if total != manifest.total_size:
        yield Fault(MANIFEST_NAME, f"says {manifest.total_size} bytes in all, its files have {total}")


def _file_faults(folder: Path, manifest: Manifest) -> Iterator[Fault]:
    tensors = 0
    whole = True
    for entry in manifest.files:
        fault = _size_fault(folder / entry.path, entry.size)
        if fault is None and entry.path.endswith(".safetensors"):
            try:
                tensors += len(read_tensors(LocalFile(folder / entry.path)))
            except InputError as error:
                fault = f"has a broken header: {error.message}"
        if fault is not None:
            whole = False
            yield Fault(entry.path, fault)
    if whole and tensors != manifest.tensor_count:
        yield Fault(MANIFEST_NAME, f"says {manifest.tensor_count} tensors, its files hold {tensors}")


def _size_fault(path: Path, size: int) -> str | None:
    try:
        found = path.stat().st_size
    except FileNotFoundError:
        return "is not there"
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    return None if found == size else f"has {found} bytes instead of {size}"
