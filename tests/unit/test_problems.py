"""The list of problems."""

import pytest

from vicuna_server.errors import InputError, OutOfSpaceError
from vicuna_server.problems import Problems


def test_problems_are_raised_as_one_error_with_the_most_telling_reason() -> None:
    problems = Problems()
    problems.raise_if_any()
    problems.add("OutOfSpace", "no room")
    for number in range(5):
        problems.add("ShapeMismatch", f"shape {number}")
    with problems.collecting():
        raise InputError("NotACheckpoint", "no config")
    with pytest.raises(InputError) as caught:
        problems.raise_if_any()
    assert caught.value.reason == "NotACheckpoint"
    assert caught.value.message == (
        "no config; ShapeMismatch: shape 0; ShapeMismatch: shape 1; ShapeMismatch: shape 2 (and 2 more of this kind); "
        "OutOfSpace: no room"
    )


def test_no_room_alone_is_another_exit_code() -> None:
    problems = Problems()
    problems.add("OutOfSpace", "no room")
    with pytest.raises(OutOfSpaceError):
        problems.raise_if_any()
