"""Sources on a Hugging Face hub through the whole of `vicuna-server merge`, against a stand-in for the hub."""

import json
import os
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.adapters import adapter_config, low_rank_weights, write_adapter
from support.checkpoints import delta_weights, model_weights, write_checkpoint
from support.hub import COMMIT, Asked, Fault, Hub, running_hub
from vicuna_server.artifacts.manifest import Manifest
from vicuna_server.cli import main


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    monkeypatch.setenv("VICUNA_TERMINATION_LOG", str(tmp_path / "log"))
    with running_hub(monkeypatch) as server:
        yield server


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
    assert not {"README.md", "pytorch_model.bin"} & set(published.served)
    assert {asked.token for asked in published.asked} == {"Bearer hf_secret"}


@pytest.mark.parametrize("revision", ["main", COMMIT])
def test_a_second_run_fetches_nothing(published: Hub, tmp_path: Path, revision: str) -> None:
    first = _merge(tmp_path)
    published.asked.clear()
    assert _merge(tmp_path, revision) == first
    assert all(not asked.name for asked in published.asked)


def test_adapters_are_fetched_too(published: Hub, tmp_path: Path) -> None:
    weights = low_rank_weights(2) | {"model.norm.weight": model_weights(3)["model.norm.weight"]}
    published.repositories["me/lora"] = write_adapter(tmp_path / "lora", weights, adapter_config())
    assert main(["inspect", "hf://me/lora@main"]) == 0
    sources = ["--base", "hf://me/base@main", "--adapter", "hf://me/lora@main", "--chat-template", "alpaca"]
    assert main(["merge", *sources, "--output", str(tmp_path / "out")]) == 0
    manifest = Manifest.load(next((tmp_path / "out").iterdir()))
    assert manifest is not None
    assert [each.fingerprint for each in manifest.inputs.adapters] == [f"hf:me/lora@{COMMIT}"]


def test_an_artifact_of_a_commit_needs_no_hub(published: Hub, tmp_path: Path) -> None:
    first = _merge(tmp_path, COMMIT)
    published.asked.clear()
    assert _merge(tmp_path, COMMIT) == first
    assert not published.asked


@pytest.mark.parametrize(
    ("status", "code", "reason"),
    [(401, 65, "SourceForbidden"), (403, 65, "SourceForbidden"), (404, 65, "SourceNotFound")],
)
def test_what_the_hub_refuses_is_terminal(hub: Hub, tmp_path: Path, status: int, code: int, reason: str) -> None:
    hub.fault = lambda _: Fault(status)
    found, message = _merge(tmp_path)
    assert (found, message["reason"], message["retryable"]) == (code, reason, False)
    assert "hf://me/base@main" in str(message["message"])
    assert not list((tmp_path / "out").iterdir())


def test_gated_weights_without_a_token_are_told_how_to_give_one(
    published: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_TOKEN")
    published.fault = lambda asked: None if asked.token or not asked.name else Fault(401, {"X-Error-Code": "GatedRepo"})
    found, message = _merge(tmp_path)
    assert (found, message["reason"]) == (65, "SourceForbidden")
    assert "HF_TOKEN" in str(message["message"])


@pytest.mark.parametrize("revision", ["main", "refs/pr/3"])
def test_a_renamed_repository_is_followed_and_a_revision_may_have_slashes(
    published: Hub, tmp_path: Path, revision: str
) -> None:
    published.repositories["new/base"] = published.repositories.pop("me/base")

    def renamed(asked: Asked) -> Fault | None:
        moved = asked.path.replace("/me/base", "/new/base")
        return Fault(307, {"Location": moved}) if moved != asked.path else None

    published.fault = renamed
    found, message = _merge(tmp_path, revision)
    assert found == 0, message
    assert {asked.token for asked in published.asked} == {"Bearer hf_secret"}


def test_a_hub_that_fails_is_retryable(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VICUNA_HUB_PATIENCE_SECONDS", "1")
    hub.fault = lambda _: Fault(500)
    found, message = _merge(tmp_path)
    assert (found, message["reason"], message["retryable"]) == (69, "SourceUnreachable", True)


def test_no_hub_at_all_is_retryable(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("VICUNA_HUB_PATIENCE_SECONDS", "1")
    found, message = _merge(tmp_path)
    assert (found, message["reason"], message["retryable"]) == (69, "SourceUnreachable", True)
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize("name", ["", "config.json", "model-00003-of-00003.safetensors"])
def test_a_signal_ends_a_request_that_hangs(published: Hub, tmp_path: Path, name: str) -> None:
    released, first = threading.Event(), threading.Lock()

    def hang(asked: Asked) -> Fault | None:
        if asked.name != name:
            return None
        # once: several are asked at the same time, and the second signal would meet a run that has ended
        if first.acquire(blocking=False):
            os.kill(os.getpid(), signal.SIGTERM)
        return Fault(cut=0, until=released)

    published.fault = hang
    try:
        found, message = _merge(tmp_path)
    finally:
        released.set()
    assert (found, message["reason"]) == (75, "Interrupted")


def test_messages_name_the_source_not_the_download(published: Hub, tmp_path: Path) -> None:
    (tmp_path / "delta" / "tokenizer.json").unlink()
    found, message = _merge(tmp_path)
    assert (found, message["reason"]) == (65, "TokenizerBroken")
    assert str(message["message"]).startswith("hf://lmsys/vicuna-7b-delta-v1.1@main has no tokenizer.json")
    assert not list((tmp_path / "out").iterdir())


def test_a_repository_without_weights_is_not_a_checkpoint(published: Hub, tmp_path: Path) -> None:
    for path in (tmp_path / "base").glob("pytorch_model*"):
        path.unlink()
    found, message = _merge(tmp_path)
    assert (found, message["reason"]) == (65, "NotACheckpoint")
