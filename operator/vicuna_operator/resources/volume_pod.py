"""The Job that works on the volume of artifacts, where the servers' volume is: a merge, or a clean-up."""

from collections.abc import Mapping, Sequence
from typing import Any

from vicuna_contract import names as c
from vicuna_operator.api.model import Model
from vicuna_operator.resources.common import (
    CONTAINER_SECURITY,
    affinity_to_volume,
    foreign,
    owner,
    pod_security,
    spec_of,
)

__all__ = ["volume_job", "volume_pod"]

Fragments = Sequence[Mapping[str, Any]]

# The work itself stays below 512 MiB of anonymous memory whatever the model's size; the rest is page cache.
_DEFAULT_RESOURCES = {"requests": {"cpu": "500m", "memory": "1Gi"}, "limits": {"memory": "1Gi"}}


def volume_pod(
    model: Model,
    *,
    image: str,
    pull_policy: str,
    arguments: Sequence[str],
    environment: Fragments,
    volumes: Fragments,
    mounts: Fragments,
    shared_volume: bool,
    platform_user: bool,
) -> dict[str, Any]:
    """Build the pod's spec; it runs once, never asks for a GPU, and ends at `spec.merge.activeDeadlineSeconds`."""
    spec = spec_of(model)
    serving = spec.serving
    # Where the volume belongs to one node, the pod must run on the node of the servers.
    affinity = {} if shared_volume else affinity_to_volume(model, serving.affinity, required=False)
    pod: dict[str, Any] = {
        "restartPolicy": "Never",
        "activeDeadlineSeconds": spec.merge.active_deadline_seconds,
        "terminationGracePeriodSeconds": 30,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": pod_security(serving.pod_security_context, platform_user=platform_user),
        "containers": [
            {
                "name": c.MERGE_CONTAINER,
                "image": image,
                "imagePullPolicy": pull_policy,
                "command": ["vicuna-server"],
                "args": list(arguments),
                "env": list(environment),
                "resources": dict(spec.merge.resources) or _DEFAULT_RESOURCES,
                "securityContext": dict(CONTAINER_SECURITY),
                "terminationMessagePolicy": "FallbackToLogsOnError",
                "volumeMounts": list(mounts),
            }
        ],
        "volumes": list(volumes),
    }
    return pod | _placement(model, affinity, shared_volume=shared_volume)


def _placement(model: Model, affinity: Mapping[str, Any], *, shared_volume: bool) -> dict[str, Any]:
    """Return the fields for placement, priority, image pulls and service account that are stated."""
    spec, serving = spec_of(model), spec_of(model).serving
    optional: dict[str, Any] = {
        "nodeSelector": spec.merge.node_selector or ({} if shared_volume else serving.node_selector),
        "tolerations": list(spec.merge.tolerations) or ([] if shared_volume else list(serving.tolerations)),
        "affinity": affinity,
        "imagePullSecrets": list(serving.image_pull_secrets),
        "serviceAccountName": serving.service_account_name,
        "priorityClassName": spec.merge.priority_class_name or serving.priority_class_name,
        "schedulerName": spec.merge.scheduler_name,
    }
    found = {key: value for key, value in optional.items() if value}
    return found if spec.merge.host_users is None else {**found, "hostUsers": spec.merge.host_users}


def volume_job(
    model: Model, name: str, *, own_labels: Mapping[str, str], annotations: Mapping[str, str], pod: Mapping[str, Any]
) -> dict[str, Any]:
    """Build the Job around such a pod: one attempt, never retried by Kubernetes itself.

    `own_labels` are the labels of Job and pod, beside those that the user states.
    """
    merge = spec_of(model).merge
    template: dict[str, Any] = {"labels": {**foreign(merge.pod_labels), **own_labels}}
    if stated := foreign(merge.pod_annotations):
        template["annotations"] = stated
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": name,
            "namespace": model.namespace,
            "labels": {**foreign(merge.job_labels), **own_labels},
            "annotations": {**foreign(merge.job_annotations), **annotations},
            "ownerReferences": [owner(model)],
        },
        "spec": {
            "backoffLimit": 0,
            "completions": 1,
            "parallelism": 1,
            "template": {"metadata": template, "spec": dict(pod)},
        },
    }
