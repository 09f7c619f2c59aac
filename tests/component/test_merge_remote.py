"""A source elsewhere is what it can do: another kind than a hub is merged through the same protocol."""

import hashlib
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.checkpoints import delta_weights, model_weights, write_checkpoint
from vicuna_contract.sources import HubSource
from vicuna_server.artifacts.manifest import Manifest
from vicuna_server.errors import InterruptedRunError
from vicuna_server.merge import inputs
from vicuna_server.merge.job import run_merge
from vicuna_server.merge.request import Request
from vicuna_server.run.control import Control
from vicuna_server.run.reporter import Silent
from vicuna_server.weights.remote import RemoteFile


@dataclass(frozen=True)
class ShelfFile(RemoteFile):
    """A file in a folder that plays a place elsewhere; `cut` bytes come of it before a fetch breaks off, once."""

    place: Path
    cut: int | None = None

    @property
    def stored_name(self) -> str:
        return f"{hashlib.sha256(f'{self.uri} {self.sha256}'.encode()).hexdigest()[:16]}-{self.name}"

    def read(self, offset: int, size: int) -> bytes:
        return (self.place / self.name).read_bytes()[offset : offset + size]

    def fetch(self, path: Path, pause: Callable[[float], None], count: Callable[[int], None]) -> None:
        pause(0)
        there = path.read_bytes() if path.exists() else b""
        if self.cut is not None and not there:
            path.write_bytes(self.read(0, self.cut))
            raise InterruptedRunError("Interrupted", "the pod was stopped; start it again")
        path.write_bytes(there + self.read(len(there), self.size))
        count(self.size)


class Shelf:
    """A `RemoteSource`."""

    def __init__(self, source: HubSource, place: Path, cut: int | None = None) -> None:
        self._uri = source.uri
        self._place = place / source.repo.partition("/")[2]
        self._cut = cut
        self.fingerprint = f"shelf:{self._place.name}"

    def list(self, control: Control) -> Mapping[str, ShelfFile]:
        control.cancellation.check()
        found = {path.name: path.read_bytes() for path in self._place.iterdir()}
        return {
            name: ShelfFile(
                self._uri,
                name,
                len(content),
                hashlib.sha256(content).hexdigest(),
                self._place,
                self._cut if name.endswith(".safetensors") else None,
            )
            for name, content in found.items()
        }


@pytest.fixture
def pair(tmp_path: Path) -> Path:
    write_checkpoint(tmp_path / "base", model_weights(1))
    write_checkpoint(tmp_path / "delta", delta_weights(2))
    return tmp_path


def merge(base: str, delta: str, root: Path) -> Manifest:
    request = Request(base, delta, root, kind="additive-v1.1", chat_template="vicuna_v1.1")
    return run_merge(request, Control(Silent(), threading.Event()))


def test_what_comes_from_elsewhere_is_merged_and_a_cut_fetch_is_resumed(
    pair: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    local = merge(str(pair / "base"), str(pair / "delta"), tmp_path / "local")
    monkeypatch.setattr(inputs, "HubRepository", lambda source: Shelf(source, pair, cut=100))
    with pytest.raises(InterruptedRunError):
        merge("hf://shelf/base@main", "hf://shelf/delta@main", tmp_path / "remote")
    assert [path for path in (tmp_path / "remote").glob(".staging-*/*.safetensors") if path.stat().st_size == 100]
    monkeypatch.setattr(inputs, "HubRepository", lambda source: Shelf(source, pair))
    remote = merge("hf://shelf/base@main", "hf://shelf/delta@main", tmp_path / "remote")
    assert remote.inputs.base.fingerprint == "shelf:base"
    assert remote.files == local.files
