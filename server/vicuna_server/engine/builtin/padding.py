"""How many rows a pass has: one of a few numbers, since the CPU's kernels are made for each number and then kept.

oneDNN makes a kernel for every shape it meets, in 2 to 30 ms, and keeps 0.6 MiB of each for as long as the process
lives; its cache forgets some, but what they were made of stays. Passes as they come have a thousand shapes, times five
products of a layer: half a GiB after a few thousand completions, which the memory budget does not include.
"""

__all__ = ["padded"]

_STEPS = ((32, 4), (128, 8), (256, 16), (512, 32), (1024, 64))
"""(rows, step): up to so many rows, pad to a multiple of the step; beyond, of 256."""


def padded(rows: int) -> int:
    """Return the number of rows to pad to: 1, 2, 4, 8, then a multiple of a step that grows."""
    if rows <= 8:
        return 1 << max(0, rows - 1).bit_length()
    step = next((step for most, step in _STEPS if rows <= most), 256)
    return -(-rows // step) * step
