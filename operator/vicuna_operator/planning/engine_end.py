"""Why vLLM ended, from what it printed last: it has no termination message of ours, and exits with 0 after a crash too.

The process that ends last often says only that another one failed, so the errors of all of its processes are told.

The words are those of vLLM v0.32.0 (v1/worker/utils.py, v1/core/kv_cache_utils.py) and of PyTorch; tests quote them.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from vicuna_contract.printable import printable

__all__ = ["EngineCause", "engine_cause", "engine_errors"]


@dataclass(frozen=True)
class EngineCause:
    """A cause that another start does not remove: the reason, vLLM's own line about it, and the next step."""

    reason: str
    line: str
    step: str


_CAUSES: Sequence[tuple[re.Pattern[str], str, str]] = [
    (
        re.compile(r"is less than desired GPU memory utilization", re.IGNORECASE),
        "OutOfMemory",
        "something else holds memory of the GPU: free it, or lower --gpu-memory-utilization in spec.serving.engineArgs",
    ),
    (
        re.compile(r"(CUDA|HIP|XPU) out of memory|OutOfMemoryError", re.IGNORECASE),
        "OutOfMemory",
        "the model does not fit into the GPU's memory: raise spec.serving.numGpus, lower maxConcurrency or"
        " contextLength, or set engineArgs to [--quantization=fp8_per_tensor]",
    ),
    (
        re.compile(r"No available memory for the cache blocks|cache is needed, which is larger than the available"),
        "KvCacheTooSmall",
        "the weights leave too little memory for keys and values: lower spec.serving.contextLength, or raise numGpus or"
        " --gpu-memory-utilization in engineArgs",
    ),
    (
        re.compile(r"Failed to infer device type|No CUDA GPUs are available|Found no NVIDIA driver"),
        "DeviceUnavailable",
        "see spec.serving.numGpus and the node's device plugin; without a GPU, name vLLM's image for CPUs in"
        " spec.serving.engineImage",
    ),
    (
        re.compile(r"error: (unrecognized arguments|argument --)"),
        "UsageError",
        "this image of vLLM does not take these arguments: correct spec.serving.engineArgs, or use an image of the"
        " version that docs/using.md names",
    ),
]
_MOST_OF_A_LINE = 400
_PROCESS = re.compile(r"^\([^()]{1,60} pid=\d+\) ?")  # (EngineCore pid=66), (VllmWorker-0 pid=34)
_LEVEL = re.compile(r"(?P<level>[A-Z]{4,8}) [-0-9]+ [:.0-9]+ \[[^\]]*\] ")  # ERROR 12-01 10:02:20 [core.py:1105]
_ERROR = re.compile(r"(Error|Exception)(: |\(['\"])|died unexpectedly|\berror: ")
_LEVELS = {"WARNING", "ERROR", "CRITICAL"}
_ERRORS_TOLD = 5
_MOST_OF_AN_ERROR = 300  # characters


def engine_cause(printed: str) -> EngineCause | None:
    """Find the cause in what vLLM printed; the last line that names one decides. None where none does."""
    for line in reversed(printed.splitlines()):
        for words, reason, step in _CAUSES:
            if words.search(line):
                return EngineCause(reason, line.strip()[-_MOST_OF_A_LINE:], step)
    return None


def engine_errors(printed: str) -> Sequence[str]:
    """Return the last errors that vLLM's processes printed, the cause before what came of it, each once and one line.

    Several processes print the same error, with their own name and place before it; lines of tracebacks are left out.
    """
    told: dict[str, None] = {}
    for line in printable(printed).splitlines():
        text = _PROCESS.sub("", line)
        level = _LEVEL.match(text)
        said = text[level.end() :] if level else text
        if (level is None or level["level"] in _LEVELS) and not said.startswith((" ", "\t")) and _ERROR.search(said):
            told[said.strip()[:_MOST_OF_AN_ERROR]] = None
    return list(told)[-_ERRORS_TOLD:]
