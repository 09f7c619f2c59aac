"""A KV cache with something in it."""

import torch

from vicuna_server.engine.builtin.kv import KeyValueShape, KeyValueStore
from vicuna_server.engine.builtin.prefix import SequenceTokens


def store(capacity: int) -> KeyValueStore:
    """Return buffers of one layer, head and number per token."""
    return KeyValueStore(KeyValueShape((torch.device("cpu"),), 1, 1, torch.float32), capacity)


def fill(store: KeyValueStore, one: SequenceTokens) -> None:
    """Write what a model would write: here each token's id."""
    assert one.block is not None
    place, new = one.block.start + one.computed, torch.tensor(one.ids[one.computed :], dtype=torch.float32)
    for buffer in (*store.keys, *store.values):
        buffer[place : place + len(new), 0, 0] = new
    one.computed = len(one.ids)
