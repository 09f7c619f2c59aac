"""What the operator renders for a pod with vLLM, for tests that run parts of it."""

from pathlib import Path
from typing import Any

from vicuna_contract.serve_arguments import ServeArguments
from vicuna_operator.api.model import parse_model
from vicuna_operator.resources.deployment import revision_deployment

__all__ = ["VLLM_IMAGE", "engine_pod", "prestop_hook"]

VLLM_IMAGE = "registry.example/vllm:0.32"


def engine_pod(image: str | None = VLLM_IMAGE, **serving: Any) -> dict[str, Any]:
    """Return the spec of a serving pod; keyword arguments are fields of `spec.serving`."""
    stated = {"engine": "vllm", **serving}
    spec = {"weights": {"base": {"source": "hf://org/base"}}, "storage": {"size": "1Gi"}, "serving": stated}
    model = parse_model({"metadata": {"name": "demo"}, "spec": spec})
    assert model.spec_error is None
    made = revision_deployment(
        model, revision="0a0a0a0a", artifact_id="0" * 16, image="front:1", engine_image=image, pull_policy="Always",
        replicas=1, shared_volume=True, annotations={}, digest="d" * 64, gateway_keys="a" * 43 + "=",
    )  # fmt: skip
    found: dict[str, Any] = made["spec"]["template"]["spec"]
    return found


def prestop_hook(drained: Path, **serving: Any) -> list[str]:
    """Return the command of the engine's preStop hook, with the file it waits for at a place of this machine."""
    front, engine = engine_pod(**serving)["containers"]
    file = ServeArguments.from_argv(front["args"]).drained_file
    assert file is not None
    command = engine["lifecycle"]["preStop"]["exec"]["command"]
    return [word.replace(file, str(drained)) for word in command]
