"""Over how many GPUs attention heads can be split."""

import pytest

from vicuna_contract.heads import Heads


@pytest.mark.parametrize(
    ("heads", "counts"),
    [
        (Heads(32, 32), [1, 2, 4, 8, 16]),
        (Heads(40, 40), [1, 2, 4, 5, 8, 10]),
        (Heads(52, 52), [1, 2, 4, 13]),
        (Heads(64, 8), [1, 2, 4, 8, 16]),
        (Heads(24, 8), [1, 2, 4, 8]),  # 3, 6 and 12 GPUs cannot share 8 heads of keys and values
    ],
)
def test_what_works(heads: Heads, counts: list[int]) -> None:
    assert heads.counts() == counts


def test_an_annotation_has_both_and_is_read_back() -> None:
    assert Heads(64, 8).noted == "64 8"
    assert Heads.read("64 8") == Heads(64, 8)


@pytest.mark.parametrize("text", ["", "64", "0 8", "64 0", "-1 1", "64 8 8", "9999999 1", "٣ 3"])
def test_anything_else_is_none(text: str) -> None:
    assert Heads.read(text) is None


@pytest.mark.parametrize(
    ("attention", "key_value", "found"),
    [(32, None, Heads(32, 32)), (32, 8, Heads(32, 8)), (None, None, None), (True, None, None), ("32", 8, None),
     (32, "8", None), (0, None, None), (32.0, 8, None)],
)  # fmt: skip
def test_a_configs_numbers(attention: object, key_value: object, found: Heads | None) -> None:
    assert Heads.of(attention, key_value) == found
