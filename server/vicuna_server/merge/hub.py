"""Fetching a model's files from a Hugging Face hub (HF_ENDPOINT, HF_TOKEN) into a folder on the volume."""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from vicuna_server.errors import InputError, OutOfSpaceError, UnreachableError, VicunaError
from vicuna_server.merge.checkpoint import CONFIG_FILES, TOKENIZER_FILES, pick_weights
from vicuna_server.merge.sources import HubSource

__all__ = ["Listing", "download", "list_repository"]


_WATCH_SECONDS = 0.5


@dataclass(frozen=True)
class Listing:
    """What a repository holds at one commit: sizes in bytes by file name."""

    source: HubSource
    commit: str
    sizes: dict[str, int]


def list_repository(source: HubSource, home: Path) -> Listing:
    """Ask the hub for the commit behind a revision and for the files of its top folder.

    Args:
        source: which repository and revision.
        home: a writable folder for what the hub's client keeps.

    Raises:
        InputError: `SourceNotFound`, `SourceForbidden`.
        UnreachableError: the network, or the hub, fails.
    """
    os.environ.setdefault("HF_HOME", str(home))  # the root file system may be read-only
    with _explained(source):
        from huggingface_hub import HfApi
        from huggingface_hub.utils.tqdm import disable_progress_bars

        disable_progress_bars()
        info = HfApi(endpoint=_endpoint()).model_info(
            source.repo, revision=source.revision, files_metadata=True, timeout=30
        )
    if info.sha is None:
        raise UnreachableError("SourceUnreachable", f"the hub names no commit for {source.uri}; try again")
    sizes = {file.rfilename: file.size or 0 for file in info.siblings or [] if "/" not in file.rfilename}
    return Listing(source, info.sha, sizes)


def download(listing: Listing, folder: Path, watch: Callable[[], None]) -> None:
    """Fetch config, tokenizer and weights (safetensors before pickles), nothing else, into `folder`.

    Args:
        listing: what to fetch.
        folder: gets the files under their own names.
        watch: called twice a second meanwhile; what it raises ends the download.

    Raises:
        InputError: as `list_repository`, and `NotACheckpoint` when there are no weights.
        UnreachableError: the network, or the hub, fails.
        OutOfSpaceError: the volume is full.
    """

    def fetch(name: str) -> Path:
        from huggingface_hub import hf_hub_download

        with _explained(listing.source):
            path = hf_hub_download(
                listing.source.repo, name, revision=listing.commit, local_dir=folder, endpoint=_endpoint()
            )
        return Path(path)

    def fetch_all() -> None:
        index, weights = pick_weights(listing.source.uri, sorted(listing.sizes), lambda name: fetch(name).read_bytes())
        for name in (*CONFIG_FILES, *TOKENIZER_FILES, *weights):
            if name in listing.sizes and name != index:
                fetch(name)

    _watched(fetch_all, watch)


def _watched(work: Callable[[], None], watch: Callable[[], None]) -> None:
    """Run `work` in a thread that nobody waits for once `watch` raises: the hub's client cannot be stopped."""
    failures: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - handed to the thread that waits
            failures.append(error)

    thread = threading.Thread(target=run, name="merge-download", daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(_WATCH_SECONDS)
        watch()
    if failures:
        raise failures[0]


def _endpoint() -> str | None:
    return os.environ.get("HF_ENDPOINT") or None


def bytes_to_fetch(listing: Listing) -> int:
    """Return about how many bytes `download` fetches: all but the weights of the other format."""
    has_safetensors = any(name.endswith(".safetensors") for name in listing.sizes)
    skipped = ".bin" if has_safetensors else ".safetensors"
    return sum(size for name, size in listing.sizes.items() if not name.endswith(skipped))


@contextmanager
def _explained(source: HubSource) -> Iterator[None]:
    """Turn the client's many errors into ours."""
    try:
        yield
    except VicunaError:
        raise
    except OSError as error:  # the hub client's HTTP errors are OSErrors too
        raise _explain(source, error) from error
    except Exception as error:
        if type(error).__module__.partition(".")[0] not in ("httpx", "httpx2", "httpcore", "huggingface_hub"):
            raise
        raise _explain(source, error) from error


def _explain(source: HubSource, error: Exception) -> VicunaError:
    import errno

    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return OutOfSpaceError("OutOfSpace", f"the volume is full while fetching {source.uri}; make room")
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status in (401, 403):
        return InputError(
            "SourceForbidden",
            f"the hub refuses {source.uri} (HTTP {status}): it is private, gated or misspelt; "
            "accept its licence and give a token that may read it (HF_TOKEN, credentialsSecret)",
        )
    if status == 404:
        return InputError("SourceNotFound", f"the hub knows no {source.uri}; check its name and revision")
    why = f"HTTP {status}" if status else type(error).__name__
    return UnreachableError("SourceUnreachable", f"{source.uri} cannot be fetched ({why}); check network and hub")
