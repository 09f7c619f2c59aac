"""A model with vLLM through its life: images, GPUs that do not fit its heads, and how its second container fails."""

import json
from dataclasses import replace
from typing import Any

import pytest

from support import crd_schema
from support.cluster import model_body
from support.memory_kube import Body
from support.world import ARTIFACT, CONFIG, World
from vicuna_contract import names as c
from vicuna_operator.planning.config import PlanConfig
from vicuna_operator.planning.observed import EventView
from vicuna_operator.planning.pods import PodView

FRONT, VLLM = "registry.example/front:1", "registry.example/vllm:1"
BOTH = replace(CONFIG, front_image=FRONT, vllm_image=VLLM)
OOM = "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 224.00 MiB. GPU 0 has a total capacity of 23 GiB"
TRACE = f"(EngineCore pid=66) ERROR {OOM}\n(APIServer pid=1) RuntimeError: Engine core initialization failed."


def world(config: PlanConfig = BOTH, **serving: Any) -> World:
    return World(model_body(serving={"replicas": 1, "engine": "vllm", **serving}), config=config)


def deployed(**serving: Any) -> World:
    made = world(**serving)
    made.deploy()
    assert made.status["ready"] == "1/1"
    return made


def images(made: World) -> list[str]:
    newest = max(made.all("Deployment"), key=lambda item: item["metadata"]["creationTimestamp"])
    return [item["image"] for item in newest["spec"]["template"]["spec"]["containers"]]


def both(entry: Body) -> list[str]:
    """Return the images that an entry of the status has."""
    return [entry["image"], entry["engineImage"]]


def merged_with(made: World, **heads: int) -> None:
    made.reconcile()
    made.end_job(0, json.dumps({"reason": "Merged", "artifactID": ARTIFACT, **heads}))
    made.reconcile()


def engine(made: World, server: Body | None = None, ready: bool = False, **status: Any) -> None:
    """Let the kubelet report how the engine's container is; the front runs on."""
    (pod,) = made.server_pods()
    made.set_ready(pod, ready)
    (pod,) = made.server_pods()
    front = {"name": c.SERVER_CONTAINER, **(server or {"state": {"running": {}}})}
    pod["status"] |= {"phase": "Running", "containerStatuses": [front, {"name": c.ENGINE_CONTAINER, **status}]}
    made.put(pod)
    made.reconcile()


def ended(code: int, message: str = "", reason: str = "Error") -> Body:
    return {
        "terminated": {"exitCode": code, "message": message, "reason": reason, "finishedAt": "2026-01-01T01:00:00Z"}
    }


# ---- images ----


def test_the_front_has_an_image_of_its_own_and_merges_have_the_servers() -> None:
    made = world()
    made.reconcile()
    (merge,) = made.only("Job")["spec"]["template"]["spec"]["containers"]
    assert merge["image"] == CONFIG.server_image
    made.end_job()
    made.settle()
    assert images(made) == [FRONT, VLLM]


def test_stated_images_are_taken() -> None:
    assert images(deployed(image="my/server:2", engineImage="my/vllm:2")) == ["my/server:2", "my/vllm:2"]


def test_without_an_image_for_the_front_the_servers_is_taken() -> None:
    made = world(config=replace(BOTH, front_image=""))
    made.deploy()
    assert images(made) == [CONFIG.server_image, VLLM]


@pytest.mark.parametrize(
    "newer", [{"vllm_image": "registry.example/vllm:2"}, {"front_image": "registry.example/front:2"}]
)
def test_a_new_default_of_either_touches_nothing_until_it_is_asked_for(newer: dict[str, str]) -> None:
    made = deployed()
    before = made.status["target"]["revision"]
    made.config = replace(BOTH, **newer)  # type: ignore[arg-type]
    made.settle()
    assert (made.status["target"]["revision"], images(made)) == (before, [FRONT, VLLM])
    assert made.status["imageOutdated"] is True
    made.annotate(c.ANNOTATION_UPGRADE, before)
    made.settle()
    assert made.status["target"]["revision"] != before
    assert images(made) == [newer.get("front_image", FRONT), newer.get("vllm_image", VLLM)]
    assert made.status["imageOutdated"] is False
    assert [both(entry) for entry in (made.status["active"], *made.status["history"])] == [images(made)] * 2 + [
        [FRONT, VLLM]
    ]


def test_a_revision_of_another_engine_has_no_engine_image_in_the_status() -> None:
    made = deployed()
    assert made.status["active"]["engineImage"] == VLLM
    made.edit(serving={"engine": "builtin"})
    made.settle()
    entries = (made.status["active"], *made.status["history"])
    assert [entry.get("engineImage") for entry in entries] == [None, None, VLLM]
    assert crd_schema.schema_errors(made.status, crd_schema.schema()["properties"]["status"]) == []


def test_a_restart_keeps_both_images() -> None:
    made = deployed()
    made.config = replace(BOTH, vllm_image="registry.example/vllm:2", front_image="registry.example/front:2")
    made.edit(serving={"podAnnotations": {c.ANNOTATION_RESTARTED: "2026-01-02T00:00:00Z"}})
    made.settle()
    assert len(made.all("Deployment")) == 2
    assert images(made) == [FRONT, VLLM]


def test_a_stated_engine_image_is_another_revision_and_the_front_keeps_its_own() -> None:
    made = deployed()
    made.config = replace(BOTH, front_image="registry.example/front:2")
    made.edit(serving={"engineImage": VLLM})
    made.settle()
    assert images(made) == [FRONT, VLLM]
    assert len(made.all("Deployment")) == 1, "the same images, stated or not, are the same revision"


def test_builtin_stated_or_absent_is_one_revision() -> None:
    made = World(model_body(serving={"replicas": 1}), config=BOTH)
    made.deploy()
    before = made.status["target"]["revision"]
    made.edit(serving={"engine": "builtin"})
    made.settle()
    assert made.status["target"]["revision"] == before
    made.edit(serving={"engine": "vllm"})
    made.settle()
    assert made.status["target"]["revision"] != before
    assert len([job for job in made.all("Job") if c.ANNOTATION_ATTEMPT in job["metadata"]["annotations"]]) == 1


def test_an_orphan_with_vllm_is_adopted_and_its_pods_go_on() -> None:
    made = deployed()
    pods = {pod["metadata"]["uid"] for pod in made.server_pods()}
    lost = made.only("Deployment")
    lost["metadata"].pop("ownerReferences")
    made.put(lost)
    assert "ownerReferences" not in made.only("Deployment")["metadata"]
    made.settle()
    assert "ownerReferences" in made.only("Deployment")["metadata"]
    assert {pod["metadata"]["uid"] for pod in made.server_pods()} == pods
    assert made.condition("Ready")["status"] == "True"


# ---- heads ----


def test_gpus_that_do_not_divide_the_heads_are_refused_before_anything_is_scheduled() -> None:
    made = world(numGpus=3)
    merged_with(made, attentionHeads=40)
    for _ in range(3):
        assert made.all("Deployment") == []
        ready = made.condition("Ready")
        assert (ready["reason"], made.condition("Stalled")["status"]) == ("InvalidSpec", "True")
        assert "spec.serving.numGpus: 3 GPUs cannot share the model's 40 attention heads" in ready["message"]
        assert "set it to 1, 2, 4, 5, 8, 10, or leave engine out" in ready["message"]
        assert made.condition("WeightsReady")["status"] == "True", "nothing is merged for it again"
        made.reconcile()
    made.edit(serving={"numGpus": 4})
    made.settle()
    assert made.status["ready"] == "1/1"


def test_what_served_before_goes_on() -> None:
    made = World(model_body(serving={"replicas": 1, "numGpus": 1}), config=BOTH)
    merged_with(made, attentionHeads=40)
    made.settle()
    made.edit(serving={"engine": "vllm", "numGpus": 3})
    made.settle()
    assert made.condition("Ready")["reason"] == "InvalidSpec"
    assert (made.condition("Available")["status"], len(made.ready_pods())) == ("True", 1)


def test_the_heads_are_kept_on_the_job_and_on_the_deployment() -> None:
    made = world(numGpus=4)
    merged_with(made, attentionHeads=40, keyValueHeads=8)
    made.settle()
    noted = [item["metadata"]["annotations"].get(c.ANNOTATION_ATTENTION_HEADS) for item in made.all("Deployment")]
    assert [made.only("Job")["metadata"]["annotations"][c.ANNOTATION_ATTENTION_HEADS], *noted] == ["40 8"] * 2
    made.remove(made.only("Job"))
    made.edit(serving={"numGpus": 3})
    made.settle()
    assert made.condition("Ready")["reason"] == "InvalidSpec", "known from the Deployment"


@pytest.mark.parametrize(("engine_", "told"), [("vllm", {}), ("builtin", {"attentionHeads": 40})])
def test_unknown_heads_and_the_builtin_engine_are_not_checked(engine_: str, told: dict[str, int]) -> None:
    made = world(numGpus=3, engine=engine_)
    merged_with(made, **told)
    made.settle()
    assert made.status["ready"] == "1/1"


# ---- failures ----


@pytest.mark.parametrize("code", [0, 1, 137])
def test_any_end_of_the_engine_is_a_crash_whatever_its_exit_code(code: int) -> None:
    made = deployed()
    engine(made, state=ended(code, "last line of vLLM"))
    ready = made.condition("Ready")
    assert ready["reason"] == "EngineCrashed"
    assert f"vLLM (container engine) ended with exit code {code}" in ready["message"]
    last = made.status["lastFailure"]
    assert (last["reason"], last["exitCode"], last["log"]) == ("EngineCrashed", code, "last line of vLLM")
    assert "--engine --previous" in made.status["action"]


def test_an_end_that_another_process_explains_is_told_with_its_errors() -> None:
    """vLLM 0.32.0 in an image without libnuma, shortened: the last lines only say that the cause is above."""
    printed = """\
INFO 12-01 10:02:11 [utils.py:263] non-default args: {'model': '/models/m'}, ignoring ImportError: none
WARNING 12-01 10:02:15 [cpu.py:17] Failed to import from vllm._C: ImportError('libnuma.so.1: lost')
(VllmWorker-0 pid=9) WARNING 12-01 10:02:19 [cpu.py:17] Failed to import from vllm._C: ImportError('libnuma.so.1: lost')
(VllmWorker-0 pid=9) ERROR 12-01 10:02:20 [multiproc_executor.py:910] Traceback (most recent call last):
(VllmWorker-0 pid=9) ERROR 12-01 10:02:20 [multiproc_executor.py:910]     raise AttributeError: never shown
(VllmWorker-0 pid=9) ERROR 12-01 10:02:20 [multiproc_executor.py:910] AttributeError: '_OpNamespace' '_C' object has no\
 attribute 'init_cpu_memory_env'
(EngineCore pid=12) ERROR 12-01 10:02:21 [core.py:1105] Exception: WorkerProc initialization failed.
(EngineCore pid=12) Exception: WorkerProc initialization failed.
(APIServer pid=1) Traceback (most recent call last):
(APIServer pid=1)   File "/usr/bin/vllm", line 8, in <module>
(APIServer pid=1) RuntimeError: Engine core initialization failed. See root cause above.
"""
    made = deployed()
    engine(made, state=ended(1, printed))
    told = (
        "vLLM (container engine) ended with exit code 1; its errors:"
        " Failed to import from vllm._C: ImportError('libnuma.so.1: lost')"
        " | AttributeError: '_OpNamespace' '_C' object has no attribute 'init_cpu_memory_env'"
        " | Exception: WorkerProc initialization failed."
        " | RuntimeError: Engine core initialization failed. See root cause above.; see its log for more"
    )
    assert made.status["lastFailure"]["message"] == told
    assert told in made.condition("Ready")["message"]
    assert made.status["lastFailure"]["log"].endswith("Engine core initialization failed. See root cause above.")


def test_of_many_errors_the_last_ones_are_told_each_once_and_shortened() -> None:
    first = [f"(APIServer pid=1) ERROR 12-01 10:02:21 [api.py:1] ValueError: request {number}" for number in range(9)]
    last = "(EngineCore pid=2) torch.cuda.Error: \x1b[31m" + "x" * 5000
    made = deployed()
    engine(made, state=ended(0, "\n".join([*first, first[0], last, "INFO 12-01 10:02:30 [a.py:1] Shutting down"])))
    message = made.status["lastFailure"]["message"]
    assert "request 4" not in message
    assert [f"ValueError: request {number} | " in message for number in range(5, 9)] == [True] * 4
    assert "torch.cuda.Error: xxx" in message
    assert len(message) < 1000


def test_while_it_starts_again_the_cause_stays() -> None:
    made = deployed()
    engine(made, state={"running": {}}, lastState=ended(0, "words"), restartCount=1)
    assert made.condition("Ready")["reason"] == "EngineCrashed"
    assert "(restart 1)" in made.condition("Ready")["message"]
    engine(made, ready=True, state={"running": {}}, lastState=ended(0, "words"), restartCount=1)
    assert made.condition("Ready")["reason"] == "Ready"


def test_in_a_pod_that_is_being_deleted_it_is_none() -> None:
    made = deployed()
    (pod,) = made.server_pods()
    made.kube.start_deletion("Pod", pod["metadata"]["name"], "team")
    engine(made, state=ended(0))
    assert "lastFailure" not in made.status


def test_the_later_end_of_the_two_is_told() -> None:
    made = deployed()
    said = json.dumps({"reason": "ArtifactMismatch", "message": "another artifact", "retryable": False})
    front = {"state": {"terminated": {"exitCode": 65, "message": said, "finishedAt": "2026-01-01T02:00:00Z"}}}
    engine(made, server=front, state=ended(0))
    assert made.condition("Ready")["reason"] == "ArtifactMismatch"


@pytest.mark.parametrize(
    ("printed", "reason", "words"),
    [
        (TRACE, "OutOfMemory", "raise spec.serving.numGpus, lower maxConcurrency"),
        (
            "ValueError: Free memory on device cuda:0 (10.1/79.2 GiB) on startup is less than desired GPU memory"
            " utilization (0.92, 72.8 GiB). Decrease GPU memory utilization",
            "OutOfMemory",
            "something else holds memory of the GPU",
        ),
        (
            "ValueError: To serve at least one request with the model's max seq len (131072), (16.0 GiB KV cache is"
            " needed, which is larger than the available KV cache memory (3.1 GiB).",
            "KvCacheTooSmall",
            "lower spec.serving.contextLength",
        ),
        ("ValueError: No available memory for the cache blocks. Try", "KvCacheTooSmall", "too little memory for keys"),
        ("RuntimeError: Failed to infer device type", "DeviceUnavailable", "vLLM's image for CPUs"),
        (
            "vllm serve: error: unrecognized arguments: --async-scheduling",
            "UsageError",
            "correct spec.serving.engineArgs",
        ),
    ],
)
def test_what_another_start_does_not_cure_is_told_with_the_next_step_and_ends_the_rollout(
    printed: str, reason: str, words: str
) -> None:
    made = world()
    merged_with(made)
    made.reconcile()
    made.run_deployments()
    engine(made, state=ended(1, printed))
    ready = made.condition("Ready")
    assert (ready["reason"], made.condition("Stalled")["status"]) == (reason, "True")
    assert words in ready["message"]
    assert made.status["lastFailure"]["log"].endswith(printed.splitlines()[-1])


def test_a_rollout_whose_engine_crashes_goes_back_after_three_crashes() -> None:
    made = World(model_body(serving={"replicas": 1, "numGpus": 0}), config=BOTH)
    made.deploy()
    former = made.status["active"]["revision"]
    made.edit(serving={"engine": "vllm"})
    made.reconcile()
    made.run_deployments()
    (pod,) = [item for item in made.server_pods() if item["metadata"]["labels"][c.LABEL_REVISION] != former]
    for restarts, state in ((0, ended(0)), (2, {"waiting": {"reason": "CrashLoopBackOff"}})):
        running = {"name": c.SERVER_CONTAINER, "state": {"running": {}}}
        crashed = {"name": c.ENGINE_CONTAINER, "state": state, "lastState": ended(0), "restartCount": restarts}
        pod["status"] |= {"phase": "Running", "containerStatuses": [running, crashed]}
        pod = made.put(pod)
        made.reconcile()
    assert made.condition("Ready")["reason"] == "RolledBack"
    assert "EngineCrashed" in made.condition("Ready")["message"]


@pytest.mark.parametrize("front", [{"running": {}}, {"waiting": {"reason": "ContainerCreating"}}])
def test_an_image_of_vllm_that_cannot_be_pulled_names_its_field(front: Body) -> None:
    made = world()
    merged_with(made)
    made.reconcile()
    made.run_deployments()
    refused = {"waiting": {"reason": "ErrImagePull", "message": f"{VLLM}: not found"}}
    engine(made, server={"state": front}, state=refused)
    ready = made.condition("Ready")
    assert ready["reason"] == "ImagePullFailed"
    assert f"{VLLM}: not found; check the image's name (spec.serving.engineImage)" in ready["message"]


@pytest.mark.parametrize(
    ("container", "words"),
    [(c.ENGINE_CONTAINER, "raise spec.serving.resources.limits.memory"), (c.SERVER_CONTAINER, "spec.serving.maxConc")],
)
def test_out_of_memory_names_what_can_be_changed(container: str, words: str) -> None:
    made = deployed()
    killed: Body = {"state": ended(137, "", "OOMKilled")}
    fine: Body = {"state": {"running": {}}}
    states = (fine, killed) if container == c.ENGINE_CONTAINER else (killed, fine)
    engine(made, server=states[0], **states[1])
    assert made.condition("Ready")["reason"] == "OOMKilled"
    assert words in made.condition("Ready")["message"]


def test_a_hung_engine_is_called_that() -> None:
    made = deployed()
    engine(made, state={"running": {}})
    (pod,) = made.server_pods()
    killing = "Container engine failed liveness probe, will be restarted"
    made.events[pod["metadata"]["uid"]] = [EventView("Normal", "Killing", killing)]
    made.reconcile()
    assert made.condition("Ready")["reason"] == "ProbeFailed"
    assert "restarts vLLM: requests ran, and it generated nothing" in made.condition("Ready")["message"]


def test_a_pod_has_started_with_its_second_container_and_reads_since_its_first() -> None:
    def container(name: str, minute: int) -> Body:
        return {"name": name, "state": {"running": {"startedAt": f"2026-01-01T00:{minute:02}:00Z"}}}

    labels = {c.LABEL_NAME: c.NAME_SERVER}
    for minutes in ((1, 9), (9, 1)):
        states = [container(c.SERVER_CONTAINER, minutes[0]), container(c.ENGINE_CONTAINER, minutes[1])]
        found = PodView.of({"metadata": {"labels": labels}, "status": {"containerStatuses": states}})
        assert found.started is not None
        assert found.began is not None
        assert (found.started.minute, found.began.minute) == (9, 1)
    half = PodView.of({"metadata": {"labels": labels}, "status": {"containerStatuses": states[:1]}})
    assert half.began is not None, "without a second container there is one"


def test_a_container_that_others_add_is_still_a_sidecar() -> None:
    made = deployed()
    (pod,) = made.server_pods()
    made.set_ready(pod, False)
    (pod,) = made.server_pods()
    pod["status"]["containerStatuses"].append({"name": "istio-proxy", "state": ended(1)})
    made.put(pod)
    made.reconcile()
    assert made.condition("Ready")["reason"] == "SidecarFailed"
