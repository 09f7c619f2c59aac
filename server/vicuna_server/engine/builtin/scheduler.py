"""The running batch: sequences join and finish between any two steps. A step is one pass through the model."""

import logging
from collections import Counter, deque
from dataclasses import dataclass

import torch

from vicuna_server.engine.builtin.constraining import MaskMaker, Masks
from vicuna_server.engine.builtin.decoder import Decoder
from vicuna_server.engine.builtin.failures import as_engine_error, free_memory_after
from vicuna_server.engine.builtin.kv import KeyValueStore
from vicuna_server.engine.builtin.prefix import Placing, PrefixCache
from vicuna_server.engine.builtin.ragged import Chunk, Pass
from vicuna_server.engine.builtin.sampling import Choice, choose_tokens
from vicuna_server.engine.builtin.scoring import SCORED_AT_ONCE, score_tokens
from vicuna_server.engine.builtin.sequence import Answering, Embedded, Scored, Sequence
from vicuna_server.engine.builtin.step_division import StepDivision
from vicuna_server.engine.scope import CacheScope
from vicuna_server.engine.settings import SchedulerSettings
from vicuna_server.engine.stats import EngineStats
from vicuna_server.engine.turns import first_turn, give_way
from vicuna_server.errors import EngineError

__all__ = ["Finished", "Outcome", "Result", "Scheduler"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Finished:
    """The prompt of a sequence that generates nothing is computed."""


Result = Choice | Finished | EngineError
"""The next token, the end of a prompt that generates nothing, or the failure that ends a sequence."""
Outcome = tuple[Sequence, Result]
Due = tuple[int, Sequence, Answering]
"""A sequence that a step gives its next token, behind its place among the step's members."""


class Scheduler:
    """Schedules each step and runs it. All calls come from one thread, under `torch.inference_mode`.

    Args:
        decoder: The model.
        capacity: Tokens whose keys and values are held at most; at least the context length.
        stats: Counters to keep.
        settings: How many sequences run at once, and what they share.
    """

    def __init__(self, decoder: Decoder, capacity: int, stats: EngineStats, settings: SchedulerSettings) -> None:
        self._decoder = decoder
        self._store = KeyValueStore(decoder.shape, capacity)
        self._cache = PrefixCache(self._store, capacity, reuse=settings.prefix_reuse)
        self._masks = MaskMaker()
        self._division = StepDivision()
        self._max_running = settings.max_concurrency
        self._stats = stats
        self.waiting: deque[Sequence] = deque()
        self.running: list[Sequence] = []
        stats.kv_capacity = self._cache.capacity

    def __len__(self) -> int:
        return len(self.running) + len(self.waiting)

    def step(self) -> list[Outcome]:
        """Admit waiting sequences, run one step, and return what it gave."""
        self._admit()
        outcomes: list[Outcome] = []
        generating: list[tuple[Sequence, int]] = []
        for sequence, count in self._division.next(self.running):
            # It may have been preempted to make room for an earlier one.
            if sequence not in self.running or not self._room_for(sequence, sequence.tokens.computed + count):
                continue
            if isinstance(sequence.purpose, Embedded):
                outcomes += self._embed(sequence, sequence.purpose, count)
            elif isinstance(sequence.purpose, Scored):
                outcomes += self._score(sequence, sequence.purpose, min(count, SCORED_AT_ONCE))
            else:
                generating.append((sequence, count))
        generating = [(sequence, count) for sequence, count in generating if sequence.tokens.block is not None]
        if generating:
            outcomes += self._generate(generating)
        self._count()
        return outcomes

    def finish(self, sequence: Sequence, *, keep: bool) -> None:
        """Take a sequence out.

        Args:
            sequence: A waiting or running one.
            keep: Whether its keys and values may serve others; False after a step that failed.
        """
        if sequence in self.running:
            self.running.remove(sequence)
        else:
            self.waiting.remove(sequence)
        if keep:
            self._cache.keep(sequence.tokens)
        else:
            self._cache.drop(sequence.tokens)
        self._count()

    def sequences(self) -> list[Sequence]:
        """Return all, running and waiting."""
        return [*self.running, *self.waiting]

    def close(self) -> None:
        """End the threads that make masks."""
        self._masks.close()

    def _count(self) -> None:
        self._stats.running, self._stats.waiting = len(self.running), len(self.waiting)
        self._stats.kv_tokens = self._cache.used

    def _admit(self) -> None:
        """Admit waiting sequences by their turn; one that waits for another's prefix does not hold up the next."""
        held = Counter(_scope(one).caller for one in self.running)
        left = list(self.waiting)
        while (sequence := first_turn(left, _scope, held)) is not None:
            left.remove(sequence)
            if len(self.running) >= self._max_running and not self._give_way(sequence, held):
                return
            while (placing := self._place(sequence)) is Placing.FULL:
                if not self._give_way(sequence, held):
                    return
            if placing is Placing.COMING:
                continue
            self.waiting.remove(sequence)
            self.running.append(sequence)
            held[_scope(sequence).caller] += 1
            if not sequence.admitted:  # a preempted one is not counted again
                sequence.admitted = True
                cached = min(sequence.tokens.computed, sequence.prompt_tokens)  # an answer may go on behind tokens
                self._stats.prefix_hit_tokens += cached
                self._stats.prompt_tokens += sequence.prompt_tokens
                if isinstance(sequence.purpose, Answering):
                    sequence.purpose.generation.cached_tokens = cached
                    sequence.purpose.generation.begun = True

    def _place(self, sequence: Sequence) -> Placing:
        answering = isinstance(sequence.purpose, Answering)
        others = [other.tokens for other in self.running if isinstance(other.purpose, Answering)]
        return self._cache.place(sequence.tokens, sequence.room, others, share=answering)

    def _give_way(self, sequence: Sequence, held: Counter[str]) -> bool:
        """Preempt the longest of those that should give way to one that waits; tell whether there was one."""
        candidates = give_way(self.running, _scope, held, _scope(sequence))
        if not candidates:
            return False
        longest = max(candidates, key=lambda one: len(one.tokens.ids))
        held[_scope(longest).caller] -= 1
        self._preempt(longest, keep=True)
        return True

    def _room_for(self, sequence: Sequence, tokens: int) -> bool:
        """Make room for so many tokens of a sequence; where the cache is full, preempt the newest ones."""
        while not self._cache.ensure(sequence.tokens, tokens):
            newest = self.running[-1]
            self._preempt(newest, keep=False)
            if newest is sequence:
                return False
        return True

    def _preempt(self, sequence: Sequence, *, keep: bool) -> None:
        """Let a sequence wait again; `keep`: while there is room for them, its keys and values need not go."""
        if keep and isinstance(sequence.purpose, Answering):
            self._cache.keep(sequence.tokens)
        else:
            self._cache.drop(sequence.tokens)
        self.running.remove(sequence)
        self.waiting.appendleft(sequence)
        sequence.reset()
        self._stats.preempted += 1

    def _generate(self, members: list[tuple[Sequence, int]]) -> list[Outcome]:
        """Run one step; where it fails, run each sequence alone, so that only the one at fault fails."""
        due = _due(members)
        masks = self._masks.begin([purpose.sampler.follower for _, _, purpose in due])  # while the model computes
        try:
            logits = self._decoder.logits(self._pass(members))
        except Exception as error:  # noqa: BLE001  # it must not reach the other requests
            if len(members) == 1:
                return [(members[0][0], as_engine_error(error))]
            logger.warning("a step over %d sequences failed, trying each alone: %s", len(members), error)
            free_memory_after(error)
            return [outcome for member in members for outcome in self._generate([member])]
        for sequence, count in members:
            sequence.tokens.computed += count
        return _advance(due, logits, masks.result()) if due else []

    def _embed(self, sequence: Sequence, purpose: Embedded, count: int) -> list[Outcome]:
        try:
            hidden = self._decoder.hidden(self._pass([(sequence, count)]))
        except Exception as error:  # noqa: BLE001  # as above
            return [(sequence, as_engine_error(error))]
        total = hidden.float().sum(dim=0).cpu()
        purpose.total = total if purpose.total is None else purpose.total + total
        sequence.tokens.computed += count
        return [] if sequence.left else [(sequence, Finished())]

    def _score(self, sequence: Sequence, purpose: Scored, count: int) -> list[Outcome]:
        tokens = sequence.tokens
        # The token behind each of this step; nothing is behind the prompt's last.
        targets = tokens.ids[tokens.computed + 1 : tokens.computed + count + 1]
        try:
            logits = self._decoder.every_logits(self._pass([(sequence, count)]))
            purpose.scores += score_tokens(logits[: len(targets)], targets, purpose.top)
        except Exception as error:  # noqa: BLE001  # as above
            return [(sequence, as_engine_error(error))]
        tokens.computed += count
        return [] if sequence.left else [(sequence, Finished())]

    def _pass(self, members: list[tuple[Sequence, int]]) -> Pass:
        chunks = []
        for sequence, count in members:
            tokens = sequence.tokens
            if tokens.block is None:
                raise RuntimeError("a sequence without a block cannot run")
            first, last = tokens.computed, tokens.computed + count
            chunks.append(Chunk(tokens.ids[first:last], first, tokens.block.start))
        return Pass(chunks, self._store)


def _scope(sequence: Sequence) -> CacheScope:
    return sequence.tokens.scope


def _due(members: list[tuple[Sequence, int]]) -> list[Due]:
    """Return the sequences that a step gives their next token: those whose prompt is computed with it."""
    due = []
    for index, (sequence, count) in enumerate(members):
        if sequence.left == count and isinstance(sequence.purpose, Answering):
            due.append((index, sequence, sequence.purpose))
    return due


def _advance(due: list[Due], logits: torch.Tensor, masks: Masks) -> list[Outcome]:
    """Give each sequence that is due its next token; `logits` is [members, vocabulary], `masks` has a row for each."""
    if len(due) < len(logits):
        logits = logits[torch.tensor([index for index, _, _ in due], device=logits.device)]
    choices = choose_tokens(logits, [purpose.sampler for _, _, purpose in due], masks)
    outcomes: list[Outcome] = []
    for (_, sequence, _), choice in zip(due, choices, strict=True):
        if not isinstance(choice, EngineError):
            sequence.tokens.ids.append(choice.token)
        outcomes.append((sequence, choice))
    return outcomes
