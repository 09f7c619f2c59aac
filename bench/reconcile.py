"""How soon a child object follows a VicunaModel, and what an idle model costs the API server.

Needs a cluster in KUBECONFIG with the operator running. Makes a namespace of its own and deletes it again.

    python bench/reconcile.py --models 20 --idle-seconds 60

Prints the time from the answer to the model's creation until a watch shows its claim (median, p95, worst), and how
many of all objects in the namespace changed while nobody touched them. Absolute times: the reference is the API
server itself, so the time of one plain create is printed beside them.
"""

import argparse
import statistics
import threading
import time
import uuid
from typing import Any

from kubernetes import client, config, watch

GROUP, VERSION, PLURAL = "vicuna.dev", "v1alpha1", "vicunamodels"


def body(name: str) -> dict[str, Any]:
    return {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": "VicunaModel",
        "metadata": {"name": name},
        "spec": {"weights": {"base": {"source": "pvc://absent/base"}}, "storage": {"size": "1Mi"}},
    }


class Seen(threading.Thread):
    """Notes when each claim of the namespace first shows up in a watch."""

    def __init__(self, namespace: str) -> None:
        super().__init__(daemon=True)
        self.namespace = namespace
        self.at: dict[str, float] = {}
        self.more = threading.Condition()

    def run(self) -> None:
        stream = watch.Watch().stream(client.CoreV1Api().list_namespaced_persistent_volume_claim, self.namespace)
        for event in stream:
            with self.more:
                self.at.setdefault(event["object"].metadata.name, time.perf_counter())
                self.more.notify_all()

    def wait_for(self, name: str, seconds: float) -> float:
        with self.more:
            if not self.more.wait_for(lambda: name in self.at, seconds):
                raise SystemExit(f"no claim {name} after {seconds:.0f} s: is the operator running?")
            return self.at[name]


def versions(namespace: str) -> dict[str, str]:
    core, custom, apps, batch = client.CoreV1Api(), client.CustomObjectsApi(), client.AppsV1Api(), client.BatchV1Api()
    found = {}
    for model in custom.list_namespaced_custom_object(GROUP, VERSION, namespace, PLURAL)["items"]:
        found[f"model/{model['metadata']['name']}"] = model["metadata"]["resourceVersion"]
    for kind, listed in (
        ("claim", core.list_namespaced_persistent_volume_claim(namespace)),
        ("service", core.list_namespaced_service(namespace)),
        ("job", batch.list_namespaced_job(namespace)),
        ("deployment", apps.list_namespaced_deployment(namespace)),
    ):
        found |= {f"{kind}/{item.metadata.name}": item.metadata.resource_version for item in listed.items}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=int, default=20)
    parser.add_argument("--idle-seconds", type=float, default=60)
    args = parser.parse_args()
    config.load_config()
    core, custom = client.CoreV1Api(), client.CustomObjectsApi()
    namespace = f"vicuna-bench-{uuid.uuid4().hex[:6]}"
    core.create_namespace({"metadata": {"name": namespace}})
    try:
        seen = Seen(namespace)
        seen.start()
        creates, delays = [], []
        for number in range(args.models):
            name = f"model-{number}"
            before = time.perf_counter()
            custom.create_namespaced_custom_object(GROUP, VERSION, namespace, PLURAL, body(name))
            answered = time.perf_counter()
            creates.append(answered - before)
            delays.append(max(0.0, seen.wait_for(f"{name}-weights", 30) - answered))
        ordered = sorted(delays)
        print(f"one plain create:      median {1000 * statistics.median(creates):6.0f} ms")
        print(
            f"model to its claim:    median {1000 * statistics.median(ordered):6.0f} ms, "
            f"p95 {1000 * ordered[int(0.95 * (len(ordered) - 1))]:.0f} ms, worst {1000 * ordered[-1]:.0f} ms "
            f"({args.models} models, one after the other)"
        )
        settle = time.monotonic() + 30
        quiet = versions(namespace)
        while time.monotonic() < settle:
            time.sleep(3)
            now = versions(namespace)
            if now == quiet:
                break
            quiet = now
        time.sleep(args.idle_seconds)
        after = versions(namespace)
        changed = [name for name in after if after[name] != quiet.get(name)]
        print(
            f"idle {args.idle_seconds:.0f} s:             {len(changed)} of {len(after)} objects written {changed[:5]}"
        )
    finally:
        core.delete_namespace(namespace)


if __name__ == "__main__":
    main()
