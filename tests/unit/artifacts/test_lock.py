"""One merger at a time; the dead are replaced, the living are waited for."""

import errno
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from vicuna_server.artifacts.lock import ArtifactLock
from vicuna_server.errors import InterruptedRunError
from vicuna_server.run.cancellation import Cancellation


@pytest.fixture
def stop() -> threading.Event:
    return threading.Event()


@pytest.fixture
def cancellation(stop: threading.Event) -> Cancellation:
    return Cancellation(stop)


def _foreign(root: Path, **more: object) -> Path:
    path = root / ".claim-k"
    path.write_text(json.dumps({"nonce": "other", "beat": "1", "host": "another machine", "pid": 1} | more))
    return path


def test_a_lock_is_a_file_that_goes_when_done(tmp_path: Path, cancellation: Cancellation) -> None:
    with ArtifactLock(tmp_path, "k", cancellation) as lock:
        assert lock.is_held()
        assert json.loads((tmp_path / ".claim-k").read_text())["nonce"] == lock.nonce
    assert not list(tmp_path.iterdir())


def test_a_living_holder_is_waited_for(tmp_path: Path, cancellation: Cancellation) -> None:
    waiting = threading.Event()
    order = []

    def second() -> None:
        with ArtifactLock(tmp_path, "k", cancellation, poll=0.005, on_wait=waiting.set):
            order.append("second")

    with ArtifactLock(tmp_path, "k", cancellation):
        thread = threading.Thread(target=second)
        thread.start()
        assert waiting.wait(10)
        order.append("first")
    thread.join(10)
    assert order == ["first", "second"]


def test_a_holder_changes_its_lock_again_and_again(tmp_path: Path, cancellation: Cancellation) -> None:
    with ArtifactLock(tmp_path, "k", cancellation, heartbeat=0.01) as lock:
        first = lock.path.read_text()
        for _ in range(1000):
            if lock.path.read_text() != first:
                break
            threading.Event().wait(0.01)
        else:
            pytest.fail("no heartbeat")


def test_a_heartbeat_is_sent_to_the_server_at_once(
    tmp_path: Path, cancellation: Cancellation, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []

    def note(call: str) -> None:
        real = getattr(os, call)

        def noted(*args: Any) -> Any:
            calls.append(call)
            return real(*args)

        monkeypatch.setattr(os, call, noted)

    note("pwrite")
    note("fdatasync")
    with ArtifactLock(tmp_path, "k", cancellation, heartbeat=1e9):
        assert calls == ["pwrite", "fdatasync"]


def test_a_silent_foreign_lock_is_taken_over(tmp_path: Path, cancellation: Cancellation) -> None:
    _foreign(tmp_path)
    with ArtifactLock(tmp_path, "k", cancellation, patience=0.05, poll=0.01) as lock:
        assert lock.is_held()


def test_a_lock_of_a_dead_process_of_this_machine_is_taken_over_at_once(
    tmp_path: Path, cancellation: Cancellation
) -> None:
    code = (
        "import os,sys,threading;from pathlib import Path;from vicuna_server.artifacts.lock import ArtifactLock;"
        "from vicuna_server.run.cancellation import Cancellation;"
        "ArtifactLock(Path(sys.argv[1]),'k',Cancellation(threading.Event())).__enter__();os._exit(9)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False).returncode == 9
    assert (tmp_path / ".claim-k").exists()
    with ArtifactLock(tmp_path, "k", cancellation, patience=1e9, poll=0.01) as lock:
        assert lock.is_held()


def test_a_reused_pid_does_not_keep_a_dead_lock_alive(tmp_path: Path, cancellation: Cancellation) -> None:
    with ArtifactLock(tmp_path, "k", cancellation) as lock:
        content = json.loads(lock.path.read_text())
    (tmp_path / ".claim-k").write_text(json.dumps(content | {"started": "1", "pid": os.getpid()}))
    with ArtifactLock(tmp_path, "k", cancellation, patience=1e9, poll=0.01) as lock:
        assert lock.is_held()


def test_a_holder_that_was_replaced_finds_out_and_leaves_the_new_lock(
    tmp_path: Path, cancellation: Cancellation
) -> None:
    with ArtifactLock(tmp_path, "k", cancellation, heartbeat=0.01) as lock:
        other = tmp_path / "other"
        other.write_text('{"nonce": "other"}')
        other.replace(lock.path)
        with pytest.raises(InterruptedRunError) as caught:
            lock.require()
    assert caught.value.reason == "LockLost"
    assert (tmp_path / ".claim-k").read_text() == '{"nonce": "other"}'


def test_a_holder_that_was_replaced_ends_its_run(
    tmp_path: Path, cancellation: Cancellation, stop: threading.Event
) -> None:
    with ArtifactLock(tmp_path, "k", cancellation, heartbeat=0.01) as lock:
        other = tmp_path / "other"
        other.write_text('{"nonce": "other"}')
        other.replace(lock.path)
        assert stop.wait(10)
    with pytest.raises(InterruptedRunError) as caught:
        cancellation.check()
    assert caught.value.reason == "LockLost"


def test_a_lock_that_vanished_is_put_back(tmp_path: Path, cancellation: Cancellation) -> None:
    """A former holder that wakes up while it leaves can remove its successor's."""
    with ArtifactLock(tmp_path, "k", cancellation, heartbeat=1e9) as lock:
        lock.path.unlink()
        lock.require()
        assert lock.is_held()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("number", [errno.EPERM, errno.EOPNOTSUPP])
def test_a_volume_without_hard_links_will_do(
    tmp_path: Path, cancellation: Cancellation, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "link", refuse)
    with ArtifactLock(tmp_path, "k", cancellation) as lock:
        assert json.loads(lock.path.read_text())["nonce"] == lock.nonce
        with ArtifactLock(tmp_path, "k", cancellation).try_acquire() as taken:
            assert not taken
    assert not list(tmp_path.iterdir())


def test_a_lock_is_taken_at_once_or_not_at_all(tmp_path: Path, cancellation: Cancellation) -> None:
    with ArtifactLock(tmp_path, "k", cancellation).try_acquire() as free:
        assert free
        with ArtifactLock(tmp_path, "k", cancellation).try_acquire() as held:
            assert not held
    path = _foreign(tmp_path)
    with ArtifactLock(tmp_path, "k", cancellation).try_acquire() as young:
        assert not young
    os.utime(path, (0, 0))
    with ArtifactLock(tmp_path, "k", cancellation, poll=0.01).try_acquire() as forgotten:
        assert forgotten
    assert not list(tmp_path.iterdir())


def test_on_a_full_volume_a_look_stands_in_for_the_lock(
    tmp_path: Path, cancellation: Cancellation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else nobody could make room on it."""

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with ArtifactLock(tmp_path, "k", cancellation):
        monkeypatch.setattr(os, "pwrite", full)
        with ArtifactLock(tmp_path, "k", cancellation).try_acquire() as held:
            assert not held
    with ArtifactLock(tmp_path, "k", cancellation).try_acquire() as free:
        assert free
    assert not list(tmp_path.iterdir())


def test_a_signal_ends_the_wait(tmp_path: Path, cancellation: Cancellation, stop: threading.Event) -> None:
    _foreign(tmp_path)
    lock = ArtifactLock(tmp_path, "k", cancellation, patience=1e9, poll=60, on_wait=stop.set)
    with pytest.raises(InterruptedRunError):
        lock.__enter__()
