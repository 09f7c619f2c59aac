"""How an answer ends."""

from collections.abc import Sequence
from typing import Any

from vicuna_server.engine import TokenLogprob
from vicuna_server.engine.answer import Answer

EOS = 0


def decode(ids: Sequence[int]) -> str:
    return "".join(chr(token) for token in ids if token != EOS)


def answer(*, stops: Sequence[str] = (), max_tokens: int = 100, deadline: float | None = None, **more: Any) -> Answer:
    return Answer(decode, frozenset({EOS}), stops, max_tokens, deadline, **more)


def run(subject: Answer, text: str, now: float = 0.0) -> tuple[str, int, str | None]:
    shown = ""
    for letter in text:
        delta = subject.push(EOS if letter == "$" else ord(letter), now)
        shown += delta.text
        if delta.finish_reason is not None:
            return shown, delta.tokens, delta.finish_reason
    return shown, subject.tokens, None


def test_ends_at_the_end_token_which_counts_and_has_no_text() -> None:
    assert run(answer(), "hi$x") == ("hi", 3, "stop")


def test_ends_at_the_limit_and_shows_what_a_stop_string_held_back() -> None:
    assert run(answer(max_tokens=3, stops=["cd"]), "abc") == ("abc", 3, "length")


def test_ends_at_a_stop_string_without_any_part_of_it() -> None:
    assert run(answer(stops=["cd"]), "abcde") == ("ab", 4, "stop")


def test_a_stop_string_in_the_last_allowed_token_is_a_stop() -> None:
    assert run(answer(stops=["c"], max_tokens=3), "abc") == ("ab", 3, "stop")


def test_a_stop_string_may_be_shown() -> None:
    assert run(answer(stops=["cd", "bcdx"], include_stop=True), "abcde") == ("abcd", 4, "stop")


def test_a_token_that_ends_may_be_shown() -> None:
    subject = Answer(decode, frozenset({ord("c")}), ["bcd"], 100, None, include_stop=True)
    assert run(subject, "abcd") == ("abc", 3, "stop")


def test_a_stop_string_in_the_first_tokens_ends_nothing() -> None:
    assert run(answer(stops=["b"], min_tokens=2), "abab") == ("aba", 4, "stop")
    assert run(answer(stops=["bc"], min_tokens=2), "abcbc") == ("abc", 5, "stop")


def test_held_back_text_is_shown_when_the_end_token_comes() -> None:
    assert run(answer(stops=["cd"]), "abc$") == ("abc", 4, "stop")


def test_ends_when_its_time_is_over() -> None:
    assert run(answer(deadline=5.0), "abc", now=4.9) == ("abc", 3, None)
    assert run(answer(deadline=5.0), "abc", now=5.0) == ("a", 1, "length")


def logprobs_of(subject: Answer, text: str) -> tuple[str, str]:
    """Return the shown text and the letters of the tokens whose likelihoods came with it."""
    shown = letters = ""
    for letter in text:
        token = EOS if letter == "$" else ord(letter)
        delta = subject.push(token, 0.0, TokenLogprob(token, letter.encode(), -1.0))
        shown += delta.text
        letters += "".join(one.text_bytes.decode() for one in delta.token_logprobs)
        assert letters == shown or delta.finish_reason is not None  # they come with their text, not before
        if delta.finish_reason is not None:
            break
    return shown, letters


def test_likelihoods_come_with_the_text_they_belong_to() -> None:
    assert logprobs_of(answer(stops=["cd"]), "abce$") == ("abce", "abce")
    assert logprobs_of(answer(max_tokens=3, stops=["cd"]), "abc") == ("abc", "abc")


def test_no_likelihood_of_a_stop_string_or_of_the_end_token() -> None:
    assert logprobs_of(answer(stops=["cd"]), "abcd") == ("ab", "ab")
    assert logprobs_of(answer(), "ab$") == ("ab", "ab")


def test_a_delta_says_when_it_was_made() -> None:
    assert answer().push(ord("a"), 4.5).at == 4.5


def test_an_answer_that_another_one_ends_shows_what_was_held_back() -> None:
    subject = answer(stops=["cd"])
    assert run(subject, "abc") == ("ab", 3, None)
    last = subject.end(5.0, "length")
    assert (last.text, last.tokens, last.finish_reason) == ("c", 3, "length")
