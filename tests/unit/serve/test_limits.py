"""What is accepted: context and waiting line."""

import pytest

from vicuna_server.engine.limits import WAITING_PER_RUNNING, Admission, answer_budget
from vicuna_server.errors import OverloadedError, RequestError


def test_without_a_limit_the_answer_may_fill_the_context() -> None:
    assert answer_budget(10, None, 16, "prompt") == 6
    assert answer_budget(10, 4, 16, "prompt") == 4
    assert answer_budget(10, 6, 16, "prompt") == 6


@pytest.mark.parametrize(("prompt", "asked", "needed"), [(10, 7, 17), (16, None, 17), (400, 1, 401)])
def test_what_does_not_fit_is_refused_with_both_numbers(prompt: int, asked: int | None, needed: int) -> None:
    with pytest.raises(RequestError, match=rf"context length is 16 tokens.* needs {needed}: {prompt} in") as caught:
        answer_budget(prompt, asked, 16, "messages")
    assert (caught.value.status, caught.value.param) == (400, "messages")
    assert caught.value.code == "context_length_exceeded"


def test_the_waiting_line_is_bounded() -> None:
    admission = Admission(2)
    admission.check(2, 2 * WAITING_PER_RUNNING - 1)
    with pytest.raises(OverloadedError) as caught:
        admission.check(2, 2 * WAITING_PER_RUNNING)
    assert caught.value.status == 429
    assert caught.value.retry_after >= 1
