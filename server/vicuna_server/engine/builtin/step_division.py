"""How many tokens of each sequence go into the next step."""

from collections.abc import Sequence as Several

from vicuna_server.engine.builtin.sequence import Sequence

__all__ = ["CHUNK_ALONE", "CHUNK_IN_COMPANY", "divide_step"]

CHUNK_ALONE = 1024
CHUNK_IN_COMPANY = 128
"""Prompt tokens per step: while others generate, prompts must not hold up their next token."""

MOST_CHUNKS = 4
"""`CHUNK_IN_COMPANY` grows up to so many times where more sequences wait for their first token than generate."""


def divide_step(running: Several[Sequence]) -> list[tuple[Sequence, int]]:
    """Return the sequences of the next step with how many tokens each, in the order of their arrival.

    Those that generate always run. The rest of the step goes to prompts: at least half of it to the oldest, so that it
    comes to its end, the rest to those behind it, so that a short one need not wait for a long one.
    """
    prompts = [sequence for sequence in running if not sequence.generating]
    scheduled = dict.fromkeys(running, 1)
    if prompts:
        budget = _prompt_budget(len(prompts), len(running) - len(prompts))
        oldest, *others = prompts
        left = budget - min(oldest.left, budget // 2 if others else budget)
        for sequence in others:
            scheduled[sequence] = min(sequence.left, left)
            left -= scheduled[sequence]
        taken = sum(scheduled[sequence] for sequence in others)
        scheduled[oldest] = min(oldest.left, budget - taken)
    return [(sequence, count) for sequence, count in scheduled.items() if count]


def _prompt_budget(prompts: int, generating: int) -> int:
    """Return how many tokens of prompts go into one step; fewer where others generate."""
    if not generating:
        return CHUNK_ALONE
    return max(1, min(prompts // (2 * generating), MOST_CHUNKS)) * CHUNK_IN_COMPANY
