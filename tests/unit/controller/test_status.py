import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.memory_kube import Body, merge_patch
from vicuna_operator.controller.status import status_patch, without_nulls


@pytest.mark.parametrize(
    ("old", "new", "patch"),
    [
        ({}, {}, None),
        ({"a": 1}, {"a": 1}, None),
        ({"a": 1, "gone": {"b": 1}}, {"a": 1}, {"gone": None}),
        ({"m": {"a": 1, "b": 2}}, {"m": {"a": 1, "b": None}}, {"m": {"b": None}}),
        ({"l": [1, 2]}, {"l": [1]}, {"l": [1]}),
        ({"l": [{"a": 1}]}, {"l": ({"a": 1, "b": None},)}, None),
        ({"observedGeneration": -1}, {"observedGeneration": 1}, {"observedGeneration": 1}),
        ({}, {"a": None}, None),
    ],
)
def test_patch(old: Body, new: Body, patch: Body | None) -> None:
    assert status_patch(old, new) == patch


VALUES = st.recursive(
    st.none() | st.integers(0, 3) | st.sampled_from(["", "x"]),
    lambda inner: st.dictionaries(st.sampled_from("abc"), inner, max_size=3) | st.lists(st.integers(0, 3), max_size=2),
    max_leaves=8,
)
STATUS = st.dictionaries(st.sampled_from("abcd"), VALUES, max_size=4)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(STATUS, STATUS)
def test_applying_the_patch_gives_the_new_status_and_then_nothing_is_left(old: Body, new: Body) -> None:
    old = without_nulls(old)
    after = merge_patch(old, status_patch(old, new) or {})
    assert status_patch(after, new) is None
    assert after == without_nulls(new)
