"""`kubectl vicuna chat` and `test` against real servers; only the way through the API server is replaced."""

import asyncio
import contextlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from support.cluster import model_body
from support.gateway import chunk, faulty, head
from support.serving import running
from support.world import World
from support.world_kubectl import WorldKubectl
from vicuna_operator.errors import PluginError
from vicuna_operator.plugin.cli import main
from vicuna_operator.plugin.kubectl import KubectlProcess
from vicuna_server.engine.scripted import ScriptedEngine, ScriptedSettings

Capture = pytest.CaptureFixture[str]


class _Forwarding(WorldKubectl):
    """kubectl on a World whose pods and Service are servers on this machine."""

    def __init__(self, world: World, *urls: str) -> None:
        super().__init__(world)
        self.urls = list(urls)
        self.asked: list[str] = []

    def __call__(self, flags: Sequence[str]) -> "_Forwarding":
        return self

    @contextlib.contextmanager
    def forward(self, target: str, port: int) -> Iterator[str]:
        assert port == 8000
        self.asked.append(target)
        yield self.urls[(len(self.asked) - 1) % len(self.urls)]


def _world() -> World:
    world = World(model_body(serving={"replicas": 2, "servedName": "tiny"}))
    world.deploy()
    return world


async def test_every_replica_answers_and_says_who_it_is(capsys: Capture) -> None:
    world = _world()
    engine = ScriptedEngine(ScriptedSettings(tokens=3))
    async with running(engine) as one, running(ScriptedEngine(ScriptedSettings(tokens=3))) as two:
        kubectl = _Forwarding(world, one.url, two.url)
        words = ["test", "demo", "--prompt", "a b", "-o", "json"]
        assert await asyncio.to_thread(main, words, connect=kubectl) == 0
        rows = json.loads(capsys.readouterr().out)
        assert kubectl.asked == [f"pod/{row['pod']}" for row in rows]
        assert [(row["revision"], row["answer"].split()) for row in rows] == [("rev1", ["a", "b", "a"])] * 2
        assert await asyncio.to_thread(main, ["test", "demo"], connect=kubectl) == 0
        lines = capsys.readouterr().out.splitlines()
        assert lines[0].split() == ["POD", "REVISION", "FIRST", "RATE", "ANSWER"]
        assert len(lines) == 3


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ((head("text/event-stream"), chunk(b'data: {"choices":[{"delta":{"content":"x"}}]}\n\n')), "lost"),
        ((head("application/json", status="503 Busy", length=31) + b'{"error":{"message":"loading"}}',), "loading"),
        ((head("text/event-stream"), chunk(b'data: {"error":{"message":"no"}}\n\n'), b"0\r\n\r\n"), "broke off: no"),
    ],
)
async def test_a_replica_that_does_not_answer_is_told_and_counts(
    capsys: Capture, answer: tuple[bytes, ...], says: str
) -> None:
    async with running(ScriptedEngine(ScriptedSettings(tokens=3))) as good, faulty(*answer) as bad:
        kubectl = _Forwarding(_world(), good.url, bad.url)
        assert await asyncio.to_thread(main, ["test", "demo", "-o", "json"], connect=kubectl) == 1
        rows = json.loads(capsys.readouterr().out)
        assert [row["answered"] for row in rows] == [True, False]
        assert says in rows[1]["answer"]


async def test_a_piped_chat_is_one_turn_a_line_and_remembers(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(ScriptedEngine(ScriptedSettings(tokens=2))) as server:
        kubectl = _Forwarding(_world(), server.url)
        monkeypatch.setattr("sys.stdin", io.StringIO("a b\n\nc d\n!!reset\ne f\n"))
        words = ["chat", "demo", "--system", "Be brief.", "--temperature", "0", "--max-tokens", "2"]
        assert await asyncio.to_thread(main, words, connect=kubectl) == 0
        assert [line.split() for line in capsys.readouterr().out.splitlines()] == [["a", "b"], ["c", "d"], ["e", "f"]]
        assert kubectl.asked == ["service/demo"]
        turns = server.engine.stats.prompt_tokens
        assert turns > 0


def _kubectl(folder: Path, script: str) -> dict[str, str]:
    """Put a kubectl of our own on PATH."""
    program = folder / "kubectl"
    program.write_text(f"#!{sys.executable}\n{script}")
    program.chmod(0o755)
    return {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}


def test_the_way_through_is_kubectls_own_and_ends_with_the_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = "import sys, time\nopen(sys.argv[0] + '.args', 'w').write(' '.join(sys.argv[1:]))\n"
    script += "print('Forwarding from 127.0.0.1:4711 -> 8000', flush=True)\ntime.sleep(600)\n"
    monkeypatch.setenv("PATH", _kubectl(tmp_path, script)["PATH"])
    with KubectlProcess(["--namespace=team"]).forward("pod/demo", 8000) as url:
        assert url == "http://127.0.0.1:4711"
        said = (tmp_path / "kubectl.args").read_text()
        assert said == "--namespace=team port-forward pod/demo :8000 --address=127.0.0.1"
    _kubectl(tmp_path, "import sys\nsys.exit('error: no such pod')\n")
    with pytest.raises(PluginError, match="no such pod"), KubectlProcess().forward("pod/none", 8000):
        pass


def test_ctrl_c_ends_the_answer_and_not_the_chat(tmp_path: Path) -> None:
    """In a real terminal, with a kubectl that leads to a server of ours."""
    import pty
    import re
    import signal
    import time

    server = subprocess.Popen(
        [
            *(sys.executable, "-m", "vicuna_server.cli", "serve", "--model", str(tmp_path)),
            *("--served-name", "tiny", "--host", "127.0.0.1", "--port", "0"),
        ],
        env={
            **os.environ,
            "VICUNA_ENGINE": "scripted",
            "VICUNA_SCRIPTED_TOKENS": "5000",
            "VICUNA_SCRIPTED_TOKENS_PER_SECOND": "20",
        },
        stderr=subprocess.PIPE,
        text=True,
    )
    assert server.stderr is not None
    port = None
    while port is None:
        port = re.search(r"listening on http://127.0.0.1:(\d+)", server.stderr.readline())
    body = json.dumps(model_body(serving={"servedName": "tiny"}) | {"status": {}})
    script = f"""import sys, time
if sys.argv[1] == "get":
    print({body!r})
else:
    print("Forwarding from 127.0.0.1:{port[1]} -> 8000", flush=True)
    time.sleep(600)
"""
    master, slave = pty.openpty()
    chat = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys; from vicuna_operator.plugin.cli import main; sys.exit(main())",
            "chat",
            "demo",
        ],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env=_kubectl(tmp_path, script),
        start_new_session=True,
    )
    seen = ""

    def wait_for(text: str) -> None:
        nonlocal seen
        end = time.monotonic() + 60
        while text not in seen:
            assert time.monotonic() < end, seen
            seen += os.read(master, 4096).decode(errors="replace")
        seen = seen.partition(text)[2]

    try:
        wait_for("> ")
        os.write(master, b"lemon apple\n")
        wait_for("lemon apple lemon apple")
        os.killpg(chat.pid, signal.SIGINT)
        wait_for("(stopped)")
        wait_for("> ")
        os.write(master, b"\x04")
        assert chat.wait(timeout=30) == 0
    finally:
        for process in (chat, server):
            process.kill()
            process.wait()
        server.stderr.close()
        os.close(master)
        os.close(slave)
