"""Sources on a Hugging Face hub, against a stand-in that speaks as much of its protocol as is needed."""

import hashlib
import json
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import huggingface_hub.constants
import pytest

from support.checkpoints import delta_weights, model_weights, write_checkpoint
from vicuna_server.cli import main
from vicuna_server.manifest import Manifest

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(ThreadingHTTPServer):
    """Serves folders as repositories; `status` answers everything with that code instead."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repositories: dict[str, Path] = {}
        self.status = 200
        self.downloads: list[str] = []
        self.tokens: set[str | None] = set()
        self.on_download: Callable[[], None] | None = None
        self.released = threading.Event()


class _Handler(BaseHTTPRequestHandler):
    server: Hub

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def log_message(self, *_: object) -> None:
        pass

    def _answer(self, *, body: bool) -> None:
        self.server.tokens.add(self.headers.get("Authorization"))
        parts = self.path.partition("?")[0].strip("/").split("/")
        info = parts[:2] == ["api", "models"]
        repo = "/".join(parts[2:4] if info else parts[:2])
        folder = self.server.repositories.get(repo)
        if self.server.status != 200 or folder is None:
            self._send(self.server.status if self.server.status != 200 else 404, b"{}", {}, body=body)
        elif info:
            siblings = [{"rfilename": path.name, "size": path.stat().st_size} for path in folder.iterdir()]
            self._send(200, json.dumps({"id": repo, "sha": COMMIT, "siblings": siblings}).encode(), {}, body=body)
        else:
            content = (folder / parts[-1]).read_bytes()
            if body:
                self.server.downloads.append(parts[-1])
                if self.server.on_download:
                    self.server.on_download()
                    self.server.released.wait(60)
            etag = hashlib.sha256(content).hexdigest()
            self._send(200, content, {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT}, body=body)

    def _send(self, status: int, content: bytes, headers: dict[str, str], *, body: bool) -> None:
        self.send_response(status)
        for name, value in (headers | {"Content-Length": str(len(content))}).items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self.wfile.write(content)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with Hub() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("HF_TOKEN", "hf_secret")
        monkeypatch.setenv("VICUNA_TERMINATION_LOG", str(tmp_path / "log"))
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        yield server
        server.shutdown()
        thread.join()


def _merge(tmp_path: Path, revision: str = "main") -> tuple[int, dict[str, object]]:
    sources = ["--base", f"hf://me/base@{revision}", "--delta", f"hf://lmsys/vicuna-7b-delta-v1.1@{revision}"]
    code = main(["merge", *sources, "--output", str(tmp_path / "out")])
    return code, json.loads((tmp_path / "log").read_text())


@pytest.fixture
def published(hub: Hub, tmp_path: Path) -> Hub:
    base = write_checkpoint(tmp_path / "base", model_weights(1), "bin-sharded")
    delta = write_checkpoint(tmp_path / "delta", delta_weights(2), "safetensors-sharded")
    (delta / "pytorch_model.bin").write_bytes(b"the same again, not wanted")
    (delta / "README.md").write_text("not wanted")
    hub.repositories = {"me/base": base, "lmsys/vicuna-7b-delta-v1.1": delta}
    return hub


def test_sources_are_fetched_merged_and_removed(published: Hub, tmp_path: Path) -> None:
    code, message = _merge(tmp_path)
    assert code == 0, message
    assert message["chatTemplate"] == "vicuna_v1.1"
    assert [path.name for path in (tmp_path / "out").iterdir()] == [message["artifactID"]]
    manifest = Manifest.load(tmp_path / "out" / str(message["artifactID"]))
    assert manifest is not None
    assert manifest.inputs.delta is not None
    assert manifest.inputs.delta.fingerprint == f"hf:lmsys/vicuna-7b-delta-v1.1@{COMMIT}"
    assert not {"README.md", "pytorch_model.bin"} & set(published.downloads)
    assert published.tokens == {"Bearer hf_secret"}


@pytest.mark.parametrize("revision", ["main", COMMIT])
def test_a_second_run_fetches_nothing(published: Hub, tmp_path: Path, revision: str) -> None:
    first = _merge(tmp_path)
    published.downloads.clear()
    assert _merge(tmp_path, revision) == first
    assert not published.downloads


def test_an_artifact_of_a_commit_needs_no_hub(published: Hub, tmp_path: Path) -> None:
    first = _merge(tmp_path, COMMIT)
    published.status = 503
    assert _merge(tmp_path, COMMIT) == first


@pytest.mark.parametrize(
    ("status", "code", "reason"),
    [(401, 65, "SourceForbidden"), (403, 65, "SourceForbidden"), (404, 65, "SourceNotFound")],
)
def test_what_the_hub_refuses_is_terminal(hub: Hub, tmp_path: Path, status: int, code: int, reason: str) -> None:
    hub.status = status
    found, message = _merge(tmp_path)
    assert (found, message["reason"], message["retryable"]) == (code, reason, False)
    assert "hf://me/base@main" in str(message["message"])
    assert not list((tmp_path / "out").iterdir())


def test_a_hub_that_fails_is_retryable(hub: Hub, tmp_path: Path) -> None:
    hub.status = 500
    found, message = _merge(tmp_path)
    assert (found, message["reason"], message["retryable"]) == (69, "SourceUnreachable", True)


def test_no_hub_at_all_is_retryable(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{port}")
    found, message = _merge(tmp_path)
    assert (found, message["reason"], message["retryable"]) == (69, "SourceUnreachable", True)
    assert not list((tmp_path / "out").iterdir())


def test_a_signal_ends_a_download_that_hangs(published: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    published.on_download = lambda: os.kill(os.getpid(), signal.SIGTERM)
    try:
        found, message = _merge(tmp_path)
    finally:
        published.released.set()
    assert (found, message["reason"]) == (75, "Interrupted")


def test_messages_name_the_source_not_the_download(published: Hub, tmp_path: Path) -> None:
    (tmp_path / "delta" / "tokenizer.json").unlink()
    found, message = _merge(tmp_path)
    assert (found, message["reason"]) == (65, "TokenizerBroken")
    assert str(message["message"]).startswith("hf://lmsys/vicuna-7b-delta-v1.1@main has no tokenizer.json")
    assert not list((tmp_path / "out").iterdir())


def test_a_repository_without_weights_is_no_checkpoint(published: Hub, tmp_path: Path) -> None:
    for path in (tmp_path / "base").glob("pytorch_model*"):
        path.unlink()
    found, message = _merge(tmp_path)
    assert (found, message["reason"]) == (65, "NotACheckpoint")
