"""KubeClient speaks HTTP as the API server expects it."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.memory_kube import MemoryKube
from support.memory_server import MemoryServer
from vicuna_operator import errors
from vicuna_operator.kube.client import KubeClient
from vicuna_operator.planning.actions import Ref

JOB = {
    "apiVersion": "batch/v1",
    "kind": "Job",
    "metadata": {"name": "j", "labels": {"a": "b"}},
    "spec": {"x": 1},
}
REF = Ref("batch/v1", "Job", "j")


@pytest.fixture
async def server() -> AsyncIterator[MemoryServer]:
    async with MemoryServer(MemoryKube()) as server:
        yield server


@pytest.fixture
async def client(server: MemoryServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[KubeClient]:
    monkeypatch.setenv("KUBECONFIG", str(server.write_kubeconfig(tmp_path / "kubeconfig")))
    client = await KubeClient.connect()
    yield client
    await client.close()


async def test_every_verb(client: KubeClient, server: MemoryServer) -> None:
    assert await client.get(REF, "ns") is None
    made = await client.create(JOB, "ns")
    assert await client.get(REF, "ns") == made
    listed = await client.list("batch/v1", "Job", "ns", label_selector="a=b")
    assert [(item["kind"], item["apiVersion"], item["metadata"]["name"]) for item in listed] == [
        ("Job", "batch/v1", "j")
    ]
    assert await client.list("batch/v1", "Job", None, label_selector="a=c") == []
    applied = await client.apply({**JOB, "spec": {"x": 2}}, "ns")
    assert applied["spec"] == {"x": 2}
    patched = await client.patch(REF, "ns", {"metadata": {"uid": made["metadata"]["uid"]}, "spec": {"x": None}})
    assert patched["spec"] == {}
    status = await client.patch(REF, "ns", {"status": {"active": 1}}, subresource="status")
    assert status["status"] == {"active": 1}
    with pytest.raises(errors.ConflictError):
        await client.delete(REF, "ns", uid="other")
    await client.delete(REF, "ns", uid=made["metadata"]["uid"])
    with pytest.raises(errors.NotFoundError):
        await client.delete(REF, "ns")
    methods = [f"{method} {path}" for method, path in server.requests]
    assert "PATCH /apis/batch/v1/namespaces/ns/jobs/j?fieldManager=vicuna-operator&force=true" in methods
    assert "PATCH /apis/batch/v1/namespaces/ns/jobs/j/status?fieldManager=vicuna-operator" in methods
    assert "GET /apis/batch/v1/jobs?labelSelector=a%3Dc" in methods


async def test_core_kinds_logs_and_field_selectors(client: KubeClient, server: MemoryServer) -> None:
    server.kube.pod_logs["ns", "p", "merge"] = "one\ntwo\nthree"
    server.kube.pod_logs["ns", "p", "istio-proxy"] = "of the sidecar"
    assert await client.logs("ns", "p", container="merge", tail_lines=2, limit_bytes=100) == "two\nthree"
    assert "previous" not in server.requests[-1][1]
    await client.logs("ns", "p", container="merge", tail_lines=2, limit_bytes=100, previous=True)
    assert server.requests[-1][1].endswith("&previous=true")
    event = {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": "e"},
        "involvedObject": {"uid": "u"},
    }
    await client.create(event, "ns")
    assert len(await client.list("v1", "Event", "ns", field_selector="involvedObject.uid=u")) == 1
    assert await client.list("v1", "Event", "ns", field_selector="involvedObject.uid=v") == []


async def test_a_dry_run_makes_nothing_and_returns_what_the_server_warns_of(
    client: KubeClient, server: MemoryServer
) -> None:
    server.kube.warnings["Job"] = ['would violate PodSecurity "restricted:latest": a, "b"', "another"]
    assert await client.dry_run(JOB, "ns") == server.kube.warnings["Job"]
    assert server.requests[-1][1].endswith("/jobs?fieldManager=vicuna-operator&dryRun=All")
    assert not server.kube.objects("Job")
    server.kube.fail(errors.InvalidError("spec.x: wrong", 422))
    with pytest.raises(errors.InvalidError, match=r"spec\.x: wrong"):
        await client.dry_run(JOB, "ns")


async def test_a_merge_starts_while_the_events_of_others_wait_for_their_turn(
    client: KubeClient, server: MemoryServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer, create = asyncio.Event(), server.kube.create

    async def slow_with_events(body: Mapping[str, Any], namespace: str) -> dict[str, Any]:
        if body["kind"] == "Event":
            await answer.wait()
        return await create(body, namespace)

    monkeypatch.setattr(server.kube, "create", slow_with_events)
    events = [{"apiVersion": "v1", "kind": "Event", "metadata": {"name": f"e{number}"}} for number in range(20)]
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        for event in events:
            group.create_task(client.create(event, "ns"))
        assert await client.create(JOB, "ns")
        assert len([path for method, path in server.requests if "/events" in path]) <= 2
        answer.set()
    assert len(server.kube.objects("Event")) == 20


async def test_discovery_is_asked_once(client: KubeClient, server: MemoryServer) -> None:
    assert await client.offers("batch/v1")
    assert not await client.offers("policy/v1")
    asked = len(server.requests)
    assert await client.offers("batch/v1")
    assert not await client.offers("policy/v1")
    assert len(server.requests) == asked


async def test_a_rotated_token_is_read_again(client: KubeClient, server: MemoryServer, tmp_path: Path) -> None:
    server.token = "rotated"
    server.write_kubeconfig(tmp_path / "kubeconfig")
    assert await client.get(REF, "ns") is None
    assert (await client.connection()).authorization == "Bearer rotated"


async def test_a_token_that_stays_wrong_is_forbidden(client: KubeClient, server: MemoryServer) -> None:
    server.token = "other"
    with pytest.raises(errors.ForbiddenError, match="Unauthorized"):
        await client.get(REF, "ns")


async def test_failures_carry_the_apis_words(client: KubeClient, server: MemoryServer) -> None:
    server.kube.fail(errors.InvalidError("spec.x: must not be 1", 422))
    with pytest.raises(errors.InvalidError, match=r"spec\.x: must not be 1"):
        await client.create(JOB, "ns")
    server.kube.fail(errors.UnavailableError("etcd is away", 503))
    with pytest.raises(errors.UnavailableError, match="etcd is away"):
        await client.get(REF, "ns")


async def test_a_server_that_is_away_is_unavailable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with MemoryServer(MemoryKube()) as server:
        monkeypatch.setenv("KUBECONFIG", str(server.write_kubeconfig(tmp_path / "kubeconfig")))
    client = await KubeClient.connect()
    with pytest.raises(errors.UnavailableError, match=server.url):
        await client.get(REF, "ns")
    await client.close()


@pytest.mark.parametrize(
    ("bypassed", "own", "proxy"),
    [("", None, "http://proxy:3128"), ("127.0.0.1", None, None), ("127.0.0.1", "http://own:1", "http://own:1")],
)
async def test_the_environments_proxy_is_used_unless_the_kubeconfig_names_one(
    server: MemoryServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    bypassed: str,
    own: str | None,
    proxy: str | None,
) -> None:
    path = server.write_kubeconfig(tmp_path / "kubeconfig")
    if own:
        config = yaml.safe_load(path.read_text())
        config["clusters"][0]["cluster"]["proxy-url"] = own
        path.write_text(yaml.safe_dump(config))
    monkeypatch.setenv("KUBECONFIG", str(path))
    for scheme in ("http", "https"):
        monkeypatch.setenv(f"{scheme}_proxy", "http://proxy:3128")
    monkeypatch.setenv("no_proxy", bypassed)
    client = await KubeClient.connect()
    assert (await client.connection()).proxy_url == proxy
    await client.close()
