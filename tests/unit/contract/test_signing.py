"""Public keys as settings have them."""

import pytest

from vicuna_contract.signing import audience, joined, key_id, public_keys

ONE, TWO = bytes(range(32)), bytes(32)


def test_they_are_read_as_they_are_written() -> None:
    assert public_keys(joined([ONE, TWO])) == (ONE, TWO)
    assert public_keys(f" {joined([ONE])} ,, {joined([ONE])}\n") == (ONE,)
    assert not joined([bytes([0xFB, 0xFF] * 16)]).startswith("-"), "a command line would take it for a flag"


@pytest.mark.parametrize(
    "text", ["", ",", "x", joined([ONE])[:-4], joined([ONE]) + ",x", joined([ONE, b"y"]), "é" * 44]
)
def test_wrong_ones_are_told(text: str) -> None:
    with pytest.raises(ValueError, match="public key"):
        public_keys(text)


def test_more_than_eight_are_refused() -> None:
    with pytest.raises(ValueError, match="1 to 8"):
        public_keys(joined([bytes([number] * 32) for number in range(9)]))


def test_names_differ() -> None:
    assert key_id(ONE) != key_id(TWO)
    assert audience("a", "b", "c") == "a/b/c"
