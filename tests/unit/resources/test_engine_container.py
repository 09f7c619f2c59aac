"""A pod with vLLM: what belongs to the front, what to the engine, and in which order they end."""

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support.engine_pod import VLLM_IMAGE, engine_pod, prestop_hook
from support.unsharing import unshared
from vicuna_contract.serve_arguments import ServeArguments
from vicuna_operator.api.model import Model, parse_model
from vicuna_operator.resources.deployment import revision_deployment


def model(**serving: Any) -> Model:
    spec = {"weights": {"base": {"source": "hf://org/base"}}, "storage": {"size": "1Gi"}, "serving": serving}
    found = parse_model({"metadata": {"name": "demo"}, "spec": spec})
    assert found.spec_error is None
    return found


def containers(**serving: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    front, engine = engine_pod(**serving)["containers"]
    assert (front["name"], engine["name"]) == ("server", "engine")
    return front, engine


def test_the_gpus_and_the_stated_resources_are_the_engines() -> None:
    front, engine = containers(numGpus=2, resources={"limits": {"memory": "64Gi"}, "requests": {"cpu": "4"}})
    assert engine["resources"] == {"limits": {"memory": "64Gi", "nvidia.com/gpu": "2"}, "requests": {"cpu": "4"}}
    assert not [name for kind in front["resources"].values() for name in kind if "/" in name]
    assert {"cpu", "memory"} == front["resources"]["requests"].keys()


def test_claims_on_devices_are_the_engines_too() -> None:
    front, engine = containers(
        numGpus=1,
        resourceClaims=[{"name": "gpu", "resourceClaimName": "c"}],
        resources={"claims": [{"name": "gpu"}]},
    )
    assert engine["resources"] == {"claims": [{"name": "gpu"}]}
    assert "claims" not in front["resources"]


def test_without_gpus_none_is_asked_for() -> None:
    _, engine = containers(numGpus=0)
    assert engine["resources"] == {}
    assert engine["args"][engine["args"].index("--tensor-parallel-size") + 1] == "1"


def test_the_front_reads_its_command_line_and_computes_nothing() -> None:
    front, engine = containers(numGpus=4, dtype="bfloat16", contextLength=2048, maxConcurrency=8)
    read = ServeArguments.from_argv(front["args"])
    assert (read.engine, read.engine_url, read.device, read.num_gpus) == ("vllm", "http://127.0.0.1:8001", "cpu", 0)
    assert (read.context_length, read.max_concurrency) == (2048, 8)
    assert (engine["command"][0], engine["command"][-1]) == ("sh", "vllm")
    assert engine["args"][:2] == ["serve", read.model]


@pytest.mark.parametrize(
    ("script", "code"),
    [
        ("sleep 60", 143),  # as a program that is still being imported
        ("trap 'sleep 0.2; exit 0' TERM; while :; do sleep 0.05; done", 0),
        ("exit 7", 7),
        ("kill -9 $$", 137),
    ],
)
@pytest.mark.parametrize("first", [False, True], ids=["anywhere", "PID 1"])
def test_the_engine_ends_as_vllm_does_and_is_told_to(script: str, code: int, first: bool, tmp_path: Path) -> None:
    place = unshared("--pid", "--fork", "--kill-child") if first else []
    begun, program = tmp_path / "begun", tmp_path / "vllm"
    program.write_text(f"#!/bin/sh\n: > {begun}\n{script}\n")
    program.chmod(0o755)
    _, engine = containers()
    process = subprocess.Popen([*place, *engine["command"][:-1], str(program), *engine["args"]])
    until(begun.exists)
    if code in (0, 143):
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        os.kill(int(children.read_text()) if first else process.pid, signal.SIGTERM)
    assert process.wait(30) == code


def until(seen: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not seen():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_the_engine_ends_after_its_front_has_drained() -> None:
    front, engine = containers()
    file = ServeArguments.from_argv(front["args"]).drained_file
    assert file is not None
    assert file in engine["lifecycle"]["preStop"]["exec"]["command"][-1]
    folder = file.rpartition("/")[0]
    mounts = [[mount for mount in item["volumeMounts"] if mount["mountPath"] == folder] for item in (front, engine)]
    assert [[mount.get("readOnly", False) for mount in found] for found in mounts] == [[False], [True]]
    assert "lifecycle" not in front


def run_hook(folder: Path, *, drained_after: int | None, **serving: Any) -> int:
    """Run the hook with a clock of its own, whose `sleep` takes no time; return how many seconds it waited."""
    drained, log, sleep = folder / "drained", folder / "log", folder / "sleep"
    write = "" if drained_after is None else f'[ "$(wc -l < {log})" -lt {drained_after} ] || touch {drained}'
    sleep.write_text(f'#!/bin/sh\necho "$1" >> {log}\n{write}\n')
    sleep.chmod(0o755)
    log.touch()
    if drained_after == 0:
        drained.touch()
    path = f"{folder}:{os.environ['PATH']}"
    subprocess.run(prestop_hook(drained, **serving), env={"PATH": path}, check=True, timeout=60)
    return sum(map(int, log.read_text().split()))


@pytest.mark.parametrize("seconds", [0, 1, 7])
def test_the_hook_ends_with_the_drain_and_not_before(tmp_path: Path, seconds: int) -> None:
    assert run_hook(tmp_path, drained_after=seconds) == seconds


def test_where_the_front_was_killed_the_hook_leaves_the_engine_time_to_end(tmp_path: Path) -> None:
    grace = engine_pod(maxStreamSeconds=5)["terminationGracePeriodSeconds"]
    assert run_hook(tmp_path, drained_after=None, maxStreamSeconds=5) == grace - 15 == 5 + 30


@pytest.mark.long
def test_the_hook_waits_in_real_time(tmp_path: Path) -> None:
    drained = tmp_path / "drained"
    with subprocess.Popen(prestop_hook(drained)) as waiting:
        try:
            with pytest.raises(subprocess.TimeoutExpired):
                waiting.wait(0.5)
            drained.touch()
            assert waiting.wait(10) == 0
        finally:
            waiting.kill()


def test_the_grace_period_covers_the_longest_stream_the_front_and_the_engine() -> None:
    assert engine_pod(maxStreamSeconds=300)["terminationGracePeriodSeconds"] == 300 + 30 + 15


def test_a_hung_engine_is_killed_within_seconds_and_a_starting_one_never() -> None:
    _, engine = containers()
    probe = engine["livenessProbe"]
    assert probe["httpGet"] == {"path": "/enginez", "port": 8000}, "a port's name would be one of its own container"
    assert probe["terminationGracePeriodSeconds"] == 10
    assert "startupProbe" not in engine
    assert "readinessProbe" not in engine


def test_each_writes_where_the_other_does_not() -> None:
    front, engine = containers()
    volumes = {volume["name"]: volume for volume in engine_pod()["volumes"]}
    writable = [
        {mount["name"] for mount in item["volumeMounts"] if not mount.get("readOnly")} for item in (front, engine)
    ]
    assert writable == [{"tmp", "run"}, {"engine-tmp", "shm"}]
    assert all("emptyDir" in volumes[name] for name in set.union(*writable))
    assert volumes["shm"]["emptyDir"] == {"medium": "Memory"}


def test_keys_and_digests_are_the_fronts_and_the_users_variables_are_for_both() -> None:
    front, engine = containers(env=[{"name": "HTTPS_PROXY", "value": "p"}, {"name": "HOME", "value": "/elsewhere"}])
    names = [[item["name"] for item in found["env"]] for found in (front, engine)]
    assert {"VICUNA_GATEWAY_KEYS", "VICUNA_ARTIFACT_DIGEST", "HTTPS_PROXY"} <= {*names[0]}
    assert not [name for name in names[1] if name.startswith("VICUNA_")]
    assert {"LOGNAME", "VLLM_NO_USAGE_STATS", "HTTPS_PROXY"} <= {*names[1]}
    assert [item for item in engine["env"] if item["name"] == "HOME"] == [{"name": "HOME", "value": "/elsewhere"}]


@pytest.mark.parametrize(("image", "engine"), [(None, "vllm"), (VLLM_IMAGE, "builtin")])
def test_an_image_of_vllm_without_vllm_or_the_reverse_is_a_bug(image: str | None, engine: str) -> None:
    with pytest.raises(ValueError, match="image of vLLM"):
        engine_pod(image, engine=engine)


def test_only_images_that_the_spec_leaves_open_are_noted_as_defaults() -> None:
    def noted(**serving: Any) -> set[str]:
        made = revision_deployment(
            model(engine="vllm", **serving), revision="0a0a0a0a", artifact_id="0" * 16, image="front:1",
            engine_image=VLLM_IMAGE, pull_policy="Always", replicas=1, shared_volume=True, annotations={},
        )  # fmt: skip
        return {key.partition("/")[2] for key in made["metadata"]["annotations"] if "default" in key}

    assert noted() == {"default-image", "default-engine-image"}
    assert noted(engineImage=VLLM_IMAGE) == {"default-image"}
    assert noted(image="front:1") == {"default-engine-image"}
    assert noted(image="front:1", engineImage=VLLM_IMAGE) == set()


def digest(image: str = VLLM_IMAGE, **serving: Any) -> str:
    pod = engine_pod(image=image, **serving)
    (value,) = [item["value"] for item in pod["containers"][0]["env"] if item["name"] == "VICUNA_ENGINE_DIGEST"]
    assert not [item for item in pod["containers"][1]["env"] if item["name"] == "VICUNA_ENGINE_DIGEST"]
    return str(value)


def test_the_front_knows_what_its_engine_has_in_common_with_others() -> None:
    args = ["--enforce-eager", "--kv-cache-dtype", "fp8"]
    assert digest(engineArgs=args) == digest(engineArgs=["--kv-cache-dtype=fp8", "--enforce-eager"])
    own = [{"name": "VICUNA_ACCESS_LOG", "value": "off"}]
    others: dict[str, Any] = {"maxConcurrency": 3, "maxStreamSeconds": 60, "env": own}
    assert digest() == digest(**others), "of the front, or of batches"
    found = [
        digest(),
        digest(engineArgs=args),
        digest(engineArgs=args[:1]),
        digest(dtype="float16"),
        digest(numGpus=2),
        digest(env=[{"name": "VLLM_ATTENTION_BACKEND", "value": "FLASHINFER"}]),
        digest(image="registry.example/vllm:other"),
    ]
    assert len(set(found)) == len(found)
    front, _ = containers()
    environ = {item["name"]: item["value"] for item in front["env"]}
    assert ServeArguments.from_argv(front["args"], environ).engine_digest == digest()
