"""Renders the chart with the helm binary: the tool that users have, not an imitation of it."""

import copy
import functools
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "charts" / "vicuna-operator"

Objects = list[dict[str, Any]]
Render = Callable[..., Objects]
Template = Callable[..., Objects]


@pytest.fixture(scope="session")
def helm() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run helm with some arguments; a missing helm is a failure, since a skipped chart is an untested chart."""
    beside = ROOT / ".venv" / "bin" / "helm"
    binary = shutil.which("helm") or (str(beside) if beside.exists() else None)
    if binary is None:
        pytest.fail("helm is on neither PATH nor .venv/bin: run `hack/tools.sh` (make test does)", pytrace=False)

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([binary, *arguments], capture_output=True, text=True, timeout=60, check=False)

    return run


@pytest.fixture(scope="session")
def template(helm: Callable[..., subprocess.CompletedProcess[str]]) -> Template:
    """Render the chart with words for `helm template` and return the objects; the same words are rendered once."""

    @functools.cache
    def rendered(words: tuple[str, ...]) -> Objects:
        done = helm("template", "vo", str(CHART), *words)
        assert done.returncode == 0, done.stderr
        # libyaml: the pure Python reader takes half a second over the CRD
        return [item for item in yaml.load_all(done.stdout, yaml.CSafeLoader) if item]

    return lambda *words: copy.deepcopy(rendered(words))


@pytest.fixture(scope="session")
def render(template: Template) -> Render:
    """Render the chart with values (a dict) and return the objects."""

    def run(values: dict[str, Any] | None = None) -> Objects:
        settings = [f"--set-json={key}={json.dumps(value)}" for key, value in (values or {}).items()]
        return template("--namespace", "vicuna-system", "--api-versions", "policy/v1", *settings)

    return run
