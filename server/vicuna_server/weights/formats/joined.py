"""A tensor whose parts lie in several files, or whose rows lie in another order than they are wanted in."""

from collections.abc import Iterator
from dataclasses import dataclass

from vicuna_server.files.data_file import DataFile
from vicuna_server.weights.tensors import DTYPE_BYTES, Span, Tensor

__all__ = ["JoinedTensor"]


@dataclass(frozen=True)
class JoinedTensor:
    """A matrix joined from equal parts; reading it is a few long reads whose rows are scattered to their places.

    Attributes:
        name: its name in the checkpoint.
        parts: matrices of one shape and type, in order.
        dimension: 0 when they lie one below the other, 1 when side by side.
        head_rows: rows of one attention head where each head's rows lie in pairs (0, h/2, 1, h/2 + 1, ...) and are
            wanted in halves; 0 where rows stay in order. Only with dimension 0.
    """

    name: str
    parts: tuple[Tensor, ...]
    dimension: int
    head_rows: int = 0

    @property
    def dtype(self) -> str:
        """Element type under safetensors' name."""
        return self.parts[0].dtype

    @property
    def shape(self) -> tuple[int, ...]:
        """Rows and columns of the whole."""
        rows, columns = self.parts[0].shape
        count = len(self.parts)
        return (rows * count, columns) if self.dimension == 0 else (rows, columns * count)

    @property
    def elements(self) -> int:
        """Number of elements."""
        return sum(part.elements for part in self.parts)

    @property
    def nbytes(self) -> int:
        """Number of bytes."""
        return sum(part.nbytes for part in self.parts)

    @property
    def unit(self) -> int:
        """A chunk holds whole heads, or whole rows."""
        return self.shape[1] * (self.head_rows or 1)

    @property
    def files(self) -> tuple[DataFile, ...]:
        """The files of the parts, in order."""
        return tuple(part.file for part in self.parts)

    def spans(self, start: int, stop: int) -> tuple[Span, ...]:
        """Say what to read for elements [start, stop), both multiples of `unit`: one stretch per part."""
        columns = self.shape[1]
        rows = range(start // columns, stop // columns)
        return tuple(self._beside(rows) if self.dimension else self._below(rows))

    def _beside(self, rows: range) -> Iterator[Span]:
        row_bytes = self.shape[1] * DTYPE_BYTES[self.dtype]
        width = self.parts[0].shape[1] * DTYPE_BYTES[self.dtype]
        for number, part in enumerate(self.parts):
            places = tuple((row * row_bytes + number * width, width) for row in range(len(rows)))
            yield Span(part.file, part.offset + rows.start * width, places)

    def _below(self, rows: range) -> Iterator[Span]:
        row_bytes = self.shape[1] * DTYPE_BYTES[self.dtype]
        first = 0
        for part in self.parts:
            last = first + part.shape[0]
            mine = range(max(rows.start, first), min(rows.stop, last))
            if mine:
                offset = part.offset + (mine.start - first) * row_bytes
                yield Span(part.file, offset, self._places(mine, mine.start - rows.start, row_bytes))
            first = last

    def _places(self, rows: range, first: int, row_bytes: int) -> tuple[tuple[int, int], ...]:
        """Say where consecutive rows go in a chunk, the first of them (of a head, where there are any) to `first`."""
        if not self.head_rows:
            return ((first * row_bytes, len(rows) * row_bytes),)
        half = self.head_rows // 2
        order = [pair + side * half for pair in range(half) for side in range(2)]
        return tuple(
            ((head + place) * row_bytes, row_bytes)
            for head in range(first, first + len(rows), self.head_rows)
            for place in order
        )
