"""What a source is and what a merge makes of it, as short strings that depend on content alone."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vicuna_contract.recipe import RECIPE_VERSION
from vicuna_server.errors import InputError
from vicuna_server.files.data_file import DataFile
from vicuna_server.weights.formats import pickle_format, safetensors_format
from vicuna_server.weights.samples import sampled_sha256

__all__ = [
    "COMPANIONS",
    "WIDE",
    "Fingerprints",
    "artifact_id",
    "canonical",
    "check_digest",
    "fingerprint",
    "folder_digest",
]

COMPANIONS = "companions"  # trained weights beside an adapter's, which recipe 1 left out
WIDE = "wide"  # sums in a type that holds both summands, where recipe 1 used the delta's type


def canonical(value: Any) -> bytes:
    """Return JSON with sorted keys and no spaces."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()


@dataclass(frozen=True)
class Fingerprints:
    """What stands for the bytes of each input; adapters in the order they are merged."""

    base: str
    delta: str | None = None
    adapters: tuple[str, ...] = ()

    @property
    def all(self) -> tuple[str, ...]:
        """Every fingerprint, in the order the inputs are applied."""
        return (self.base, *((self.delta,) if self.delta else ()), *self.adapters)


def artifact_id(
    fingerprints: Fingerprints, kind: str, dtype: str, addition: str | None = None, recipe: int = RECIPE_VERSION
) -> str:
    """Return 16 hex digits that stand for one merge.

    Args:
        fingerprints: of the inputs.
        kind: the resolved kind: none, additive-v1.1, additive-v0 or alpaca.
        dtype: float16, bfloat16 or float32.
        addition: `WIDE`, `COMPANIONS` or both for a merge that is so; else None, which leaves the ID as it always was.
        recipe: version of the arithmetic.
    """
    parts: dict[str, Any] = {
        "base": fingerprints.base,
        "delta": fingerprints.delta,
        "adapters": list(fingerprints.adapters),
    }
    parts |= {"kind": kind, "dtype": dtype, "recipe": recipe}
    parts |= {"addition": addition} if addition else {}
    return hashlib.sha256(canonical(parts)).hexdigest()[:16]


def fingerprint(files: Sequence[DataFile]) -> str:
    """Return the fingerprint of a folder: sizes, headers and sampled blocks of the files a merge reads, in order.

    A copy has the same fingerprint; times and places do not enter.
    """
    entries = [{"path": file.name, "size": file.size, "sha256": _file_sample(file)} for file in files]
    return "sampled:" + hashlib.sha256(canonical(entries)).hexdigest()


def _file_sample(file: DataFile) -> str:
    digest = hashlib.sha256()
    if file.name.endswith(".safetensors"):
        digest.update(file.read(0, safetensors_format.header_size(file)))
    elif file.name.endswith((".bin", ".pth")):
        digest.update(pickle_format.read_description(file))
    return sampled_sha256(file, 0, file.size, digest)


def folder_digest(hashes: dict[str, str]) -> str:
    """Return a folder's digest from the sha256 of each file a merge reads: over `<sha256>  <path>` lines."""
    lines = "".join(f"{sha256}  {path}\n" for path, sha256 in sorted(hashes.items()))
    return "sha256:" + hashlib.sha256(lines.encode()).hexdigest()


def check_digest(what: str, stated: str, found: str) -> None:
    """Compare a stated digest with the one found by reading.

    Raises:
        InputError: `DigestMismatch`.
    """
    if stated != found:
        raise InputError(
            "DigestMismatch",
            f"the digest of {what} is {found}, not {stated} as stated; fetch it again or correct the digest",
        )
