"""Which endpoint requests of one beginning go to."""

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from math import ceil
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vicuna_server.gateway.affinity import NONE, Affinity, choose, of_beginning, of_session
from vicuna_server.gateway.balancer import Balancer
from vicuna_server.gateway.catalogue import Endpoint
from vicuna_server.gateway.scan import scan

CHAT, COMPLETIONS, RESPONSES = "/v1/chat/completions", "/v1/completions", "/v1/responses"
SYSTEM = {"role": "system", "content": "You are kind."}
KEYS = [f"key {number}".encode() for number in range(200)]

loads = st.lists(st.integers(0, 50), min_size=1, max_size=16)


def endpoints(count: int, revision: str = "0123abcd") -> list[Endpoint]:
    return [Endpoint(f"http://10.0.0.{number}:8000", revision) for number in range(count)]


def begins(body: dict[str, Any], path: str = CHAT, salt: str = "s", indent: int | None = None) -> Affinity:
    text = json.dumps({"model": "tiny", **body}, indent=indent).encode()
    steps = scan(text)
    while True:
        try:
            next(steps)
        except StopIteration as done:
            return of_beginning(path, text, done.value.texts, salt)


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def talk(*texts: str) -> dict[str, Any]:
    answers = [{"role": "assistant", "content": f"answer to {text}"} for text in texts]
    turns = [turn for pair in zip(map(user, texts), answers, strict=True) for turn in pair]
    return {"messages": [SYSTEM, *turns[:-1]]}


def test_the_turns_of_one_conversation_belong_together_and_other_conversations_do_not() -> None:
    first = begins(talk("hello"))
    assert len(first.key) == 16
    assert not first.pinned
    assert begins(talk("hello", "and then?")) == first
    assert begins(talk("hello", "and then?", "and now?") | {"temperature": 0.5}) == first
    reordered = {"messages": [{"content": "x", "role": "user"}, {"role": "assistant", "content": "y"}]}
    assert begins(reordered) == begins({"messages": [{"content": "x", "role": "user"}]})
    others = [talk("hallo"), {"messages": [user("hello")]}, {"messages": [{**SYSTEM, "content": "Be"}, user("hello")]}]
    assert len({first, *(begins(other) for other in others)}) == 4
    assert begins(talk("hello"), salt="another key") != first
    assert begins(talk("hello"), salt="") != first


def test_what_a_message_says_is_not_taken_for_its_role() -> None:
    said = {"role": "system", "content": 'the "role": "user" of'}
    assert begins({"messages": [said, user("a")]}) != begins({"messages": [said, user("b")]})


def test_a_prompt_belongs_to_those_with_the_same_first_1024_characters() -> None:
    long = "word é " * 200
    assert begins({"prompt": long + "a"}, COMPLETIONS) == begins({"prompt": long + "b"}, COMPLETIONS)
    assert begins({"prompt": "a" + long}, COMPLETIONS) != begins({"prompt": "b" + long}, COMPLETIONS)
    ids = list(range(1000))
    assert begins({"prompt": [*ids, 1]}, COMPLETIONS) == begins({"prompt": [*ids, 2]}, COMPLETIONS)
    assert begins({"prompt": [1, *ids]}, COMPLETIONS) != begins({"prompt": [2, *ids]}, COMPLETIONS)
    assert begins({"prompt": "a", "suffix": "x"}, COMPLETIONS) == begins({"prompt": "a", "user": "y"}, COMPLETIONS)


def test_a_response_begins_with_its_instructions_and_its_first_input() -> None:
    said = begins({"instructions": "Be kind.", "input": "hello"}, RESPONSES)
    assert said != begins({"instructions": "Be kind.", "input": "hallo"}, RESPONSES)
    assert said != begins({"instructions": "Be quick.", "input": "hello"}, RESPONSES)
    turns = [user("hello"), {"role": "assistant", "content": "hi"}, user("more")]
    assert begins({"input": turns}, RESPONSES) == begins({"input": turns[:1]}, RESPONSES)


def test_what_has_no_beginning_goes_where_the_fewest_are() -> None:
    assert begins({"input": "x"}, "/v1/embeddings") == NONE
    assert begins({}, CHAT) == NONE


def test_of_a_large_body_only_the_beginning_is_looked_at() -> None:
    huge = {"role": "system", "content": "x" * 2**18}
    assert begins({"messages": [huge, user("a")]}) == begins({"messages": [huge, user("b")]})
    assert begins({"messages": [{**huge, "content": "y" + "x" * 2**18}, user("a")]}) != begins({"messages": [huge]})
    odds: list[Any] = [[], [[]], [1, 2], "text", None, [{"role": "user"}], {"a": 1}, [{}] * 3000]
    for odd in odds:
        assert begins({"messages": odd}).key
        assert begins({"messages": odd}, indent=2).key


def test_a_session_pins_whatever_the_load() -> None:
    one, two = of_session("a", "s"), of_session("b", "s")
    assert one.pinned
    assert len({one.key, two.key, of_session("a", "t").key, begins(talk("a")).key}) == 4
    all_of_them = endpoints(4)
    chosen = choose(one, all_of_them, lambda _: 0)
    assert choose(one, all_of_them, lambda endpoint: 1000 * (endpoint == chosen)) == chosen
    assert of_session("x" * 10_000, "s") == of_session("x" * 9_000, "s")


@given(loads, st.binary(min_size=1, max_size=16))
def test_no_choice_goes_beyond_the_bound(counts: Sequence[int], key: bytes) -> None:
    present = endpoints(len(counts))
    load = dict(zip(present, counts, strict=True))
    chosen = choose(Affinity(key), present, load.__getitem__)
    assert load[chosen] + 1 <= ceil(1.25 * (sum(counts) + 1) / len(counts))
    if load[chosen] > min(counts):  # else any is right where the first in rank is full
        others = [each for each in present if load[each] < load[chosen]]
        assert choose(Affinity(key), [chosen, *others], lambda _: 0) == chosen


@given(st.integers(1, 12), st.binary(min_size=1, max_size=16), st.randoms())
def test_all_gateways_choose_the_same(count: int, key: bytes, chance: Any) -> None:
    present = endpoints(count)
    chosen = choose(Affinity(key), present, lambda _: 0)
    chance.shuffle(present)
    assert choose(Affinity(key), present, lambda _: 0) == chosen
    # a replica tag is compared by none of them
    assert choose(Affinity(key), [Endpoint(each.url, each.revision, "t") for each in present], lambda _: 0) == chosen


@pytest.mark.long
def test_another_process_chooses_the_same() -> None:
    code = (
        "from vicuna_server.gateway.affinity import Affinity, choose\n"
        "from vicuna_server.gateway.catalogue import Endpoint\n"
        "all = [Endpoint(f'http://10.0.0.{n}:8000', '0123abcd') for n in range(8)]\n"
        "print([choose(Affinity(f'key {n}'.encode()), all, lambda _: 0).url for n in range(50)])"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60).stdout
    assert told.strip() == str([choose(Affinity(key), endpoints(8), lambda _: 0).url for key in KEYS[:50]])


def test_a_lost_endpoint_moves_its_own_share_alone_and_shares_are_alike() -> None:
    present = endpoints(5)
    before = {key: choose(Affinity(key), present, lambda _: 0) for key in KEYS}
    shares = Counter(before.values())
    assert min(shares.values()) > 20
    lost = present[2]
    left = [each for each in present if each != lost]
    after = {key: choose(Affinity(key), left, lambda _: 0) for key in KEYS}
    assert all(after[key] == before[key] for key in KEYS if before[key] != lost)
    assert len({after[key] for key in KEYS if before[key] == lost}) == 4  # it is shared out among the others
    revised = endpoints(5, "89abcdef")
    assert any(choose(Affinity(key), revised, lambda _: 0).url != before[key].url for key in KEYS)


def test_one_hot_beginning_is_spread_within_the_bound() -> None:
    balancer, present, hot = Balancer(), endpoints(4), Affinity(b"hot")
    counts: Counter[Endpoint] = Counter()
    with ExitStack() as requests:
        for number in range(1, 101):
            chosen = balancer.pick(present, affinity=hot)
            assert chosen is not None
            requests.enter_context(balancer.sending(chosen))
            counts[chosen] += 1
            assert max(counts.values()) <= ceil(1.25 * number / 4)
    assert balancer.pick(present[:1], affinity=hot) == present[0]


def test_who_just_failed_is_chosen_last_and_who_was_tried_not_again() -> None:
    now = [0.0]
    balancer, present, key = Balancer(lambda: now[0]), endpoints(3), Affinity(b"k")
    first = balancer.pick(present, affinity=key)
    assert first is not None
    assert balancer.pick(present, [first], key) not in (first, None)
    balancer.failed(first)
    second = balancer.pick(present, affinity=key)
    assert second != first
    assert balancer.pick([first], affinity=key) == first
    now[0] += 5
    assert balancer.pick(present, affinity=key) == first
    assert balancer.pick(present, present, key) is None
