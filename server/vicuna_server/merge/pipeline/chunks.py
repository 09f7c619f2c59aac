"""The chunks that a tensor is merged in, and the buffers that one of them is read into."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from vicuna_server.files.buffers import new_buffer
from vicuna_server.files.data_file import LocalFile
from vicuna_server.files.input_file import ROOM
from vicuna_server.merge.arithmetic.layout import OutputTensor, Shard
from vicuna_server.merge.pipeline.hashing import HashedRead
from vicuna_server.weights.tensors import DTYPE_BYTES, TensorSource

__all__ = ["Chunk", "ChunkBuffers", "buffer_bytes", "bytes_read", "chunks", "span_in"]


@dataclass(frozen=True)
class Chunk:
    """Elements [start, stop) of one tensor of the result."""

    tensor: OutputTensor
    start: int
    stop: int


class ChunkBuffers:
    """Buffers for one chunk on its way through the threads."""

    def __init__(self, size: int) -> None:
        self.base = new_buffer(size + ROOM)
        self.delta = new_buffer(size + ROOM)
        self.base_view = memoryview(b"")
        self.delta_view: memoryview | None = None
        self.base_reads: list[HashedRead] = []
        self.delta_reads: list[HashedRead] = []
        self.chunk: Chunk | None = None


def chunks(output: OutputTensor, chunk_bytes: int) -> Iterator[Chunk]:
    """Cut a tensor into chunks of at most `chunk_bytes` in each of base, delta and output, but whole units."""
    stride = _stride(output, chunk_bytes)
    for start in range(0, output.elements, stride):
        yield Chunk(output, start, min(start + stride, output.elements))


def _stride(output: OutputTensor, chunk_bytes: int) -> int:
    unit = output.unit
    return max(1, chunk_bytes // _widest(output) // unit) * unit


def _widest(output: OutputTensor) -> int:
    return max(DTYPE_BYTES[output.dtype], *(DTYPE_BYTES[source.dtype] for source in output.sources))


def buffer_bytes(shards: Sequence[Shard], chunk_bytes: int) -> int:
    """Return how large a buffer must be to hold the largest chunk."""
    outputs = (output for shard in shards for output in shard.tensors)
    return max((min(output.elements, _stride(output, chunk_bytes)) * _widest(output) for output in outputs), default=0)


def span_in(chunk: Chunk, source: TensorSource) -> tuple[int, int]:
    """Return the elements [start, stop) of a source in this chunk: none beyond its end."""
    return min(chunk.start, source.elements), min(chunk.stop, source.elements)


def bytes_read(chunk: Chunk, *, local: bool = False) -> int:
    """Return how many bytes of base and delta make this chunk; with `local`, of those that lie in local files."""
    total = 0
    for source in chunk.tensor.sources:
        if local and not isinstance(source.files[0], LocalFile):
            continue
        first, last = span_in(chunk, source)
        total += (last - first) * DTYPE_BYTES[source.dtype]
    return total
