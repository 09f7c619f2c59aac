"""Weights taken out of safetensors files tensor by tensor, so that a model is never in memory twice.

transformers maps the files or, where the number format differs, converts all tensors first; packing then makes a
second copy of each beside the first. Here a layer is read, converted, packed and dropped before the next.
"""

import ctypes
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from torch.nn import Module, Parameter

__all__ = ["Weights"]

_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
_INDEX = "model.safetensors.index.json"
_SINGLE = "model.safetensors"
_PIECE = 2**20  # numbers; so that both cores have work, and a cache keeps them


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
                    for name in file.keys():  # noqa: SIM118  # no mapping
                        self._files[name] = path
                        self._shapes[name] = tuple(file.get_slice(name).get_shape())
            except SafetensorError as error:
                raise ValueError(f"{path}: {error}") from error

    def hold(self, parameters: Mapping[str, Tensor]) -> bool:
        """Whether all these are there in the same shapes."""
        return all(self._shapes.get(name) == tuple(tensor.shape) for name, tensor in parameters.items())

    def fill(self, module: Module, prefix: str) -> None:
        """Give a module on the meta device its parameters, which have this prefix in the files."""
        _give_back()
        for name, _ in list(module.named_parameters()):
            owner, _, own = name.rpartition(".")
            parameter = Parameter(self._take(f"{prefix}.{name}"), requires_grad=False)
            setattr(module.get_submodule(owner), own, parameter)

    def _take(self, name: str) -> Tensor:
        # Opened anew, since a mapped file stays in memory as long as any tensor of it does.
        with safe_open(self._files[name], framework="pt") as file:
            tensor: Tensor = file.get_tensor(name)
        return _converted(tensor, self._dtype)


def _converted(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the tensor in this format; between the two half formats by way of float32, piece by piece.

    Both of these steps run vectorised, the direct one does not, which takes four times as long.
    """
    if {tensor.dtype, dtype} != {torch.float16, torch.bfloat16}:
        return tensor.to(dtype)
    result = torch.empty(tensor.shape, dtype=dtype)
    old, new = tensor.flatten(), result.view(-1)
    between = torch.empty(min(_PIECE, len(old)))
    for start in range(0, len(old), _PIECE):
        piece = slice(start, start + _PIECE)
        new[piece] = between[: len(old[piece])].copy_(old[piece])
    return result


def _files(folder: Path) -> Iterator[Path]:
    index = folder / _INDEX
    if not index.is_file():
        yield folder / _SINGLE
        return
    content: Any = json.loads(index.read_text(encoding="utf-8"))
    for name in sorted(set(content["weight_map"].values())):
        yield folder / name


def _give_back() -> None:
    """Return to the kernel what was freed: glibc keeps pieces of this size, and the next layer's may not fit in."""
    if _trim is not None:
        _trim(0)
