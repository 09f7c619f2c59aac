"""Quantities as Kubernetes writes them."""

import pytest

from vicuna_contract.quantity import in_words, parse_quantity


@pytest.mark.parametrize(
    ("text", "value"),
    [("13Gi", 13 * 2**30), ("500M", 500_000_000), ("1.5Ki", 1536), (42, 42), ("1e3", 1000), ("1500m", 2), (".5k", 500)],
)
def test_quantities(text: str | int, value: int) -> None:
    assert parse_quantity(text) == value


@pytest.mark.parametrize("text", ["", "Gi", "1 GiB", "13GB", "-1Gi", "1Q", "many", "٣Gi"])
def test_no_quantities(text: str) -> None:
    with pytest.raises(ValueError, match="quantity"):
        parse_quantity(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [("16e9", 16 * 10**9), ("1Pi", 2**50), ("2E", 2 * 10**18), ("1E3", 1000), ("13.50Gi", 27 * 2**29)],
)
def test_every_form_that_the_crd_takes(text: str, value: int) -> None:
    assert parse_quantity(text) == value


@pytest.mark.parametrize("text", ["1e400", "1e-400", "1" * 100, "1e31"])
def test_what_would_take_all_memory_is_not_a_quantity(text: str) -> None:
    with pytest.raises(ValueError, match=r"quantity"):
        parse_quantity(text)


def test_sizes_in_words() -> None:
    assert (in_words(13 * 2**30), in_words(96 * 2**20), in_words(5)) == ("13.0 GiB", "96 MiB", "1 MiB")
