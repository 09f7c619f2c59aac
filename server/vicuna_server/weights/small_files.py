"""What of a remote source is fetched whole before the preflight; the weights are read where they lie."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from vicuna_contract.names import MANIFEST_NAME
from vicuna_server.errors import InputError
from vicuna_server.files.data_file import map_concurrently
from vicuna_server.files.storage import require_space
from vicuna_server.run.cancellation import Cancellation, watched
from vicuna_server.weights.adapters.companions import companions_among
from vicuna_server.weights.adapters.folder import ADAPTER_WEIGHTS
from vicuna_server.weights.checkpoint import CONFIG_FILES, TOKENIZER_FILES
from vicuna_server.weights.formats.small_file import most_bytes
from vicuna_server.weights.formats.weight_files import ADAPTER_CONFIG, INDEX_FILES
from vicuna_server.weights.remote import RemoteFile

__all__ = ["fetch_small_files", "weights_elsewhere"]

_SMALL = (*CONFIG_FILES, *TOKENIZER_FILES, *INDEX_FILES, ADAPTER_CONFIG, MANIFEST_NAME)
_WEIGHT_SUFFIXES = (".safetensors", ".bin", ".pth")


def fetch_small_files(
    there: Mapping[str, RemoteFile], folder: Path, cancellation: Cancellation, *, adapter: bool
) -> None:
    """Fetch config, index, tokenizer and an adapter's weights into `folder`, which is made.

    Args:
        there: the source's files by name.
        folder: gets the files under their own names.
        cancellation: ends the run on a signal.
        adapter: whether an adapter is wanted; if not, its weights come only where there is no model.

    Raises:
        InputError: `NotACheckpoint` when a file is too large for what it should be; as `RemoteFile.fetch`.
        UnreachableError: the source, or the way there, fails.
        OutOfSpaceError: there is not enough room for them.
        OSError: a file cannot be written.
    """
    names = (*_SMALL, *(_adapter_weights(there) if adapter or not _is_model(there) else ()))
    files = [there[name] for name in names if name in there]
    for file in files:
        _require_small(file)

    def bring(file: RemoteFile) -> None:
        watched(partial(file.fetch, folder / file.name, cancellation.pause, lambda _: None), cancellation)

    folder.mkdir()
    require_space(folder, sum(file.size for file in files))  # as listed; no more than that is written
    for _ in map_concurrently(bring, files, files):
        pass


def _require_small(file: RemoteFile) -> None:
    """Refuse what is too large to be a configuration or a tokenizer."""
    if file.name in _SMALL and file.size > most_bytes(file.name):
        reason = "TokenizerBroken" if file.name in TOKENIZER_FILES else "NotACheckpoint"
        raise InputError(
            reason, f"{file} has {file.size} bytes where at most {most_bytes(file.name)} are expected; name a model"
        )


def _is_model(there: Mapping[str, RemoteFile]) -> bool:
    return not there.keys().isdisjoint(CONFIG_FILES)


def _adapter_weights(there: Mapping[str, RemoteFile]) -> tuple[str, ...]:
    """Return the names of those that are used where there are several: small beside a model, and needed whole."""
    own = tuple(name for name in ADAPTER_WEIGHTS if name in there)[:1]
    return (*own, *companions_among(there).merged)


def weights_elsewhere(there: Mapping[str, RemoteFile]) -> dict[str, RemoteFile]:
    """Return the files, by name, that may hold a model's weights and stay where they are until they are merged."""
    return {
        name: file for name, file in there.items() if name.endswith(_WEIGHT_SUFFIXES) and name not in ADAPTER_WEIGHTS
    }
