"""`vicuna-manifest.json`: what an artifact is made of. Written last by merge, read first by serve.

Its `checksum` is the sha256 of its own bytes with an empty string in that place, so that the one file which nothing
else vouches for vouches for itself.
"""

import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from vicuna_contract.names import MANIFEST_NAME
from vicuna_contract.sources import HubSource, parse_argument
from vicuna_contract.termination import digest_of
from vicuna_server.errors import InputError

__all__ = ["FileEntry", "Inputs", "Manifest", "Recipe", "Source", "Tool"]

_CHECKSUM = re.compile(rb'"checksum": "([0-9a-f]{64})"')
_NO_CHECKSUM = b'"checksum": ""'


class _Part(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, frozen=True)


class Source(_Part):
    """One input of a merge, as its URI and the fingerprint that stands for its bytes."""

    source: str
    fingerprint: str


class Inputs(_Part):
    """The inputs in the order they were applied."""

    base: Source
    delta: Source | None = None
    adapters: list[Source] = Field(default_factory=list)


class Recipe(_Part):
    """How the inputs were combined: resolved delta kind, output dtype, version of the arithmetic.

    `addition` is `wide` where base and delta were added in a type that holds both, and that was not the delta's;
    `companions` where an adapter had trained weights in files beside its own; `wide+companions` for both.
    `base_dtype` is the base's own type; None: written by a version that did not say.
    """

    kind: str
    dtype: str
    version: int
    addition: str | None = Field(default=None, exclude_if=lambda value: value is None)
    base_dtype: str | None = Field(default=None, exclude_if=lambda value: value is None)


class FileEntry(_Part):
    """One file of the artifact: path relative to its folder, size in bytes, sha256 in hex.

    `changed` counts the weights in it that the conversion to the output's type changed.
    """

    path: str
    size: int
    sha256: str
    changed: int = Field(default=0, exclude_if=lambda value: not value)


class Tool(_Part):
    """What wrote the artifact."""

    name: str
    version: str


class Manifest(_Part):
    """The whole manifest; `files` lists every other file of the artifact, sorted by path."""

    schema_version: int = 1
    artifact_id: str = Field(alias="artifactID")
    inputs: Inputs
    recipe: Recipe
    chat_template: str
    tensor_count: int
    total_size: int
    files: list[FileEntry]
    tool: Tool

    @property
    def hub_id(self) -> str:
        """ORG/NAME on a hub of what gave config and tokenizer, delta or base; empty for a folder."""
        try:
            location = parse_argument((self.inputs.delta or self.inputs.base).source)
        except ValueError:
            return ""
        return location.repo if isinstance(location, HubSource) else ""

    @property
    def digest(self) -> str:
        """What stands for the bytes of all its files: 64 hex digits."""
        return digest_of((entry.path, entry.size, entry.sha256) for entry in self.files)

    def to_json(self) -> str:
        """Return the file's text: stable key order, so that equal merges give equal bytes."""
        content = self.model_dump(by_alias=True) | {"checksum": ""}
        text = json.dumps(content, indent=2, sort_keys=True) + "\n"
        checksum = hashlib.sha256(text.encode()).hexdigest()
        return text.replace(_NO_CHECKSUM.decode(), f'"checksum": "{checksum}"', 1)

    @classmethod
    def load(cls, folder: Path, read: Callable[[Path], bytes] = Path.read_bytes) -> Self | None:
        """Read the manifest of an artifact folder; None where there is none. `read` gives a file's content.

        Raises:
            InputError: `ManifestBroken` when the file is not a manifest of this schema, or its checksum is wrong.
        """
        path = folder / MANIFEST_NAME
        try:
            text = read(path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        if _seal(text) is False:
            raise InputError("ManifestBroken", f"{path} does not match its own checksum; merge the model again")
        try:
            manifest = cls.model_validate_json(text)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"]) or "the document"
            raise InputError("ManifestBroken", f"{path}: {where}: {first['msg']}; merge the model again") from error
        if manifest.schema_version != 1:
            raise InputError(
                "ManifestBroken",
                f"{path} has schemaVersion {manifest.schema_version}, this program reads 1; use the newer image",
            )
        return manifest

    @staticmethod
    def is_sealed(folder: Path) -> bool:
        """Whether the file holds a checksum, and the right one."""
        return _seal((folder / MANIFEST_NAME).read_bytes()) is True


def _seal(text: bytes) -> bool | None:
    """Return whether the checksum in a manifest's text is right; None: it has none."""
    found = _CHECKSUM.search(text)
    if found is None:
        return None
    blank = text[: found.start()] + _NO_CHECKSUM + text[found.end() :]
    return hashlib.sha256(blank).hexdigest() == found[1].decode()
