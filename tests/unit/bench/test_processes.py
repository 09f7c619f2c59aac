"""Servers of the benchmarks: started, waited for and ended."""

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from support.bench import bench_module

processes = bench_module("processes")
# It ends by SIGTERM and leaves a child behind, whose process id it tells.
LEAVES_A_CHILD = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
print(child.pid, flush=True)
time.sleep(60)
"""


def test_a_server_that_ends_is_told_with_where_its_log_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes.tempfile, "tempdir", str(tmp_path))
    process = processes.spawn([sys.executable, "-c", "raise SystemExit(3)"], "a server/--flag", os.environ)
    with pytest.raises(SystemExit, match=rf"a server/--flag ended with code 3; read its log, one of {tmp_path}/bench-"):
        processes.wait_for(f"http://127.0.0.1:{processes.free_port()}", process, "a server/--flag")
    assert len(list(tmp_path.glob(f"bench-*-{os.getpid()}.log"))) == 1


@pytest.mark.long
def test_what_a_server_has_started_ends_with_it() -> None:
    with subprocess.Popen([sys.executable, "-c", LEAVES_A_CHILD], stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        child = psutil.Process(int(server.stdout.readline()))
        processes.stop(server)
        assert child.wait(10) is None or not child.is_running()


def test_memory_is_that_of_all_processes() -> None:
    here = psutil.Process()
    assert processes.resident_bytes([here]) > 2**20
    assert processes.resident_bytes([here, here]) > processes.resident_bytes([here])
