"""Weights taken out of safetensors files tensor by tensor, so that a model is never in memory twice.

transformers maps the files or, where the number format differs, converts all tensors first; packing then makes a
second copy of each beside the first. Here each layer is read, converted, packed and dropped before the next.
"""

import ctypes
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from torch.nn import Module, Parameter

from vicuna_server.engine.builtin.recycling import Recycling
from vicuna_server.engine.prefetch import INDEX

__all__ = ["Weights"]

_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
_SINGLE = "model.safetensors"
_PIECE = 2**20  # numbers: enough work for several cores, few enough for the CPU's cache


class Weights:
    """The tensors of a folder, each read when asked for.

    Args:
        folder: Has one safetensors file, or several and their index, as `save_pretrained` writes them.
        dtype: What floating-point tensors are converted to.

    Raises:
        OSError: There are none.
        ValueError: They cannot be read.
    """

    def __init__(self, folder: Path, dtype: torch.dtype) -> None:
        self._dtype = dtype
        self._files: dict[str, Path] = {}
        self._shapes: dict[str, tuple[int, ...]] = {}
        for path in _files(folder):
            try:
                with safe_open(path, framework="pt") as file:
                    for name in file.offset_keys():
                        self._files[name] = path
                        self._shapes[name] = tuple(file.get_slice(name).get_shape())
            except SafetensorError as error:
                raise ValueError(f"{path}: {error}") from error

    def hold(self, parameters: Mapping[str, Tensor]) -> bool:
        """Whether all these are there in the same shapes."""
        return all(self._shapes.get(name) == tuple(tensor.shape) for name, tensor in parameters.items())

    def differ(self, one: str, other: str) -> bool:
        """Whether both tensors are there and any of their numbers differ, in the type they are converted to."""
        shape = self._shapes.get(one)
        if shape is None or other not in self._shapes:
            return False
        if shape != self._shapes[other]:
            return True
        rows = max(1, _PIECE // max(1, math.prod(shape[1:])))
        with (
            safe_open(self._files[one], framework="pt") as left,
            safe_open(self._files[other], framework="pt") as right,
        ):
            ours, theirs = left.get_slice(one), right.get_slice(other)
            return not all(
                torch.equal(ours[start : start + rows].to(self._dtype), theirs[start : start + rows].to(self._dtype))
                for start in range(0, shape[0], rows)
            )

    def by_place(self, prefixes: Iterable[str]) -> list[str]:
        """Sort prefixes by where their first parameters lie in the files, which are best read in that order."""
        places = {name: place for place, name in enumerate(self._files)}
        return sorted(
            prefixes, key=lambda prefix: min(places[name] for name in places if name.startswith(f"{prefix}."))
        )

    def fill(self, module: Module, prefix: str, *, recycled: Recycling | None = None) -> None:
        """Give a module on the meta device its parameters, which have this prefix in the files.

        What has to be converted for it gets `recycled` memory: for one of many modules that are soon dropped.
        """
        _give_back()
        for name, _ in list(module.named_parameters()):
            owner, _, own = name.rpartition(".")
            parameter = Parameter(self._take(f"{prefix}.{name}", recycled or Recycling()), requires_grad=False)
            setattr(module.get_submodule(owner), own, parameter)

    def _take(self, name: str, memory: Recycling) -> Tensor:
        # Opened each time, since a mapped file stays in memory as long as any tensor of it.
        with safe_open(self._files[name], framework="pt") as file:
            tensor: Tensor = file.get_tensor(name)
        if not tensor.is_floating_point() or tensor.dtype == self._dtype:
            return tensor
        converted = memory.empty(tuple(tensor.shape), self._dtype)
        _convert(tensor.flatten(), converted.view(-1))
        return converted


def _convert(old: Tensor, new: Tensor) -> None:
    """Copy into another format; piece by piece by way of float32, to and from which it is several times as fast."""
    between = torch.empty(min(_PIECE, len(old)))
    for start in range(0, len(old), _PIECE):
        piece = slice(start, start + _PIECE)
        new[piece] = between[: len(old[piece])].copy_(old[piece])


def _files(folder: Path) -> Iterator[Path]:
    index = folder / INDEX
    if not index.is_file():
        yield folder / _SINGLE
        return
    content: Any = json.loads(index.read_text(encoding="utf-8"))
    for name in sorted(set(content["weight_map"].values())):
        yield folder / name


def _give_back() -> None:
    """Return freed memory to the kernel: glibc keeps it, and the next layer may not fit into its pieces."""
    if _trim is not None:
        _trim(0)
