"""A program without a usable kubeconfig says in one line which file it read, and what to do."""

import asyncio
from pathlib import Path
from types import SimpleNamespace

import pytest
from kubernetes.aio import config

from vicuna_contract.cluster import configure


def refused(environ: dict[str, str]) -> str:
    with pytest.raises(ValueError, match="no cluster: ") as caught:
        asyncio.run(configure(SimpleNamespace(), config, environ))
    return str(caught.value)


@pytest.mark.parametrize("content", ["", "a: b: c", "[]", "{apiVersion: v1, kind: Config}", None])
def test_the_file_is_named_in_one_line(content: str | None, tmp_path: Path) -> None:
    path = tmp_path / "config"
    if content is not None:
        path.write_text(content)
    said = refused({"KUBECONFIG": str(path), "KUBERNETES_SERVICE_HOST": "10.0.0.1"})
    assert said.startswith(f"no cluster: the kubeconfig {path} cannot be used (")
    assert said.endswith("); set KUBECONFIG, or run inside a cluster")
    assert "\n" not in said


def test_a_pod_without_an_account_says_so() -> None:
    assert "the pod's service account cannot be used" in refused({"KUBERNETES_SERVICE_HOST": "10.0.0.1"})
