"""One helm release and one namespace with the demo pair on a claim, for all end-to-end tests."""

import gc
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from .cluster import (
    ENGINE_IMAGE,
    FRONT_IMAGE,
    GATEWAY_IMAGE,
    HELM_ARGS,
    OPERATOR_IMAGE,
    ROOT,
    SERVER_IMAGE,
    SYSTEM,
    Namespace,
    make_namespace,
    provide,
    run,
    until,
)

TEAM = "vicuna-e2e"
CLAIM = "weights"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.e2e)
            item.add_marker(pytest.mark.timeout(600))


def pytest_runtest_teardown() -> None:
    """Collect garbage, so that what a test left open is told of that test, and not of the whole run at its end."""
    gc.collect()


@pytest.fixture(scope="session")
def operator() -> Iterator[Namespace]:
    """Install the chart as README says, and take it away again."""
    if not os.environ.get("KUBECONFIG"):
        pytest.fail("KUBECONFIG is not set: end-to-end tests need a cluster")
    for tool in ("kubectl", "helm"):
        if shutil.which(tool) is None:
            pytest.fail(f"{tool} is not on PATH; `hack/tools.sh` fetches it")
    words = ["helm", "upgrade", "--install", "vicuna-operator", str(ROOT / "charts/vicuna-operator")]
    words += ["--namespace", SYSTEM, "--create-namespace", "--wait", "--timeout", "120s", *HELM_ARGS]
    words += ["--set", "gateway.enabled=true", "--set", "gateway.terminationGracePeriodSeconds=60"]
    words += ["--set", "gateway.keys.first=false"]
    # A new install would shield the servers, which tests ask from pods of their own.
    words += ["--set", "networkPolicy.enabled=false", "--set", "networkPolicy.gateway.enabled=false"]
    images = {"image": OPERATOR_IMAGE, "serverImage": SERVER_IMAGE, "gateway.image": GATEWAY_IMAGE}
    images |= {"frontImage": FRONT_IMAGE, "vllmImage": ENGINE_IMAGE}
    for key, image in images.items():
        repository, _, tag = image.rpartition(":")
        words += ["--set", f"{key}.repository={repository}", "--set", f"{key}.tag={tag}"]
    run(*words)
    system = Namespace(SYSTEM)
    yield system
    print(system.kubectl("logs", "deployment/vicuna-operator", "--tail=200", check=False))
    run("helm", "uninstall", "vicuna-operator", "--namespace", SYSTEM, "--wait")
    run("kubectl", "delete", "namespace", SYSTEM, "--wait=false")


@pytest.fixture(scope="session")
def team(operator: Namespace) -> Iterator[Namespace]:
    """A namespace with the demo pair on the claim `weights`."""
    namespace = make_namespace(TEAM)
    pair = Path(os.environ.get("VICUNA_DEMO_DIR", ROOT / ".demo/pair"))
    run(sys.executable, str(ROOT / "hack/demo_pair.py"), "--output", str(pair), timeout=600)
    provide(namespace, CLAIM, pair)
    yield namespace
    # Pods go first: see test_a_namespace_goes_while_the_operator_is_stopped.
    namespace.kubectl("delete", "vicunamodel", "--all", "--timeout=120s", timeout=150)
    until("no serving pod is left", lambda: not namespace.find("pods", "vicuna.dev/model"), 120)
    run("kubectl", "delete", "namespace", TEAM, "--wait=true", "--timeout=120s", timeout=150)


@pytest.fixture
def fresh(team: Namespace, request: pytest.FixtureRequest) -> Iterator[str]:
    """A model name for one test; whatever is made under it is deleted afterwards."""
    name = request.node.name.removeprefix("test_").replace("_", "-")[:36].strip("-")
    yield name
    team.kubectl("delete", "vicunamodel", name, "--ignore-not-found", "--wait=true", timeout=120)
