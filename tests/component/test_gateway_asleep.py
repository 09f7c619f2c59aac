"""The gateway's command before a model that sleeps: it states the demand, holds requests, and sends them on."""

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
from aiohttp import web

from support.gateway import FakeApi, answering, chat
from support.kubeconfig import write_kubeconfig
from support.serving import NO_TLS, eventually, running
from support.usage_api import PATH, Api
from vicuna_server.engine.scripted import ScriptedEngine, ScriptedSettings

MODELS = "/apis/vicuna.dev/v1alpha1/vicunamodels"
SLICES = "/apis/discovery.k8s.io/v1/endpointslices"


def _model() -> dict[str, Any]:
    ready = {"type": "Ready", "status": "False", "reason": "Asleep", "message": "no request for 300 s"}
    serving = {"replicas": 0, "autoscaling": {"minReplicas": 0, "maxReplicas": 2}}
    return {
        "metadata": {"namespace": "team", "name": "tiny"},
        "spec": {"serving": serving},
        "status": {"conditions": [ready]},
    }


def _slice(port: int) -> dict[str, Any]:
    labels = {
        "kubernetes.io/service-name": "tiny",
        "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
    }
    pod = {"kind": "Pod", "namespace": "team", "name": "tiny-0123abcd-6d5f-1"}
    return {
        "metadata": {"namespace": "team", "name": "tiny-1", "labels": labels},
        "ports": [{"name": "http", "port": port}],
        "endpoints": [{"addresses": ["127.0.0.1"], "conditions": {"ready": True}, "targetRef": pod}],
    }


@asynccontextmanager
async def _cluster() -> AsyncIterator[tuple[FakeApi, Api, str]]:
    """An API server with what the gateway watches, and with VicunaUsages."""
    watched, usage = FakeApi(), Api()

    async def answer(request: web.Request) -> web.StreamResponse:
        return await (usage.answer(request) if request.path.startswith(PATH) else watched._answer(request))

    async with answering(answer) as url:
        try:
            yield watched, usage, url
        finally:
            watched.cut()


async def test_a_request_wakes_a_model_and_is_answered(tmp_path: Path) -> None:
    flags = ["--no-keys", "--service", "sys/gw", "--host", "127.0.0.1", "--port", "0", "--metrics-port", "0"]
    words = [sys.executable, "-m", "vicuna_server.cli", "gateway", *flags, "--drain-seconds", "0"]
    async with _cluster() as (cluster, usage, api), running(ScriptedEngine(ScriptedSettings(tokens=2))) as server:
        env = {**os.environ, "KUBECONFIG": str(write_kubeconfig(tmp_path / "kubeconfig", api))}
        cluster.put(MODELS, _model())
        process = await asyncio.create_subprocess_exec(*words, stderr=asyncio.subprocess.PIPE, env=env)
        assert process.stderr is not None
        try:
            ports = re.search(rb"port (\d+), metrics on (\d+)", await process.stderr.readline())
            assert ports is not None

            def demand() -> list[Any]:
                return [entry for body in usage.objects.values() for entry in body.get("demand", ())]

            async with httpx.AsyncClient(
                base_url=f"http://127.0.0.1:{int(ports[1])}", timeout=60, verify=NO_TLS
            ) as client:
                while (await client.get("/readyz")).status_code != 200:  # noqa: ASYNC110  # another process
                    await asyncio.sleep(0.05)
                assert (await client.get("/v1/models/team/tiny")).json()["status"] == "asleep"
                asking = asyncio.create_task(client.post("/v1/chat/completions", json=chat()))
                await eventually(lambda: demand() == [{"namespace": "team", "name": "tiny", "underWay": 0, "held": 1}])
                cluster.put(SLICES, _slice(server.port))
                assert (await asking).status_code == 200
                await eventually(lambda: len(usage.objects) > 1 and demand() == [])
            process.send_signal(signal.SIGTERM)
            assert await process.wait() == 0
            assert not [body for body in usage.objects.values() if "demand" in body]  # it has no requests any more
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
