"""The running batch: whoever joins and leaves, and whenever, each sequence gets the tokens it would get alone."""

import random
import re
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from transformers import AutoModelForCausalLM

from support.serving import write_tiny_model
from vicuna_server.engine import EngineStats, Generation, GenerationRequest
from vicuna_server.engine.builtin.allocator import BLOCK_TOKENS
from vicuna_server.engine.builtin.constraining import Follower
from vicuna_server.engine.builtin.decoder import Decoder, TransformersDecoder
from vicuna_server.engine.builtin.loading import LoadedModel, LoadSettings, load_model
from vicuna_server.engine.builtin.prefix import MIN_SHARED, SequenceTokens
from vicuna_server.engine.builtin.ragged import Pass
from vicuna_server.engine.builtin.sampling import Choice, Sampler
from vicuna_server.engine.builtin.scheduler import Scheduler
from vicuna_server.engine.builtin.sequence import Answering, Sequence
from vicuna_server.engine.builtin.step_division import CHUNK_ALONE, CHUNK_IN_COMPANY, MANY
from vicuna_server.engine.grammar.lark import HEAD
from vicuna_server.engine.grammar.matching import make_matcher, make_tokenizer
from vicuna_server.engine.scope import CacheScope
from vicuna_server.engine.settings import SchedulerSettings

SYSTEM = list(b"You are a helpful and honest assistant.")
PROMPTS = [[65], list(b"Hello there"), list(b"x" * 300), SYSTEM + list(b"1 2 3"), SYSTEM + list(b"y" * 40), SYSTEM]
TOKENS = 12


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture(scope="module")
def loaded(folder: Path) -> LoadedModel:
    return load_model(LoadSettings(folder, dtype="float32"))


@pytest.fixture(scope="module")
def alone(loaded: LoadedModel) -> list[list[int]]:
    return [Driver(loaded, reuse=False).solo(ids) for ids in PROMPTS]


@pytest.fixture(scope="module")
def transformers_decoder(folder: Path) -> TransformersDecoder:
    return TransformersDecoder(AutoModelForCausalLM.from_pretrained(folder, dtype="float32").eval())


class Driver:
    """A batch driven by hand; an answer has TOKENS tokens."""

    def __init__(
        self, loaded: LoadedModel, *, reuse: bool = True, capacity: int = 8192, decoder: Any = None, most: int = 8
    ) -> None:
        self.stats = EngineStats()
        settings = SchedulerSettings(max_concurrency=most, prefix_reuse=reuse)
        self.scheduler = Scheduler(decoder or loaded.decoder, capacity, self.stats, settings)
        self.got: dict[Sequence, list[int]] = {}
        self._vocabulary = loaded.encoder.vocabulary

    def join(
        self, ids: list[int], grammar: str | None = None, caller: str = "", flex: bool = False, **options: Any
    ) -> Sequence:
        unused = cast(Any, None)  # the text side, which a batch never touches
        follower = grammar and self._follower(grammar)
        sampler = Sampler(GenerationRequest("", **{"temperature": 0.0, **options}), ids, None, follower or None)
        tokens = SequenceTokens(list(ids), scope=CacheScope(caller, caller=caller, flex=flex))
        sequence = Sequence(tokens, Answering(sampler, unused, Generation(len(ids)), TOKENS))
        self.scheduler.waiting.append(sequence)
        self.got[sequence] = []
        return sequence

    def _follower(self, grammar: str) -> Follower:
        words = self._vocabulary
        tokenizer = make_tokenizer(words.size, words.token_bytes, words.special)
        return Follower(make_matcher(tokenizer, f"{HEAD}start: {grammar}"), words.size, ())

    @torch.inference_mode()
    def step(self) -> None:
        for sequence, choice in self.scheduler.step():
            assert isinstance(choice, Choice)
            self.got[sequence].append(choice.token)
            if len(self.got[sequence]) == TOKENS:
                self.scheduler.finish(sequence, keep=True)

    def finish(self) -> None:
        while len(self.scheduler):
            self.step()

    def solo(self, ids: list[int], **options: Any) -> list[int]:
        sequence = self.join(ids, **options)
        self.finish()
        return self.got[sequence]


def test_prompts_that_wait_are_taken_in_together(loaded: LoadedModel, alone: list[list[int]]) -> None:
    driver = Driver(loaded, reuse=False)
    sequences = [driver.join(ids) for ids in PROMPTS]
    assert sum(map(len, PROMPTS)) < CHUNK_ALONE
    driver.step()
    assert [driver.got[sequence] for sequence in sequences] == [tokens[:1] for tokens in alone]


def test_a_long_prompt_holds_up_neither_streams_nor_a_short_prompt(loaded: LoadedModel) -> None:
    driver = Driver(loaded)
    stream = driver.join([65])
    driver.step()
    long, short = driver.join(list(b"abcdefg" * 100)), driver.join([66, 67])
    driver.step()
    assert len(driver.got[stream]) == 2
    assert len(driver.got[short]) == 1
    assert long.tokens.computed == CHUNK_IN_COMPANY - 2


def test_many_prompts_need_not_wait_for_each_other_because_one_generates(loaded: LoadedModel) -> None:
    driver = Driver(loaded, reuse=False, most=10)
    stream = driver.join([65])
    driver.step()
    waiting = [driver.join([66 + number] * 50) for number in range(7)]
    driver.step()
    assert len(driver.got[stream]) == 2
    assert [len(driver.got[sequence]) for sequence in waiting] == [1] * 7
    long = [driver.join([80 + number] * 600) for number in range(2)]
    driver.step()
    assert [sequence.tokens.computed for sequence in long] == [CHUNK_IN_COMPANY // 2] * 2, "eight generate by now"


def test_nothing_is_computed_twice_for_the_next_turn(loaded: LoadedModel, alone: list[list[int]]) -> None:
    driver = Driver(loaded)
    first = driver.solo(PROMPTS[2])
    history = PROMPTS[2] + first + [1, 2, 3]
    plain = Driver(loaded, reuse=False).solo(history)
    second = driver.join(history)
    driver.step()
    # All but the last token of the answer had run.
    assert driver.stats.prefix_hit_tokens == len(PROMPTS[2]) + TOKENS - 1
    assert cast(Answering, second.purpose).generation.cached_tokens == driver.stats.prefix_hit_tokens
    driver.finish()
    assert driver.got[second] == plain


def test_requests_that_come_together_compute_their_common_part_once(
    loaded: LoadedModel, alone: list[list[int]]
) -> None:
    driver = Driver(loaded)
    sequences = [driver.join(PROMPTS[4]) for _ in range(4)]
    driver.step()
    driver.step()
    assert driver.stats.prefix_hit_tokens == 3 * (len(PROMPTS[4]) - 1)
    driver.finish()
    assert all(driver.got[sequence] == alone[4] for sequence in sequences)


def test_a_shared_system_text_is_copied_and_stays(loaded: LoadedModel, alone: list[list[int]]) -> None:
    driver = Driver(loaded)
    driver.solo(SYSTEM + list(b"a long question that nobody asks again, " * 4))
    for number in (3, 4, 3):
        before = driver.stats.prefix_hit_tokens
        assert driver.solo(PROMPTS[number]) == alone[number]
        assert driver.stats.prefix_hit_tokens - before >= len(SYSTEM)


def test_too_little_in_common_is_not_shared(loaded: LoadedModel) -> None:
    driver = Driver(loaded)
    driver.solo([*range(60, 60 + MIN_SHARED - 1), 1, 2])
    driver.solo([*range(60, 60 + MIN_SHARED - 1), 3, 4])
    assert driver.stats.prefix_hit_tokens == 0


def test_sequences_are_preempted_for_older_ones_and_go_on_later(loaded: LoadedModel, alone: list[list[int]]) -> None:
    driver = Driver(loaded, capacity=6 * BLOCK_TOKENS)  # one of the long ones at a time
    sequences = [driver.join(PROMPTS[number]) for number in (2, 0, 2, 4, 1)]
    driver.finish()
    assert [driver.got[one] for one in sequences] == [alone[number] for number in (2, 0, 2, 4, 1)]


@pytest.mark.parametrize("seed", range(4))
def test_a_row_put_back_continues_with_its_own_draws(loaded: LoadedModel, seed: int) -> None:
    wanted = Driver(loaded, reuse=False).solo(PROMPTS[1], temperature=1.0, seed=seed)
    driver = Driver(loaded, capacity=3 * BLOCK_TOKENS)
    filler = list(b"z" * (2 * BLOCK_TOKENS - TOKENS // 2))  # grows into a third block while the other runs
    first, second = driver.join(filler), driver.join(PROMPTS[1], temperature=1.0, seed=seed)
    driver.finish()
    assert len(driver.got[first]) == TOKENS
    assert driver.got[second] == wanted


class FailsTogether:
    """A model that can run one sequence at a time only."""

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder
        self.shape = decoder.shape

    def logits(self, batch: Pass) -> torch.Tensor:
        if batch.chunks > 1:
            raise RuntimeError("too many")
        return self._decoder.logits(batch)


@pytest.mark.parametrize("options", [{}, {"temperature": 1.0, "seed": 4}], ids=["greedy", "drawn"])
@pytest.mark.parametrize("case", ["together", "preempted", "failing"])
def test_rows_keep_to_their_grammars_whoever_runs_beside_them(
    loaded: LoadedModel, case: str, options: dict[str, Any]
) -> None:
    grammars = ("/[a-z]{40}/", None, '"x" /[0-9 ]{40}/', "/[^a]{40}/")
    rows = list(zip((PROMPTS[2], PROMPTS[0], PROMPTS[4], PROMPTS[1]), grammars, strict=True))
    alone = [Driver(loaded, reuse=False).solo(ids, grammar=grammar, **options) for ids, grammar in rows]
    first, _, third, _ = (b"".join(map(loaded.encoder.vocabulary.token_bytes, tokens)) for tokens in alone)
    assert re.fullmatch(b"[a-z]+", first)
    assert re.fullmatch(b"x[0-9 ]+", third)
    capacity = (6 if case == "preempted" else 64) * BLOCK_TOKENS
    decoder = FailsTogether(loaded.decoder) if case == "failing" else loaded.decoder
    driver = Driver(loaded, capacity=capacity, decoder=decoder)
    sequences = [driver.join(ids, grammar, **options) for ids, grammar in rows]
    driver.finish()
    assert [driver.got[one] for one in sequences] == alone


@pytest.mark.parametrize("reuse", [True, False])
@pytest.mark.parametrize("generic", [True, False])
@pytest.mark.parametrize("seed", range(12))
def test_any_order_of_joining_and_leaving(
    loaded: LoadedModel,
    transformers_decoder: TransformersDecoder,
    alone: list[list[int]],
    seed: int,
    generic: bool,
    reuse: bool,
) -> None:
    moves = random.Random(seed)
    decoder = transformers_decoder if generic else loaded.decoder
    driver = Driver(loaded, decoder=decoder, reuse=reuse, capacity=moves.choice([6, 8, 20]) * BLOCK_TOKENS, most=4)
    number_of: dict[Sequence, int] = {}
    for _ in range(40):
        if len(driver.scheduler) < 6 and moves.random() < 0.5:
            number = moves.randrange(len(PROMPTS))
            number_of[driver.join(PROMPTS[number])] = number
        for sequence in driver.scheduler.sequences():
            if moves.random() < 0.08:
                driver.scheduler.finish(sequence, keep=moves.random() < 0.5)
        driver.step()
    assert sum(map(len, driver.got.values())) > 20
    for sequence, number in number_of.items():
        assert driver.got[sequence] == alone[number][: len(driver.got[sequence])]


def test_a_caller_that_holds_all_places_gives_one_to_another_and_loses_no_token(
    loaded: LoadedModel, alone: list[list[int]]
) -> None:
    driver = Driver(loaded, most=3)
    greedy = [driver.join(ids, caller="greedy") for ids in PROMPTS]
    for _ in range(4):
        driver.step()
    assert driver.scheduler.running == greedy[:3]
    other = driver.join(PROMPTS[0], caller="other")
    driver.step()
    assert other in driver.scheduler.running
    assert greedy[2] not in driver.scheduler.running, "its longest gives way"
    assert driver.stats.preempted == 1
    driver.finish()
    assert [driver.got[sequence] for sequence in greedy] == alone
    assert driver.got[other] == alone[0]
    assert driver.stats.preempted == 1, "places are not taken back in turn"


def test_a_caller_that_holds_all_memory_gives_way_too(loaded: LoadedModel, alone: list[list[int]]) -> None:
    driver = Driver(loaded, most=8, capacity=8 * BLOCK_TOKENS)
    greedy = [driver.join(PROMPTS[1], caller="greedy") for _ in range(8)]
    driver.step()
    other = driver.join(PROMPTS[0], caller="other")
    driver.step()
    assert other in driver.scheduler.running
    driver.finish()
    assert [driver.got[sequence] for sequence in greedy] == [alone[1]] * 8
    assert driver.got[other] == alone[0]


@pytest.mark.parametrize("moment", range(0, 12, 3))
def test_another_caller_waits_for_no_more_steps_than_if_it_were_alone(moment: int, loaded: LoadedModel) -> None:
    """However many of one caller run, wait and begin: the other's first token comes with the next step."""
    driver, asked = Driver(loaded, most=6), list(b"z" * 60)
    for number in range(40):
        driver.join(list(f"{number} of many".encode() * (number % 4 + 1)), caller="greedy")
    for _ in range(4 + moment):
        driver.step()
    other = driver.join(asked, caller="other")
    driver.step()
    assert len(driver.got[other]) == 1
    assert len(driver.scheduler.waiting) > 6


def test_a_short_question_of_another_caller_is_computed_before_a_long_step(
    loaded: LoadedModel, alone: list[list[int]]
) -> None:
    """The many streams wait for one step over it, and never for two in a row, however many ask."""
    driver = Driver(loaded, most=MANY + 4)
    streams = [driver.join(PROMPTS[number % 2], caller="greedy") for number in range(MANY)]
    driver.step()
    others = [driver.join(PROMPTS[1], caller="other")]
    driver.step()
    assert [len(driver.got[sequence]) for sequence in (*others, *streams)] == [1] * (MANY + 1)
    others.append(driver.join(PROMPTS[3], caller="a third"))
    driver.step()
    assert [len(driver.got[sequence]) for sequence in streams] == [2] * MANY
    others.append(driver.join(PROMPTS[3], caller="a fourth"))
    driver.step()
    assert [len(driver.got[sequence]) for sequence in (*others, *streams)] == [2, 1, 1] + [2] * MANY
    driver.finish()
    assert [driver.got[sequence] for sequence in others] == [alone[1], alone[3], alone[3]]
    assert [driver.got[sequence] for sequence in streams] == [alone[number % 2] for number in range(MANY)]


def test_what_has_time_gives_its_place_to_another_of_its_caller_and_loses_no_token(
    loaded: LoadedModel, alone: list[list[int]]
) -> None:
    driver = Driver(loaded, most=2)
    later = [driver.join(PROMPTS[number], caller="one", flex=True) for number in range(3)]
    driver.step()
    soon = driver.join(PROMPTS[3], caller="one")
    driver.step()
    assert soon in driver.scheduler.running
    assert driver.stats.preempted == 1
    driver.finish()
    assert [driver.got[sequence] for sequence in (*later, soon)] == alone[:4]


def test_callers_get_equal_shares_whoever_came_first(loaded: LoadedModel) -> None:
    driver, moments = Driver(loaded, most=6), random.Random(5)
    for _ in range(30):
        driver.join(moments.choice(PROMPTS), caller=moments.choice("aaaaaabbc"))
    while len(driver.scheduler):
        driver.step()
        running = [sequence.tokens.scope.caller for sequence in driver.scheduler.running]
        for caller in {sequence.tokens.scope.caller for sequence in driver.scheduler.waiting}:
            if len(running) == 6:
                assert max(map(running.count, running)) - running.count(caller) <= 1
    assert all(len(tokens) == TOKENS for tokens in driver.got.values())
