"""What dead runs leave: finished files are used again, the rest goes, the living are spared."""

import os
import threading
from collections.abc import Callable
from hashlib import sha256
from io import StringIO
from pathlib import Path

import pytest

from support.checkpoints import model_weights, write_checkpoint
from vicuna_server.artifacts.journal import JOURNAL_NAME, Journal, finished_files
from vicuna_server.artifacts.lock import ArtifactLock
from vicuna_server.artifacts.manifest import FileEntry
from vicuna_server.artifacts.staging import Staging
from vicuna_server.artifacts.sweeping import make_room, sweep
from vicuna_server.errors import InputError, InterruptedRunError, OutOfSpaceError
from vicuna_server.files.exchange import exchange
from vicuna_server.merge.arithmetic.layout import OutputTensor, Shard, lay_out
from vicuna_server.merge.leftovers import Leftovers
from vicuna_server.run.control import Control
from vicuna_server.run.reporter import JsonLines
from vicuna_server.weights.checkpoint import open_checkpoint

KEY = "0123456789abcdef"


@pytest.fixture
def told() -> StringIO:
    """What is told of the progress."""
    return StringIO()


@pytest.fixture
def control(told: StringIO) -> Control:
    return Control(JsonLines(told), threading.Event())


@pytest.fixture
def shards(tmp_path: Path) -> list[Shard]:
    """Six files or so, all zeros."""
    tensors = open_checkpoint(write_checkpoint(tmp_path / "base", model_weights(1))).tensors
    return lay_out([OutputTensor(name, each.shape, "F16", each) for name, each in tensors.items()], 2048)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    path = tmp_path / "root"
    path.mkdir()
    return path


def _write(folder: Path, shard: Shard, fill: bytes = b"\0") -> FileEntry:
    content = shard.header + fill * (shard.size - len(shard.header))
    (folder / shard.name).write_bytes(content)
    return FileEntry(path=shard.name, size=len(content), sha256=sha256(content).hexdigest())


def _leave(root: Path, shards: list[Shard], nonce: str = "dead") -> Path:
    """Leave what a killed run leaves: these shards finished, a torn line in the journal."""
    folder = root / f".staging-{KEY}-{nonce}"
    folder.mkdir()
    journal = Journal(folder)
    journal.begin()
    for shard in shards:
        journal.append(_write(folder, shard))
    with (folder / JOURNAL_NAME).open("a") as file:
        file.write('{"path": "model-0')
    return folder


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_finished_files_of_dead_runs_are_moved_into_the_new_owners_folder(
    root: Path, shards: list[Shard], control: Control, told: StringIO
) -> None:
    first = _leave(root, shards[:2], "a")
    (first / shards[3].name).write_bytes(shards[3].header)  # under way when it died
    _leave(root, shards[2:3], "b")
    with ArtifactLock(root, KEY, control.cancellation) as lock, Staging(root, KEY, lock) as staging:
        leftovers = Leftovers(staging.seize(), shards)
        assert leftovers.size == sum(shard.size for shard in shards[:3])
        assert not list(root.rglob(shards[3].name))
        entries = leftovers.adopt(staging, control)
        assert [entry.path for entry in entries] == [shard.name for shard in shards[:3]]
        assert _names(staging.path) == {JOURNAL_NAME, *(shard.name for shard in shards[:3])}
        assert finished_files(staging.path) == entries
        assert _names(root) == {lock.path.name, staging.path.name}
    assert '"event": "resumed", "files": 3' in told.getvalue()


def test_a_finished_file_with_other_bytes_than_its_line_says_is_made_again(
    root: Path, shards: list[Shard], control: Control
) -> None:
    folder = _leave(root, shards[:2])
    content = bytearray((folder / shards[0].name).read_bytes())
    content[-1] ^= 1
    (folder / shards[0].name).write_bytes(content)
    with ArtifactLock(root, KEY, control.cancellation) as lock, Staging(root, KEY, lock) as staging:
        adopted = Leftovers(staging.seize(), shards).adopt(staging, control)
        assert [entry.path for entry in adopted] == [shards[1].name]


def _truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def _other_header(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"F16", b"I16"))


@pytest.mark.parametrize("damage", [Path.unlink, _truncate, _other_header])
def test_a_finished_file_that_is_no_longer_what_is_wanted_is_not_counted(
    root: Path, shards: list[Shard], control: Control, damage: Callable[[Path], None]
) -> None:
    folder = _leave(root, shards[:2])
    damage(folder / shards[0].name)
    with ArtifactLock(root, KEY, control.cancellation) as lock, Staging(root, KEY, lock) as staging:
        assert Leftovers(staging.seize(), shards).size == shards[1].size


@pytest.mark.parametrize("error", [None, InputError("SourceNotFound", "what was fetched into it is gone")])
def test_a_run_whose_folder_was_taken_loses_its_lock_instead_of_failing(
    root: Path, control: Control, error: Exception | None
) -> None:
    def work() -> None:
        with ArtifactLock(root, KEY, control.cancellation) as lock, Staging(root, KEY, lock) as staging:
            staging.path.rename(root / "elsewhere")
            if error:
                raise error
            staging.write("config.json", b"{}")

    with pytest.raises(InterruptedRunError) as caught:
        work()
    assert caught.value.reason == "LockLost"


@pytest.mark.parametrize(
    ("error", "kept"),
    [
        (InterruptedRunError("Interrupted", ""), True),
        (OutOfSpaceError("OutOfSpace", ""), True),
        (OSError(5, "Input/output error"), True),
        (InputError("NonFinite", ""), False),
        (RuntimeError("a bug"), False),
    ],
)
def test_what_a_run_leaves_depends_on_whether_another_try_can_help(
    root: Path, shards: list[Shard], control: Control, error: Exception, kept: bool
) -> None:
    _leave(root, [])

    def work() -> None:
        with ArtifactLock(root, KEY, control.cancellation) as lock, Staging(root, KEY, lock) as staging:
            staging.seize()
            staging.journal.begin()
            staging.journal.append(_write(staging.path, shards[0]))
            _write(staging.path, shards[1])
            raise error

    with pytest.raises(type(error)):
        work()
    assert {path.name for path in root.rglob("*.safetensors")} == ({shards[0].name} if kept else set())
    assert kept or not list(root.iterdir())


def test_a_folder_without_a_journal_stays_as_it_is_for_another_try(root: Path, control: Control) -> None:
    def work() -> None:
        with ArtifactLock(root, KEY, control.cancellation) as lock, Staging(root, KEY, lock) as staging:
            (staging.path / "model.safetensors.part").write_bytes(b"half")
            raise InterruptedRunError("Interrupted", "")

    with pytest.raises(InterruptedRunError):
        work()
    assert [path.read_bytes() for path in root.rglob("*.part")] == [b"half"]


def test_other_merges_leftovers_stay_for_a_week_unless_someone_works_in_them(root: Path, control: Control) -> None:
    names = (".staging-old-1", ".staging-young-1", ".staging-alive-1")
    for name in names:
        (root / name / "sub").mkdir(parents=True)
        (root / name / "sub" / "file").touch()
    for path in (
        *root.glob(".staging-old-1/**/*"),
        *root.glob(".staging-alive-1/**/*"),
        root / names[0],
        root / names[2],
    ):
        os.utime(path, (0, 0))
    with ArtifactLock(root, KEY, control.cancellation) as lock, ArtifactLock(root, "alive", control.cancellation):
        left = root / f"{lock.path.name}.half-way"
        left.touch()
        sweep(root, lock, control.cancellation)
        assert _names(root) == {names[1], names[2], lock.path.name, ".claim-alive"}
    assert _names(root) == {names[1], names[2]}


def test_room_is_made_of_other_merges_leftovers_oldest_first_with_a_warning(
    root: Path, control: Control, told: StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    for age, name in enumerate(("damaged0", "c", "a", "b")):
        folder = root / f".staging-{name}-1"
        folder.mkdir()
        (folder / "file").write_bytes(b"x" * 1000)
        for path in (folder / "file", folder):
            os.utime(path, (age, age))

    def usage(_: object) -> object:
        present = sum(path.stat().st_size for path in root.rglob("file"))
        return type("Usage", (), {"free": 4000 - present})

    monkeypatch.setattr("shutil.disk_usage", usage)
    with ArtifactLock(root, KEY, control.cancellation) as lock:
        make_room(root, 2000, lock, control.cancellation, control.reporter)
        assert sorted(root.glob(".staging-*")) == [root / ".staging-b-1", root / ".staging-damaged0-1"]
        assert told.getvalue().count('"StagingRemoved"') == 2
        assert told.getvalue().count("that merge starts anew") == 2
        make_room(root, 4000, lock, control.cancellation, control.reporter)  # what a server may still read goes last
        assert told.getvalue().count("of a damaged artifact, was removed to make room") == 1
        with pytest.raises(OutOfSpaceError):
            make_room(root, 5000, lock, control.cancellation, control.reporter)


@pytest.mark.parametrize("at_once", [True, False])
def test_a_broken_artifact_gives_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_once: bool) -> None:
    if not at_once:
        monkeypatch.setattr("vicuna_server.files.exchange._exchange_at_once", lambda *_: False)
    new, old = tmp_path / "new", tmp_path / "old"
    for path in (new, old):
        path.mkdir()
        (path / path.name).touch()
    exchange(new, old)
    assert (_names(new), _names(old)) == ({"old"}, {"new"})
    with pytest.raises(FileNotFoundError):  # a run that was frozen here finds its folder taken
        exchange(tmp_path / "taken", old)
    assert _names(tmp_path) == {"new", "old"}
    assert _names(old) == {"new"}


def test_what_a_conversion_changed_outlives_the_run_that_counted_it(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    entries = [FileEntry(path="a", size=1, sha256="0", changed=27), FileEntry(path="b", size=1, sha256="1")]
    for entry in entries:
        journal.append(entry)
    assert finished_files(tmp_path) == entries
    assert "changed" not in (tmp_path / ".journal").read_text().splitlines()[1]
