"""Pods with `serving.engine: vllm`: a container with vLLM, and the server's as its front.

The front has the API, the probes and the drain, and needs no GPU. The engine has the GPUs and listens on 127.0.0.1
alone. The kubelet tells both to end at once; the engine goes on until the front has drained.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from vicuna_contract import names as c
from vicuna_contract.serve_arguments import ServeArguments
from vicuna_contract.vllm_arguments import VLLM, EngineArguments, engine_environment
from vicuna_operator.api.model import Model
from vicuna_operator.api.types import ServingSpec
from vicuna_operator.resources.common import CONTAINER_SECURITY, environment, spec_of
from vicuna_operator.resources.identity import short_hash

__all__ = ["add_engine", "as_front"]

_GRACE_SECONDS = 15  # vLLM takes up to 12 s to end once nothing runs

_FRONT_RESOURCES: Mapping[str, Any] = {
    "requests": {"cpu": "500m", "memory": "256Mi"},
    "limits": {"memory": "1Gi"},
}
"""Of the front: `serving.resources` and the GPUs are the engine's."""

_AS_A_CHILD = (
    'trap \'kill -TERM "$!"\' TERM; "$0" "$@" & '
    'while kill -0 "$!" 2> /dev/null; do wait "$!"; code=$?; done; exit "$code"'
)
"""Runs vLLM as a child, passes SIGTERM on, and ends as it does.

vLLM handles SIGTERM only once it is imported, for which it takes half a minute. As the first process of its container
it would get none before, and keep its GPUs for the whole grace period.
"""

_RUN_MOUNT: Mapping[str, Any] = {"name": "run", "mountPath": c.DRAINED_FILE.rpartition("/")[0]}

_HANG_PROBE: Mapping[str, Any] = {
    # The front judges: it sees whether requests get on. Until vLLM has started it says that all is well.
    "httpGet": {"path": c.ENGINE_PATH, "port": c.SERVER_PORT},
    "periodSeconds": 10,
    "timeoutSeconds": 5,
    "failureThreshold": 3,
    # A hung engine ends no stream: the pod's own grace period would be waited for in vain.
    "terminationGracePeriodSeconds": 10,
}


def as_front(arguments: ServeArguments) -> ServeArguments:
    """Return a server's command line as that of a front of vLLM in the same pod: it computes nothing itself."""
    return replace(
        arguments,
        device="cpu",
        num_gpus=0,
        dtype="auto",
        engine=VLLM,
        engine_url=f"http://127.0.0.1:{c.ENGINE_PORT}",
        drained_file=c.DRAINED_FILE,
    )


def add_engine(pod: dict[str, Any], model: Model, artifact_id: str, image: str) -> None:
    """Put the engine's container beside the server's, which gives its resources and /dev/shm to it.

    Args:
        pod: the spec of a pod with the server's container alone.
        model: with a valid spec.
        artifact_id: what it serves.
        image: of vLLM.
    """
    serving = spec_of(model).serving
    variables = [{"name": name, "value": value} for name, value in engine_environment("/tmp").items()]  # noqa: S108
    (front,) = pod["containers"]
    arguments = _arguments(model, artifact_id)
    digest = {"name": c.ENGINE_DIGEST_VARIABLE, "value": _digest(arguments, image, serving)}
    front["env"] = environment([digest], front["env"])
    resources, front["resources"] = front["resources"], dict(_FRONT_RESOURCES)
    front["volumeMounts"] = [*(item for item in front["volumeMounts"] if item["name"] != "shm"), dict(_RUN_MOUNT)]
    front_grace = pod["terminationGracePeriodSeconds"]
    pod["terminationGracePeriodSeconds"] = front_grace + _GRACE_SECONDS
    pod["volumes"] += [{"name": "run", "emptyDir": {}}, {"name": "engine-tmp", "emptyDir": {}}]
    pod["containers"].append(
        {
            "name": c.ENGINE_CONTAINER,
            "image": image,
            "imagePullPolicy": front["imagePullPolicy"],
            "command": ["sh", "-c", _AS_A_CHILD, "vllm"],
            "args": arguments.to_argv(),
            "env": environment(variables, serving.env),
            "livenessProbe": dict(_HANG_PROBE),
            "lifecycle": {"preStop": {"exec": {"command": ["sh", "-c", _until_drained(front_grace)]}}},
            "resources": resources,
            "securityContext": dict(CONTAINER_SECURITY),
            "terminationMessagePolicy": "FallbackToLogsOnError",
            "volumeMounts": [
                {"name": "models", "mountPath": c.MODELS_MOUNT, "readOnly": True},
                {**_RUN_MOUNT, "readOnly": True},
                {"name": "engine-tmp", "mountPath": "/tmp"},  # noqa: S108
                {"name": "shm", "mountPath": "/dev/shm"},  # noqa: S108  # for tensor parallelism
            ],
        }
    )


def _until_drained(seconds: int) -> str:
    """Return a script that ends once the front has drained, or after so many seconds: a killed front writes no file."""
    return f"n=0; until [ -e {c.DRAINED_FILE} ] || [ $n -ge {seconds} ]; do sleep 1; n=$((n+1)); done"


def _digest(arguments: EngineArguments, image: str, serving: ServingSpec) -> str:
    """Return 16 hex over what decides about tokens and is not known to the front, whose own variables are left out."""
    variables = [item for item in serving.env if not str(item.get("name")).startswith("VICUNA_")]
    return short_hash({"arguments": arguments.deciding(), "image": image, "env": variables}, 16)


def _arguments(model: Model, artifact_id: str) -> EngineArguments:
    serving: ServingSpec = spec_of(model).serving
    return EngineArguments(
        model=f"{c.ARTIFACTS_ROOT}/{artifact_id}",
        served_name=serving.served_name or model.name,
        num_gpus=serving.num_gpus,
        dtype=serving.dtype,
        context_length=serving.context_length,
        max_concurrency=serving.max_concurrency,
        share_prefixes=serving.prefix_cache != "Off",
        added=serving.engine_args,
    )
