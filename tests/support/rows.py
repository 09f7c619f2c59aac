"""Rows of the key/value cache with something in them."""

import torch

from vicuna_server.engine.builtin.kv import KeyValueShape, KeyValueStore
from vicuna_server.engine.builtin.prefix import Row


def store(capacity: int) -> KeyValueStore:
    """Return buffers of one layer, head and number per token."""
    return KeyValueStore(KeyValueShape((torch.device("cpu"),), 1, 1, torch.float32), capacity)


def fill(store: KeyValueStore, row: Row) -> None:
    """Write what a model would write: here each token's id."""
    assert row.block is not None
    place, new = row.block.start + row.done, torch.tensor(row.ids[row.done :], dtype=torch.float32)
    for buffer in (*store.keys, *store.values):
        buffer[place : place + len(new), 0, 0] = new
    row.done = len(row.ids)
