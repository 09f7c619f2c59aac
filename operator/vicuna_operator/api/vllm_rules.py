"""What `serving.engine: vllm` cannot do, or does by other fields: checked before anything is merged.

Source: `vllm serve --help` of v0.32.0. bitsandbytes has been a plugin of its own since v0.28.0, and memory of a GPU is
stated as a fraction of it.
"""

from collections.abc import Iterator

from vicuna_contract.heads import Heads
from vicuna_contract.vllm_arguments import VLLM, EngineArguments, RefusedArgumentError
from vicuna_operator.api.types import ServingSpec

__all__ = ["engine_faults", "heads_fault"]

Fault = tuple[str, str]  # the field below spec.serving, and what is wrong with it


def engine_faults(serving: ServingSpec) -> Iterator[Fault]:
    """Yield what the chosen engine does not take, with the next step."""
    yield from _of_vllm(serving) if serving.engine == VLLM else _without_vllm(serving)


def heads_fault(serving: ServingSpec, heads: Heads | None) -> str:
    """Say why vLLM cannot split a model over `numGpus`; empty where it can, or where its heads are not known."""
    if heads is None or serving.engine != VLLM or serving.num_gpus == 0 or heads.split_over(serving.num_gpus):
        return ""
    grouped = "" if heads.key_value == heads.attention else f" ({heads.key_value} of keys and values)"
    return (
        f"spec.serving.numGpus: {serving.num_gpus} GPUs cannot share the model's {heads.attention} attention"
        f" heads{grouped} equally; set it to {', '.join(map(str, heads.counts()))}, or leave engine out"
    )


def _without_vllm(serving: ServingSpec) -> Iterator[Fault]:
    for field, stated in (("engineImage", serving.engine_image), ("engineArgs", serving.engine_args)):
        if stated:
            yield field, "means something with engine vllm only; set engine to vllm, or remove it"


def _of_vllm(serving: ServingSpec) -> Iterator[Fault]:
    if serving.quantization != "none":
        yield (
            "quantization",
            f"{serving.quantization} is done by bitsandbytes, which vLLM does not include; set it to none and"
            " engineArgs to [--quantization=fp8_per_tensor], or leave engine out",
        )
    if serving.max_gpu_memory is not None:
        yield (
            "maxGpuMemory",
            "vLLM takes a fraction of each GPU, not bytes; remove it and set engineArgs to"
            " [--gpu-memory-utilization=0.5], or another fraction of 1",
        )
    if serving.device == "cpu" and serving.num_gpus > 0:
        yield "numGpus", f"is {serving.num_gpus}, and device is cpu; set numGpus to 0 or leave device out"
    try:
        EngineArguments.check(serving.engine_args)
    except RefusedArgumentError as refused:
        yield f"engineArgs[{refused.index}]", str(refused)
