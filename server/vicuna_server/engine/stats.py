"""What an engine counts."""

from dataclasses import dataclass

__all__ = ["EngineStats"]


@dataclass(slots=True)
class EngineStats:
    """Counters since the start and gauges of now; read by metrics and by tests.

    Attributes:
        running: Generations that hold a place in the batch: the batch size.
        waiting: Generations that wait for a place.
        kv_tokens: Tokens whose keys and values are held, for running generations and for reuse.
        kv_capacity: The most tokens that can be held; 0 until loaded.
        prompt_tokens: Prompt tokens taken in, reused ones included.
        prefix_hit_tokens: Of those, tokens whose keys and values were there already.
        generated_tokens: Tokens generated.
        finished: Completions that ended.
        cancelled: Completions whose client left.
        failed: Completions that failed in the model.
        preempted: How often a sequence lost its block to older ones and went back into the queue.
    """

    running: int = 0
    waiting: int = 0
    kv_tokens: int = 0
    kv_capacity: int = 0
    prompt_tokens: int = 0
    prefix_hit_tokens: int = 0
    generated_tokens: int = 0
    finished: int = 0
    cancelled: int = 0
    failed: int = 0
    preempted: int = 0
