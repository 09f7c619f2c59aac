"""vLLM in a local run: the rendered container's command, with what differs on a machine."""

import sys
from pathlib import Path
from typing import Any

import pytest

from vicuna_contract.serve_arguments import ServeArguments
from vicuna_operator.api.model import parse_model
from vicuna_operator.errors import LocalRunError
from vicuna_operator.local.engine import LocalEngine, local_engine
from vicuna_operator.local.translate import translate
from vicuna_operator.resources.deployment import revision_deployment

FOLDERS = {"demo-weights": Path("/data/demo")}


def pod(engine: str = "vllm", **serving: Any) -> dict[str, Any]:
    weights = {"base": {"source": "file:///here"}}
    spec = {"weights": weights, "serving": {"numGpus": 2, "engine": engine, **serving}}
    model = parse_model({"metadata": {"name": "demo"}, "spec": spec}, local=True)
    assert model.spec_error is None
    body = revision_deployment(
        model, revision="0a0a0a0a", artifact_id="0" * 16, image="local", pull_policy="Never", replicas=1,
        shared_volume=True, annotations={}, engine_image="local" if engine == "vllm" else None,
    )  # fmt: skip
    found: dict[str, Any] = body["spec"]["template"]["spec"]
    return found


def engine(**serving: Any) -> LocalEngine:
    found = local_engine(pod(**serving), FOLDERS, Path(sys.executable))
    assert found is not None
    return found


def test_there_is_none_beside_the_builtin_engine() -> None:
    assert local_engine(pod("builtin"), FOLDERS, None) is None


def test_it_serves_from_the_folder_on_a_free_port_and_is_kept() -> None:
    found = engine(engineArgs=["--enforce-eager"])
    words = found.command.argv
    assert words[1:3] == ["-m", "vicuna_operator.local.keeper"]
    assert words[3:6] == [sys.executable, "serve", f"/data/demo/artifacts/{'0' * 16}"]
    assert words[words.index("--port") + 1] == str(found.port)
    assert words[words.index("--tensor-parallel-size") + 1] == "2"
    assert words[-1] == "--enforce-eager"


def test_its_caches_are_the_users_own_and_nothing_is_sent() -> None:
    found = engine(env=[{"name": "NCCL_DEBUG", "value": "INFO"}]).command.env
    fixed = {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "HF_HUB_OFFLINE": "1"}
    assert found == {**fixed, "NCCL_DEBUG": "INFO"}


def test_the_front_is_told_where_it_is_and_what_to_write_at_its_end() -> None:
    found = engine()
    front = found.behind(translate(pod(), FOLDERS), Path("/tmp/x/drained"))
    read = ServeArguments.from_argv(front.argv[1:])
    assert (read.engine_url, read.drained_file) == (f"http://127.0.0.1:{found.port}", "/tmp/x/drained")
    assert front.env == translate(pod(), FOLDERS).env


def test_a_program_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(LocalRunError, match="--vllm /no/vllm: there is no program") as wrong:
        local_engine(pod(), FOLDERS, Path("/no/vllm"))
    assert wrong.value.exit_code == 64
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(LocalRunError, match="vllm is not installed; install vLLM") as absent:
        local_engine(pod(), FOLDERS, None)
    assert absent.value.exit_code == 69
