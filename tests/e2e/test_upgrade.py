"""Charts of earlier versions, from this repository, are upgraded by the command that docs/operations.md has."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from .cluster import GATEWAY_IMAGE, HELM_ARGS, ROOT, Namespace, make_namespace, run

CHART = "charts/vicuna-operator"
PLACE = "vicuna-earlier"


def _history() -> list[str]:
    """Return the commits that changed the chart, the oldest first; none in a checkout without history.

    Of the first parents alone: what a branch had on its way was never a chart of anybody.
    """
    log = ["git", "-C", str(ROOT), "log", "--first-parent", "--format=%h", "--reverse", "--", CHART]
    done = subprocess.run(log, capture_output=True, text=True, check=False)
    return done.stdout.split()[:-1]


HISTORY = _history()


def _marked(commit: str) -> object:
    """The first and the last are tried in every run, those between in the long ones."""
    marks = [] if commit in (HISTORY[0], HISTORY[-1]) else [pytest.mark.full]
    return pytest.param(commit, marks=marks)


@pytest.fixture(scope="module")
def place(operator: Namespace) -> Iterator[Namespace]:
    yield make_namespace(PLACE)
    run("kubectl", "delete", "namespace", PLACE, "--wait=false")


@pytest.mark.skipif(not HISTORY, reason="needs the history of this repository")
@pytest.mark.parametrize("commit", [_marked(commit) for commit in HISTORY])
def test_an_earlier_chart_is_upgraded_and_keeps_what_was_set(place: Namespace, commit: str, tmp_path: Path) -> None:
    archive = subprocess.run(["git", "-C", str(ROOT), "archive", commit, CHART], capture_output=True, check=True)
    subprocess.run(["tar", "--extract", "--directory", str(tmp_path)], input=archive.stdout, check=True)
    release, where = f"earlier-{commit}", ["--namespace", PLACE, *HELM_ARGS]
    stated = ["--set", "crds.install=false", "--set", "replicas=0", "--set", "serverImage.tag=stated"]
    has_gateway = "\ngateway:\n" in (tmp_path / CHART / "values.yaml").read_text()
    if has_gateway:  # its image runs: a hook of the present chart makes keys with it
        repository, _, tag = GATEWAY_IMAGE.rpartition(":")
        stated += ["--set", "gateway.enabled=true", "--set", "gateway.replicas=0"]
        stated += ["--set", f"gateway.image.repository={repository}", "--set", f"gateway.image.tag={tag}"]
    run("helm", "install", release, str(tmp_path / CHART), *where, *stated)
    try:
        run("helm", "upgrade", release, str(ROOT / CHART), *where, "--reset-then-reuse-values")
        rendered = place.kubectl(
            "get", "deployments", "--selector", f"app.kubernetes.io/instance={release}", "-o", "yaml"
        )
        assert "vicuna-server:stated" in rendered
        assert "replicas: 0" in rendered
        # What shields servers comes where it is stated, never by an upgrade.
        for variable in ("VICUNA_NETWORK_PEERS", "VICUNA_GATEWAY_KEYS"):
            assert variable not in rendered
        assert place.find("networkpolicies") == []
        keys = f"{release}-vicuna-operator-gateway-signing"
        for kind in ("secret", "configmap"):
            assert (place.get(kind, keys) is not None) is has_gateway
        assert place.find("jobs") == [], "the hook is gone"
    finally:
        run("helm", "uninstall", release, "--namespace", PLACE)


def test_another_release_takes_the_kept_crd_over(place: Namespace) -> None:
    words = ["helm", "install", "other", str(ROOT / CHART), "--namespace", PLACE, "--dry-run=server", *HELM_ARGS]
    with pytest.raises(AssertionError, match="invalid ownership metadata"):
        run(*words)
    run(*words, "--take-ownership")
