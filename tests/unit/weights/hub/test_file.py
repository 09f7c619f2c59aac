"""Reading a file where it lies takes few requests and few bytes."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from support.hub import Asked, Fault, Hub
from vicuna_contract.sources import HubSource
from vicuna_server.files.data_file import buffered, map_concurrently
from vicuna_server.run.control import Control
from vicuna_server.weights.hub.file import HubFile
from vicuna_server.weights.hub.listing import list_repository

BLOCK = 64 * 1024
CONTENT = (bytes(range(251)) * (20 * BLOCK // 251 + 1))[: 20 * BLOCK + 100]


@pytest.fixture
def file(hub: Hub, tmp_path: Path, control: Control) -> HubFile:
    (tmp_path / "model" / "model.bin").write_bytes(CONTENT)
    found = list_repository(HubSource("me/model", "main"), control).files["model.bin"]
    hub.asked.clear()
    return found


def test_small_reads_share_blocks(file: HubFile, hub: Hub) -> None:
    for offset, size in ((0, 8), (8, 5000), (BLOCK - 10, 20), (BLOCK + 500, 10), (10, 2 * BLOCK)):
        assert file.read(offset, size) == CONTENT[offset : offset + size]
    assert [(asked.start, asked.served) for asked in hub.asked] == [(block * BLOCK, BLOCK) for block in range(3)]


def test_large_reads_are_one_request_and_not_kept(file: HubFile, hub: Hub) -> None:
    assert file.read(100, 17 * BLOCK) == CONTENT[100 : 100 + 17 * BLOCK]
    assert file.read(100, 10) == CONTENT[100:110]
    assert len(hub.asked) == 2


def test_the_end_of_the_file_is_the_end(file: HubFile, hub: Hub) -> None:
    assert file.read(len(CONTENT) - 50, 500) == CONTENT[-50:]
    assert file.read(len(CONTENT), 10) == b""
    with buffered(file) as stream:
        stream.seek(-100, 2)
        assert stream.read() == CONTENT[-100:]
    assert len(hub.asked) == 1


def test_the_blocks_kept_are_bounded(file: HubFile, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vicuna_server.weights.hub.file._MOST_BLOCKS", 2)
    for block in (0, 1, 0, 2, 0, 1):
        file.read(block * BLOCK, 1)
    assert [asked.start // BLOCK for asked in hub.asked] == [0, 1, 2, 1]


def test_the_stored_name_tells_content_and_source(file: HubFile) -> None:
    names = {
        file.stored_name,
        replace(file, sha256="0" * 64).stored_name,
        replace(file, uri="hf://me/model@v2").stored_name,
        replace(file, sha256=None).stored_name,
        replace(file, sha256=None, url="http://other").stored_name,
    }
    assert len(names) == 5
    assert all(name.endswith("-model.bin") for name in names)


def test_readers_at_once_share_what_is_being_fetched(file: HubFile, hub: Hub) -> None:
    released, hangs = threading.Event(), threading.Event()

    def hang(_: Asked) -> Fault:
        hangs.set()
        return Fault(cut=100, until=released)

    hub.fault = hang
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(file.read, 10, 20)
        assert hangs.wait(20)
        second = pool.submit(file.read, 500, 20)
        released.set()
        assert (first.result(), second.result()) == (CONTENT[10:30], CONTENT[500:520])
    assert len(hub.asked) == 1


def test_reads_of_files_elsewhere_are_under_way_together_and_come_in_order(file: HubFile, hub: Hub) -> None:
    together = threading.Barrier(4, timeout=20)

    def wait(_: Asked) -> None:
        together.wait()

    hub.fault = wait
    places = [block * BLOCK for block in (3, 0, 2, 1)]
    read = map_concurrently(lambda place: file.read(place, 5), places, [file])
    assert list(read) == [CONTENT[place : place + 5] for place in places]
