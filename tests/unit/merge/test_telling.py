"""Progress, termination message, sources, layout and the list of problems."""

import io
import json
import os
import threading
from contextlib import nullcontext
from pathlib import Path

import pytest

from vicuna_server.errors import InputError, InterruptedRunError, OutOfSpaceError, UsageError
from vicuna_server.files.data_file import LocalFile
from vicuna_server.merge.arithmetic.layout import Step, lay_out
from vicuna_server.merge.inputs import make_input
from vicuna_server.problems import Problems
from vicuna_server.run.progress import JsonLines, Progress
from vicuna_server.termination import failure_message, write_termination_message
from vicuna_server.weights.tensors import Tensor


class _Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class _Stop(threading.Event):
    """Waiting moves the clock instead."""

    def __init__(self, clock: _Clock) -> None:
        super().__init__()
        self._clock = clock
        self.waits: list[float] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.waits.append(timeout or 0)
        self._clock.now += timeout or 0
        return self.is_set()


def _lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_progress_comes_at_once_then_at_most_every_two_seconds_and_at_the_end() -> None:
    clock, stream = _Clock(), io.StringIO()
    progress = Progress(JsonLines(stream), _Stop(clock), clock=clock)
    progress.begin(100)
    for _ in range(10):
        clock.now += 0.5
        progress.advance(10)
    done = [line["bytesDone"] for line in _lines(stream)]
    assert done == [0, 40, 80, 100]
    assert _lines(stream)[1] == {"event": "progress", "bytesDone": 40, "bytesTotal": 100, "bytesPerSecond": 20}


def test_a_rate_is_held_and_reported_while_waiting() -> None:
    clock, stream = _Clock(), io.StringIO()
    stop = _Stop(clock)
    progress = Progress(JsonLines(stream), stop, most_per_second=10, clock=clock)
    progress.begin(100)
    progress.advance(50)
    assert clock.now == 105
    assert stop.waits == [2, 2, 1]
    assert [line["bytesDone"] for line in _lines(stream)] == [0, 50, 50]


def test_a_signal_ends_the_run_at_the_next_step() -> None:
    stop = threading.Event()
    progress = Progress(JsonLines(io.StringIO()), stop)
    progress.begin(10)
    stop.set()
    with pytest.raises(InterruptedRunError):
        progress.advance(1)


def test_quiet_leaves_only_the_last_line() -> None:
    stream = io.StringIO()
    reporter = JsonLines(stream, quiet=True)
    reporter.progress(1, 2, 3)
    reporter.done("0123", "/models/0123")
    assert _lines(stream) == [{"event": "done", "artifactID": "0123", "path": "/models/0123"}]


def test_the_termination_message_is_json_of_at_most_3_kib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "log"
    monkeypatch.setenv("VICUNA_TERMINATION_LOG", str(path))
    write_termination_message(failure_message(InputError("ShapeMismatch", "ü" * 5000)))
    content = json.loads(path.read_bytes())
    assert 2900 < path.stat().st_size <= 3072
    assert content["reason"] == "ShapeMismatch"
    assert content["retryable"] is False
    assert content["message"].endswith("ü…")


def test_problems_are_raised_as_one_error_with_the_most_telling_reason() -> None:
    problems = Problems()
    problems.raise_if_any()
    problems.add("OutOfSpace", "no room")
    for number in range(5):
        problems.add("ShapeMismatch", f"shape {number}")
    with problems.collecting():
        raise InputError("NotACheckpoint", "no config")
    with pytest.raises(InputError) as caught:
        problems.raise_if_any()
    assert caught.value.reason == "NotACheckpoint"
    assert caught.value.message == (
        "no config; ShapeMismatch: shape 0; ShapeMismatch: shape 1; ShapeMismatch: shape 2 (and 2 more of this kind); "
        "OutOfSpace: no room"
    )


def test_no_room_alone_is_another_exit_code() -> None:
    problems = Problems()
    problems.add("OutOfSpace", "no room")
    with pytest.raises(OutOfSpaceError):
        problems.raise_if_any()


def test_a_plain_path_is_a_folder_below_this_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    made = make_input("base", "--base", "x #1", "--base-digest", None)
    assert (made.folder, made.source.uri) == (tmp_path / "x #1", (tmp_path / "x #1").as_uri())


@pytest.mark.parametrize("text", ["hf://llama@main", "hf://a/b", "file://host/x", "pvc://c/p", "s3://b/k", ""])
def test_other_sources_are_a_usage_error_that_names_the_flag(text: str) -> None:
    with pytest.raises(UsageError, match="--base"):
        make_input("base", "--base", text, "--base-digest", None)


def test_a_wrong_digest_is_a_usage_error_that_names_the_flag() -> None:
    with pytest.raises(UsageError, match="--base-digest 'abc' is not a sha256"):
        make_input("base", "--base", "x", "--base-digest", "abc")


def test_a_path_that_exists_only_decoded_is_refused_with_both_spellings(tmp_path: Path) -> None:
    (tmp_path / "a b").mkdir()
    with pytest.raises(InputError) as caught:
        make_input("base", "--base", f"file://{tmp_path}/a%2520b", "--base-digest", None).open()
    assert caught.value.reason == "SourceNotFound"
    assert f"{tmp_path}/a%20b" in caught.value.message
    assert f"{tmp_path}/a b" in caught.value.message


def _step(name: str, megabytes: int) -> Step:
    tensor = Tensor(name, "F16", (megabytes * 500_000,), LocalFile(Path("x")), 0)
    return Step(name, tensor.shape, "F16", tensor, None)


@pytest.mark.parametrize(
    ("sizes", "want"),
    [
        ([10, 20], [2]),  # one file while all fits into 64 MiB
        ([60, 60, 5], [1, 2]),
        ([200, 100, 100, 10], [1, 2, 1]),  # as large as the largest tensor
        ([100] * 64, [2] * 32),  # a 32nd of the whole
        ([4000] * 64, [1] * 64),  # at most 5 GB
        ([6000, 1000], [1, 1]),  # a larger tensor is alone
    ],
)
def test_shards_are_bounded(sizes: list[int], want: list[int]) -> None:
    shards = lay_out([_step(f"t{number}", size) for number, size in enumerate(sizes)])
    assert [len(shard.steps) for shard in shards] == want
    names = [shard.name for shard in shards]
    count = len(want)
    assert names == (
        ["model.safetensors"]
        if count == 1
        else [f"model-{number:05}-of-{count:05}.safetensors" for number in range(1, count + 1)]
    )


@pytest.mark.parametrize("outlives", [True, False])
def test_a_reader_who_leaves_ends_only_what_was_for_him(outlives: bool) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as gone, open(os.devnull, "w") as nowhere:
        lines = JsonLines(gone, outlives_reader=outlives)
        with nullcontext() if outlives else pytest.raises(BrokenPipeError):
            lines.note("one", "")
            lines.note("two", "")
        os.dup2(nowhere.fileno(), gone.fileno())  # what is left in it must go somewhere when it is closed
