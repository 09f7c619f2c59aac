"""Two operators in one cluster: one works on a model, the other leaves it alone, and a user can move it."""

from collections.abc import Iterator

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

PLACE, RELEASE = "vicuna-second", "second"
FIRST, SECOND = f"{SYSTEM}/vicuna-operator", f"{PLACE}/{RELEASE}-vicuna-operator"


@pytest.fixture
def second(operator: Namespace) -> Iterator[Namespace]:
    """Install the chart once more, with another default image."""
    namespace = make_namespace(PLACE)
    words = ["helm", "install", RELEASE, str(ROOT / "charts/vicuna-operator"), "--namespace", PLACE, "--wait"]
    words += ["--timeout", "120s", "--set", "crds.install=false", *HELM_ARGS]
    repository, _, tag = OPERATOR_IMAGE.rpartition(":")
    words += ["--set", f"image.repository={repository}", "--set", f"image.tag={tag}"]
    repository, _, _ = SERVER_IMAGE.rpartition(":")
    words += ["--set", f"serverImage.repository={repository}", "--set", "serverImage.tag=another"]
    run(*words)
    yield namespace
    run("helm", "uninstall", RELEASE, "--namespace", PLACE, "--wait")
    run("kubectl", "delete", "namespace", PLACE, "--wait=false")


def managed_by(team: Namespace, name: str) -> str:
    return str(team.status(name).get("managedBy"))


def test_one_of_two_operators_works_on_a_model(team: Namespace, fresh: str, request: pytest.FixtureRequest) -> None:
    team.apply(model(fresh, "weights", serving=scripted()))
    team.wait_ready(fresh)
    assert managed_by(team, fresh) == FIRST
    before = team.versions(fresh)
    request.getfixturevalue("second")

    def told() -> bool:
        return "ManagedElsewhere" in team.kubectl(
            "get", "events", "--field-selector", f"involvedObject.name={fresh}", "--output=jsonpath={.items[*].reason}"
        )

    until("the second operator says that it leaves the model alone", told, 60)
    assert team.versions(fresh) == before, "somebody wrote"
    run("kubectl", "vicuna", "takeover", fresh, "--by", SECOND, "--namespace", team.name)
    until("the second operator has taken it over", lambda: managed_by(team, fresh) == SECOND, 60)
    until("it sees another default image", lambda: team.status(fresh).get("imageOutdated") is True, 30)
    run("kubectl", "vicuna", "takeover", fresh, "--by", FIRST, "--namespace", team.name)
    until("it is the first one's again", lambda: managed_by(team, fresh) == FIRST, 90)
    assert team.condition(fresh, "Ready")["status"] == "True"
