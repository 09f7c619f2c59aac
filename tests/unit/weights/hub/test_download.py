"""One file, whole or not at all, and as listed."""

import errno
import resource
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from support.hub import Asked, Fault, Hub
from vicuna_contract.sources import HubSource
from vicuna_server.errors import InputError, InterruptedRunError, UnreachableError
from vicuna_server.run.control import Control
from vicuna_server.weights.hub.download import fetch
from vicuna_server.weights.hub.file import HubFile
from vicuna_server.weights.hub.listing import list_repository

CONTENT = bytes(range(250)) * 1200


@pytest.fixture
def file(hub: Hub, tmp_path: Path, control: Control) -> HubFile:
    (tmp_path / "model" / "model.bin").write_bytes(CONTENT)
    return list_repository(HubSource("me/model", "main"), control).files["model.bin"]


class Fetched:
    """The outcome of one `fetch`."""

    def __init__(self, file: HubFile, path: Path, pause: Callable[[float], None] = lambda _: None) -> None:
        self.counted = 0
        fetch(file, path, pause, self._count)

    def _count(self, size: int) -> None:
        self.counted += size


def test_cuts_are_gone_on_after(file: HubFile, hub: Hub, tmp_path: Path) -> None:
    hub.fault = lambda _: Fault(cut=130_000)
    assert Fetched(file, tmp_path / "here").counted == len(CONTENT)
    assert (tmp_path / "here").read_bytes() == CONTENT
    assert [asked.start for asked in hub.asked if asked.name] == [0, 130_000, 260_000]


@pytest.mark.parametrize("present", [1, 200_000, len(CONTENT)])
def test_what_is_there_is_not_fetched_again(file: HubFile, hub: Hub, tmp_path: Path, present: int) -> None:
    (tmp_path / "here").write_bytes(CONTENT[:present])
    assert Fetched(file, tmp_path / "here").counted == len(CONTENT)
    assert (tmp_path / "here").read_bytes() == CONTENT
    assert hub.served["model.bin"] == len(CONTENT) - present


@pytest.mark.parametrize("before", [b"x" * 1000, CONTENT[:-1] + b"x", CONTENT + b"too long"])
def test_wrong_bytes_of_an_earlier_run_are_replaced(file: HubFile, tmp_path: Path, before: bytes) -> None:
    (tmp_path / "here").write_bytes(before)
    assert Fetched(file, tmp_path / "here").counted == len(CONTENT)
    assert (tmp_path / "here").read_bytes() == CONTENT


def test_bytes_that_were_damaged_on_their_way_are_fetched_once_more(file: HubFile, hub: Hub, tmp_path: Path) -> None:
    hub.fault = lambda asked: Fault(wrong=not asked.number)
    assert Fetched(file, tmp_path / "here").counted == len(CONTENT)
    assert (tmp_path / "here").read_bytes() == CONTENT


def test_bytes_that_are_wrong_twice_are_not_taken(file: HubFile, hub: Hub, tmp_path: Path) -> None:
    hub.fault = lambda _: Fault(wrong=True)
    with pytest.raises(InputError, match=r"model\.bin came twice with another sha256 than its hub lists") as caught:
        Fetched(file, tmp_path / "here")
    assert caught.value.reason == "DigestMismatch"
    assert hub.served["model.bin"] == 2 * len(CONTENT)
    assert not (tmp_path / "here").exists()


def test_small_files_have_gits_name_for_their_content(hub: Hub, tmp_path: Path, control: Control) -> None:
    (tmp_path / "model" / "config.json").write_bytes(CONTENT)
    listed = list_repository(HubSource("me/model", "main"), control).files["config.json"]
    git = ["git", "hash-object", str(tmp_path / "model" / "config.json")]
    assert listed.sha256 is None
    assert listed.blob_id == subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    assert Fetched(listed, tmp_path / "here").counted == len(CONTENT)
    (tmp_path / "here").unlink()
    hub.fault = lambda _: Fault(wrong=True)
    with pytest.raises(InputError, match=rf"config\.json came twice with another git blob id .*{listed.blob_id}"):
        Fetched(listed, tmp_path / "here")
    assert not (tmp_path / "here").exists()


def test_two_writers_at_once_write_the_same(file: HubFile, hub: Hub, tmp_path: Path) -> None:
    released, hangs = threading.Event(), threading.Event()

    def hang_first(asked: Asked) -> Fault | None:
        if asked.start:
            return None
        hangs.set()
        return Fault(cut=130_000, until=released)

    hub.fault = hang_first
    frozen = threading.Thread(target=Fetched, args=(file, tmp_path / "here"))
    frozen.start()
    assert hangs.wait(20)
    while (tmp_path / "here").stat().st_size < 130_000:
        time.sleep(0.001)
    Fetched(file, tmp_path / "here")
    released.set()
    frozen.join(20)
    assert (tmp_path / "here").read_bytes() == CONTENT


def test_a_signal_leaves_what_has_come(file: HubFile, hub: Hub, tmp_path: Path) -> None:
    def pause(_: float) -> None:
        if (tmp_path / "here").stat().st_size > 100_000:
            raise InterruptedRunError("Interrupted", "a signal")

    with pytest.raises(InterruptedRunError):
        Fetched(file, tmp_path / "here", pause)
    size = (tmp_path / "here").stat().st_size
    assert 100_000 < size < len(CONTENT)
    assert (tmp_path / "here").read_bytes() == CONTENT[:size]


def test_progress_renews_patience(file: HubFile, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VICUNA_HUB_PATIENCE_SECONDS", "0.6")  # one first wait, not two that follow each other
    hub.fault = lambda asked: Fault(cut=50_000) if asked.start < 200_000 else Fault(503)
    with pytest.raises(UnreachableError, match="HTTP 503"):
        Fetched(file, tmp_path / "here")
    assert (tmp_path / "here").stat().st_size == 200_000


def test_a_disk_that_is_full_ends_it_and_keeps_what_came(file: HubFile, hub: Hub, tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(OSError, match="File too large") as caught:
            Fetched(file, tmp_path / "here")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert caught.value.errno == errno.EFBIG
    assert (tmp_path / "here").read_bytes() == CONTENT[:100_000]
    assert len([asked for asked in hub.asked if asked.name]) == 1
