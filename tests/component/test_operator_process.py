"""The whole operator process, kopf included, against an API server in memory."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from support.memory_kube import Call, MemoryKube
from support.memory_server import MemoryServer
from vicuna_contract import names as c
from vicuna_operator.errors import ForbiddenError, UnavailableError

SPEC = {
    "weights": {"base": {"source": "pvc://weights/base"}, "delta": {"source": "pvc://weights/delta"}},
    "storage": {"size": "1Gi"},
}
CLAIM = {
    "apiVersion": "v1",
    "kind": "PersistentVolumeClaim",
    "metadata": {"name": "weights"},
    "spec": {"accessModes": ["ReadWriteMany"]},
    "status": {"phase": "Bound"},
}


def model_body(**metadata: Any) -> dict[str, Any]:
    return {"apiVersion": c.API_VERSION, "kind": c.KIND, "metadata": {"name": "m", **metadata}, "spec": SPEC}


class Operator:
    """Starts and ends operator processes."""

    def __init__(self, server: MemoryServer, kubeconfig: Path) -> None:
        self.server = server
        self.kube = server.kube
        self._kubeconfig = kubeconfig
        self._processes: list[asyncio.subprocess.Process] = []

    async def start(self, name: str = "a", *arguments: str) -> asyncio.subprocess.Process:
        environ = {k: v for k, v in os.environ.items() if not k.startswith(("VICUNA_", "POD_", "KUBE"))}
        environ |= {
            "KUBECONFIG": str(self._kubeconfig),
            "VICUNA_SERVER_IMAGE": "registry.example/server:1",
            "VICUNA_HEALTH_PORT": "0",
            "POD_NAME": name,
        }
        command = (sys.executable, "-W", "error::ResourceWarning", "-m", "vicuna_operator", "run", *arguments)
        process = await asyncio.create_subprocess_exec(
            *command, env=environ, stderr=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.DEVNULL
        )
        self._processes.append(process)
        return process

    async def end(self, process: asyncio.subprocess.Process, number: signal.Signals) -> tuple[int, str]:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(number)
        async with asyncio.timeout(30):
            _, error = await process.communicate()
        assert process.returncode is not None
        return process.returncode, error.decode()

    async def close(self) -> None:
        for process in self._processes:
            if process.returncode is None:
                await self.end(process, signal.SIGKILL)

    def holder(self) -> str | None:
        lease = self.kube.find("Lease", "vicuna-operator")
        return lease["spec"]["holderIdentity"] if lease else None

    def status(self) -> dict[str, Any]:
        return (self.kube.find(c.KIND, "m") or {}).get("status") or {}

    def writes(self) -> list[Call]:
        return [call for call in self.kube.writes if call.kind != "Lease"]

    def looks(self) -> int:
        """Count passes: each looks up the weights' claim first."""
        return sum(call.verb == "get" and call.name == "weights" for call in self.kube.calls)


@pytest.fixture
async def operator(tmp_path: Path) -> AsyncIterator[Operator]:
    async with MemoryServer(MemoryKube()) as server:
        operator = Operator(server, server.write_kubeconfig(tmp_path / "kubeconfig"))
        yield operator
        await operator.close()


async def test_from_model_to_children_and_then_silence(operator: Operator) -> None:
    kube, server = operator.kube, operator.server
    kube.put(CLAIM)
    process = await operator.start()
    await server.until(lambda: operator.holder() == "a")
    made = kube.put(model_body())
    await server.until(lambda: kube.objects("Job") and operator.status().get("observedGeneration") == 1)
    await server.until(lambda: operator.looks() >= 2)

    # nothing of kopf on the object
    now = kube.find(c.KIND, "m")
    assert now is not None
    assert "finalizers" not in now["metadata"]
    assert "annotations" not in now["metadata"]
    assert now["metadata"]["uid"] == made["metadata"]["uid"]
    # children are watched through the label, on the server's side
    watched = [path for method, path in server.requests if "watch=true" in path and "/pods" in path]
    assert watched
    assert all("labelSelector=vicuna.dev/model&" in path + "&" for path in watched), watched

    # passes over a steady state write nothing: three events, three looks; the third says the first two are over
    await server.until(lambda: kube.objects("Service"))
    for round_ in range(2):
        before = operator.looks()
        kube.put({**(kube.find(c.KIND, "m") or {}), "metadata": {**now["metadata"], "labels": {"n": str(round_)}}})
        await server.until(lambda seen=before: operator.looks() > seen)
    written, before = operator.writes(), operator.looks()
    kube.put({**(kube.find(c.KIND, "m") or {}), "metadata": {**now["metadata"], "labels": {"n": "last"}}})
    await server.until(lambda: operator.looks() > before)
    assert operator.writes() == written

    # a child's event wakes its model
    before = operator.looks()
    kube.change("Job", kube.objects("Job")[0]["metadata"]["name"], {"status": {"active": 1}})
    await server.until(lambda: operator.looks() > before)

    code, log = await operator.end(process, signal.SIGTERM)
    assert code == 0, log
    assert operator.holder() == ""
    assert "Traceback" not in log


async def test_a_killed_operator_resumes_where_it_was(operator: Operator) -> None:
    kube, server = operator.kube, operator.server
    kube.put(CLAIM)
    kube.put(model_body())
    process = await operator.start()
    await server.until(lambda: kube.objects("PersistentVolumeClaim")[1:])  # in the midst of its first pass
    await operator.end(process, signal.SIGKILL)
    again = await operator.start()
    await server.until(lambda: kube.objects("Service") and operator.status().get("observedGeneration") == 1)
    assert len(kube.objects("Job")) == 1
    code, log = await operator.end(again, signal.SIGTERM)
    assert code == 0, log


async def test_a_standby_takes_over_when_the_leader_is_stopped(operator: Operator) -> None:
    server = operator.server
    first = await operator.start("a")
    await server.until(lambda: operator.holder() == "a")
    second = await operator.start("b")
    await server.until(lambda: sum("/leases/" in path for _, path in server.requests) >= 2)
    await operator.end(first, signal.SIGTERM)
    await server.until(lambda: operator.holder() == "b")
    operator.kube.put(CLAIM)
    operator.kube.put(model_body())
    await server.until(lambda: operator.status().get("observedGeneration") == 1)
    assert (await operator.end(second, signal.SIGTERM))[0] == 0


async def test_a_leader_that_lost_its_lease_ends_with_an_error(operator: Operator) -> None:
    process = await operator.start("a")
    await operator.server.until(lambda: operator.holder() == "a")
    lease = operator.kube.find("Lease", "vicuna-operator")
    assert lease is not None
    operator.kube.put({**lease, "spec": {**lease["spec"], "holderIdentity": "b"}})
    async with asyncio.timeout(30):
        _, error = await process.communicate()
    assert process.returncode == 1
    assert b"No longer leading" in error
    assert operator.holder() == "b"


async def test_a_model_that_is_deleted_ends_its_loop_and_one_made_anew_gets_another(operator: Operator) -> None:
    kube, server = operator.kube, operator.server
    kube.put(CLAIM)
    kube.put(model_body())
    process = await operator.start()
    await server.until(lambda: operator.status().get("observedGeneration") == 1)
    kube.remove(c.KIND, "m")
    assert kube.objects("Job") == []  # the garbage collector
    new = kube.put(model_body())
    await server.until(lambda: operator.status().get("observedGeneration") == 1 and kube.objects("Job"))
    owners = kube.objects("Job")[0]["metadata"]["ownerReferences"]
    assert [owner["uid"] for owner in owners] == [new["metadata"]["uid"]]
    assert (await operator.end(process, signal.SIGTERM))[0] == 0


@pytest.mark.parametrize("arguments", [(), ("--watch-namespaces", "one,default")])
async def test_a_claim_of_the_users_that_goes_is_told_at_once(operator: Operator, arguments: tuple[str, ...]) -> None:
    kube, server = operator.kube, operator.server
    kube.put(CLAIM)
    # suspended: nothing is waited for, so nothing is looked at for minutes
    kube.put(model_body() | {"spec": {**SPEC, "storage": {"claimName": "weights"}, "suspend": True}})
    process = await operator.start("a", *arguments)

    def reason() -> str:
        return str(next(each for each in operator.status()["conditions"] if each["type"] == "WeightsReady")["reason"])

    await server.until(lambda: operator.status().get("observedGeneration") == 1)
    assert reason() == "Suspended"
    watches = "/persistentvolumeclaims?watch=true&allowWatchBookmarks"
    await server.until(lambda: any(watches in path for _, path in server.requests))

    seen, number = operator.looks(), 0
    while operator.looks() < seen + 3:  # so the looks of the beginning are over
        number += 1
        kube.change(c.KIND, "m", {"metadata": {"labels": {"n": str(number)}}})
        so_far = operator.looks()
        with contextlib.suppress(TimeoutError):  # passes in quick succession share an answer
            await server.until(lambda so_far=so_far: operator.looks() > so_far, seconds=1)

    claim = kube.find("PersistentVolumeClaim", "weights")
    assert claim is not None
    kube.restore(claim | {"metadata": {**claim["metadata"], "deletionTimestamp": "2026-01-01T00:00:00Z"}})
    await server.until(lambda: reason() == "ClaimPending")
    kube.remove("PersistentVolumeClaim", "weights")
    await server.until(lambda: reason() == "ClaimNotFound")
    before = operator.writes()
    kube.put({**CLAIM, "metadata": {"name": "nobodys"}})
    kube.put(CLAIM)
    await server.until(lambda: reason() == "Suspended")
    assert all(call.kind != "PersistentVolumeClaim" for call in operator.writes()[len(before) :])
    assert (await operator.end(process, signal.SIGTERM))[0] == 0


async def test_named_namespaces_are_served_and_no_others(operator: Operator) -> None:
    kube, server = operator.kube, operator.server
    process = await operator.start("a", "--watch-namespaces", "one,two")
    await server.until(lambda: operator.holder() == "a")
    kube.put(model_body(), "three")
    kube.put(model_body(), "two")

    def observed(namespace: str) -> int:
        body = kube.find(c.KIND, "m", namespace)
        assert body is not None
        return int(body.get("status", {}).get("observedGeneration", 0))

    await server.until(lambda: observed("two") == 1)
    assert observed("three") == 0
    lists = [path for method, path in server.requests if method == "GET" and "vicunamodels" in path]
    assert not any(path.startswith("/apis/vicuna.dev/v1alpha1/vicunamodels") for path in lists)
    assert (await operator.end(process, signal.SIGTERM))[0] == 0


async def test_a_namespace_that_may_not_be_read_is_left_out_and_the_others_go_on(operator: Operator) -> None:
    kube, server = operator.kube, operator.server
    server.forbidden = {"two"}
    process = await operator.start("a", "--watch-namespaces", "one,two")
    await server.until(lambda: operator.holder() == "a")
    kube.put(CLAIM, "one")
    kube.put(model_body(), "one")
    await server.until(lambda: kube.objects("Job", "one"))
    code, said = await operator.end(process, signal.SIGTERM)
    assert code == 0
    assert "The namespace two is left out" in said


async def test_what_ends_it_after_it_has_taken_the_lease_gives_that_back(operator: Operator) -> None:
    kube, server = operator.kube, operator.server
    first = await operator.start("a")
    await server.until(lambda: operator.holder() == "a")
    second = await operator.start("b")
    checks = "/pods?labelSelector=vicuna.dev/model&limit=1"  # two of the first operator, then one of the second
    await server.until(lambda: sum(path.endswith(checks) for _, path in server.requests) == 3)
    kube.fail(ForbiddenError("pods is forbidden: no list", 403), verb="list", kind="Pod", times=1)
    await operator.end(first, signal.SIGTERM)
    async with asyncio.timeout(30):
        _, error = await second.communicate()
    assert second.returncode == 77, error
    assert b"Leading: the Lease" in error
    assert operator.holder() == ""


async def test_where_no_namespace_may_be_read_it_says_so(operator: Operator) -> None:
    operator.server.forbidden = {"one", "two"}
    process = await operator.start("a", "--watch-namespaces", "one,two")
    async with asyncio.timeout(30):
        _, error = await process.communicate()
    assert process.returncode == 77
    assert error.startswith(b"vicuna-operator: missing rights: ")


async def test_without_the_crd_it_says_so_in_one_line(operator: Operator) -> None:
    operator.kube.groups.discard(c.API_VERSION)
    process = await operator.start()
    async with asyncio.timeout(30):
        _, error = await process.communicate()
    assert process.returncode == 69
    assert error.decode().startswith("vicuna-operator: the cluster does not know vicunamodels.vicuna.dev")
    assert error.count(b"\n") == 1


@pytest.mark.parametrize(
    ("fault", "code", "words"),
    [
        (ForbiddenError("pods is forbidden: no list", 403), 77, b"missing rights: pods is forbidden: no list; "),
        (UnavailableError("etcd is away", 503), 69, b"cannot use the cluster: etcd is away"),
    ],
)
async def test_what_it_may_not_read_it_says_in_one_line(
    operator: Operator, fault: Exception, code: int, words: bytes
) -> None:
    operator.kube.fail(fault, verb="list", kind="Pod")
    process = await operator.start()
    async with asyncio.timeout(30):
        _, error = await process.communicate()
    assert process.returncode == code
    assert error.startswith(b"vicuna-operator: " + words)
    assert error.count(b"\n") == 1
