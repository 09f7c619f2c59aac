"""Memory that goes from one tensor to the next."""

import gc
import weakref

import torch

from vicuna_server.engine.builtin.recycling import Recycling


def test_a_dropped_tensors_memory_goes_to_the_next_of_its_size() -> None:
    memory = Recycling()
    first = memory.empty((4, 8), torch.bfloat16)
    place = first.data_ptr()
    assert (first.shape, first.dtype) == ((4, 8), torch.bfloat16)
    del first
    assert memory.empty((4, 9), torch.bfloat16).data_ptr() != place
    again = memory.empty((2, 8), torch.float32)
    assert (again.data_ptr(), again.shape) == (place, (2, 8))


def test_whatever_still_sees_it_keeps_it() -> None:
    memory = Recycling()
    first = memory.empty((64,), torch.float32)
    first.fill_(7)
    parameter = torch.nn.Parameter(first.detach().view(8, 8)[2:4], requires_grad=False)
    del first
    memory.empty((64,), torch.float32).fill_(1)
    assert parameter.eq(7).all()


def test_what_is_kept_keeps_no_more_than_itself() -> None:
    memory = Recycling()
    kept = memory.empty((64,), torch.float32)
    kept.fill_(3)
    owner = weakref.ref(memory)
    del memory
    gc.collect()
    assert owner() is None
    assert kept.eq(3).all()
