"""VicunaModels for the CRD's tests: the smallest, one with every field, an accepted and a refused value per rule."""

import copy
from typing import Any

from vicuna_contract.vllm_arguments import ALLOWED_FLAGS

__all__ = ["ACCEPTED_AND_REFUSED", "FILLED", "HEX", "MINIMAL", "with_value"]

Examples = list[tuple[str, Any, Any]]

MINIMAL: dict[str, Any] = {
    "apiVersion": "vicuna.dev/v1alpha1",
    "kind": "VicunaModel",
    "metadata": {"name": "vicuna"},
    "spec": {"weights": {"base": {"source": "hf://org/base"}}, "storage": {"size": "30Gi"}},
}
HEX = "0123456789abcdef" * 4

# What must stand beside a field in an object of a list, by the list's name; what one of them does not know is pruned.
SPREAD = {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}
WEIGHTED_NODE = {"weight": 1, "preference": {}}
WEIGHTED_POD = {"weight": 1, "podAffinityTerm": {"topologyKey": "zone"}}
REQUIREMENT = {"key": "k", "operator": "In"}
BESIDE: dict[str, dict[str, Any]] = {
    "autoscaling": {"minReplicas": 0, "maxReplicas": 64},
    "delta": {"source": "hf://org/name"},
    "adapters[]": {"source": "hf://org/name"},
    "env[]": {"name": "A"},
    "secretKeyRef": {"name": "n", "key": "k"},
    "fieldRef": {"fieldPath": "p"},
    "resourceFieldRef": {"resource": "limits.memory"},
    "resourceClaims[]": {"name": "gpu", "resourceClaimName": "c"},
    "claims[]": {"name": "gpu"},
    "topologySpreadConstraints[]": SPREAD,
    "preferredDuringSchedulingIgnoredDuringExecution[]": WEIGHTED_NODE | WEIGHTED_POD,
    "requiredDuringSchedulingIgnoredDuringExecution[]": {"topologyKey": "zone"},
    "matchExpressions[]": REQUIREMENT,
}


def with_value(path: str, value: Any) -> dict[str, Any]:
    """Return the minimal object with one field set; parents are made as needed.

    A path names the field as the schema has it: `a[].b` is in the one item of a list, `a{}` the one value of a map.
    """
    made: dict[str, Any] = _placed(copy.deepcopy(MINIMAL), path.split("."), value)
    return made


def _placed(here: dict[str, Any], words: list[str], value: Any) -> Any:
    if not words:
        return value
    word, name = words[0], words[0].rstrip("[]{}")
    old = here.get(name)
    inner = _placed({**BESIDE.get(word, {}), **(old if isinstance(old, dict) else {})}, words[1:], value)
    return {**here, name: [inner] if word.endswith("[]") else {"k": inner} if word.endswith("{}") else inner}


FILLED: dict[str, Any] = {
    "weights": {
        "base": {"source": "hf://huggyllama/llama-13b", "revision": "bf57045473f207bb1de1ed035ace226f4d9f9bba"},
        "delta": {"source": "pvc://deltas/vicuna/13b", "digest": HEX, "kind": "additive-v1.1"},
        "adapters": [{"source": "hf://org/lora", "revision": "main"}],
        "credentialsSecret": "hf-token",
    },
    "merge": {
        "maxBytesPerSecond": 1000000,
        "caBundle": "corporate-ca",
        "resources": {"limits": {"memory": "1Gi", "cpu": 2}},
        "nodeSelector": {"disk": "fast"},
        "tolerations": [{"key": "k", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5}],
        "env": [{"name": "HTTPS_PROXY", "value": "http://proxy:3128"}],
        "jobLabels": {"kueue.x-k8s.io/queue-name": "merges"},
        "jobAnnotations": {"cost": "ml"},
        "podLabels": {"team": "ml"},
        "podAnnotations": {"sidecar.istio.io/inject": "false"},
        "schedulerName": "volcano",
        "priorityClassName": "low",
        "hostUsers": False,
    },
    "storage": {"claimName": "weights"},
    "serving": {
        "autoscaling": {"minReplicas": 0, "maxReplicas": 4, "targetRequests": 8},
        "maxGpuMemory": "13Gi",
        "servedName": "lmsys/vicuna-13b",
        "contextLength": 2048,
        "image": "registry.example/vicuna-server@sha256:" + HEX,
        "imagePullPolicy": "Always",
        "imagePullSecrets": [{"name": "pull"}],
        "serviceAccountName": "models",
        "podLabels": {"team": "ml"},
        "podAnnotations": {"note": "x"},
        "podSecurityContext": {"runAsUser": 1000, "fsGroup": 1000, "fsGroupChangePolicy": "OnRootMismatch"},
        "resources": {"requests": {"memory": "20Gi"}, "claims": [{"name": "gpu", "request": "one"}]},
        "nodeSelector": {"gpu": "a100"},
        "affinity": {
            "nodeAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": {
                    "nodeSelectorTerms": [{"matchExpressions": [{"key": "z", "operator": "In", "values": ["a"]}]}]
                }
            },
            "podAntiAffinity": {
                "preferredDuringSchedulingIgnoredDuringExecution": [
                    {
                        "weight": 1,
                        "podAffinityTerm": {
                            "topologyKey": "kubernetes.io/hostname",
                            "labelSelector": {"matchLabels": {"a": "b"}},
                        },
                    }
                ]
            },
        },
        "tolerations": [{"operator": "Exists"}],
        "topologySpreadConstraints": [
            {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {}}
        ],
        "runtimeClassName": "nvidia",
        "priorityClassName": "high",
        "schedulerName": "volcano",
        "hostUsers": False,
        "resourceClaims": [{"name": "gpu", "resourceClaimTemplateName": "h100"}],
        "deploymentLabels": {"kueue.x-k8s.io/queue-name": "serving"},
        "deploymentAnnotations": {"cost": "ml"},
        "serviceLabels": {"team": "ml"},
        "serviceAnnotations": {"networking.gke.io/load-balancer-type": "Internal"},
        "env": [
            {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
            {"name": "CONFIG", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "k", "optional": True}}},
            {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
            {"name": "ROOM", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory", "divisor": "1Mi"}}},
        ],
    },
}

RULES: Examples = [
    ("metadata.name", "a" * 40, "a" * 41),
    ("metadata.name", "v1-3b", "3b"),
    ("metadata.name", "a-b", "a.b"),
    ("spec.suspend", True, "yes"),
    ("spec.weights.base.source", "hf://org/name.v1", "hf://org"),
    ("spec.weights.base.source", "pvc://claim/folder", "pvc://claim"),
    ("spec.weights.base.source", "pvc://claim/a..b/c", "pvc://claim/a/../b"),
    ("spec.weights.base.source", "pvc://claim/a", "pvc://claim/.."),
    ("spec.weights.base.source", "pvc://claim/a", "file:///a"),
    ("spec.weights.base.source", "pvc://claim/a", "https://host/a"),
    ("spec.weights.base.revision", "refs/pr/1", ""),
    ("spec.weights.base.revision", "main", "a b"),
    ("spec.weights.base.digest", HEX, "sha256:" + HEX),
    ("spec.weights.base.digest", HEX, HEX.upper()),
    ("spec.weights.delta", {"source": "hf://a/b"}, {"kind": "alpaca"}),
    ("spec.weights.delta", {"source": "hf://a/b", "kind": "alpaca"}, {"source": "hf://a/b", "kind": "lora"}),
    ("spec.weights.delta", {"source": "hf://a/b", "revision": "m"}, {"source": "pvc://a/b", "revision": "m"}),
    ("spec.weights.adapters", [{"source": "hf://a/b"}] * 16, [{"source": "hf://a/b"}] * 17),
    ("spec.weights.adapters", [{"source": "hf://a/b", "revision": "m"}], [{"source": "pvc://a/b", "revision": "m"}]),
    ("spec.weights.adapters", [{"source": "hf://a/b"}], [{"source": "file:///a"}]),
    ("spec.weights.credentialsSecret", "hf-token", "HF_TOKEN"),
    ("spec.merge.dtype", "auto", "float64"),
    ("spec.merge.retries", 0, -1),
    ("spec.merge.activeDeadlineSeconds", 1, 0),
    ("spec.merge.maxBytesPerSecond", 1, 0),
    ("spec.merge.env", [{"name": "A"}], [{"value": "x"}]),
    ("spec.storage", {"size": "1Gi"}, {}),
    ("spec.storage", {"claimName": "c"}, {"claimName": "c", "size": "1Gi"}),
    ("spec.storage", {"claimName": "c"}, {"claimName": "c", "storageClassName": "fast"}),
    ("spec.storage.size", "1.5Ti", "big"),
    ("spec.storage.size", 1000, -1),
    ("spec.storage.storageClassName", "", 1),
    ("spec.storage.accessMode", "ReadWriteMany", "ReadOnlyMany"),
    ("spec.storage.reclaimPolicy", "Delete", "Recycle"),
    ("spec.storage.keepRevisions", 1, 0),
    ("spec.serving.replicas", 0, 65),
    ("spec.serving.replicas", 64, -1),
    ("spec.serving.numGpus", 16, 17),
    ("spec.serving.numGpus", 0, "1"),
    ("spec.serving.gpuResource", "nvidia.com/mig-1g.5gb", "cpu"),
    ("spec.serving", {"device": "cuda", "numGpus": 1}, {"device": "cuda", "numGpus": 0}),
    ("spec.serving", {"device": "cpu", "numGpus": 1}, {"device": "gpu", "numGpus": 1}),
    ("spec.serving", {"maxGpuMemory": "13Gi"}, {"maxGpuMemory": "13Gi", "numGpus": 0}),
    ("spec.serving.dtype", "bfloat16", "float64"),
    ("spec.serving.quantization", "nf4", "int4"),
    ("spec.serving.maxGpuMemory", "13Gi", "13 GB"),
    ("spec.serving.chatTemplate", "vicuna_v1.1", "chatml"),
    ("spec.serving.servedName", "lmsys/vicuna-13b", "/vicuna"),
    ("spec.serving.contextLength", 2048, 0),
    ("spec.serving.maxConcurrency", 1, 0),
    ("spec.serving.maxStreamSeconds", 1, 0),
    ("spec.serving.prefixCache", "Off", False),
    ("spec.serving.prefixCache", "PerKey", "perKey"),
    ("spec.serving.engine", "vllm", "llama.cpp"),
    ("spec.serving.engine", "builtin", True),
    ("spec.serving", {"engine": "vllm", "engineImage": "a/b:c"}, {"engineImage": "a/b:c"}),
    ("spec.serving", {"engine": "vllm", "engineImage": "a/b:c"}, {"engine": "builtin", "engineImage": "a/b:c"}),
    ("spec.serving", {"engine": "vllm", "engineArgs": ["--enforce-eager"]}, {"engineArgs": ["--enforce-eager"]}),
    ("spec.serving", {"engine": "builtin", "engineArgs": []}, {"engine": "builtin", "engineArgs": ["-O3"]}),
    ("spec.serving", {"maxGpuMemory": "13Gi"}, {"engine": "vllm", "maxGpuMemory": "13Gi"}),
    ("spec.serving", {"engine": "vllm", "quantization": "none"}, {"engine": "vllm", "quantization": "int8"}),
    ("spec.serving", {"engine": "vllm", "engineArgs": ["--block-size=16"]}, {"engine": "vllm", "engineArgs": "-O3"}),
    ("spec.serving.rollout.strategy", "Drain", "BlueGreen"),
    ("spec.serving.rollout.progressDeadlineSeconds", 1, 0),
    ("spec.serving.rollout.surgeWaitSeconds", 1, 0),
    ("spec.serving.rollout.handOverSeconds", 1, 0),
    ("spec.serving.autoscaling", {"minReplicas": 3, "maxReplicas": 3}, {"minReplicas": 4, "maxReplicas": 3}),
    ("spec.serving.autoscaling", {"maxReplicas": 1}, {}),
    ("spec.serving.image", "a/b:c", "a b"),
    ("spec.serving.imagePullPolicy", "Never", "Sometimes"),
    ("spec.serving.podLabels", {"a": "b"}, {"a": "b" * 64}),
    ("spec.serving.podSecurityContext", {"runAsUser": 1}, {"runAsUser": 0}),
    ("spec.serving.resources", {"limits": {"cpu": "500m"}}, {"limits": {"cpu": "half"}}),
    ("spec.serving.tolerations", [{"operator": "Equal"}], [{"operator": "Like"}]),
    ("spec.serving.env", [{"name": "A", "value": "x"}], [{"name": "1A", "value": "x"}]),
    (
        "spec.serving.env",
        [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "p"}}}],
        [{"name": "A", "value": "x", "valueFrom": {"fieldRef": {"fieldPath": "p"}}}],
    ),
    (
        "spec.serving.env",
        [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "p"}}}],
        [{"name": "A", "valueFrom": {}}],
    ),
    ("spec.serving.serviceType", "NodePort", "ExternalName"),
    ("spec.serving.hostUsers", False, "no"),
    ("spec.merge.hostUsers", True, 1),
    ("spec.serving.resourceClaims", [{"name": "a", "resourceClaimName": "c"}], [{"name": "a"}]),
    (
        "spec.serving.resourceClaims",
        [{"name": "a", "resourceClaimTemplateName": "t"}],
        [{"name": "a", "resourceClaimName": "c", "resourceClaimTemplateName": "t"}],
    ),
    ("spec.serving.resources", {"claims": [{"name": "gpu"}]}, {"claims": [{"request": "one"}]}),
    (
        "spec.serving.env",
        [{"name": "A", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}}],
        [{"name": "A", "valueFrom": {"resourceFieldRef": {}}}],
    ),
]  # fmt: skip

# The values at each bound: the last one accepted and the first one refused. Names of Kubernetes have 253 characters.
NAME, LONG_NAME = "a" * 253, "a" * 254
VALUES = {"--gpu-memory-utilization": "0.5", "--kv-cache-dtype": "fp8", "--performance-mode": "throughput"}
VALUES |= {"--quantization": "fp8_per_block", "--safetensors-load-strategy": "eager"}
TUNED = [
    word
    for flag, form in sorted(ALLOWED_FLAGS.items())
    for word in ([flag] if form is None else [flag, VALUES.get(flag, "2")])
]
TUNED += ["--optimization-level", TUNED.pop(TUNED.index("--optimization-level") + 1)]
TUNED.remove("--optimization-level")
LONG_ARG = "--kv-cache-dtype=" + "f" * 47
AT_BOUNDS: Examples = [
    ("spec.weights.credentialsSecret", "a", ""),
    ("spec.weights.credentialsSecret", NAME, LONG_NAME),
    ("spec.merge.retries", 20, 21),
    ("spec.merge.activeDeadlineSeconds", 604800, 604801),
    ("spec.merge.caBundle", "a", ""),
    ("spec.merge.caBundle", NAME, LONG_NAME),
    ("spec.merge.caBundle", "corporate-ca", "Corporate_CA"),
    ("spec.merge.nodeSelector", {f"k{i}": "x" for i in range(64)}, {f"k{i}": "x" for i in range(65)}),
    ("spec.merge.nodeSelector{}", "b" * 63, "b" * 64),
    ("spec.storage", {"claimName": "c"}, {"claimName": ""}),
    ("spec.storage", {"claimName": NAME}, {"claimName": LONG_NAME}),
    ("spec.storage", {"claimName": "weights-1"}, {"claimName": "weights/1"}),
    ("spec.storage.size", 1, 0),
    ("spec.storage.size", "1" * 32, "1" * 33),
    ("spec.storage.storageClassName", NAME, LONG_NAME),
    ("spec.storage.keepRevisions", 10, 11),
    ("spec.serving.numGpus", 0, -1),
    ("spec.serving.gpuResource", "a/" + "b" * 315, "a/" + "b" * 316),
    ("spec.serving.maxGpuMemory", 1, 0),
    ("spec.serving.maxGpuMemory", "1" * 32, "1" * 33),
    ("spec.serving.servedName", "a", ""),
    ("spec.serving.servedName", "a" * 128, "a" * 129),
    ("spec.serving.contextLength", 1, 0),
    ("spec.serving.contextLength", 10485760, 10485761),
    ("spec.serving.maxConcurrency", 1024, 1025),
    ("spec.serving.maxStreamSeconds", 86400, 86401),
    ("spec.serving.rollout.progressDeadlineSeconds", 86400, 86401),
    ("spec.serving.rollout.surgeWaitSeconds", 3600, 3601),
    ("spec.serving.rollout.handOverSeconds", 86400, 86401),
    ("spec.serving.autoscaling.minReplicas", 0, -1),
    ("spec.serving.autoscaling.minReplicas", 64, 65),
    ("spec.serving.autoscaling.maxReplicas", 1, 0),
    ("spec.serving.autoscaling.maxReplicas", 64, 65),
    ("spec.serving.autoscaling.targetRequests", 1, 0),
    ("spec.serving.autoscaling.targetRequests", 1024, 1025),
    ("spec.serving.autoscaling.idleSeconds", 1, 0),
    ("spec.serving.autoscaling.idleSeconds", 604800, 604801),
    ("spec.serving.autoscaling.scaleDownSeconds", 1, 0),
    ("spec.serving.autoscaling.scaleDownSeconds", 86400, 86401),
    ("spec.serving.image", "a", ""),
    ("spec.serving.image", "a" * 512, "a" * 513),
    ("spec.serving", {"engine": "vllm", "engineImage": "a"}, {"engine": "vllm", "engineImage": ""}),
    ("spec.serving", {"engine": "vllm", "engineImage": "a/b:c"}, {"engine": "vllm", "engineImage": "a b"}),
    ("spec.serving", {"engine": "vllm", "engineImage": "a" * 512}, {"engine": "vllm", "engineImage": "a" * 513}),
    ("spec.serving", {"engine": "vllm", "engineArgs": TUNED[1:]}, {"engine": "vllm", "engineArgs": ["a"] * 33}),
    ("spec.serving", {"engine": "vllm", "engineArgs": TUNED[-2:]}, {"engine": "vllm", "engineArgs": [""]}),
    ("spec.serving", {"engine": "vllm", "engineArgs": [LONG_ARG]}, {"engine": "vllm", "engineArgs": [LONG_ARG + "x"]}),
    ("spec.serving", {"engine": "vllm", "engineArgs": TUNED[:1]}, {"engine": "vllm", "engineArgs": ["--a=/etc/x"]}),
    ("spec.serving.imagePullSecrets", [{"name": f"s{i}"} for i in range(16)], [{"name": f"s{i}"} for i in range(17)]),
    ("spec.serving.imagePullSecrets[].name", "a", ""),
    ("spec.serving.imagePullSecrets[].name", NAME, LONG_NAME),
    ("spec.serving.serviceAccountName", "a", ""),
    ("spec.serving.serviceAccountName", NAME, LONG_NAME),
    ("spec.serving.serviceAccountName", "models", "team/models"),
    ("spec.serving.podLabels", {f"k{i}": "x" for i in range(64)}, {f"k{i}": "x" for i in range(65)}),
    ("spec.serving.podLabels{}", "b" * 63, "b" * 64),
    ("spec.serving.podAnnotations", {f"k{i}": "x" for i in range(64)}, {f"k{i}": "x" for i in range(65)}),
    ("spec.serving.podAnnotations{}", "b" * 16384, "b" * 16385),
    ("spec.serving.nodeSelector", {f"k{i}": "x" for i in range(64)}, {f"k{i}": "x" for i in range(65)}),
    ("spec.serving.nodeSelector{}", "b" * 63, "b" * 64),
    ("spec.serving.runtimeClassName", "a", ""),
    ("spec.serving.runtimeClassName", NAME, LONG_NAME),
    ("spec.serving.priorityClassName", "a", ""),
    ("spec.serving.priorityClassName", NAME, LONG_NAME),
]  # fmt: skip
for where in ("spec.weights.base", "spec.weights.delta", "spec.weights.adapters[]"):
    AT_BOUNDS += [
        (f"{where}.source", "hf://a/b", ""),
        (f"{where}.source", "hf://a/b", "hf://a"),
        (f"{where}.source", "pvc://c/" + "p" * 504, "pvc://c/" + "p" * 505),
        (f"{where}.revision", "a", ""),
        (f"{where}.revision", "refs/pr/1", "-x"),
        (f"{where}.revision", "a" * 200, "a" * 201),
        (f"{where}.digest", HEX, HEX + "0"),
        (f"{where}.digest", HEX, HEX[:-1]),
    ]

for where, longest in (
    ("spec.merge.jobLabels", 63),
    ("spec.merge.podLabels", 63),
    ("spec.serving.deploymentLabels", 63),
    ("spec.serving.serviceLabels", 63),
    ("spec.storage.labels", 63),
    ("spec.merge.jobAnnotations", 16384),
    ("spec.merge.podAnnotations", 16384),
    ("spec.serving.deploymentAnnotations", 16384),
    ("spec.serving.serviceAnnotations", 16384),
    ("spec.storage.annotations", 16384),
):
    AT_BOUNDS += [
        (where, {f"k{i}": "x" for i in range(64)}, {f"k{i}": "x" for i in range(65)}),
        (where + "{}", "b" * longest, "b" * (longest + 1)),
    ]
for where in ("spec.merge.schedulerName", "spec.merge.priorityClassName", "spec.serving.schedulerName"):
    AT_BOUNDS += [(where, "a", ""), (where, NAME, LONG_NAME), (where, "volcano", "Volcano_1")]

# Embedded pieces of the pod API stand in several places; each is tried in one.
ENV, SECURITY, TOLERATION = "spec.merge.env[]", "spec.serving.podSecurityContext", "spec.serving.tolerations[]"
CLAIMS, USES = "spec.serving.resourceClaims", "spec.serving.resources.claims"
SPREADS = "spec.serving.topologySpreadConstraints[]"
NODES, PODS = "spec.serving.affinity.nodeAffinity", "spec.serving.affinity.podAffinity"
REQUIRED, PREFERRED = (f"{which}DuringSchedulingIgnoredDuringExecution" for which in ("required", "preferred"))
TERM = f"{PODS}.{REQUIRED}[]"
EXPRESSION, SELECTOR = f"{NODES}.{PREFERRED}[].preference.matchExpressions[]", f"{TERM}.labelSelector"
AT_BOUNDS += [
    ("spec.merge.resources.limits", {f"k{i}": 1 for i in range(32)}, {f"k{i}": 1 for i in range(33)}),
    ("spec.merge.resources.limits{}", "1" * 64, "1" * 65),
    ("spec.serving.tolerations", [{}] * 32, [{}] * 33),
    (f"{TOLERATION}.key", "a" * 317, "a" * 318),
    (f"{TOLERATION}.value", "a" * 63, "a" * 64),
    (f"{TOLERATION}.effect", "PreferNoSchedule", "Execute"),
    ("spec.merge.env", [{"name": f"A{i}"} for i in range(64)], [{"name": f"A{i}"} for i in range(65)]),
    (f"{ENV}.name", "a", ""),
    (f"{ENV}.name", "a" * 256, "a" * 257),
    (f"{ENV}.value", "a" * 8192, "a" * 8193),
    (f"{ENV}.valueFrom", {"fieldRef": {"fieldPath": "p"}}, {}),
    (f"{ENV}.valueFrom", {"fieldRef": {"fieldPath": "p"}},
     {"fieldRef": {"fieldPath": "p"}, "secretKeyRef": {"name": "n", "key": "k"}}),
    (f"{ENV}.valueFrom.secretKeyRef.name", "a", ""),
    (f"{ENV}.valueFrom.secretKeyRef.name", NAME, LONG_NAME),
    (f"{ENV}.valueFrom.secretKeyRef.key", "a", ""),
    (f"{ENV}.valueFrom.secretKeyRef.key", NAME, LONG_NAME),
    (f"{ENV}.valueFrom.fieldRef.apiVersion", "a" * 32, "a" * 33),
    (f"{ENV}.valueFrom.fieldRef.fieldPath", "a", ""),
    (f"{ENV}.valueFrom.fieldRef.fieldPath", "a" * 512, "a" * 513),
    (f"{ENV}.valueFrom.resourceFieldRef.containerName", "a" * 63, "a" * 64),
    (f"{ENV}.valueFrom.resourceFieldRef.resource", "limits.cpu", ""),
    (f"{ENV}.valueFrom.resourceFieldRef.resource", NAME, LONG_NAME),
    (f"{ENV}.valueFrom.resourceFieldRef.divisor", "1" * 64, "1" * 65),
    (f"{CLAIMS}", [{"name": f"c{i}", "resourceClaimName": "c"} for i in range(32)],
     [{"name": f"c{i}", "resourceClaimName": "c"} for i in range(33)]),
    (f"{CLAIMS}[].name", "a", ""),
    (f"{CLAIMS}[].name", "a" * 63, "a" * 64),
    (f"{CLAIMS}[].resourceClaimName", "a", ""),
    (f"{CLAIMS}[].resourceClaimName", NAME, LONG_NAME),
    (CLAIMS, [{"name": "a", "resourceClaimTemplateName": "t"}], [{"name": "a", "resourceClaimTemplateName": ""}]),
    (CLAIMS, [{"name": "a", "resourceClaimTemplateName": NAME}],
     [{"name": "a", "resourceClaimTemplateName": LONG_NAME}]),
    (USES, [{"name": f"c{i}"} for i in range(32)], [{"name": f"c{i}"} for i in range(33)]),
    (f"{USES}[].name", "a", ""),
    (f"{USES}[].name", "a" * 63, "a" * 64),
    (f"{USES}[].request", "a", ""),
    (f"{USES}[].request", "a" * 63, "a" * 64),
    (f"{SECURITY}.runAsUser", 4294967295, 4294967296),
    (f"{SECURITY}.runAsGroup", 1, 0),
    (f"{SECURITY}.runAsGroup", 4294967295, 4294967296),
    (f"{SECURITY}.fsGroup", 1, 0),
    (f"{SECURITY}.fsGroup", 4294967295, 4294967296),
    (f"{SECURITY}.fsGroupChangePolicy", "Always", "Never"),
    (f"{SECURITY}.supplementalGroups", [1] * 32, [1] * 33),
    (f"{SECURITY}.supplementalGroups[]", 1, 0),
    (f"{SECURITY}.supplementalGroups[]", 4294967295, 4294967296),
    (f"{SECURITY}.seLinuxOptions.level", "a" * 256, "a" * 257),
    (f"{SECURITY}.seLinuxOptions.role", "a" * 256, "a" * 257),
    (f"{SECURITY}.seLinuxOptions.type", "a" * 256, "a" * 257),
    (f"{SECURITY}.seLinuxOptions.user", "a" * 256, "a" * 257),
    ("spec.serving.topologySpreadConstraints", [SPREAD] * 16, [SPREAD] * 17),
    (f"{SPREADS}.maxSkew", 1, 0),
    (f"{SPREADS}.minDomains", 1, 0),
    (f"{SPREADS}.topologyKey", "a", ""),
    (f"{SPREADS}.topologyKey", "a" * 317, "a" * 318),
    (f"{SPREADS}.whenUnsatisfiable", "ScheduleAnyway", "Schedule"),
    (f"{NODES}.{PREFERRED}", [WEIGHTED_NODE] * 16, [WEIGHTED_NODE] * 17),
    (f"{NODES}.{PREFERRED}[].weight", 1, 0),
    (f"{NODES}.{PREFERRED}[].weight", 100, 101),
    (f"{NODES}.{REQUIRED}.nodeSelectorTerms", [{}] * 16, [{}] * 17),
    (EXPRESSION.removesuffix("[]"), [REQUIREMENT] * 32, [REQUIREMENT] * 33),
    (f"{EXPRESSION}.key", "a" * 317, "a" * 318),
    (f"{EXPRESSION}.operator", "Gt", "Ge"),
    (f"{EXPRESSION}.values", ["a"] * 64, ["a"] * 65),
    (f"{EXPRESSION}.values[]", NAME, LONG_NAME),
    (f"{PODS}.{PREFERRED}", [WEIGHTED_POD] * 16, [WEIGHTED_POD] * 17),
    (f"{PODS}.{PREFERRED}[].weight", 1, 0),
    (f"{PODS}.{PREFERRED}[].weight", 100, 101),
    (f"{PODS}.{REQUIRED}", [{"topologyKey": "k"}] * 16, [{"topologyKey": "k"}] * 17),
    (f"{TERM}.topologyKey", "a", ""),
    (f"{TERM}.topologyKey", "a" * 317, "a" * 318),
    (f"{TERM}.namespaces", ["a"] * 32, ["a"] * 33),
    (f"{TERM}.namespaces[]", "a" * 63, "a" * 64),
    (f"{SELECTOR}.matchLabels", {f"k{i}": "x" for i in range(64)}, {f"k{i}": "x" for i in range(65)}),
    (f"{SELECTOR}.matchLabels{{}}", "a" * 63, "a" * 64),
    (f"{SELECTOR}.matchExpressions", [REQUIREMENT] * 32, [REQUIREMENT] * 33),
    (f"{SELECTOR}.matchExpressions[].key", "a" * 317, "a" * 318),
    (f"{SELECTOR}.matchExpressions[].operator", "NotIn", "Gt"),
]  # fmt: skip

ACCEPTED_AND_REFUSED: Examples = RULES + AT_BOUNDS
