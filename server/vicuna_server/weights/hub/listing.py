"""What a repository on a Hugging Face hub holds at one commit (https://huggingface.co/docs/hub/api)."""

import os
import re
from dataclasses import dataclass
from urllib.parse import quote

from pydantic import BaseModel, Field, ValidationError

from vicuna_contract.sources import HubSource
from vicuna_server.errors import InputError, UnreachableError
from vicuna_server.run.control import Control
from vicuna_server.weights.hub.client import HubClient
from vicuna_server.weights.hub.file import Blocks, HubFile

__all__ = ["Listing", "list_repository"]

_ENDPOINT = "https://huggingface.co"
_MOST_BYTES = 32 * 1024 * 1024  # a hundred thousand files
_MOST_NAME = 200
_SHA1 = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class Listing:
    """The files of a repository's top folder by name, at one commit."""

    source: HubSource
    commit: str
    files: dict[str, HubFile]


class _Lfs(BaseModel):
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class _Sibling(BaseModel):
    rfilename: str
    size: int | None = Field(default=None, ge=0, lt=2**63)
    lfs: _Lfs | None = None
    blob_id: str | None = Field(default=None, alias="blobId")

    @property
    def hashes(self) -> tuple[str | None, str | None]:
        """The sha256 of what git-lfs holds, where blobId is a pointer's; else git's own name for the content."""
        if self.lfs:
            return self.lfs.sha256, None
        return None, self.blob_id if _SHA1.fullmatch(self.blob_id or "") else None


class _Answer(BaseModel):
    sha: str = Field(pattern=r"^[0-9a-f]{40}$")
    siblings: list[_Sibling]


def list_repository(source: HubSource, control: Control) -> Listing:
    """Ask the hub (HF_ENDPOINT) for the commit behind a revision and for the files there.

    Args:
        source: which repository and revision.
        control: holds all that is read from the files to the rate, and ends the run on a signal.

    Raises:
        InputError: `SourceNotFound`, `SourceForbidden`; `SourceUnsupported` when the hub tells no sizes.
        UnreachableError: the network, or the hub, fails.
        InterruptedRunError: a signal came.
    """
    endpoint = (os.environ.get("HF_ENDPOINT") or _ENDPOINT).rstrip("/")
    client, blocks = HubClient(control), Blocks()
    question = f"{endpoint}/api/models/{source.repo}/revision/{quote(source.revision, safe='')}?blobs=true"
    try:
        answer = _Answer.model_validate_json(client.read_answer(source.uri, question, _MOST_BYTES))
    except ValidationError as error:
        raise UnreachableError(
            "SourceUnreachable", f"what {endpoint} answers about {source.uri} is not a listing; check HF_ENDPOINT"
        ) from error
    files = {}
    for entry in answer.siblings:
        name = entry.rfilename
        if "/" in name or not name.isprintable() or len(name.encode()) > _MOST_NAME:  # no model has such names
            continue
        if entry.size is None:
            raise InputError(
                "SourceUnsupported",
                f"{endpoint} does not state the sizes of the files in {source.uri}; "
                "use a hub that does, or name a folder",
            )
        url = f"{endpoint}/{source.repo}/resolve/{answer.sha}/{quote(name, safe='')}"
        sha256, blob_id = entry.hashes
        files[name] = HubFile(source.uri, name, entry.size, sha256, url, client, blocks, blob_id)
    return Listing(source, answer.sha, files)
