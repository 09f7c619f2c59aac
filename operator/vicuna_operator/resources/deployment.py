"""The Deployment of one revision: created once, never rendered again; only its replicas change."""

from collections.abc import Mapping
from typing import Any

from vicuna_contract import names as c
from vicuna_contract.serve_arguments import ServeArguments
from vicuna_contract.signing import AUDIENCE_VARIABLE, GATEWAY_KEYS_VARIABLE, audience
from vicuna_contract.templates import AUTO
from vicuna_contract.vllm_arguments import VLLM
from vicuna_operator.api.model import Model
from vicuna_operator.api.types import ServingSpec
from vicuna_operator.resources.common import (
    CONTAINER_SECURITY,
    affinity_to_volume,
    claim_name,
    environment,
    foreign,
    labels,
    owner,
    pod_security,
    spec_of,
)
from vicuna_operator.resources.engine_container import add_engine, as_front
from vicuna_operator.resources.identity import canonical_json, merge_key, spec_snapshot
from vicuna_operator.resources.images import Images
from vicuna_operator.resources.service import pod_selector

__all__ = ["deployment_name", "revision_deployment"]

_SHUTDOWN_MARGIN_SECONDS = 30  # endpoint removal and the close of the last stream


def deployment_name(model: Model, revision: str) -> str:
    """Return `<model>-<revision>`."""
    return c.deployment(model.name, revision)


def revision_deployment(
    model: Model,
    *,
    revision: str,
    artifact_id: str,
    image: str,
    engine_image: str | None = None,
    pull_policy: str,
    replicas: int,
    shared_volume: bool,
    annotations: Mapping[str, str],
    chat_template: str | None = None,
    digest: str | None = None,
    claim_uid: str = "",
    platform_user: bool = False,
    gateway_keys: str = "",
) -> dict[str, Any]:
    """Build the Deployment of a revision with its first number of replicas.

    Args:
        model: with a valid spec.
        revision: its name.
        artifact_id: what it serves.
        image: of the server.
        engine_image: of vLLM, where the spec asks for it.
        pull_policy: of the images.
        replicas: pods it begins with.
        shared_volume: whether pods of several nodes can mount the volume.
        annotations: further ones of the Deployment.
        chat_template: what `auto` was resolved to when the weights were merged; None: unknown, so the server decides.
        digest: of the artifact's files; None: unknown, so its pods take any.
        claim_uid: of the claim that its pods mount; empty: unknown.
        platform_user: leave user and groups of the pods to the platform.
        gateway_keys: public keys of gateways; its pods answer only what one of them has signed; empty: all requests.
    """
    spec = spec_of(model)
    if (engine_image is not None) != (spec.serving.engine == VLLM):
        raise ValueError("an image of vLLM goes with engine vllm, and only with it")
    security = pod_security(spec.serving.pod_security_context, platform_user=platform_user)
    arguments = _arguments(model, revision, artifact_id, chat_template)
    variables = _variables(model, digest, gateway_keys)
    pod = _pod(model, arguments, variables, revision, image, pull_policy, shared_volume)
    if engine_image is not None:
        add_engine(pod, model, artifact_id, engine_image)
    selector = pod_selector(model) | {c.LABEL_REVISION: revision}
    origin = {c.LABEL_ARTIFACT_ID: artifact_id, c.LABEL_MERGE_KEY: merge_key(spec), c.LABEL_MODEL_UID: model.uid}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": deployment_name(model, revision),
            "namespace": model.namespace,
            "labels": foreign(spec.serving.deployment_labels)
            | labels(model, c.NAME_SERVER, **{c.LABEL_REVISION: revision}, **origin),
            "annotations": {
                **foreign(spec.serving.deployment_annotations),
                c.ANNOTATION_CLAIM: claim_name(model),
                **({c.ANNOTATION_CLAIM_UID: claim_uid} if claim_uid else {}),
                c.ANNOTATION_SPEC_SNAPSHOT: canonical_json(spec_snapshot(spec)),
                c.ANNOTATION_REPLICAS: str(replicas),
                **({} if digest is None else {c.ANNOTATION_ARTIFACT_DIGEST: digest}),
                **Images(image, engine_image).defaults(spec.serving),
                **({c.ANNOTATION_CHAT_TEMPLATE: chat_template} if chat_template else {}),
                **annotations,
            },
            "ownerReferences": [owner(model)],
        },
        "spec": {
            "replicas": replicas,
            "revisionHistoryLimit": 0,
            # Never exceeded: the operator sees in the pods, and earlier, what the condition would say.
            "progressDeadlineSeconds": 2147483647,
            "selector": {"matchLabels": selector},
            "template": {
                "metadata": {
                    "labels": dict(spec.serving.pod_labels)
                    | labels(model, c.NAME_SERVER, **{c.LABEL_REVISION: revision}, **origin),
                    "annotations": dict(spec.serving.pod_annotations),
                },
                "spec": pod | {"securityContext": security},
            },
        },
    }


def _arguments(model: Model, revision: str, artifact_id: str, resolved: str | None) -> list[str]:
    serving = spec_of(model).serving
    arguments = ServeArguments(
        model=f"{c.ARTIFACTS_ROOT}/{artifact_id}",
        served_name=serving.served_name or model.name,
        revision=revision,
        artifact_id=artifact_id,
        device=_device(serving),
        num_gpus=serving.num_gpus,
        dtype=serving.dtype,
        quantization=serving.quantization,
        max_gpu_memory=None if serving.max_gpu_memory is None else str(serving.max_gpu_memory),
        chat_template=(serving.chat_template == AUTO and resolved) or serving.chat_template,
        context_length=serving.context_length,
        max_concurrency=serving.max_concurrency,
        max_stream_seconds=serving.max_stream_seconds,
        prefix_cache=serving.prefix_cache,
    )
    return (as_front(arguments) if serving.engine == VLLM else arguments).to_argv()


def _device(serving: ServingSpec) -> str:
    if serving.device != "auto":
        return serving.device
    return "cuda" if serving.num_gpus > 0 else "cpu"


def _resources(serving: ServingSpec) -> dict[str, Any]:
    resources: dict[str, Any] = dict(serving.resources)
    if serving.num_gpus > 0 and not serving.resource_claims:  # else the resource claims give the GPUs
        resources["limits"] = {**resources.get("limits", {}), serving.gpu_resource: str(serving.num_gpus)}
    return resources


def _probe(path: str, period: int, failures: int, timeout: int = 5) -> dict[str, Any]:
    return {
        "httpGet": {"path": path, "port": "http"},
        "periodSeconds": period,
        "timeoutSeconds": timeout,
        "failureThreshold": failures,
    }


def _variables(model: Model, digest: str | None, gateway_keys: str) -> list[Mapping[str, Any]]:
    serving = spec_of(model).serving
    own = [
        {"name": "HOME", "value": "/tmp"},  # noqa: S108  # an emptyDir of the pod
        {"name": "HF_HUB_OFFLINE", "value": "1"},
    ]
    own += [] if digest is None else [{"name": c.ARTIFACT_DIGEST_VARIABLE, "value": digest}]
    if gateway_keys:
        whom = audience(model.namespace, model.name, model.uid)
        own += [{"name": GATEWAY_KEYS_VARIABLE, "value": gateway_keys}, {"name": AUDIENCE_VARIABLE, "value": whom}]
    return environment(own, serving.env)


def _spread(model: Model, revision: str, shared: bool) -> list[dict[str, Any]]:
    """Return how a revision's pods spread: by default over the nodes, where the volume can be shared.

    A constraint without a selector would match no pod: it gets the revision's own. The revision's label in it has the
    effect of `matchLabelKeys`, which older API servers do not have.
    """
    stated = spec_of(model).serving.topology_spread_constraints
    over_nodes = {"maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway"}
    own = {"labelSelector": {"matchLabels": pod_selector(model) | {c.LABEL_REVISION: revision}}}
    return [
        item if item.get("labelSelector") is not None else {**item, **own} for item in stated or [over_nodes] * shared
    ]


def _pod(
    model: Model, arguments: list[str], variables: list[Any], revision: str, image: str, pull_policy: str, shared: bool
) -> dict[str, Any]:
    serving = spec_of(model).serving
    pod: dict[str, Any] = {
        "terminationGracePeriodSeconds": serving.max_stream_seconds + _SHUTDOWN_MARGIN_SECONDS,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "containers": [
            {
                "name": c.SERVER_CONTAINER,
                "image": image,
                "imagePullPolicy": pull_policy,
                "command": ["vicuna-server"],
                "args": arguments,
                "env": variables,
                "ports": [{"name": "http", "containerPort": c.SERVER_PORT, "protocol": "TCP"}],
                # Liveness answers while the model loads; readiness only after the server's own smoke test.
                "startupProbe": _probe(c.LIVE_PATH, period=2, failures=90),
                "livenessProbe": _probe(c.LIVE_PATH, period=10, failures=6, timeout=10),
                "readinessProbe": _probe(c.READY_PATH, period=2, failures=2),
                "resources": _resources(serving),
                "securityContext": dict(CONTAINER_SECURITY),
                "terminationMessagePolicy": "FallbackToLogsOnError",
                "volumeMounts": [
                    {"name": "models", "mountPath": c.MODELS_MOUNT, "readOnly": True},
                    {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108
                    {"name": "shm", "mountPath": "/dev/shm"},  # noqa: S108
                ],
            }
        ],
        "volumes": [
            {"name": "models", "persistentVolumeClaim": {"claimName": claim_name(model)}},
            {"name": "tmp", "emptyDir": {}},
            {"name": "shm", "emptyDir": {"medium": "Memory"}},
        ],
    }
    optional = {
        "imagePullSecrets": list(serving.image_pull_secrets),
        "serviceAccountName": serving.service_account_name,
        "nodeSelector": dict(serving.node_selector),
        "affinity": dict(serving.affinity) if shared else affinity_to_volume(model, serving.affinity, required=True),
        "tolerations": list(serving.tolerations),
        "topologySpreadConstraints": _spread(model, revision, shared),
        "resourceClaims": list(serving.resource_claims),
        "schedulerName": serving.scheduler_name,
        "runtimeClassName": serving.runtime_class_name,
        "priorityClassName": serving.priority_class_name,
    }
    if serving.host_users is not None:
        pod["hostUsers"] = serving.host_users
    return pod | {key: value for key, value in optional.items() if value}
