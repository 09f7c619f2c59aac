"""Names that the cluster sees: group, labels, annotations, children, containers, their folders, ports and headers."""

import re
from typing import Final

GROUP: Final = "vicuna.dev"
VERSION: Final = "v1alpha1"
API_VERSION: Final = f"{GROUP}/{VERSION}"
KIND: Final = "VicunaModel"
PLURAL: Final = "vicunamodels"
USAGE_KIND: Final = "VicunaUsage"
USAGE_PLURAL: Final = "vicunausages"

FIELD_MANAGER: Final = "vicuna-operator"
MANAGED_BY: Final = "vicuna-operator"

LABEL_NAME: Final = "app.kubernetes.io/name"
LABEL_INSTANCE: Final = "app.kubernetes.io/instance"
LABEL_MANAGED_BY: Final = "app.kubernetes.io/managed-by"
LABEL_MODEL: Final = f"{GROUP}/model"
LABEL_MODEL_UID: Final = f"{GROUP}/model-uid"
LABEL_REVISION: Final = f"{GROUP}/revision"
LABEL_ARTIFACT_ID: Final = f"{GROUP}/artifact-id"
LABEL_MERGE_KEY: Final = f"{GROUP}/merge-key"
LABEL_GATEWAY: Final = f"{GROUP}/gateway"
"""Of a VicunaUsage: the Service of the gateway that counts in it."""
LABEL_DAY: Final = f"{GROUP}/day"
"""Of a VicunaUsage: the day, YYYY-MM-DD in UTC."""
LABEL_DEMAND: Final = f"{GROUP}/demand"
"""Of a VicunaUsage that states demand instead of usage; the value is `true`."""

MANIFEST_NAME: Final = "vicuna-manifest.json"
"""Lies in every artifact: what it is made of."""

NAME_SERVER: Final = "vicuna-server"
NAME_MERGE: Final = "vicuna-merge"
NAME_PRUNE: Final = "vicuna-prune"

ANNOTATION_RETRY: Final = f"{GROUP}/retry"
ANNOTATION_UPGRADE: Final = f"{GROUP}/upgrade"
ANNOTATION_MANAGED_BY: Final = f"{GROUP}/managed-by"
"""NAMESPACE/NAME of the Lease of the operator that is to manage a model, whatever its status says."""
ANNOTATION_VERIFY: Final = f"{GROUP}/verify"
"""Of a model: a new value requests one verification of its artifact. Of a Job: the key of its verification."""
ANNOTATION_RESTARTED: Final = f"{GROUP}/restarted-at"
"""Of pods, by `serving.podAnnotations`: another moment makes another revision of the same spec."""
ANNOTATION_APPLIED_HASH: Final = f"{GROUP}/applied-hash"
ANNOTATION_ATTEMPT: Final = f"{GROUP}/merge-attempt"
ANNOTATION_SERIES: Final = f"{GROUP}/merge-series"
ANNOTATION_DISRUPTED: Final = f"{GROUP}/merge-disrupted"
ANNOTATION_CLAIM: Final = f"{GROUP}/claim"
ANNOTATION_CLAIM_UID: Final = f"{GROUP}/claim-uid"
ANNOTATION_CAPACITY: Final = f"{GROUP}/claim-capacity"
ANNOTATION_ARTIFACT_BYTES: Final = f"{GROUP}/artifact-bytes"
ANNOTATION_WARNINGS: Final = f"{GROUP}/merge-warnings"
ANNOTATION_CHAT_TEMPLATE: Final = f"{GROUP}/chat-template"
ANNOTATION_ARTIFACT_DIGEST: Final = f"{GROUP}/artifact-digest"
ANNOTATION_ARTIFACTS: Final = f"{GROUP}/artifacts"
ANNOTATION_KEPT: Final = f"{GROUP}/kept-artifacts"
ANNOTATION_ASIDE: Final = f"{GROUP}/put-aside"
"""Of a clean-up: the artifacts whose damaged copies it removes too. Of a verification: `removed`, once they are."""
ANNOTATION_ROLLOUT: Final = f"{GROUP}/rollout"
ANNOTATION_ROLLOUT_WAITING: Final = f"{GROUP}/rollout-waiting"
ANNOTATION_ROLLOUT_STARTED: Final = f"{GROUP}/rollout-started"
ANNOTATION_ROLLOUT_COMPLETED: Final = f"{GROUP}/rollout-completed"
ANNOTATION_ROLLOUT_FAILED: Final = f"{GROUP}/rollout-failed"
ANNOTATION_REPLICAS: Final = f"{GROUP}/replicas"
ANNOTATION_TEMPLATE: Final = f"{GROUP}/template-hash"
ANNOTATION_PUT_BACK: Final = f"{GROUP}/put-back"
ANNOTATION_DEFAULT_IMAGE: Final = f"{GROUP}/default-image"
ANNOTATION_SPEC_SNAPSHOT: Final = f"{GROUP}/spec-snapshot"
ANNOTATION_DEFAULT_ENGINE_IMAGE: Final = f"{GROUP}/default-engine-image"
ANNOTATION_ATTENTION_HEADS: Final = f"{GROUP}/attention-heads"
"""The attention heads of an artifact's model and those of keys and values, where its merge reported them."""

MERGE_CONTAINER: Final = "merge"
SERVER_CONTAINER: Final = "server"
ENGINE_CONTAINER: Final = "engine"
"""Runs vLLM beside the server container, which then is its front."""
SERVER_PORT: Final = 8000
ENGINE_PORT: Final = 8001
"""Of vLLM, on 127.0.0.1: only the front reaches it."""
SERVICE_PORT: Final = 8000
DRAINED_FILE: Final = "/run/vicuna/drained"
"""The front writes it once it has drained; the engine's container ends only then."""

MODELS_MOUNT: Final = "/models"
ARTIFACTS_ROOT: Final = "/models/artifacts"
SOURCES_MOUNT: Final = "/sources"

# A Service's name and a Job's `<model>-merge-<mergeKey>-<attempt>` must fit a DNS label of 63 characters.
MAX_MODEL_NAME: Final = 40
NAMESPACE: Final = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
"""What a namespace can be called: a DNS label."""

REVISION_HEADER: Final = "x-vicuna-revision"
"""Every response of a server has it; the value is the revision that answered."""
TRIMMED_HEADER: Final = "x-vicuna-trimmed-messages"
"""How many messages `truncation: auto` left out; absent where none was."""
SALT_HEADER: Final = "x-vicuna-cache-salt"
"""From the gateway to a server: requests of one salt share keys and values. The gateway passes on no client's."""
COUNTING_HEADER: Final = "x-vicuna-counting"
"""From the gateway to a server: names one try of a request, 32 hex, and asks for its counts. Never a client's own."""
COUNTS_PATH: Final = "/internal/counts"
"""Where a server tells the gateway what the try named by `COUNTING_HEADER` has used, once it is over."""
COUNTS_COMMENT: Final = b": vicuna"
"""How a server's comments to the gateway begin, a JSON object behind it; none reaches a client."""
STATE_HEADER: Final = "x-vicuna-stream-state"
"""From the gateway to a server: `vicuna_contract.stream_state` describes it. Never a client's own."""
WARNING_HEADER: Final = "x-vicuna-warning"
"""From the gateway to a client: what it asks for works now and will not after the next release."""

LIVE_PATH: Final = "/livez"
READY_PATH: Final = "/readyz"
ENGINE_PATH: Final = "/enginez"

TERMINATION_LOG_VARIABLE: Final = "VICUNA_TERMINATION_LOG"
"""Names the file that gets a container's termination message, where it is not /dev/termination-log."""
ARTIFACT_DIGEST_VARIABLE: Final = "VICUNA_ARTIFACT_DIGEST"
"""Value of a server's `--artifact-digest` where that is not stated; images of earlier versions ignore it."""
ENGINE_DIGEST_VARIABLE: Final = "VICUNA_ENGINE_DIGEST"
"""Value of a server's `--engine-digest`; images of earlier versions ignore it."""
VERIFY_VARIABLE: Final = "VICUNA_VERIFY_FOUND"
"""Makes a merge read every byte of an artifact that it finds; images of earlier versions ignore it."""
ASIDE_VARIABLE: Final = "VICUNA_PRUNE_ASIDE"
"""Artifacts, separated by commas, whose damaged copies `artifacts prune` removes; older images ignore it."""
TOKEN_PATH_VARIABLE: Final = "HF_TOKEN_PATH"  # noqa: S105  # a variable's name
"""Names the file that holds a hub's token."""
SOURCE_ROOTS_VARIABLE: Final = "VICUNA_SOURCE_ROOTS"
"""Folders that stand for a container's mounts in a local run, as PATH has them: no source is read beyond its own."""


def weights_claim(model: str) -> str:
    """Return the name of the claim that is made for a model's artifacts."""
    return f"{model}-weights"


def merge_job(model: str, merge_key: str, attempt: int) -> str:
    """Return the name of the Job of one attempt to merge."""
    return f"{model}-merge-{merge_key}-{attempt}"


def prune_job(model: str, kept: str) -> str:
    """Return the name of a clean-up Job; `kept` is 8 hex over what is kept."""
    return f"{model}-prune-{kept}"


def deployment(model: str, revision: str) -> str:
    """Return the name of a revision's Deployment."""
    return f"{model}-{revision}"


def source_mount(role: str) -> str:
    """Return where the claim of a merge's source is mounted; `role` is base, delta or adapter-N."""
    return f"{SOURCES_MOUNT}/{role}"
