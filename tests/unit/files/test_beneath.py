"""What is opened of a source lies beneath its boundary, whatever links say and whoever changes them meanwhile."""

import ast
import os
from pathlib import Path

import pytest

import vicuna_server
from vicuna_contract.names import SOURCE_ROOTS_VARIABLE
from vicuna_server.errors import InputError
from vicuna_server.files.beneath import is_file, links_allowed, list_folder, read_file
from vicuna_server.files.boundary import Boundary, boundary
from vicuna_server.files.buffers import new_buffer
from vicuna_server.files.data_file import LocalFile
from vicuna_server.files.input_file import ROOM, InputFile


@pytest.fixture
def claim(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that stands for a claim's mount; `model` in it is the source, `secret` beside the mount another's."""
    for name in ("claim/model/inner", "claim/shared", "claim/artifacts/0123456789abcdef", "secret"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "here").write_text(name)
    monkeypatch.setenv(SOURCE_ROOTS_VARIABLE, f"/nowhere:{tmp_path / 'claim'}")
    return tmp_path / "claim"


def refused(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        read_file(path)
    assert caught.value.reason in ("LinkLeavesSource", "SourceForbidden")
    assert str(path) in caught.value.message
    return caught.value.reason


def leads(path: Path, target: str | Path) -> Path:
    path.symlink_to(target)
    return path


@pytest.mark.parametrize(
    "target",
    ["/proc/self/environ", "/etc/hostname", "../../secret/here", "{claim}/../secret/here", "inner/../../../secret/here",
     "{claim}/artifacts/0123456789abcdef/here", "../artifacts/0123456789abcdef/here", "back/../../secret/here",
     "/dev/zero", "{claim}secret/here"],
)  # fmt: skip
def test_links_that_leave_the_mount_are_refused_by_name(claim: Path, target: str) -> None:
    leads(claim / "model" / "back", "../model")
    path = leads(claim / "model" / "link", target.format(claim=claim))
    assert refused(path) == "LinkLeavesSource"
    for look in (is_file, lambda path: LocalFile(path).size, lambda path: LocalFile(path).read(0, 1), InputFile):
        with pytest.raises(InputError, match="leads out of"):
            look(path)


@pytest.mark.parametrize(
    "target", ["inner/here", "../shared/here", "{claim}/shared/here", "..//./shared/here", "chain"]
)
def test_links_within_the_mount_are_followed(claim: Path, target: str) -> None:
    leads(claim / "model" / "chain", "up/shared/here")
    leads(claim / "model" / "up", "..")
    path = leads(claim / "model" / "link", target.format(claim=claim))
    assert read_file(path).decode().startswith("claim/")
    assert is_file(path)


def test_a_folder_behind_a_link_that_leaves_is_not_listed(claim: Path) -> None:
    leads(claim / "elsewhere", "../secret")
    with pytest.raises(InputError, match="leads out of"):
        list_folder(claim / "elsewhere")
    assert refused(claim / "elsewhere" / "here") == "LinkLeavesSource"
    assert refused(claim / "model" / ".." / ".." / "secret" / "here") == "LinkLeavesSource"


def test_an_artifact_as_a_source_reaches_to_itself_alone(claim: Path) -> None:
    own = claim / "artifacts" / "0123456789abcdef"
    (claim / "artifacts" / "other").mkdir()
    (claim / "artifacts" / "other" / "file").touch()
    assert read_file(own / "here")
    assert refused(leads(own / "link", "../other/file")) == "LinkLeavesSource"
    assert refused(leads(own / "wide", "../../shared/here")) == "LinkLeavesSource"


def test_a_link_that_changes_between_look_and_open_leads_nowhere_else(
    claim: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = claim / "model"
    (folder / "file").write_text("mine")
    opened = os.open

    def swap(name: str, flags: int, *args: int, **options: int) -> int:
        if name in ("file", "inner") and not (folder / name).is_symlink():
            (folder / name).rename(folder / f"was {name}")
            leads(folder / name, "../../secret/here" if name == "file" else "../../secret")
        return opened(name, flags, *args, **options)

    monkeypatch.setattr(os, "open", swap)
    for path in (folder / "file", leads(folder / "deep", "inner/here")):
        with pytest.raises(OSError, match=path.name):
            read_file(path)


def test_a_folder_that_is_moved_away_is_not_a_way_out(claim: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (claim / "here").write_text("claim's")
    path = leads(claim / "model" / "link", "inner/../../here")
    opened = os.open

    def move(name: str, flags: int, *args: int, **options: int) -> int:
        descriptor = opened(name, flags, *args, **options)
        if name == "inner":
            (claim / "model" / "inner").rename(claim.parent / "secret" / "inner")  # whose `../..` is beyond the claim
        return descriptor

    monkeypatch.setattr(os, "open", move)
    assert read_file(path) == b"claim's"


def test_pipes_devices_and_folders_are_not_files(claim: Path) -> None:
    os.mkfifo(claim / "model" / "pipe")
    leads(claim / "model" / "pipe too", "pipe")
    for name in ("pipe", "pipe too", "inner"):
        assert refused(claim / "model" / name) == "SourceForbidden"
        assert not is_file(claim / "model" / name)
    kinds = {entry.name: entry.kind for entry in list_folder(claim / "model")}
    assert kinds == {"inner": "folder", "pipe": "other", "pipe too": "other"}


def test_what_lies_in_a_folder(claim: Path) -> None:
    folder = claim / "model"
    leads(folder / "good", "../shared/here")
    leads(folder / "to folder", "inner")
    leads(folder / "dangling", "inner/nothing")
    leads(folder / "round", "round")
    leads(folder / "out", "/proc/self/environ")
    leads(folder / "out of sight", "/not/there")  # whether it is there is not told
    found = {entry.name: (entry.kind, entry.target) for entry in list_folder(folder)}
    assert found == {
        "inner": ("folder", ""),
        "good": ("file", "../shared/here"),
        "to folder": ("folder", "inner"),
        "dangling": ("dangling", "inner/nothing"),
        "round": ("dangling", "round"),
        "out": ("outside", "/proc/self/environ"),
        "out of sight": ("outside", "/not/there"),
    }


def test_a_persons_folder_is_its_own_boundary_and_a_cache_one_of_its_own(tmp_path: Path) -> None:
    cache = tmp_path / "models--org--name"
    snapshot = cache / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (cache / "blobs").mkdir()
    (cache / "blobs" / "1").write_text("weights")
    (tmp_path / "other").write_text("other's")
    leads(snapshot / "model.bin", "../../blobs/1")
    assert read_file(snapshot / "model.bin") == b"weights"
    named = leads(tmp_path / "my model", snapshot)
    assert read_file(named / "model.bin") == b"weights"
    assert refused(leads(snapshot / "out", "../../../other")) == "LinkLeavesSource"
    alone = tmp_path / "alone"
    alone.mkdir()
    assert refused(leads(alone / "out", "../other")) == "LinkLeavesSource"
    assert leads(alone / "gone", "../gone")
    assert list_folder(alone)[0].kind == "dangling"
    with links_allowed(allowed=True):
        assert read_file(alone / "out") == b"other's"
        assert {entry.kind for entry in list_folder(alone)} == {"dangling", "file"}
    assert refused(alone / "out") == "LinkLeavesSource"


def test_boundaries_of_containers() -> None:
    assert boundary(Path("/sources/base/a/b")) == Boundary(
        Path("/sources/base"), ("a", "b"), frozenset({"artifacts"}), mounted=True
    )
    assert boundary(Path("/models/in")) == Boundary(Path("/models"), ("in",), frozenset({"artifacts"}), mounted=True)
    own = boundary(Path("/models/artifacts/0123456789abcdef"))
    assert own == Boundary(Path("/models/artifacts/0123456789abcdef"), mounted=True)
    assert boundary(Path("/sources")) == Boundary(Path("/sources"))


def test_both_descriptors_of_large_files_are_one_file(claim: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = os.urandom(3 * 4096 + 5)
    path = claim / "model" / "weights"
    path.write_bytes(content)
    opened = os.open

    def swap(name: str, flags: int, *args: int, **options: int) -> int:
        descriptor = opened(name, flags, *args, **options)
        if name == "weights":
            path.unlink()
            leads(path, "../../secret/here")
        return descriptor

    monkeypatch.setattr(os, "open", swap)
    file = InputFile(path)
    try:
        assert bytes(file.read(new_buffer(len(content) + ROOM), 0, len(content))) == content
    finally:
        file.close()


_ROOMS = ("files", "weights", "merge", "inspect", "make_delta")  # `artifacts` opens what this program has written
_OWN = {
    "files/input_file.py: os.open",
    "files/output_file.py: os.open",
    "files/storage.py: os.open",
    "make_delta/job.py: iterdir",
    "merge/leftovers.py: iterdir",
    "merge/leftovers.py: os.open",
    "merge/pipeline/scratch.py: iterdir",
    "weights/hub/download.py: os.open",
    "weights/tokenizers/examination.py: open",
    "weights/tokenizers/trial.py: read_text",
}
_OPENERS = ("beneath.py", "descent.py")
_READS = {"read_bytes", "read_text", "iterdir", "glob", "rglob", "readlink"}


def test_no_other_module_opens_a_source() -> None:
    root = Path(vicuna_server.__file__).parent
    found = set()
    for path in (path for room in _ROOMS for path in (root / room).rglob("*.py") if path.name not in _OPENERS):
        place = path.relative_to(root).as_posix()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and node.attr in _READS:
                found.add(f"{place}: {node.attr}")
            elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("open", "os.open", "io.open", "io.FileIO"):
                found.add(f"{place}: {ast.unparse(node.func)}")
    assert found == _OWN, "go through files/beneath.py"
