"""Which endpoint gets the next request."""

from contextlib import ExitStack

from vicuna_server.gateway.balancer import Balancer
from vicuna_server.gateway.catalogue import Endpoint

ALL = tuple(Endpoint(f"http://10.0.0.{number}:8000") for number in range(3))


def test_the_least_loaded_is_next_and_equals_take_turns() -> None:
    balancer = Balancer()
    assert {balancer.pick(ALL) for _ in range(3)} == set(ALL)
    with ExitStack() as stack:
        for endpoint in (ALL[0], ALL[0], ALL[2]):
            stack.enter_context(balancer.sending(endpoint))
        assert balancer.under_way == 3
        assert balancer.pick(ALL) == ALL[1]
        assert balancer.pick(ALL, tried=[ALL[1]]) == ALL[2]
        assert balancer.pick(ALL, tried=ALL) is None
    assert balancer.under_way == 0


def test_who_just_failed_is_last_for_a_while() -> None:
    now = [0.0]
    balancer = Balancer(lambda: now[0])
    balancer.failed(ALL[0])
    with balancer.sending(ALL[1]):
        assert balancer.pick(ALL[:2]) == ALL[1]
        assert balancer.pick(ALL[:1]) == ALL[0]
        now[0] += 5
        assert balancer.pick(ALL[:2]) == ALL[0]
