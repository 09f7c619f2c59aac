"""The plugin's single file: what is in it, and which of its compiled modules a Python takes."""

import platform
import sys
import zipfile
from io import BytesIO
from pathlib import Path

import pytest

from release import plugin, plugin_start

WHEELS = [
    "core-1-cp311-cp311-manylinux2014_x86_64.manylinux_2_17_x86_64.whl",
    "core-1-cp311-cp311-manylinux2014_aarch64.manylinux_2_17_aarch64.whl",
    "core-1-cp312-cp312-macosx_11_0_arm64.whl",
    "core-1-cp312-cp312-win_amd64.whl",
]


@pytest.mark.parametrize(("python", "system", "machine", "place"), [
    ("cp311", "linux", "x86_64", 0),
    ("cp311", "linux", "aarch64", 1),
    ("cp312", "darwin", "arm64", 2),
    ("cp312", "win32", "AMD64", 3),
    ("cp312", "linux", "x86_64", None),
    ("cp311t", "linux", "x86_64", None),
    ("cp311", "freebsd", "x86_64", None),
])  # fmt: skip
def test_the_fitting_wheel_is_found(python: str, system: str, machine: str, place: int | None) -> None:
    assert plugin_start.fitting(WHEELS, python, system, machine) == ([] if place is None else [WHEELS[place]])


def test_a_wheel_for_all_targets_is_fetched_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str]] = []

    def pip(*words: str) -> None:
        (lock,) = [Path(word).read_text() for word in words if word.endswith("plugin.txt")]
        target = words[words.index("--platform") + 1]
        asked.append((target, lock))
        (tmp_path / f"core-1-cp311-cp311-{target}.whl").write_bytes(b"")
        (tmp_path / "Any_Where-2-py3-none-any.whl").write_bytes(b"")

    monkeypatch.setattr(plugin, "run", pip)
    lock = tmp_path / "plugin.txt"
    lock.write_text("# Made\nany-where==2 \\\n    --hash=sha256:a\ncore==1 \\\n    --hash=sha256:b\n")
    plugin.download_all(lock, tmp_path, [("a", "3.11"), ("b", "3.11")])
    core = "core==1 \\\n    --hash=sha256:b\n"
    assert asked == [("a", f"any-where==2 \\\n    --hash=sha256:a\n{core}"), ("b", core)]


def wheel(file: Path, **content: str) -> Path:
    with zipfile.ZipFile(file, "w") as packed:
        for name, text in content.items():
            packed.writestr(name, text)
    return file


@pytest.fixture
def packed(tmp_path: Path) -> dict[str, bytes]:
    ours = {
        "vicuna_operator/a.py": "a",
        "vicuna_server/b.py": "b",
        "v-1.dist-info/METADATA": "m",
        "v-1.dist-info/RECORD": "",
    }
    first = wheel(tmp_path / "v-1-py3-none-any.whl", **ours)
    pure = wheel(tmp_path / "p-1-py3-none-any.whl", **{"p/__init__.py": "p"})
    compiled = wheel(tmp_path / WHEELS[0], **{"core.so": "c"})
    return plugin.members(first, [pure, compiled])


def test_it_has_the_operators_code_and_what_it_needs_alone(packed: dict[str, bytes]) -> None:
    assert set(packed) == {
        "__main__.py",
        "BUILD",
        "pure/vicuna_operator/a.py",
        "pure/v-1.dist-info/METADATA",
        "pure/p/__init__.py",
        f"wheels/{WHEELS[0]}",
    }


def test_the_same_content_and_time_are_the_same_bytes(packed: dict[str, bytes]) -> None:
    turned = dict(reversed(packed.items()))
    assert plugin.archive_of(packed, 1_700_000_000) == plugin.archive_of(turned, 1_700_000_000)
    assert plugin.archive_of(packed, 1_700_000_000) != plugin.archive_of(packed, 1_800_000_000)


def test_it_is_unpacked_once_for_each_build(
    packed: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    file, cache = tmp_path / "plugin", tmp_path / "cache"
    file.write_bytes(plugin.archive_of(packed, 1_700_000_000))
    folder = plugin_start.unpacked(file, "cp311", cache)
    assert (folder / "pure/core.so").read_text() == "c"
    assert (folder / "pure/vicuna_operator/a.py").read_text() == "a"
    (folder / "mark").touch()
    assert plugin_start.unpacked(file, "cp311", cache) == folder
    assert (folder / "mark").exists()
    assert plugin_start.unpacked(file, "cp312", cache) != folder
    with zipfile.ZipFile(BytesIO(file.read_bytes())) as content:
        assert content.testzip() is None
