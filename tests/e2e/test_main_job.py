"""Apply a VicunaModel, get a streaming chat: the whole way on a real cluster with real weights."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest

from .cluster import Namespace, lease_holder, model, names, until

QUESTION = "What is the capital of France?"


@pytest.fixture(scope="module")
def demo(team: Namespace) -> Iterator[str]:
    """Two replicas with one GPU each, merged onto a claim of their own."""
    team.apply(
        model(
            "demo",
            "weights",
            storage={"size": "2Gi", "reclaimPolicy": "Delete"},
            serving={"replicas": 2, "numGpus": 1, "device": "cpu", "dtype": "float32"},
        )
    )
    team.wait_ready("demo", 300)
    yield "demo"
    team.kubectl("delete", "vicunamodel", "demo", "--ignore-not-found", timeout=120)


def test_both_pods_hold_a_gpu_each(team: Namespace, demo: str) -> None:
    pods = team.pods(demo)
    assert len(pods) == 2
    for pod in pods:
        (container,) = pod["spec"]["containers"]
        assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"
        assert pod["spec"]["nodeName"]


def test_kubectl_get_prints_what_a_person_can_use(team: Namespace, demo: str) -> None:
    header, line = team.kubectl("get", "vicunamodel", demo).splitlines()
    shown = dict(zip(header.split(), line.split(), strict=True))
    revision = team.status(demo)["active"]["revision"]
    expected = {"NAME": demo, "PHASE": "Ready", "MERGE%": "100", "READY": "2/2", "GPUS": "2", "REVISION": revision}
    assert {key: shown[key] for key in expected} == expected
    assert team.kubectl("get", "vic", "--output", "wide")


def test_the_object_says_what_the_pods_say(team: Namespace, demo: str) -> None:
    status = team.status(demo)
    for pod in team.pods(demo):
        assert pod["metadata"]["labels"]["vicuna.dev/revision"] == status["active"]["revision"]
        assert pod["metadata"]["labels"]["vicuna.dev/artifact-id"] == status["active"]["artifactID"]
    assert status["observedGeneration"] == (team.get("vicunamodel", demo) or {})["metadata"]["generation"]
    assert {item["type"]: item["status"] for item in status["conditions"]} == {
        "Ready": "True",
        "WeightsReady": "True",
        "Available": "True",
        "Progressing": "False",
        "Stalled": "False",
    }


def test_a_streaming_chat_through_the_service_says_paris(team: Namespace, demo: str) -> None:
    words = ["exec", "toolbox", "--", "vicuna-server", "chat", "--url", f"http://{demo}.{team.name}.svc:8000"]
    answer = team.kubectl(*words, "--prompt", QUESTION, "--temperature", "0", "--wait", "30", timeout=120)
    assert "Paris" in answer


def test_the_official_client_streams_and_sees_the_revision(team: Namespace, demo: str) -> None:
    with (
        team.forward(f"service/{demo}", 8000) as url,
        openai.OpenAI(base_url=f"{url}/v1", api_key="none") as client,
    ):
        question: dict[str, Any] = {"model": demo, "messages": [{"role": "user", "content": QUESTION}]}
        stream = client.chat.completions.create(**question, temperature=0, max_tokens=32, stream=True)
        pieces = [chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices]
        assert len([piece for piece in pieces if piece]) > 1
        assert "Paris" in "".join(pieces)
        assert httpx.get(f"{url}/v1/models").headers["x-vicuna-revision"] == team.status(demo)["active"]["revision"]
        with pytest.raises(openai.NotFoundError):
            client.chat.completions.create(**question | {"model": "another"})


def test_events_tell_the_story(team: Namespace, demo: str) -> None:
    events = team.kubectl("get", "events", "--field-selector", f"involvedObject.name={demo}", "--output", "json")
    reasons = {item["reason"] for item in json.loads(events)["items"]}
    assert {"MergeStarted", "RevisionCreated", "Ready"} <= reasons


def test_no_finalizer_and_no_annotation_is_left_on_the_object(team: Namespace, demo: str) -> None:
    metadata = (team.get("vicunamodel", demo) or {})["metadata"]
    assert "finalizers" not in metadata
    kept = {key for key in metadata.get("annotations", {}) if not key.startswith("kubectl.kubernetes.io/")}
    assert kept == set()


def test_another_operator_finds_nothing_to_write(team: Namespace, operator: Namespace, demo: str) -> None:
    before = team.versions(demo)
    old = names(operator.find("pods", "app.kubernetes.io/name=vicuna-operator"))
    operator.kubectl("rollout", "restart", "deployment/vicuna-operator")
    operator.kubectl("rollout", "status", "deployment/vicuna-operator", "--timeout=90s")
    until("the new operator leads", lambda: lease_holder(operator) not in {"", *old}, 60)
    # A model made after the restart is seen after those that were there: once it is served, they have been looked at.
    team.apply(model("witness", "absent"))
    team.wait_reason("witness", "ClaimNotFound", 30)
    team.kubectl("delete", "vicunamodel", "witness")
    assert team.versions(demo) == before


def test_scale_to_one_and_back(team: Namespace, demo: str) -> None:
    revision = team.status(demo)["active"]["revision"]
    for replicas in (1, 2):
        team.kubectl("scale", f"vicunamodel/{demo}", f"--replicas={replicas}")
        until(f"{replicas} replicas", lambda: team.status(demo)["ready"] == f"{replicas}/{replicas}", 120)  # noqa: B023
        team.wait_ready(demo)
        until("pods of that number", lambda: len(team.pods(demo)) == replicas, 150)  # noqa: B023
    assert team.status(demo)["active"]["revision"] == revision
    scale = json.loads(run_scale(team, demo))
    assert scale["status"]["replicas"] == 2
    assert "vicuna.dev/model=demo" in scale["status"]["selector"]


def run_scale(team: Namespace, name: str) -> str:
    return team.kubectl("get", "--raw", f"/apis/vicuna.dev/v1alpha1/namespaces/{team.name}/vicunamodels/{name}/scale")


def test_more_gpus_than_exist_is_said_and_takes_nothing_down(team: Namespace, demo: str, fresh: str) -> None:
    team.apply(model(fresh, "weights", serving={"replicas": 2, "numGpus": 8, "device": "cpu"}))
    until("its pods exist", lambda: team.pods(fresh), 120)
    condition = team.wait_reason(fresh, "Unschedulable", 10)
    assert "8 nvidia.com/gpu per replica x 2 replicas = 16" in condition["message"]
    assert "Insufficient nvidia.com/gpu" in condition["message"]
    assert team.condition(demo, "Ready")["status"] == "True"
