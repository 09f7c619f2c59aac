"""How many tokens of each sequence go into the next step."""

from collections import Counter
from collections.abc import Sequence as Several

from vicuna_server.engine.builtin.sequence import Sequence

__all__ = ["CHUNK_ALONE", "CHUNK_IN_COMPANY", "MANY", "StepDivision"]

CHUNK_ALONE = 1024
CHUNK_IN_COMPANY = 128
"""Prompt tokens per step: while others generate, prompts must not hold up their next token."""

MOST_CHUNKS = 4
"""`CHUNK_IN_COMPANY` grows up to so many times where more sequences wait for their first token than generate."""

MANY = 16
"""Sequences of one caller from which on a step over all of them is long beside one over a short prompt."""


class StepDivision:
    """Divides one step after the other. Two short ones never follow each other: no questions stop others' streams."""

    def __init__(self) -> None:
        self._was_short = False

    def next(self, running: Several[Sequence]) -> list[tuple[Sequence, int]]:
        """Return the sequences of the next step with how many tokens each."""
        prompts = [] if self._was_short else _short_step(running)
        self._was_short = bool(prompts)
        return prompts or _whole_step(running)


def _whole_step(running: Several[Sequence]) -> list[tuple[Sequence, int]]:
    """Return a step for all, in the order of their arrival.

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


def _short_step(running: Several[Sequence]) -> list[tuple[Sequence, int]]:
    """Return a step of prompts alone that another caller's many sequences let go first; empty: there is none.

    A step over many sequences takes long. The first token of a caller that generates nothing would wait for the one
    under way and for its own; so its prompt is computed alone, if it is short: the many wait once for a short step.
    """
    generating = Counter(_caller(sequence) for sequence in running if sequence.generating)
    if max(generating.values(), default=0) < max(MANY, len(running) / 2):
        return []
    prompts: list[tuple[Sequence, int]] = []
    left = CHUNK_IN_COMPANY
    for sequence in running:
        if not sequence.generating and not generating[_caller(sequence)] and sequence.left <= left:
            prompts.append((sequence, sequence.left))
            left -= sequence.left
    return prompts


def _caller(sequence: Sequence) -> str:
    return sequence.tokens.scope.caller


def _prompt_budget(prompts: int, generating: int) -> int:
    """Return how many tokens of prompts go into one step; fewer where others generate."""
    if not generating:
        return CHUNK_ALONE
    return max(1, min(prompts // (2 * generating), MOST_CHUNKS)) * CHUNK_IN_COMPANY
