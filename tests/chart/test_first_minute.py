"""What a new install has where nothing is stated: the gateway with its page, and a first key. Upgrades keep theirs."""

import hashlib
import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vicuna_server.gateway.keys import KeyRing

from .test_network_policies import CHART, NAMESPACE, OPERATOR, Cluster, at_cluster, cluster

__all__ = ["cluster"]

GATEWAY = "vo-vicuna-operator-gateway"
DEPLOYMENTS = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments"
SECRETS = f"/api/v1/namespaces/{NAMESPACE}/secrets"

Helm = Callable[..., subprocess.CompletedProcess[str]]
Objects = list[dict[str, Any]]


@pytest.fixture
def place(cluster: Cluster) -> Cluster:
    """A cluster that knows Secrets."""
    cluster.groups["v1"]["secrets"] = "Secret"
    return cluster


def named(objects: Objects, kind: str) -> dict[str, dict[str, Any]]:
    return {item["metadata"]["name"]: item for item in objects if item["kind"] == kind}


def has_gateway(objects: Objects) -> bool:
    return GATEWAY in named(objects, "Deployment")


def test_a_new_install_has_the_gateway_and_a_key_that_opens_it(helm: Helm, place: Cluster) -> None:
    objects = at_cluster(helm, place)
    assert has_gateway(objects)
    secrets = named(objects, "Secret")
    assert set(secrets) == {f"{GATEWAY}-first-key", f"{GATEWAY}-keys"}
    key = secrets[f"{GATEWAY}-first-key"]["stringData"]["key"]
    assert re.fullmatch(r"vk-[A-Za-z0-9]{43}", key)
    (entry,) = secrets[f"{GATEWAY}-keys"]["stringData"].items()
    assert json.loads(entry[1]) == {"sha256": hashlib.sha256(key.encode()).hexdigest()}
    assert KeyRing.parse({entry[0]: entry[1].encode()}).find(key) is not None
    for secret in secrets.values():
        assert secret["metadata"]["annotations"]["helm.sh/hook"] == "pre-install", "an upgrade makes none"


def test_two_installs_have_two_keys(helm: Helm, place: Cluster) -> None:
    first, second = (named(at_cluster(helm, place), "Secret")[f"{GATEWAY}-first-key"] for _ in range(2))
    assert first["stringData"] != second["stringData"]


@pytest.mark.parametrize("name", ["keys", "first-key"])
def test_keys_that_are_there_are_left_as_they_are(helm: Helm, place: Cluster, name: str) -> None:
    path = f"{SECRETS}/{GATEWAY}-{name}"
    place.objects[path] = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": f"{GATEWAY}-{name}"}}
    assert named(at_cluster(helm, place), "Secret") == {}


@pytest.mark.parametrize(
    "stated", ["gateway.enabled=false", "gateway.keys.enabled=false", "gateway.keys.first=false", "watchNamespaces={a}"]
)
def test_no_key_is_made_where_none_is_wanted(helm: Helm, place: Cluster, stated: str) -> None:
    objects = at_cluster(helm, place, "--set", stated)
    assert named(objects, "Secret") == {}
    assert has_gateway(objects) is stated.startswith("gateway.keys")


@pytest.mark.parametrize("had", [False, True])
def test_an_upgrade_keeps_what_the_release_has(helm: Helm, place: Cluster, had: bool) -> None:
    """An earlier chart had no gateway unless `gateway.enabled` said so; its value may be forgotten by an upgrade."""
    before = at_cluster(helm, place, "--set", f"gateway.enabled={str(had).lower()}")
    for name, deployment in named(before, "Deployment").items():
        owned = {"meta.helm.sh/release-name": "vo", "meta.helm.sh/release-namespace": NAMESPACE}
        deployment["metadata"].setdefault("annotations", {}).update(owned)
        place.objects[f"{DEPLOYMENTS}/{name}"] = deployment
    for words in (["--is-upgrade"], []):  # a tool may say install each time
        after = at_cluster(helm, place, *words)
        assert has_gateway(after) is had
        assert named(after, "Secret") == {}
        assert OPERATOR in named(after, "Deployment")


def test_what_is_rendered_without_a_cluster_has_neither(helm: Helm) -> None:
    text = helm("template", "vo", str(CHART), "--namespace", NAMESPACE).stdout
    assert "kind: Deployment" in text
    assert GATEWAY not in text
    assert "kind: Secret" not in text


def test_every_pod_states_what_it_needs(helm: Helm, place: Cluster) -> None:
    objects = at_cluster(helm, place)
    for item in objects:
        for container in item.get("spec", {}).get("template", {}).get("spec", {}).get("containers", []):
            assert set(container["resources"]["requests"]) == {"cpu", "memory"}, item["metadata"]["name"]
            assert "memory" in container["resources"]["limits"]


def test_the_notes_say_how_to_read_the_key(helm: Helm, place: Cluster) -> None:
    address = f"--kube-apiserver=http://127.0.0.1:{place.server_address[1]}"
    words = ["--namespace", NAMESPACE, "--set", "crds.install=false", address, "--dry-run=server"]
    done = helm("install", "vo", str(CHART), *words, "--disable-openapi-validation")
    notes = done.stdout.partition("NOTES:")[2]
    command = f"get secret {GATEWAY}-first-key -o go-template='{{{{.data.key | base64decode}}}}'"
    assert command in notes, done.stderr
    assert f"port-forward service/{GATEWAY} 8080:80" in notes
    assert Path(CHART / "templates/gateway/first-key.yaml").exists()
