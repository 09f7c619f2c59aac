"""A published release, as a stranger takes it: three commands from its registry to the first answer.

`make e2e-release` runs it, before `make e2e`: it wants a cluster in which nothing is installed.
"""

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from release.chart import release_of

from .cluster import HELM_ARGS, ROOT, SYSTEM, Namespace, make_namespace, model, provide, run, scripted, until

FOLDER = os.environ.get("E2E_RELEASE", "")
TEAM = "vicuna-first"
CLAIM = "weights"

pytestmark = pytest.mark.skipif(not FOLDER, reason="E2E_RELEASE names no release (make e2e-release)")


@pytest.fixture(scope="module")
def release() -> dict[str, Any]:
    (package,) = Path(FOLDER).glob("vicuna-operator-[0-9]*.tgz")
    return release_of(package)


@pytest.fixture(scope="module")
def team() -> Iterator[Namespace]:
    """A namespace with weights on a claim: a cluster without the Internet reaches no hub."""
    namespace = make_namespace(TEAM)
    pair = Path(os.environ.get("VICUNA_DEMO_DIR", ROOT / ".demo/pair"))
    run(sys.executable, str(ROOT / "hack/demo_pair.py"), "--output", str(pair), timeout=600)
    provide(namespace, CLAIM, pair)
    yield namespace
    run("kubectl", "delete", "namespace", TEAM, "--wait=true", "--timeout=120s", timeout=150)


@pytest.fixture
def empty(team: Namespace) -> Iterator[None]:
    """Nothing is installed, before and after."""
    yield
    team.kubectl("delete", "vicunamodel", "--all", "--timeout=120s", timeout=150)
    run("helm", "uninstall", "vicuna-operator", "--namespace", SYSTEM, "--wait")
    # Pods go first: an old API server gives every pod of a deleted namespace the longest grace period among them.
    until("no pod is left", lambda: not Namespace(SYSTEM).find("pods"), 150)
    run("kubectl", "delete", "namespace", SYSTEM, "--wait=true", "--timeout=120s", timeout=150)
    run("kubectl", "delete", "crd", "vicunamodels.vicuna.dev", "vicunausages.vicuna.dev", "--timeout=60s")


def install(release: dict[str, Any]) -> None:
    chart = f"oci://{release['registry']}/charts/vicuna-operator"
    words = ["helm", "install", "vicuna-operator", chart, "--version", release["version"], "--plain-http"]
    run(*words, "--namespace", SYSTEM, "--create-namespace", *HELM_ARGS)


def ask(team: Namespace, name: str) -> str:
    """Wait for the model and ask it one question, with the release's own plugin."""
    plugin = str((Path(FOLDER) / "kubectl-vicuna").absolute())
    run(plugin, "wait", name, "--namespace", team.name, "--timeout", "300", timeout=330)
    short = ("--temperature", "0", "--max-tokens", "32")  # a small model may talk on until its context is full
    return run(plugin, "chat", name, "--namespace", team.name, *short, stdin="What is the capital of France?\n")


@pytest.mark.parametrize(("kind", "seconds"), [("scripted", 120), ("smollm2", 300)])
@pytest.mark.usefixtures("empty")
def test_from_nothing_to_the_first_answer_in_three_commands(
    release: dict[str, Any], team: Namespace, kind: str, seconds: int, capsys: pytest.CaptureFixture[str]
) -> None:
    serving = scripted() if kind == "scripted" else {"numGpus": 0}
    started = time.monotonic()
    install(release)
    team.apply(model("first", CLAIM, serving=serving))
    answer = ask(team, "first")
    took = time.monotonic() - started
    with capsys.disabled():
        print(f"\nrelease: from nothing to the first answer of {kind} in {took:.0f} s")
    assert answer.strip()
    assert took <= seconds
    pods = [*team.pods("first"), *Namespace(SYSTEM).find("pods", "app.kubernetes.io/instance=vicuna-operator")]
    images = {container["image"] for pod in pods for container in pod["spec"]["containers"]}
    assert images <= {name for name in images if name.startswith(f"{release['registry']}/") and "@sha256:" in name}
    stated = {digest for digest in release["digests"].values() if any(name.endswith(digest) for name in images)}
    assert {release["digests"]["operator"], release["digests"]["server"]} <= stated
