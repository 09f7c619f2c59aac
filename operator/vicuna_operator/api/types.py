"""The spec of a VicunaModel, typed. Field names, defaults and enums equal the CRD's: a test compares them."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError

from vicuna_contract.quantity import parse_quantity
from vicuna_contract.recipe import DeltaKind, MergeDtype
from vicuna_contract.serve_arguments import Device, PrefixCache, Quantization, ServingDtype
from vicuna_contract.templates import ChatTemplate

__all__ = [
    "AdapterSource",
    "AutoscalingSpec",
    "DeltaSource",
    "MergeSpec",
    "RolloutSpec",
    "ServingSpec",
    "StorageSpec",
    "VicunaModelSpec",
    "WeightsSource",
    "WeightsSpec",
]


def _checked_size(value: str | int) -> str | int:
    try:
        if parse_quantity(value) > 0:
            return value
        raise ValueError(f"{value!r} must be more than zero")
    except ValueError as error:
        raise PydanticCustomError("size", "{problem}", {"problem": str(error)}) from None


Size = Annotated[str | int, AfterValidator(_checked_size)]
Fragment = dict[str, Any]  # an embedded piece of the pod API, checked by the API server


class _Part(BaseModel):
    # Unknown fields are ignored, so that a newer CRD's defaults do not stop an older operator.
    # `vicuna-operator up` refuses them by the CRD: a misspelt field would go unnoticed there.
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, frozen=True, extra="ignore")


class WeightsSource(_Part):
    """One input of a merge: URI, revision (a commit for hf://), digest of its files (64 hex)."""

    source: str
    revision: str | None = None
    digest: str | None = None


class DeltaSource(WeightsSource):
    """A weight delta and how it was made."""

    kind: DeltaKind = "auto"


class AdapterSource(WeightsSource):
    """A LoRA adapter."""


class WeightsSpec(_Part):
    """What is merged: base, then delta, then adapters in order."""

    base: WeightsSource
    delta: DeltaSource | None = None
    adapters: list[AdapterSource] = Field(default_factory=list)
    credentials_secret: str | None = None


class MergeSpec(_Part):
    """How and where the merge Job runs; it never asks for a GPU."""

    dtype: MergeDtype = "float16"
    retries: Annotated[int, Field(ge=0, le=20)] = 3
    active_deadline_seconds: Annotated[int, Field(ge=1, le=604800)] = 7200
    max_bytes_per_second: Annotated[int, Field(ge=1)] | None = None
    resources: Fragment = Field(default_factory=dict)
    node_selector: dict[str, str] = Field(default_factory=dict)
    tolerations: list[Fragment] = Field(default_factory=list)
    env: list[Fragment] = Field(default_factory=list)
    job_labels: dict[str, str] = Field(default_factory=dict)
    job_annotations: dict[str, str] = Field(default_factory=dict)
    pod_labels: dict[str, str] = Field(default_factory=dict)
    pod_annotations: dict[str, str] = Field(default_factory=dict)
    scheduler_name: str | None = None
    priority_class_name: str | None = None
    host_users: bool | None = None
    ca_bundle: str | None = None


class StorageSpec(_Part):
    """The volume that holds the artifacts: an existing claim, or one of `size` made by the operator."""

    claim_name: str | None = None
    size: Size | None = None
    storage_class_name: str | None = None
    access_mode: Literal["ReadWriteOnce", "ReadWriteMany"] = "ReadWriteOnce"
    reclaim_policy: Literal["Retain", "Delete"] = "Retain"
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)
    keep_revisions: Annotated[int, Field(ge=1, le=10)] = 2


class RolloutSpec(_Part):
    """How a new revision takes over."""

    strategy: Literal["Auto", "Surge", "Drain", "Recreate"] = "Auto"
    progress_deadline_seconds: Annotated[int, Field(ge=1, le=86400)] = 1800
    surge_wait_seconds: Annotated[int, Field(ge=1, le=3600)] = 30
    hand_over_seconds: Annotated[int, Field(ge=1, le=86400)] | None = None
    try_asleep: bool = True


class AutoscalingSpec(_Part):
    """How many replicas the requests at the gateways need."""

    min_replicas: Annotated[int, Field(ge=0, le=64)] = 1
    max_replicas: Annotated[int, Field(ge=1, le=64)]
    target_requests: Annotated[int, Field(ge=1, le=1024)] = 16
    idle_seconds: Annotated[int, Field(ge=1, le=604800)] = 600
    scale_down_seconds: Annotated[int, Field(ge=1, le=86400)] = 300


class ServingSpec(_Part):
    """The serving pods. All fields make the revision, except how many pods, how they roll out and the Service."""

    replicas: Annotated[int, Field(ge=0, le=64)] = 1
    num_gpus: Annotated[int, Field(ge=0, le=16)] = 1
    gpu_resource: str = "nvidia.com/gpu"
    device: Device = "auto"
    dtype: ServingDtype = "auto"
    quantization: Quantization = "none"
    max_gpu_memory: Size | None = None
    chat_template: ChatTemplate = "auto"
    served_name: str | None = None
    context_length: Annotated[int, Field(ge=1, le=10485760)] | None = None
    max_concurrency: Annotated[int, Field(ge=1, le=1024)] = 32
    max_stream_seconds: Annotated[int, Field(ge=1, le=86400)] = 600
    prefix_cache: PrefixCache | None = None
    engine: Literal["builtin", "vllm"] | None = None
    engine_image: str | None = None
    engine_args: list[str] = Field(default_factory=list)
    rollout: RolloutSpec = Field(default_factory=RolloutSpec)
    autoscaling: AutoscalingSpec | None = None
    image: str | None = None
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] | None = None
    image_pull_secrets: list[Fragment] = Field(default_factory=list)
    service_account_name: str | None = None
    pod_labels: dict[str, str] = Field(default_factory=dict)
    pod_annotations: dict[str, str] = Field(default_factory=dict)
    pod_security_context: Fragment = Field(default_factory=dict)
    resources: Fragment = Field(default_factory=dict)
    node_selector: dict[str, str] = Field(default_factory=dict)
    affinity: Fragment = Field(default_factory=dict)
    tolerations: list[Fragment] = Field(default_factory=list)
    topology_spread_constraints: list[Fragment] = Field(default_factory=list)
    runtime_class_name: str | None = None
    priority_class_name: str | None = None
    env: list[Fragment] = Field(default_factory=list)
    deployment_labels: dict[str, str] = Field(default_factory=dict)
    deployment_annotations: dict[str, str] = Field(default_factory=dict)
    scheduler_name: str | None = None
    host_users: bool | None = None
    resource_claims: list[Fragment] = Field(default_factory=list)
    service_labels: dict[str, str] = Field(default_factory=dict)
    service_annotations: dict[str, str] = Field(default_factory=dict)
    service_type: Literal["ClusterIP", "NodePort", "LoadBalancer"] = "ClusterIP"

    @property
    def most_replicas(self) -> int:
        """Return the number of replicas that there may be."""
        return self.replicas if self.autoscaling is None else self.autoscaling.max_replicas


class VicunaModelSpec(_Part):
    """The whole spec of a VicunaModel."""

    weights: WeightsSpec
    merge: MergeSpec = Field(default_factory=MergeSpec)
    storage: StorageSpec = Field(default_factory=StorageSpec)
    serving: ServingSpec = Field(default_factory=ServingSpec)
    suspend: bool = False
