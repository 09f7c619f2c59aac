"""A repository on a hub as a `RemoteSource`."""

from collections.abc import Mapping

from vicuna_contract.sources import HubSource
from vicuna_server.run.control import Control
from vicuna_server.weights.hub.file import HubFile
from vicuna_server.weights.hub.listing import list_repository

__all__ = ["HubRepository"]


class HubRepository:
    """One revision of a repository; the commit behind it stands for the bytes.

    Args:
        source: which repository and revision.
    """

    def __init__(self, source: HubSource) -> None:
        self._source = source
        self._commit = source.commit

    @property
    def fingerprint(self) -> str | None:
        """`hf:ORG/NAME@COMMIT`; None before `list` where the revision is a branch or tag."""
        return f"hf:{self._source.repo}@{self._commit}" if self._commit else None

    def list(self, control: Control) -> Mapping[str, HubFile]:
        """Return the files of its top folder by name, as `list_repository` does."""
        listing = list_repository(self._source, control)
        self._commit = listing.commit
        return listing.files
