"""Passes come in few shapes on the CPU, whose kernels are kept for each; padding changes no result."""

import torch

from vicuna_server.engine.builtin.kv import KeyValueShape, KeyValueStore
from vicuna_server.engine.builtin.padding import padded
from vicuna_server.engine.builtin.ragged import Chunk, Pass

MOST = 1024
CPU = torch.device("cpu")


def test_few_numbers_of_rows_stand_in_for_all() -> None:
    numbers = [padded(rows) for rows in range(1, MOST + 1)]
    assert len(set(numbers)) <= 46
    assert all(rows <= number for rows, number in enumerate(numbers, 1))
    assert all(padded(number) == number for number in numbers)
    assert [padded(rows) for rows in (1, 2, 4, 8, 32, 128, 512, MOST)] == [1, 2, 4, 8, 32, 128, 512, MOST]
    # padding: a few rows, and of many an eighth at most
    assert all(number - rows < 16 for rows, number in enumerate(numbers[:256], 1))
    assert all(number - rows < 8 for rows, number in enumerate(numbers[:128], 1))
    assert all(number - rows <= rows / 8 for rows, number in enumerate(numbers, 1) if rows > 128)
    assert padded(5000) == 5120


def test_passes_have_few_shapes_and_their_rows_come_first() -> None:
    store = KeyValueStore(KeyValueShape((CPU,), 1, 2, torch.float32), 2048)
    shapes = set()
    for count in range(1, 400):
        batch = Pass([Chunk([7] * count, 0, 0), Chunk([9], 3, 1024), Chunk([9], 3, 1088)], store)
        shapes.add((len(batch.ids), len(batch.positions), len(batch.last)))
        assert (batch.tokens, batch.chunks) == (count + 2, 3)
        assert batch.ids[: count + 2].tolist() == [7] * count + [9, 9]
        assert batch.last[:3].tolist() == [count - 1, count, count + 1]
    assert len(shapes) <= 36


def test_padding_leaves_no_trace_in_the_kv_cache() -> None:
    store = KeyValueStore(KeyValueShape((CPU,), 1, 2, torch.float32), 64)
    for buffer in (*store.keys, *store.values):
        buffer.fill_(5.0)
    batch = Pass([Chunk([1] * 9, 0, 10)], store)
    rows = len(batch.ids)
    assert rows == 12
    states = torch.arange(rows * 2, dtype=torch.float32).view(rows, 1, 2)
    attended = batch.attend(0, states, states, states, 1.0)
    assert attended.shape == (rows, 1, 2)
    assert attended[9:].count_nonzero() == 0
    assert torch.equal(store.keys[0][10:19], states[:9])
    assert (store.keys[0] == 5.0).all(dim=(1, 2)).sum() == 64 - 9
