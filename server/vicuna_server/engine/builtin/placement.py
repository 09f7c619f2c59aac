"""Where a model runs and in which number format: device, dtype, memory per GPU."""

import time
from dataclasses import dataclass
from pathlib import Path

import torch

from vicuna_server.errors import EngineError

__all__ = ["Placement", "choose_placement"]

DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}

# Arithmetic in bfloat16 can pay only where the CPU has instructions for it; elsewhere it is emulated.
_BF16_FLAGS = frozenset({"avx512_bf16", "amx_bf16", "bf16"})


@dataclass(frozen=True)
class Placement:
    """The outcome of the choice.

    Attributes:
        device: Where inputs go: "cpu" or "cuda".
        dtype: Number format of weights and arithmetic.
        max_memory: Bytes of weights per GPU index; None on the CPU.
    """

    device: torch.device
    dtype: torch.dtype
    max_memory: dict[int, int] | None


def choose_placement(
    device: str, num_gpus: int, dtype: str, max_gpu_memory: int | None, stored: torch.dtype | None = None
) -> Placement:
    """Decide from the flags and this machine; `auto` device means CUDA when GPUs are asked for.

    `auto` dtype means the type of the files where the device has it. No CPU is fast in float16, so that files of that
    type, as well as those that do not tell, are computed there in what is fastest.

    Args:
        device: auto, cuda or cpu.
        num_gpus: GPUs to spread the layers over; 0 with `cuda` means 1.
        dtype: auto, float16, bfloat16 or float32.
        max_gpu_memory: most bytes that the weights may take on each GPU; None: what is free.
        stored: The type that the weights' files have; None: unknown.

    Raises:
        EngineError: `DeviceUnavailable` where fewer GPUs are visible than needed; never a silent CPU run.
    """
    if device == "cpu" or (device == "auto" and num_gpus == 0):
        return Placement(torch.device("cpu"), DTYPES.get(dtype) or _cpu_dtype(stored), None)
    needed = max(1, num_gpus)
    _require_gpus(needed)
    memory = {index: min(max_gpu_memory or _free_bytes(index), _free_bytes(index)) for index in range(needed)}
    return Placement(torch.device("cuda", 0), DTYPES.get(dtype) or _cuda_dtype(stored), memory)


def _require_gpus(needed: int) -> None:
    visible = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if visible < needed:
        raise EngineError(
            "DeviceUnavailable",
            f"{needed} CUDA GPU(s) are needed and {visible} are visible here; check the driver and the GPU "
            "resource, or set device cpu with 0 GPUs",
        )


def _free_bytes(index: int) -> int:
    free, _ = torch.cuda.mem_get_info(index)
    # What is left after the weights holds the KV cache and activations.
    return int(free * 0.9)


def _cuda_dtype(stored: torch.dtype | None) -> torch.dtype:
    """Return the type of the files, float16 for what this GPU or this server does not compute in."""
    if stored is torch.bfloat16 and torch.cuda.is_bf16_supported(including_emulation=False):
        return torch.bfloat16
    return torch.float32 if stored is torch.float32 else torch.float16


def _cpu_dtype(stored: torch.dtype | None) -> torch.dtype:
    """Return the type of the files where the CPU has it, or one that holds it; for float16 the fastest."""
    if stored is torch.bfloat16 and _cpu_has_bf16():
        return torch.bfloat16
    return torch.float32 if stored in (torch.float32, torch.bfloat16) else _best_cpu_dtype()


def _best_cpu_dtype() -> torch.dtype:
    """Return bfloat16 where the CPU has it and it is indeed the faster one, as a short trial shows."""
    if _cpu_has_bf16() and _product_seconds(torch.bfloat16) < _product_seconds(torch.float32):
        return torch.bfloat16
    return torch.float32


def _product_seconds(dtype: torch.dtype, rows: int = 4, width: int = 2048, tries: int = 5) -> float:
    """Time a product such as a step of a few running answers makes; the best of some tries, milliseconds in all."""
    states, weight = torch.ones(rows, width, dtype=dtype), torch.ones(width, width, dtype=dtype)
    times = []
    for _ in range(tries):
        started = time.perf_counter()
        torch.nn.functional.linear(states, weight)
        times.append(time.perf_counter() - started)
    return min(times)


def _cpu_has_bf16(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    try:
        text = cpuinfo.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    lines = (line for line in text.splitlines() if line.lower().startswith(("flags", "features")))
    return not _BF16_FLAGS.isdisjoint(next(lines, "").split())
