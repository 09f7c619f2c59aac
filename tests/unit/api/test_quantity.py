"""Quantities as Kubernetes writes them."""

import pytest

from vicuna_operator.api.quantity import parse_quantity


@pytest.mark.parametrize(
    ("text", "value"),
    [("13Gi", 13 * 2**30), ("500M", 500_000_000), ("1.5Ki", 1536), (42, 42), ("1e3", 1000), ("1500m", 2), (".5k", 500)],
)
def test_quantities(text: str | int, value: int) -> None:
    assert parse_quantity(text) == value


@pytest.mark.parametrize("text", ["", "Gi", "1 GiB", "-1Gi", "1Q"])
def test_no_quantities(text: str) -> None:
    with pytest.raises(ValueError, match="quantity"):
        parse_quantity(text)
