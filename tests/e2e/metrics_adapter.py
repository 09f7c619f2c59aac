"""A stand-in for prometheus-adapter and for KEDA's metrics server: the main program of a pod; no own imports.

It serves two APIs of the cluster. What Prometheus would have scraped, it asks the servers at each question; a server
that does not answer has no value, as a target that is down.

- custom.metrics.k8s.io: any metric without labels, of each pod that a selector finds;
- external.metrics.k8s.io: `s0-prometheus`, as KEDA calls the first trigger of a ScaledObject. It is what runs and what
  waits in all pods of the model that has the ScaledObject's name.

Who asks is not checked, since the clusters of the tests give their API server no certificate for it.
"""

import asyncio
import re
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from fastapi import FastAPI

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
CUSTOM, EXTERNAL = "custom.metrics.k8s.io/v1beta1", "external.metrics.k8s.io/v1beta1"
RUNNING, WAITING, OF_KEDA = "vicuna_requests_running", "vicuna_requests_waiting", "s0-prometheus"
KEYS, PORT = Path("/tmp/adapter.pem"), 6443
app = FastAPI()


@app.get(f"/apis/{CUSTOM}")
async def custom() -> dict[str, Any]:
    return discovery(CUSTOM, f"pods/{RUNNING}", "MetricValueList")


@app.get(f"/apis/{EXTERNAL}")
async def external() -> dict[str, Any]:
    return discovery(EXTERNAL, OF_KEDA, "ExternalMetricValueList")


@app.get(f"/apis/{CUSTOM}/namespaces/{{namespace}}/pods/*/{{metric}}")
async def of_pods(namespace: str, metric: str, labelSelector: str) -> dict[str, Any]:  # noqa: N803
    values = await scraped(namespace, labelSelector, metric)
    pods = {name: {"kind": "Pod", "namespace": namespace, "name": name, "apiVersion": "/v1"} for name in values}
    items = [{"describedObject": pods[name], **value(metric, number)} for name, number in values.items()]
    return {"kind": "MetricValueList", "apiVersion": CUSTOM, "metadata": {}, "items": items}


@app.get(f"/apis/{EXTERNAL}/namespaces/{{namespace}}/{OF_KEDA}")
async def of_a_trigger(namespace: str, labelSelector: str) -> dict[str, Any]:  # noqa: N803
    selector = labelSelector.replace("scaledobject.keda.sh/name=", "vicuna.dev/model=")
    counts = [await scraped(namespace, selector, metric) for metric in (RUNNING, WAITING)]
    items = [value(OF_KEDA, sum(number for count in counts for number in count.values()))]
    return {"kind": "ExternalMetricValueList", "apiVersion": EXTERNAL, "metadata": {}, "items": items}


def discovery(version: str, name: str, kind: str) -> dict[str, Any]:
    resource = {"name": name, "singularName": "", "namespaced": True, "kind": kind, "verbs": ["get"]}
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version, "resources": [resource]}


def value(metric: str, number: float) -> dict[str, Any]:
    return {"metricName": metric, "timestamp": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}", "value": f"{number:g}"}


async def scraped(namespace: str, selector: str, metric: str) -> dict[str, float]:
    """Return the metric's value of each pod that has one, by the pod's name."""
    headers = {"authorization": f"Bearer {(ACCOUNT / 'token').read_text()}"}
    trust = ssl.create_default_context(cafile=str(ACCOUNT / "ca.crt"))
    async with httpx.AsyncClient(base_url="https://kubernetes.default.svc", headers=headers, verify=trust) as client:
        answer = await client.get(f"/api/v1/namespaces/{namespace}/pods", params={"labelSelector": selector})
    pods = {pod["metadata"]["name"]: pod["status"].get("podIP") for pod in answer.raise_for_status().json()["items"]}
    async with httpx.AsyncClient(timeout=5) as client:
        found = await asyncio.gather(*(scrape(client, address, metric) for address in pods.values()))
    return {name: number for name, number in zip(pods, found, strict=True) if number is not None}


async def scrape(client: httpx.AsyncClient, address: str | None, metric: str) -> float | None:
    try:
        text = (await client.get(f"http://{address}:8000/metrics")).text if address else ""
    except httpx.TransportError:
        return None
    found = re.search(rf"^{re.escape(metric)} (\S+)$", text, flags=re.MULTILINE)
    return float(found[1]) if found else None


def make_keys() -> None:
    """Write a key and a certificate that nobody has to trust."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "adapter")])
    draft = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    signed = draft.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
    plain = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    KEYS.write_bytes(
        key.private_bytes(*plain) + signed.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    )


if __name__ == "__main__":
    make_keys()
    uvicorn.run(app, host="0.0.0.0", port=PORT, ssl_certfile=KEYS, ssl_keyfile=KEYS)
