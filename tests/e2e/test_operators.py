"""Two operators in one cluster, one of them in named namespaces; upgraded, and with a namespace that goes."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from .cluster import (
    HELM_ARGS,
    OPERATOR_IMAGE,
    ROOT,
    SERVER_IMAGE,
    SYSTEM,
    Namespace,
    make_namespace,
    model,
    run,
    scripted,
    until,
)

CHART = "charts/vicuna-operator"
PLACE, RELEASE = "vicuna-second", "second"
FIRST, SECOND = f"{SYSTEM}/vicuna-operator", f"{PLACE}/{RELEASE}-vicuna-operator"
EARLIER = "05651bc"  # a chart of the time before operators told whom a model belongs to
SOURCE = {"weights": {"base": {"source": "pvc://nowhere/base"}}, "storage": {"claimName": "nowhere"}}


def stated(**more: Any) -> list[str]:
    """Return the values of the second release."""
    values: dict[str, Any] = {"crds.install": False, "gateway.enabled": False}
    for key, image in (("image", OPERATOR_IMAGE), ("serverImage", SERVER_IMAGE)):
        values[f"{key}.repository"], _, values[f"{key}.tag"] = image.rpartition(":")
    return [*HELM_ARGS, *(f"--set-json={key}={json.dumps(value)}" for key, value in {**values, **more}.items())]


@contextmanager
def installed(chart: Path, **more: Any) -> Iterator[Namespace]:
    """Install a chart once more beside the one that all tests use."""
    namespace = make_namespace(PLACE)
    wait = ["--namespace", PLACE, "--wait", "--timeout", "120s"]
    run("helm", "install", RELEASE, str(chart), *wait, *stated(**more))
    try:
        yield namespace
    finally:
        run("helm", "uninstall", RELEASE, "--namespace", PLACE, "--wait")
        run("kubectl", "delete", "namespace", PLACE, "--wait=true", "--timeout=120s", timeout=150)


def unpacked(commit: str, folder: Path) -> Path:
    """Return the chart of a commit of this repository, written into a folder."""
    archive = subprocess.run(["git", "-C", str(ROOT), "archive", commit, CHART], capture_output=True, check=False)
    if archive.returncode:
        pytest.skip("needs the history of this repository")
    subprocess.run(["tar", "--extract", "--directory", str(folder)], input=archive.stdout, check=True)
    return folder / CHART


def managed_by(team: Namespace, name: str) -> str:
    return str(team.status(name).get("managedBy"))


def test_one_of_two_operators_works_on_a_model(team: Namespace, fresh: str) -> None:
    team.apply(model(fresh, "weights", serving=scripted()))
    team.wait_ready(fresh)
    assert managed_by(team, fresh) == FIRST
    before = team.versions(fresh)

    def told() -> bool:
        return "ManagedElsewhere" in team.kubectl(
            "get", "events", "--field-selector", f"involvedObject.name={fresh}", "--output=jsonpath={.items[*].reason}"
        )

    with installed(ROOT / CHART, **{"serverImage.tag": "another"}):
        until("the second operator says that it leaves the model alone", told, 60)
        assert team.versions(fresh) == before, "somebody wrote"
        run("kubectl", "vicuna", "takeover", fresh, "--by", SECOND, "--namespace", team.name)
        until("the second operator has taken it over", lambda: managed_by(team, fresh) == SECOND, 60)
        until("it sees another default image", lambda: team.status(fresh).get("imageOutdated") is True, 30)
        run("kubectl", "vicuna", "takeover", fresh, "--by", FIRST, "--namespace", team.name)
        until("it is the first one's again", lambda: managed_by(team, fresh) == FIRST, 90)
    assert team.condition(fresh, "Ready")["status"] == "True"


def of_second(name: str) -> dict[str, Any]:
    """Return a model that waits for its claim, and belongs to the second operator from the start."""
    body = model(name, "nowhere", serving=scripted())
    body["metadata"]["annotations"] = {"vicuna.dev/managed-by": SECOND}
    body["spec"] |= SOURCE
    return body


@pytest.mark.full
def test_a_watched_namespace_that_is_deleted_holds_up_no_other(operator: Namespace) -> None:
    stays, goes = make_namespace("vicuna-stays"), make_namespace("vicuna-goes")
    try:
        with installed(ROOT / CHART, watchNamespaces=[stays.name, goes.name]):
            for namespace in (stays, goes):
                namespace.apply(of_second("before"))
                until("it is seen", lambda: managed_by(namespace, "before") == SECOND, 60)  # noqa: B023
            run("kubectl", "delete", "namespace", goes.name, "--wait=true", "--timeout=120s", timeout=150)
            stays.apply(of_second("after"))
            until("a new model is seen", lambda: managed_by(stays, "after") == SECOND, 180)
            stays.wait_reason("after", "ClaimNotFound", 60)
            # the release still names it, so its Role must be able to go
            run("kubectl", "create", "namespace", goes.name)
    finally:
        run("kubectl", "delete", "namespace", stays.name, goes.name, "--ignore-not-found", "--wait=false")


@pytest.mark.full
def test_an_upgrade_of_an_earlier_chart_restarts_no_pod(team: Namespace, fresh: str, tmp_path: Path) -> None:
    with installed(unpacked(EARLIER, tmp_path), watchNamespaces=[team.name]):
        body = model(fresh, "weights", serving=scripted())
        body["metadata"]["annotations"] = {"vicuna.dev/managed-by": SECOND}
        team.apply(body)
        team.wait_ready(fresh)
        assert managed_by(team, fresh) == SECOND
        before = {pod["metadata"]["uid"] for pod in team.pods(fresh)}
        words = ["--namespace", PLACE, "--wait", "--timeout", "120s", "--reset-then-reuse-values", *HELM_ARGS]
        run("helm", "upgrade", RELEASE, str(ROOT / CHART), *words)
        team.kubectl("annotate", "vicunamodel", fresh, "note=looked-at")
        team.patch_spec(fresh, serving={"replicas": 2})
        until("the upgraded operator follows", lambda: len(team.pods(fresh)) == 2, 60)
        team.wait_ready(fresh)
        assert before <= {pod["metadata"]["uid"] for pod in team.pods(fresh)}
        run("kubectl", "vicuna", "takeover", fresh, "--by", FIRST, "--namespace", team.name)
        until("it is the first one's", lambda: managed_by(team, fresh) == FIRST, 90)
