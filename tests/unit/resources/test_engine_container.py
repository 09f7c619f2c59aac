"""A pod with vLLM: what belongs to the front, what to the engine, and in which order they end."""

from typing import Any

import pytest

from vicuna_contract.serve_arguments import ServeArguments
from vicuna_operator.api.model import Model, parse_model
from vicuna_operator.resources.deployment import revision_deployment

VLLM_IMAGE = "registry.example/vllm:0.32"


def model(**serving: Any) -> Model:
    spec = {"weights": {"base": {"source": "hf://org/base"}}, "storage": {"size": "1Gi"}, "serving": serving}
    found = parse_model({"metadata": {"name": "demo"}, "spec": spec})
    assert found.spec_error is None
    return found


def pod(image: str | None = VLLM_IMAGE, **serving: Any) -> dict[str, Any]:
    made = revision_deployment(
        model(**{"engine": "vllm", **serving}), revision="0a0a0a0a", artifact_id="0" * 16, image="front:1",
        engine_image=image, pull_policy="Always", replicas=1, shared_volume=True, annotations={}, digest="d" * 64,
        gateway_keys="a" * 43 + "=",
    )  # fmt: skip
    found: dict[str, Any] = made["spec"]["template"]["spec"]
    return found


def containers(**serving: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    front, engine = pod(**serving)["containers"]
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
    assert engine["command"] == ["vllm"]
    assert engine["args"][:2] == ["serve", read.model]


def test_the_engine_ends_after_its_front_has_drained() -> None:
    front, engine = containers()
    file = ServeArguments.from_argv(front["args"]).drained_file
    assert file is not None
    assert file in engine["lifecycle"]["preStop"]["exec"]["command"][-1]
    folder = file.rpartition("/")[0]
    mounts = [[mount for mount in item["volumeMounts"] if mount["mountPath"] == folder] for item in (front, engine)]
    assert [[mount.get("readOnly", False) for mount in found] for found in mounts] == [[False], [True]]
    assert "lifecycle" not in front


def test_the_grace_period_covers_the_longest_stream_the_front_and_the_engine() -> None:
    assert pod(maxStreamSeconds=300)["terminationGracePeriodSeconds"] == 300 + 30 + 15


def test_a_hung_engine_is_killed_within_seconds_and_a_starting_one_never() -> None:
    _, engine = containers()
    probe = engine["livenessProbe"]
    assert probe["httpGet"] == {"path": "/enginez", "port": 8000}, "a port's name would be one of its own container"
    assert probe["terminationGracePeriodSeconds"] == 10
    assert "startupProbe" not in engine
    assert "readinessProbe" not in engine


def test_each_writes_where_the_other_does_not() -> None:
    front, engine = containers()
    volumes = {volume["name"]: volume for volume in pod()["volumes"]}
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
        pod(image, engine=engine)


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
