"""Files come ahead of their reader, in bounded number, and go when they are done with."""

import io
import json
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from support.hub import Asked, Fault, Hub
from vicuna_contract.sources import HubSource
from vicuna_server.errors import InputError, InterruptedRunError
from vicuna_server.files.data_file import LocalFile
from vicuna_server.merge.arithmetic.layout import OutputTensor, Shard
from vicuna_server.merge.pipeline.store import RemoteStore
from vicuna_server.run.control import Control
from vicuna_server.run.reporter import JsonLines, Silent
from vicuna_server.weights.hub.file import HubFile
from vicuna_server.weights.hub.listing import list_repository
from vicuna_server.weights.tensors import Tensor

SIZE = 100_000
COUNT = 5


def content(number: int) -> bytes:
    return bytes([number]) * SIZE


def one_each(files: list[HubFile]) -> list[Shard]:
    """One output file from each."""
    outputs = [OutputTensor(file.name, (SIZE,), "U8", Tensor("x", "U8", (SIZE,), file, 0)) for file in files]
    return [Shard(f"{output.name}.out", b"", (output,)) for output in outputs]


@pytest.fixture
def files(hub: Hub, tmp_path: Path, control: Control) -> list[HubFile]:
    for number in range(COUNT):
        (tmp_path / "model" / f"{number}.bin").write_bytes(content(number))
    (tmp_path / "here").mkdir()
    found = list_repository(HubSource("me/model", "main"), control).files
    return [found[name] for name in sorted(found)]


@pytest.fixture
def open_store(tmp_path: Path, files: list[HubFile]) -> Callable[[Control], RemoteStore]:
    return lambda control: RemoteStore(tmp_path / "here", one_each(files), control)


Open = Callable[[Control], RemoteStore]


def test_every_file_comes_once_and_two_at_a_time(
    open_store: Open, files: list[HubFile], hub: Hub, tmp_path: Path, control: Control
) -> None:
    store = open_store(control)
    assert store.bytes_to_fetch == COUNT * SIZE
    most = 0
    for number, file in enumerate(files):
        path = store.acquire(file)
        assert path.read_bytes() == content(number)
        most = max(most, len(list((tmp_path / "here").iterdir())))
        store.shard_finished()
        assert not path.exists()
    store.close()
    assert most <= 2
    assert hub.weights_served == COUNT * SIZE
    assert not list((tmp_path / "here").iterdir())


def test_the_next_file_comes_while_the_first_is_read(
    open_store: Open, files: list[HubFile], hub: Hub, control: Control
) -> None:
    asked = {file.name: threading.Event() for file in files}

    def note(request: Asked) -> None:
        if request.name:
            asked[request.name].set()

    hub.fault = note
    store = open_store(control)
    store.acquire(files[0])
    assert asked["1.bin"].wait(20)
    assert not asked["2.bin"].is_set()
    store.shard_finished()
    assert asked["2.bin"].wait(20)
    store.close()


def test_what_is_here_waits_for_nothing_that_is_not(
    open_store: Open, files: list[HubFile], hub: Hub, control: Control
) -> None:
    released = threading.Event()
    hub.fault = lambda asked: Fault(cut=10, until=released) if asked.name == "1.bin" else None
    store = open_store(control)
    assert store.acquire(files[0]).read_bytes() == content(0)
    released.set()
    assert store.acquire(files[1]).read_bytes() == content(1)
    store.close()


def test_what_ends_the_fetching_is_told_to_who_waits(
    open_store: Open, files: list[HubFile], hub: Hub, control: Control
) -> None:
    hub.fault = lambda asked: Fault(403) if asked.name == "1.bin" else None
    store = open_store(control)
    with pytest.raises(InputError, match=r"1\.bin"):
        store.acquire(files[1])
    store.close()


def test_a_signal_ends_the_wait(
    open_store: Open, files: list[HubFile], hub: Hub, control: Control, stop: threading.Event
) -> None:
    released = threading.Event()

    def hang(_: Asked) -> Fault:
        stop.set()
        return Fault(cut=10, until=released)

    hub.fault = hang
    store = open_store(control)
    with pytest.raises(InterruptedRunError):
        store.acquire(files[0])
    store.close()
    released.set()


def test_closing_ends_the_wait_and_writes_no_more(
    open_store: Open, files: list[HubFile], hub: Hub, tmp_path: Path, control: Control
) -> None:
    released = threading.Event()
    hub.fault = lambda _: Fault(cut=0, until=released)
    store = open_store(control)
    threading.Timer(0.05, store.close).start()
    with pytest.raises(InterruptedRunError):
        store.acquire(files[0])
    released.set()
    for thread in store._threads:
        thread.join(20)
        assert not thread.is_alive()
    assert sum(path.stat().st_size for path in (tmp_path / "here").iterdir()) == 0


def test_progress_counts_all_bytes_once(open_store: Open, files: list[HubFile], tmp_path: Path) -> None:
    (tmp_path / "here" / files[0].stored_name).write_bytes(content(0)[:1000])
    stream = io.StringIO()
    control = Control(JsonLines(stream), threading.Event())
    control.begin(COUNT * SIZE)
    store = open_store(control)
    for file in files:
        store.acquire(file)
        store.shard_finished()
    store.close()
    last = json.loads(stream.getvalue().splitlines()[-1])
    assert last["bytesDone"] == last["bytesTotal"] == COUNT * SIZE


def test_local_files_are_where_they_are(open_store: Open, tmp_path: Path) -> None:
    store = open_store(Control(Silent(), threading.Event()))
    assert store.acquire(LocalFile(tmp_path / "model" / "0.bin")) == tmp_path / "model" / "0.bin"
    assert not store._threads
