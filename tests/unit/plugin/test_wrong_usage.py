"""A value that cannot be is wrong usage (64) and named before kubectl is asked anything."""

from collections.abc import Sequence

import pytest

from vicuna_operator.plugin.cli import main
from vicuna_operator.plugin.kubectl import Kubectl


def unasked(flags: Sequence[str]) -> Kubectl:
    class Unasked:
        def __getattr__(self, name: str) -> object:
            raise AssertionError(f"kubectl was asked to {name}")

    return Unasked()  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("wait x --timeout nan", "--timeout: 'nan' is not a number from 0"),  # it waited for ever
        ("wait x --timeout -1", "--timeout: '-1' is not a number from 0"),
        ("chat x --temperature 3", "--temperature: '3' is not a number from 0 to 2"),
        ("chat x --max-tokens 0", "--max-tokens: must be 1 or more"),
        ("test x --max-tokens -1", "--max-tokens: '-1' is not a whole number"),
        ("usage --days 0", "--days: must be 1 or more"),
        ("usage --gateway foo", "--gateway foo: give NAMESPACE/NAME"),
        ("takeover x --by foo", "--by foo: give NAMESPACE/LEASE"),
        ("key create a --rpm 0", "--rpm: must be 1 or more"),
        ("key create a --tpd -5", "--tpd: '-5' is not a whole number"),
        ("key create a/b", "'a/b' is not a name for a key"),
        ("key create a --expires soon", "--expires soon: give a span"),
        ("key create a --expires=", "--expires : give a span"),  # it made a key without an end
        ("key create a --expires 2020-01-01", "this time is in the past"),
        ("key create a --default-namespace A_B", "give the name of one namespace"),
    ],
)
def test_a_wrong_value_is_64_and_named(words: str, says: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        code = main(words.split(), connect=unasked)
    except SystemExit as error:
        code = int(error.code or 0)
    assert code == 64
    assert says in capsys.readouterr().err
