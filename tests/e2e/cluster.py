"""A thin hand on a cluster for the end-to-end tests: kubectl, helm, and waiting with a clear message."""

import json
import os
import subprocess
import tarfile
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

ROOT = Path(__file__).parents[2]
SYSTEM = "vicuna-system"
OPERATOR_IMAGE = os.environ.get("OPERATOR_IMAGE", "vicuna-operator:dev")
SERVER_IMAGE = os.environ.get("SERVER_IMAGE", "vicuna-server:dev")
GATEWAY_IMAGE = os.environ.get("GATEWAY_IMAGE", "vicuna-gateway:dev")
FRONT_IMAGE = os.environ.get("FRONT_IMAGE", "vicuna-front:dev")
ENGINE_IMAGE = os.environ.get("ENGINE_IMAGE", "vicuna-fake-vllm:dev")
# Old API servers lack server-side field validation: there these hold --validate=false and its helm counterparts.
APPLY_ARGS = os.environ.get("E2E_KUBECTL_APPLY_ARGS", "").split()
# Pod Security Standard `restricted`, for the tests' own pods too.
POD_SECURITY = {
    "runAsUser": 65532,
    "runAsGroup": 65532,
    "fsGroup": 65532,
    "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}
CONTAINER_SECURITY = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
HELM_ARGS = os.environ.get("E2E_HELM_ARGS", "").split()


T = TypeVar("T")


def run(*words: str, stdin: str | bytes | None = None, check: bool = True, timeout: float = 240) -> str:
    """Run a command and return its standard output; a failure shows what it said."""
    data = stdin.encode() if isinstance(stdin, str) else stdin
    done = subprocess.run(words, input=data, capture_output=True, timeout=timeout, check=False)
    if check and done.returncode != 0:
        raise AssertionError(f"{' '.join(words)}: exit {done.returncode}\n{done.stderr.decode()}{done.stdout.decode()}")
    return done.stdout.decode()


def until(what: str, look: Callable[[], T | None], seconds: float, every: float = 0.25) -> T:
    """Look until something true is seen; fail with the last thing seen."""
    end = time.monotonic() + seconds
    while True:
        seen = look()
        if seen:
            return seen
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds:.0f} s: {what}; last seen: {seen!r}")
        time.sleep(every)


@contextmanager
def meanwhile(act: Callable[[], object], pause: Callable[[], float] = lambda: 0.2) -> Iterator[None]:
    """Do something again and again in a thread of its own, with so many seconds before each time."""
    end = threading.Event()

    def loop() -> None:
        while not end.wait(pause()):
            act()

    thread = threading.Thread(target=loop)
    thread.start()
    try:
        yield
    finally:
        end.set()
        thread.join()


def _objects(text: str) -> Iterator[dict[str, Any]]:
    """Read one JSON object after the other; the last may be cut."""
    decoder, at = json.JSONDecoder(), 0
    while (at := text.find("{", at)) >= 0:
        try:
            body, at = decoder.raw_decode(text, at)
        except ValueError:
            return
        yield body


def make_namespace(name: str) -> "Namespace":
    """Make a namespace, or take one that an earlier run left."""
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    run("kubectl", "apply", *APPLY_ARGS, "--filename", "-", stdin=json.dumps(body))
    return Namespace(name)


class Namespace:
    """kubectl in one namespace."""

    def __init__(self, name: str) -> None:
        self.name = name

    def kubectl(self, *words: str, **options: Any) -> str:
        return run("kubectl", "--namespace", self.name, *words, **options)

    def apply(self, *bodies: Mapping[str, Any]) -> None:
        text = "\n---\n".join(json.dumps(body) for body in bodies)
        self.kubectl("apply", *APPLY_ARGS, "--filename", "-", stdin=text)

    def get(self, kind: str, name: str) -> dict[str, Any] | None:
        text = self.kubectl("get", kind, name, "--ignore-not-found", "--output", "json")
        return json.loads(text) if text.strip() else None

    def find(self, kind: str, selector: str = "") -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self.kubectl("get", kind, "--selector", selector, "--output", "json"))[
            "items"
        ]
        return found

    def pods(self, model: str, name: str = "vicuna-server") -> list[dict[str, Any]]:
        return self.find("pods", f"app.kubernetes.io/name={name},vicuna.dev/model={model}")

    def status(self, model: str) -> dict[str, Any]:
        status: dict[str, Any] = (self.get("vicunamodel", model) or {}).get("status", {})
        return status

    def condition(self, model: str, kind: str) -> dict[str, Any]:
        conditions = self.status(model).get("conditions", [])
        return next((item for item in conditions if item["type"] == kind), {})

    def wait_ready(self, model: str, seconds: float = 240) -> None:
        """Wait as a user would, with kubectl; on failure tell what the object says."""
        words = ["wait", "--for=condition=Ready", f"vicunamodel/{model}", f"--timeout={seconds:.0f}s"]
        try:
            self.kubectl(*words, timeout=seconds + 30)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{json.dumps(self.status(model), indent=1)}\n{self.describe()}") from None

    def wait_reason(self, model: str, reason: str, seconds: float) -> dict[str, Any]:
        """Wait until Ready has a reason, and return the condition."""

        def look() -> dict[str, Any] | None:
            seen = self.condition(model, "Ready")
            return seen if seen.get("reason") == reason else None

        try:
            return until(f"{model} says {reason}", look, seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{json.dumps(self.status(model), indent=1)}\n{self.describe()}") from None

    def patch_spec(self, model: str, **spec: Any) -> None:
        self.kubectl("patch", "vicunamodel", model, "--type=merge", "--patch", json.dumps({"spec": spec}))

    def describe(self) -> str:
        return self.kubectl("get", "pods,jobs,deployments,pvc,events", check=False)

    def versions(self, model: str) -> dict[str, str]:
        """Return the resourceVersion of the model and of everything the operator writes for it."""
        seen = {}
        for kind in ("vicunamodels", "jobs", "deployments", "services", "persistentvolumeclaims"):
            for item in self.find(kind):
                meta = item["metadata"]
                if meta["name"] == model or meta.get("labels", {}).get("vicuna.dev/model") == model:
                    seen[f"{kind}/{meta['name']}"] = meta["resourceVersion"]
        return seen

    @contextmanager
    def recorded(self, kind: str) -> Iterator[list[dict[str, Any]]]:
        """Yield a list; afterwards it holds every state that the kind's objects were in, the first ones included."""
        states: list[dict[str, Any]] = []
        words = ["kubectl", "--namespace", self.name, "get", kind, "--watch", "--output", "json"]
        with tempfile.TemporaryFile("w+") as said, subprocess.Popen(words, stdout=said) as process:
            try:
                yield states
            finally:
                process.terminate()
                process.wait()
                said.seek(0)
                states += _objects(said.read())

    @contextmanager
    def forward(self, target: str, port: int) -> Iterator[str]:
        """Forward a local port; give the address."""
        words = ["kubectl", "--namespace", self.name, "port-forward", target, f":{port}"]
        process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line.startswith("Forwarding from 127.0.0.1:"), line
            yield f"http://127.0.0.1:{line.split(':')[1].split(' ')[0]}"
        finally:
            process.terminate()
            process.communicate()


def model(name: str, claim: str, **spec: Any) -> dict[str, Any]:
    """Return a VicunaModel on the demo pair; keyword arguments replace parts of the spec."""
    return {
        "apiVersion": "vicuna.dev/v1alpha1",
        "kind": "VicunaModel",
        "metadata": {"name": name},
        "spec": {
            "weights": {"base": {"source": f"pvc://{claim}/base"}, "delta": {"source": f"pvc://{claim}/delta"}},
            "storage": {"claimName": claim},
            "serving": {"numGpus": 0},
            **spec,
        },
    }


def scripted(**serving: Any) -> dict[str, Any]:
    """Return serving fields for a pod that needs no computing: the deterministic engine."""
    return {"numGpus": 0, "env": [{"name": "VICUNA_ENGINE", "value": "scripted"}], **serving}


def pod_conditions(pod: Mapping[str, Any]) -> dict[str, str]:
    """Return the status of each condition of a pod."""
    return {item["type"]: item["status"] for item in pod["status"].get("conditions", [])}


def names(items: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the sorted names of objects."""
    return sorted(item["metadata"]["name"] for item in items)


def lease_holder(operator: Namespace) -> str:
    """Return the replica that leads; empty where none does."""
    return operator.kubectl("get", "lease", "vicuna-operator", "--output=jsonpath={.spec.holderIdentity}")


@contextmanager
def in_toolbox(namespace: Namespace, script: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """Run a script of this folder inside the cluster, in the pod that `provide` makes; it is killed afterwards."""
    words = ["kubectl", "--namespace", namespace.name, "exec", "--stdin", "toolbox", "--", "python3", "-"]
    pipe = subprocess.PIPE
    with subprocess.Popen([*words, *map(str, arguments)], stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        try:
            assert process.stdin is not None
            process.stdin.write((Path(__file__).parent / script).read_text())
            process.stdin.close()
            process.stdin = None
            yield process
        finally:
            process.kill()


def provide(namespace: Namespace, claim: str, pair: Path) -> None:
    """Make a claim that holds the folders `base` and `delta` of `pair`, and a pod `toolbox` that has it mounted."""
    namespace.apply(_claim(claim), _toolbox(claim))
    namespace.kubectl("wait", "--for=condition=Ready", "pod/toolbox", "--timeout=120s")
    words = ["kubectl", "--namespace", namespace.name, "exec", "--stdin", "toolbox", "--"]
    words += ["tar", "xf", "-", "-C", "/weights"]
    with subprocess.Popen(words, stdin=subprocess.PIPE) as unpack:
        assert unpack.stdin is not None
        with tarfile.open(fileobj=unpack.stdin, mode="w|", format=tarfile.PAX_FORMAT) as archive:
            for part in ("base", "delta"):
                archive.add(pair / part, part)
    assert unpack.returncode == 0


def _claim(name: str) -> dict[str, object]:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "3Gi"}}},
    }


# As PID 1 a program that does not handle SIGTERM is deaf to it, and old API servers give every pod of a deleted
# namespace the longest grace period among them.
_IDLE = "import signal; signal.signal(signal.SIGTERM, lambda *_: exit(0)); signal.pause()"


def _toolbox(claim: str) -> dict[str, object]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "toolbox"},
        "spec": {
            "securityContext": dict(POD_SECURITY),
            "containers": [
                {
                    "name": "toolbox",
                    "image": SERVER_IMAGE,
                    "imagePullPolicy": "IfNotPresent",
                    "command": ["python3", "-c", _IDLE],
                    "env": [{"name": "HOME", "value": "/tmp"}],
                    "securityContext": dict(CONTAINER_SECURITY),
                    "volumeMounts": [{"name": "weights", "mountPath": "/weights"}],
                }
            ],
            "volumes": [{"name": "weights", "persistentVolumeClaim": {"claimName": claim}}],
        },
    }
