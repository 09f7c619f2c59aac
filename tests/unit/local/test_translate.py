"""Folders stand in for volumes, and nothing else of the rendered command changes."""

from pathlib import Path
from typing import Any

import pytest

from vicuna_operator.api.model import parse_model
from vicuna_operator.errors import LocalRunError
from vicuna_operator.local.translate import claims_of, translate
from vicuna_operator.resources.merge_job import merge_job


def merge_pod(**changes: Any) -> dict[str, Any]:
    spec = {"weights": {"base": {"source": "pvc://inputs/base"}, "delta": {"source": "file:///here/delta"}}, **changes}
    model = parse_model({"metadata": {"name": "demo"}, "spec": spec}, local=True)
    assert model.spec_error is None
    job = merge_job(model, attempt=0, series="", image="", pull_policy="Never", shared_volume=True, capacity="")
    pod: dict[str, Any] = job["spec"]["template"]["spec"]
    return pod


FOLDERS = {"inputs": Path("/data/inputs"), "demo-weights": Path("/data/demo")}


def test_paths_below_mounts_move_into_the_folders() -> None:
    pod = merge_pod()
    assert sorted(claims_of(pod)) == ["demo-weights", "inputs"]
    command = translate(pod, FOLDERS)
    assert command.argv[:2] == ["vicuna-server", "merge"]
    options = dict(zip(command.argv[2::2], command.argv[3::2], strict=True))
    assert options["--output"] == "/data/demo/artifacts"
    assert options["--base"] == "file:///data/inputs/base"
    assert options["--delta"] == "file:///here/delta"
    assert options["--dtype"] == "float16"


def test_the_users_home_stays_and_stated_variables_are_set() -> None:
    command = translate(merge_pod(merge={"env": [{"name": "HF_ENDPOINT", "value": "http://hub"}]}), FOLDERS)
    assert command.env == {"HF_HUB_OFFLINE": "1", "HF_ENDPOINT": "http://hub"}


def test_a_token_comes_from_the_users_shell() -> None:
    spec = {"base": {"source": "hf://org/base"}, "credentialsSecret": "token"}
    assert "HF_TOKEN" not in translate(merge_pod(weights=spec), {"demo-weights": Path("/data/demo")}).env


def test_references_to_other_objects_are_refused_by_name() -> None:
    reference = {"secretKeyRef": {"name": "s", "key": "k"}}
    pod = merge_pod(merge={"env": [{"name": "PROXY_PASSWORD", "valueFrom": reference}]})
    with pytest.raises(LocalRunError, match="PROXY_PASSWORD"):
        translate(pod, FOLDERS)
