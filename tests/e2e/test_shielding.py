"""The servers behind the gateway: who reaches them, and that an upgrade takes nobody's way away.

The test clusters enforce no NetworkPolicy, so what one would let through is judged in tests/chart; here the API server
takes them, and the operator makes and removes them.
"""

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from .cluster import GATEWAY_IMAGE, HELM_ARGS, ROOT, SYSTEM, Namespace, model, run, scripted, until
from .conftest import TEAM
from .door import GATEWAY, URL, gateway_key
from .test_operators import CHART, EARLIER, PLACE, RELEASE, SECOND, installed, unpacked
from .test_soak import clients

# Runs in a pod of the cluster: asks each address as anybody would, and prints the statuses.
ASK = """
import httpx, json, sys
body = {"model": sys.argv[2], "messages": [{"role": "user", "content": "a b"}], "max_tokens": 2}
headers, seen = json.loads(sys.argv[3]), {}
with httpx.Client(base_url=sys.argv[1], headers=headers, timeout=30) as client:
    for path in ("/livez", "/readyz", "/metrics", "/v1/models", "/openapi.json"):
        seen[path] = client.get(path).status_code
    seen["chat"] = client.post("/v1/chat/completions", json=body).status_code
print(json.dumps(seen))
"""


def ask(team: Namespace, url: str, name: str, **headers: str) -> dict[str, int]:
    """Ask from another pod of the cluster."""
    words = ["exec", "toolbox", "--", "python3", "-c", ASK, url, name, json.dumps(headers)]
    seen: dict[str, int] = json.loads(team.kubectl(*words))
    return seen


def _answers(team: Namespace, name: str, headers: dict[str, str]) -> bool:
    return ask(team, URL, name, **headers)["chat"] == 200


def upgrade(**values: Any) -> None:
    """Upgrade the release that all tests use, and keep what it has stated."""
    words = ["helm", "upgrade", "vicuna-operator", str(ROOT / CHART), "--namespace", SYSTEM]
    words += ["--reset-then-reuse-values", "--wait", "--timeout", "180s", *HELM_ARGS]
    run(*words, *(f"--set-json={key}={json.dumps(value)}" for key, value in values.items()))


@pytest.fixture
def key(team: Namespace, operator: Namespace) -> Iterator[str]:
    with gateway_key(operator, team, "shielded") as key:
        yield key


def test_servers_that_demand_a_signature_answer_the_gateway_and_whoever_is_in_the_pod(
    team: Namespace, operator: Namespace, fresh: str, key: str
) -> None:
    before, after = f"{fresh[:30]}-0", fresh
    address = f"http://{after}.{TEAM}.svc:8000"
    team.apply(model(before, "weights", serving=scripted()))
    team.wait_ready(before)
    uids = {pod["metadata"]["uid"] for pod in team.pods(before)}
    upgrade(**{"gateway.signing.required": True})
    try:
        team.apply(model(after, "weights", serving=scripted()))
        team.wait_ready(after)
        for fake in ({}, {"x-forwarded-for": "127.0.0.1"}, {"x-vicuna-signature": "x"}, {"authorization": key}):
            assert ask(team, address, after, **fake) == {
                **dict.fromkeys(("/livez", "/readyz", "/metrics"), 200),
                **dict.fromkeys(("/v1/models", "/openapi.json", "chat"), 401),
            }
        door = {"authorization": f"Bearer {key}"}
        for name in (after, before):
            answers = partial(_answers, team, f"{TEAM}/{name}", door)
            until(f"the gateway answers for {name}", answers, 60)
        with team.forward(f"service/{after}", 8000) as url:
            assert httpx.get(f"{url}/v1/models").status_code == 200, "port-forward comes from inside the pod"
        words = ["kubectl", "vicuna", "test", after, "--namespace", TEAM, "--max-tokens", "2", "--output", "json"]
        assert len(json.loads(run(*words))) == 1
        # Pods from before know no keys: they go on, and answer whoever asks.
        assert ask(team, f"http://{before}.{TEAM}.svc:8000", before)["chat"] == 200
        assert {pod["metadata"]["uid"] for pod in team.pods(before)} == uids
        (container,) = team.pods(after)[0]["spec"]["containers"]
        told = {item["name"]: item.get("value", "") for item in container["env"]}
        keys = operator.get("configmap", f"{GATEWAY}-signing")
        assert keys is not None
        assert told["VICUNA_GATEWAY_KEYS"] == keys["data"]["public-keys"]
        uid = (team.get("vicunamodel", after) or {})["metadata"]["uid"]
        assert told["VICUNA_AUDIENCE"] == f"{TEAM}/{after}/{uid}"
    finally:
        upgrade(**{"gateway.signing.required": False})
        team.kubectl("delete", "vicunamodel", before, "--timeout=120s", timeout=150)


def test_an_upgrade_keeps_the_keys(operator: Namespace) -> None:
    before = operator.get("secret", f"{GATEWAY}-signing")
    assert before is not None
    upgrade()
    after = operator.get("secret", f"{GATEWAY}-signing")
    assert after is not None
    assert after["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"], "it was written"
    for account in (f"system:serviceaccount:{SYSTEM}:vicuna-operator", f"system:serviceaccount:{SYSTEM}:{GATEWAY}"):
        words = ["auth", "can-i", "get", f"secrets/{GATEWAY}-signing", f"--as={account}"]
        assert operator.kubectl(*words, check=False).strip() == "no"


def test_policies_are_made_and_removed_as_the_chart_says(team: Namespace, operator: Namespace, fresh: str) -> None:
    team.apply(model(fresh, "weights", serving=scripted()))
    team.wait_ready(fresh)
    assert team.get("networkpolicy", fresh) is None
    upgrade(networkPolicy={"enabled": True, "namespaces": [TEAM], "gateway": {"enabled": True}})
    try:
        policy = until("the model has its policy", lambda: team.get("networkpolicy", fresh), 60)
        (rule,) = policy["spec"]["ingress"]
        namespaces = [peer["namespaceSelector"] for peer in rule["from"]]
        assert namespaces[0]["matchLabels"] == {"kubernetes.io/metadata.name": SYSTEM}
        assert namespaces[1]["matchExpressions"][0]["values"] == [TEAM]
        assert operator.get("networkpolicy", GATEWAY) is not None
        assert operator.get("networkpolicy", "vicuna-operator") is not None
        assert ask(team, f"http://{fresh}.{TEAM}.svc:8000", fresh)["chat"] == 200
    finally:
        upgrade(networkPolicy={"enabled": False, "namespaces": [], "gateway": {"enabled": False}})
    until("it is removed", lambda: team.get("networkpolicy", fresh) is None, 60)
    assert operator.get("networkpolicy", GATEWAY) is None
    assert operator.get("networkpolicy", "vicuna-operator") is None


@pytest.mark.full
def test_an_upgrade_of_an_earlier_chart_cuts_no_direct_client(team: Namespace, fresh: str, tmp_path: Path) -> None:
    """With a gateway, and nothing stated of policies and signatures: whoever asks servers directly goes on."""
    repository, _, tag = GATEWAY_IMAGE.rpartition(":")
    image = {"repository": repository, "tag": tag}
    gateway = {"enabled": True, "image": image, "replicas": 1, "terminationGracePeriodSeconds": 10}
    chart = unpacked(EARLIER, tmp_path)
    with installed(chart, watchNamespaces=[team.name], gateway=gateway) as place:
        body = model(fresh, "weights", serving=scripted())
        body["metadata"]["annotations"] = {"vicuna.dev/managed-by": SECOND}
        team.apply(body)
        team.wait_ready(fresh)
        before = {pod["metadata"]["uid"] for pod in team.pods(fresh)}
        seen: dict[str, Any] = {}
        with clients(team, fresh, seen, 3):
            words = ["--namespace", PLACE, "--wait", "--timeout", "180s", "--reset-then-reuse-values", *HELM_ARGS]
            run("helm", "upgrade", RELEASE, str(ROOT / CHART), *words)
            team.kubectl("annotate", "vicunamodel", fresh, "note=looked-at")
            team.patch_spec(fresh, serving={"replicas": 2})
            until("the upgraded operator follows", lambda: len(team.pods(fresh)) == 2, 90)
            team.wait_ready(fresh)
        assert seen["failures"] == []
        assert seen["requests"] > 0
        assert before <= {pod["metadata"]["uid"] for pod in team.pods(fresh)}
        assert team.get("networkpolicy", fresh) is None
        assert place.find("networkpolicies") == []
        assert ask(team, f"http://{fresh}.{TEAM}.svc:8000", fresh)["chat"] == 200
        team.kubectl("delete", "vicunamodel", fresh, "--timeout=120s", timeout=150)
