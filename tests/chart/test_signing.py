"""The chart's signing of requests: keys come from a hook or are given, and each side gets its own half."""

import argparse
import base64
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest

from vicuna_operator.config import load_config
from vicuna_server.gateway import cli, signing_keys
from vicuna_server.gateway.key_provisioning import PUBLIC_KEYS

CHART = Path(__file__).resolve().parents[2] / "charts" / "vicuna-operator"
KEY, OTHER = (base64.b64encode(bytes([number]) * 32).decode() for number in (1, 2))
NAME = "vo-vicuna-operator-gateway-signing"

Objects = list[dict[str, Any]]
Render = Callable[..., Objects]
Helm = Callable[..., subprocess.CompletedProcess[str]]

MATRIX: dict[str, dict[str, Any]] = {
    "defaults": {},
    "required": {"gateway.signing": {"required": True}},
    "rotated": {"gateway.signing": {"rotation": "2027-01", "required": True}},
    "everything else": {
        "gateway.image": {"repository": "registry.example/gw", "tag": "1.2.3", "pullPolicy": "Always"},
        "imagePullSecrets": [{"name": "pull"}],
        "priorityClassName": "high",
        "gateway.nodeSelector": {"kubernetes.io/os": "linux"},
        "gateway.tolerations": [{"key": "a", "operator": "Exists"}],
        "fullnameOverride": "a-name-that-is-as-long-as-a-name-of-a-release-may-be-at-all-63-x",
    },
    "platform user": {"platformUser": True},
}
every_variant = pytest.mark.parametrize("values", MATRIX.values(), ids=MATRIX.keys())


@pytest.fixture(scope="module")
def with_gateway(render: Render) -> Render:
    return lambda values: render({"gateway.enabled": True, **values})


def hooks(objects: Objects) -> dict[str, dict[str, Any]]:
    found = [item for item in objects if "helm.sh/hook" in item["metadata"].get("annotations", {})]
    return {item["kind"]: item for item in found}


def deployments(objects: Objects) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the operator's and the gateway's."""
    found = [item for item in objects if item["kind"] == "Deployment"]
    gateways = [item for item in found if item["metadata"]["labels"].get("app.kubernetes.io/component") == "gateway"]
    operators = [item for item in found if item not in gateways]
    return operators[0], (gateways or [{}])[0]


def pod(deployment: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = deployment["spec"]["template"]["spec"]
    return found


def public_keys(objects: Objects) -> dict[str, Any] | None:
    (container,) = pod(deployments(objects)[0])["containers"]
    return next((item for item in container["env"] if item["name"] == "VICUNA_GATEWAY_KEYS"), None)


@every_variant
def test_the_hook_is_valid_hardened_and_gone_when_it_is_done(with_gateway: Render, values: dict[str, Any]) -> None:
    found = hooks(with_gateway(values))
    assert set(found) == {"ServiceAccount", "Role", "RoleBinding", "Job"}
    for item in found.values():
        kubernetes_validate.validate(item, "1.37", strict=True)
        annotations = item["metadata"]["annotations"]
        assert annotations["helm.sh/hook"] == "pre-install,pre-upgrade"
        assert annotations["helm.sh/hook-delete-policy"] == "before-hook-creation,hook-succeeded"
    weights = {kind: int(item["metadata"]["annotations"]["helm.sh/hook-weight"]) for kind, item in found.items()}
    assert weights["ServiceAccount"] <= weights["Role"] < weights["RoleBinding"] < weights["Job"]
    job = found["Job"]
    assert len(job["metadata"]["name"]) <= 63
    spec = job["spec"]["template"]["spec"]
    security = spec["securityContext"]
    assert (security["runAsNonRoot"], security["seccompProfile"]) == (True, {"type": "RuntimeDefault"})
    assert ("runAsUser" in security) is not values.get("platformUser", False)
    (container,) = spec["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert container["resources"]["limits"]["memory"]


def test_the_hook_may_make_and_change_the_keys_and_nothing_else(with_gateway: Render) -> None:
    found = hooks(with_gateway({}))
    create, change = found["Role"]["rules"]
    assert (create["resources"], create["verbs"]) == (["secrets", "configmaps"], ["create"])
    assert (change["verbs"], change["resourceNames"]) == (["get", "update"], [NAME])
    (subject,) = found["RoleBinding"]["subjects"]
    assert subject == {"kind": "ServiceAccount", "name": NAME, "namespace": "vicuna-system"}
    assert found["Job"]["spec"]["template"]["spec"]["serviceAccountName"] == NAME


@every_variant
def test_its_flags_are_the_commands_own_and_name_what_the_others_read(
    with_gateway: Render, values: dict[str, Any]
) -> None:
    objects = with_gateway(values)
    (container,) = hooks(objects)["Job"]["spec"]["template"]["spec"]["containers"]
    command, *flags = container["args"]
    assert command == "signing-keys"
    parser = argparse.ArgumentParser()
    signing_keys.add_arguments(parser)
    args = parser.parse_args(flags)
    gateway = deployments(objects)[1]
    assert container["image"] == pod(gateway)["containers"][0]["image"]
    (volume,) = [item for item in pod(gateway)["volumes"] if item["name"] == "signing"]
    assert volume["secret"]["secretName"] == args.secret.name
    assert args.rotation == values.get("gateway.signing", {}).get("rotation", "")
    if (known := public_keys(objects)) is not None:
        assert known["valueFrom"]["configMapKeyRef"] == {"name": args.config_map.name, "key": PUBLIC_KEYS}


def test_no_service_finds_the_hooks_pod(with_gateway: Render) -> None:
    objects = with_gateway({"networkPolicy.gateway": {"enabled": True}})
    labels = hooks(objects)["Job"]["spec"]["template"]["metadata"]["labels"]
    selectors = [item["spec"]["selector"] for item in objects if item["kind"] == "Service"]
    selectors += [deployment["spec"]["selector"]["matchLabels"] for deployment in deployments(objects)]
    assert not any(selector.items() <= labels.items() for selector in selectors)


def test_the_gateway_alone_gets_the_private_key_in_use(with_gateway: Render) -> None:
    objects = with_gateway({"gateway.signing": {"required": True}})
    operator, gateway = map(pod, deployments(objects))
    (volume,) = [item for item in gateway["volumes"] if item["name"] == "signing"]
    assert volume["secret"]["items"] == [{"key": "current", "path": "current"}]
    (mount,) = [item for item in gateway["containers"][0]["volumeMounts"] if item["name"] == "signing"]
    parser = argparse.ArgumentParser()
    cli.add_arguments(parser)
    options = cli._options(parser.parse_args(gateway["containers"][0]["args"][1:]))
    assert (str(options.signing_key), mount["readOnly"]) == (f"{mount['mountPath']}/current", True)
    assert "secret" not in json.dumps([operator["volumes"], operator["containers"][0]["env"]]).lower()
    rules = [rule for item in objects if item["kind"] in ("Role", "ClusterRole") for rule in item["rules"]]
    reading = [rule for rule in rules if "secrets" in rule["resources"] and "create" not in rule["verbs"]]
    assert [rule["resourceNames"] for rule in reading] == [["vo-vicuna-operator-gateway-keys"], [NAME]]


def test_servers_demand_nothing_unless_it_is_stated(render: Render, with_gateway: Render) -> None:
    assert public_keys(render()) is None
    assert public_keys(with_gateway({})) is None
    assert public_keys(with_gateway({"gateway.signing": {"enabled": False}})) is None


def test_signing_can_be_left_out(with_gateway: Render) -> None:
    objects = with_gateway({"gateway.signing": {"enabled": False}})
    assert hooks(objects) == {}
    assert "signing" not in json.dumps(deployments(objects)[1])


def test_without_a_gateway_there_is_no_hook(render: Render) -> None:
    assert hooks(render()) == {}


def test_keys_of_ones_own(with_gateway: Render, render: Render) -> None:
    own = {"existingSecret": "mine", "publicKeys": [KEY, OTHER], "required": True}
    objects = with_gateway({"gateway.signing": own})
    assert hooks(objects) == {}
    (volume,) = [item for item in pod(deployments(objects)[1])["volumes"] if item["name"] == "signing"]
    assert volume["secret"]["secretName"] == "mine"
    known = public_keys(objects)
    assert known == {"name": "VICUNA_GATEWAY_KEYS", "value": f"{KEY},{OTHER}"}
    environ = {"VICUNA_SERVER_IMAGE": "i", known["name"]: known["value"]}
    assert load_config({}, environ).plan.gateway_keys == f"{KEY},{OTHER}"
    elsewhere = render({"gateway.signing": {"publicKeys": [KEY], "required": True}})
    assert public_keys(elsewhere) == {"name": "VICUNA_GATEWAY_KEYS", "value": KEY}, "the gateway is another release's"


@pytest.mark.parametrize("required", [True, False])
def test_a_rotation_starts_anew_whoever_reads_the_keys_at_its_start(with_gateway: Render, required: bool) -> None:
    plain = with_gateway({"gateway.signing": {"required": required}})
    rotated = with_gateway({"gateway.signing": {"required": required, "rotation": "2027-01"}})
    changed = [
        before["spec"]["template"] != after["spec"]["template"]
        for before, after in zip(deployments(plain), deployments(rotated), strict=True)
    ]
    assert changed == [required, True]


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"gateway.signing": {"required": True, "enabled": False}}, "gateway.signing.publicKeys"),
        ({"gateway.signing": {"required": True, "existingSecret": "mine"}}, "gateway.signing.publicKeys"),
        ({"gateway.enabled": False, "gateway.signing": {"required": True}}, "gateway.signing.publicKeys"),
        ({"gateway.signing": {"publicKeys": ["x"]}}, "publicKeys"),
        ({"gateway.signing": {"rotation": "a b"}}, "rotation"),
        ({"gateway.signing": {"require": True}}, "require"),
    ],
)
def test_half_a_setting_is_refused_by_name(helm: Helm, values: dict[str, Any], named: str) -> None:
    stated = {"gateway.enabled": True, **values}
    words = [f"--set-json={key}={json.dumps(value)}" for key, value in stated.items()]
    done = helm("template", "vo", str(CHART), *words)
    assert done.returncode != 0
    assert named in done.stderr
