"""Which files lie on the volume at once, and the room that takes."""

from pathlib import Path
from typing import Any

import pytest

from vicuna_server.files.data_file import LocalFile
from vicuna_server.merge.arithmetic.layout import OutputTensor, Shard
from vicuna_server.merge.pipeline.scratch import adopt, bytes_at_once, bytes_here
from vicuna_server.merge.pipeline.window import Window
from vicuna_server.weights.hub.client import HubClient
from vicuna_server.weights.hub.file import Blocks, HubFile
from vicuna_server.weights.tensors import Tensor

NO_CLIENT: Any = object()


def hub_file(name: str, size: int = 100) -> HubFile:
    """A file `b1` lies in repository `b`."""
    return HubFile(f"hf://me/{name[0]}@main", name, size, None, name, NO_CLIENT, Blocks())


def shard(number: int, *files: HubFile, size: int = 10) -> Shard:
    outputs = [
        OutputTensor(f"{number}.{file.name}", (size,), "U8", Tensor("x", "U8", (size,), file, 0)) for file in files
    ]
    return Shard(f"model-{number}.safetensors", b"", tuple(outputs))


def taken(window: Window) -> list[str]:
    """The names of what may be fetched now."""
    names = []
    while file := window.next():
        names.append(file.name)
    return names


BASE = [hub_file(f"b{number}") for number in range(6)]
DELTA = [hub_file(f"d{number}") for number in range(3)]


def test_two_files_of_each_source_come_before_they_are_needed() -> None:
    shards = [shard(number, BASE[number], DELTA[number // 2]) for number in range(6)]
    window = Window(shards)
    seen = []
    for _ in shards:
        names = taken(window)
        gone = sorted(file.name for file in window.finish())
        seen.append((names, gone))
    assert seen == [
        (["b0", "d0", "b1", "d1"], ["b0"]),
        (["b2"], ["b1", "d0"]),
        (["b3", "d2"], ["b2"]),
        (["b4"], ["b3", "d1"]),
        (["b5"], ["b4"]),
        ([], ["b5", "d2"]),
    ]


def test_what_one_output_file_needs_is_let_in_whatever_it_is() -> None:
    assert taken(Window([shard(0, *BASE), shard(1, BASE[5])])) == ["b0", "b1", "b2", "b3", "b4", "b5"]


def test_a_file_stays_until_the_last_output_file_made_from_it_is_finished() -> None:
    window = Window([shard(0, BASE[0], BASE[1]), shard(1, BASE[1]), shard(2, BASE[0], BASE[2])])
    taken(window)
    assert [[file.name for file in window.finish()] for _ in range(2)] == [[], ["b1"]]
    assert taken(window) == ["b2"]
    assert {file.name for file in window.finish()} == {"b0", "b2"}
    assert window.bytes_held == 0


def test_never_are_all_files_there_if_not_all_are_needed_at_once() -> None:
    window = Window([shard(0, BASE[0], DELTA[0]), shard(1, BASE[1], DELTA[1])])
    assert taken(window) == ["b0", "d0", "b1"]
    assert window.bytes_held == 300 < window.bytes_in_all == 400
    window.finish()
    assert taken(window) == ["d1"]


def test_local_files_take_no_part() -> None:
    local = OutputTensor("x", (1,), "U8", Tensor("x", "U8", (1,), LocalFile(Path("model.bin")), 0))
    window = Window([Shard("model.safetensors", b"header", (local,))])
    assert (taken(window), window.finish(), window.bytes_in_all) == ([], [], 0)


def test_the_room_is_what_output_and_files_take_together_at_the_worst_moment() -> None:
    local_only = [shard(0, size=0), shard(1, size=0)]
    assert bytes_at_once(local_only) == 0
    # while 0 is made: b0, d0, b1 and 20; 1: b1, d1 and 40; then 2: b2, d2 and 60, with b3 ahead; 3: b3, d2 and 80
    shards = [shard(number, BASE[number], DELTA[min(number, 2)]) for number in range(4)]
    assert bytes_at_once(shards) == max(400 + 20, 400 + 40, 300 + 60, 200 + 80)
    assert bytes_at_once([shard(number, BASE[0], size=1000) for number in range(3)]) == 3100


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, list[Path]]:
    ours = tmp_path / "ours"
    ours.mkdir()
    dead = [tmp_path / "dead0", tmp_path / "dead1"]
    for folder in dead:
        (folder / "base").mkdir(parents=True)
    return ours, dead


def test_what_dead_runs_fetched_is_taken_over(folders: tuple[Path, list[Path]]) -> None:
    ours, [first, second] = folders
    name, other = BASE[0].stored_name, BASE[1].stored_name
    (first / name).write_bytes(b"half of it")
    (second / name).write_bytes(b"half")
    (second / other).write_bytes(b"whole")
    (second / "config.json").write_bytes(b"{}")
    (second / DELTA[0].stored_name).symlink_to(second / "config.json")
    adopt([first, second], ours)
    assert {path.name: path.read_bytes() for path in ours.iterdir()} == {name: b"half of it", other: b"whole"}


def test_only_what_is_needed_counts_as_here_and_the_rest_goes(folders: tuple[Path, list[Path]]) -> None:
    ours, _ = folders
    for file in (*BASE[:2], DELTA[0]):
        (ours / file.stored_name).write_bytes(b"12345")
    (ours / "base").mkdir()
    assert bytes_here(ours, [shard(0, BASE[0], DELTA[0])]) == 10
    assert {path.name for path in ours.iterdir()} == {BASE[0].stored_name, DELTA[0].stored_name, "base"}


def test_the_type_of_the_client_is_not_a_part_of_a_file() -> None:
    file = hub_file("b0")
    assert file == HubFile(file.uri, file.name, file.size, None, file.url, HubClient(NO_CLIENT), Blocks())
