"""What is merged of a source with a stated digest is what the digest is of, whoever changes its files meanwhile."""

import errno
import os
import shutil
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from support.adapters import adapter_config, low_rank_weights, write_adapter
from support.checkpoints import delta_weights, model_weights, write_checkpoint
from support.digests import digest_of
from vicuna_server.errors import InputError, OutOfSpaceError, VicunaError
from vicuna_server.files import beneath, input_file
from vicuna_server.merge import building
from vicuna_server.merge.job import run_merge
from vicuna_server.merge.request import Request
from vicuna_server.run.control import Control
from vicuna_server.run.reporter import Silent

Contents = dict[str, str]


class Told(Silent):
    """Keeps the events that are told, and the last progress."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.last = (0, 0)

    def note(self, event: str, text: str, **fields: object) -> None:
        self.events.append(event)

    def progress(self, done: int, total: int, per_second: int) -> None:
        self.last = (done, total)


class Sources:
    """A base, a delta and an adapter, each with its digest."""

    def __init__(self, place: Path) -> None:
        self.base = write_checkpoint(place / "base", model_weights(1), "sharded")
        self.delta = write_checkpoint(place / "delta", delta_weights(2), "bin-sharded")
        self.adapter = write_adapter(place / "adapter", low_rank_weights(3), adapter_config())
        for folder in (self.base, self.delta):
            (folder / "generation_config.json").write_text('{"temperature": 0.7, "do_sample": true}')
            (folder / "chat_template.jinja").write_text("{% for m in messages %}{{ m.content }}{% endfor %}")
        self.folders = (self.base, self.delta, self.adapter)
        self.digests = [digest_of(self.base), digest_of(self.delta), digest_of(self.adapter, "adapter-0")]

    @property
    def files(self) -> Iterator[Path]:
        for folder in self.folders:
            yield from sorted(folder.iterdir())

    def merge(self, root: Path, told: Silent | None = None, **more: Any) -> Contents:
        """Return the sha256 of the artifact's files by name."""
        base, delta, adapter = self.digests
        fields = {"base_digest": base, "delta_digest": delta, "adapters": ((str(self.adapter), adapter),)} | more
        request = Request(
            str(self.base), str(self.delta), root, chat_template="vicuna_v1.1", least_shard_bytes=4096, **fields
        )
        manifest = run_merge(request, Control(told or Silent(), threading.Event()))
        return contents(root / manifest.artifact_id)


def contents(folder: Path) -> Contents:
    return {path.name: sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


class Elsewhere:
    """For some openings of a file, counted from 0, another file is opened in its place."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._really = beneath._open_beneath
        self.opened: Counter[Path] = Counter()
        self.path, self.other, self.numbers = Path(), Path(), range(0)
        monkeypatch.setattr(beneath, "_open_beneath", self._open)

    def instead(self, path: Path, other: Path, number: int, openings: int = 1) -> None:
        self.opened.clear()
        self.path, self.other, self.numbers = path, other, range(number, number + openings)

    def _open(self, path: Path, flags: int = beneath._FILE) -> int:
        self.opened[path] += 1
        if path == self.path and self.opened[path] - 1 in self.numbers:
            return os.open(self.other, flags)
        return self._really(path, flags)


@pytest.fixture
def sources(tmp_path: Path) -> Sources:
    return Sources(tmp_path)


def another(content: bytes) -> bytes:
    """Return what is read the same way and says something else."""
    if content.startswith((b"{", b"\n")):
        return content.rstrip() + b"\n\n"
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


@pytest.mark.parametrize(
    ("change", "every"),
    [
        pytest.param(another, 23, id="another"),
        pytest.param(None, 31, id="nothing"),
        pytest.param(another, 1, id="another, each", marks=pytest.mark.full),
        pytest.param(lambda content: content[:-1], 1, id="shorter, each", marks=pytest.mark.full),
        pytest.param(lambda content: content + b"\n", 1, id="longer, each", marks=pytest.mark.full),
        pytest.param(None, 1, id="nothing, each", marks=pytest.mark.full),
    ],
)
def test_whichever_opening_of_a_file_gives_something_else_none_of_it_is_shown(
    sources: Sources,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[bytes], bytes] | None,
    every: int,
) -> None:
    elsewhere = Elsewhere(monkeypatch)
    right = sources.merge(tmp_path / "right")
    points = [(path, number) for path in sources.files for number in range(elsewhere.opened[path])]
    assert len(points) > 150
    last = [(path, elsewhere.opened[path] - 1) for path in sources.files]
    chosen = sorted({*points[::every], *(last if change else ())})
    failed = 0
    for path, number in chosen:
        other, root = tmp_path / "other", tmp_path / "out"
        if change:
            other.write_bytes(change(path.read_bytes()))
        elsewhere.instead(path, other, number)
        try:
            found = sources.merge(root)
            assert found == right, f"what opening {number} of {path} gave went into the artifact"
            shutil.rmtree(root)  # one of them is enough to be judged as all artifacts of tests are
        except VicunaError:
            failed += 1
            assert not list(root.iterdir()), "something of a merge that failed stayed"
    assert failed > len(chosen) / 4  # others only ask whether a file is there


def test_a_file_that_comes_after_its_folder_was_listed_is_not_shown(
    sources: Sources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = Elsewhere(monkeypatch)
    other = tmp_path / "other"
    other.write_text('{"pad_token": "</s>"}')
    elsewhere.instead(sources.delta / "special_tokens_map.json", other, 0, openings=1000)
    with pytest.raises(InputError, match="was changed while it was merged"):
        sources.merge(tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


def test_a_source_with_a_useless_index_and_an_artifacts_manifest_is_vouched_for(tmp_path: Path) -> None:
    base = write_checkpoint(tmp_path / "base", model_weights(1))
    for name in ("model.safetensors.index.json", "pytorch_model.bin.index.json", "vicuna-manifest.json"):
        (base / name).write_text('{"weight_map": {"a": "gone.bin"}}')
    request = Request(str(base), None, tmp_path / "out", base_digest=digest_of(base), chat_template="vicuna_v1.1")
    assert run_merge(request, Control(Silent(), threading.Event())).files


def test_bytes_that_are_changed_while_they_are_merged_are_not_shown(
    sources: Sources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (weights,) = (path for path in sources.files if path.name == "model-00002-of-00003.safetensors")
    content = weights.read_bytes()
    really = input_file.InputFile.read

    def read(self: input_file.InputFile, buffer: memoryview, offset: int, size: int) -> memoryview:
        with weights.open("r+b") as file:  # the same file, after everybody has looked at it
            file.seek(len(content) - 1)
            file.write(bytes([content[-1] ^ 1]))
        view = really(self, buffer, offset, size)
        weights.write_bytes(content)
        return view

    monkeypatch.setattr(input_file.InputFile, "read", read)
    with pytest.raises(InputError) as caught:
        sources.merge(tmp_path / "out")
    assert caught.value.reason == "DigestMismatch"
    assert not list((tmp_path / "out").iterdir())


def test_each_byte_of_weights_in_the_order_of_the_merge_is_read_once(
    sources: Sources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = Told()
    asked: Counter[int] = Counter()
    really = input_file.InputFile.read

    def read(self: input_file.InputFile, buffer: memoryview, offset: int, size: int) -> memoryview:
        asked[os.fstat(self._descriptor).st_ino] += size
        return really(self, buffer, offset, size)

    monkeypatch.setattr(input_file.InputFile, "read", read)
    sources.merge(tmp_path / "out", told, adapters=())
    weights = list(sources.base.glob("model-*"))
    assert len(weights) == 3
    for path in weights:
        assert 0 < asked[path.stat().st_ino] < path.stat().st_size
    assert told.last[0] == told.last[1]


def test_weights_in_another_order_than_the_base_are_vouched_for_too(tmp_path: Path) -> None:
    base = write_checkpoint(tmp_path / "base", model_weights(1))
    delta = write_checkpoint(tmp_path / "delta", dict(reversed(delta_weights(2).items())), "bin")
    digest = digest_of(delta)
    told = Told()
    request = Request(
        str(base),
        str(delta),
        tmp_path / "out",
        delta_digest=digest,
        chat_template="vicuna_v1.1",
        least_shard_bytes=4096,
    )
    manifest = run_merge(request, Control(told, threading.Event()))
    assert manifest.inputs.delta
    assert manifest.inputs.delta.fingerprint == digest
    assert told.last[0] == told.last[1]


@pytest.mark.parametrize("stated", [True, False])
def test_what_was_made_of_bytes_that_nobody_vouched_for_is_made_again(
    sources: Sources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stated: bool
) -> None:
    told, root = Told(), tmp_path / "out"
    more: dict[str, Any] = (
        {} if stated else {"base_digest": None, "delta_digest": None, "adapters": ((str(sources.adapter), None),)}
    )

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "no room")

    with monkeypatch.context() as patched:
        patched.setattr(building, "write_small_files", full)
        with pytest.raises(OutOfSpaceError):
            sources.merge(root, **more)
    assert [path.name[:9] for path in root.iterdir()] == ([] if stated else [".staging-"])
    sources.merge(root, told, **more)
    assert ("resumed" in told.events) == (not stated)


def test_a_wrong_digest_of_any_source_is_told_and_nothing_is_shown(sources: Sources, tmp_path: Path) -> None:
    for number, folder in enumerate(sources.folders):
        right, sources.digests[number] = sources.digests[number], f"sha256:{'0' * 64}"
        with pytest.raises(InputError, match=f"the digest of .*{folder.name} is {right}, not sha256:0") as caught:
            sources.merge(tmp_path / "out")
        sources.digests[number] = right
        assert caught.value.reason == "DigestMismatch"
        assert not list((tmp_path / "out").iterdir())
