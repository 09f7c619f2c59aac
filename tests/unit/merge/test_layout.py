"""How tensors are spread over output files."""

from pathlib import Path

import pytest

from vicuna_server.files.data_file import LocalFile
from vicuna_server.merge.arithmetic.layout import OutputTensor, lay_out
from vicuna_server.weights.tensors import Tensor


def _output(name: str, megabytes: int) -> OutputTensor:
    tensor = Tensor(name, "F16", (megabytes * 500_000,), LocalFile(Path("x")), 0)
    return OutputTensor(name, tensor.shape, "F16", tensor, None)


@pytest.mark.parametrize(
    ("sizes", "want"),
    [
        ([10, 20], [2]),  # one file while all fits into 64 MiB
        ([60, 60, 5], [1, 2]),
        ([200, 100, 100, 10], [1, 2, 1]),  # as large as the largest tensor
        ([100] * 64, [2] * 32),  # a 32nd of the whole
        ([4000] * 64, [1] * 64),  # at most 5 GB
        ([6000, 1000], [1, 1]),  # a larger tensor is alone
    ],
)
def test_shards_are_bounded(sizes: list[int], want: list[int]) -> None:
    shards = lay_out([_output(f"t{number}", size) for number, size in enumerate(sizes)])
    assert [len(shard.tensors) for shard in shards] == want
    names = [shard.name for shard in shards]
    count = len(want)
    assert names == (
        ["model.safetensors"]
        if count == 1
        else [f"model-{number:05}-of-{count:05}.safetensors" for number in range(1, count + 1)]
    )
