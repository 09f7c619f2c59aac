"""Sources as the command line names them."""

import errno
from pathlib import Path

import pytest

from vicuna_server.errors import InputError, UsageError
from vicuna_server.merge.inputs import make_input
from vicuna_server.merge.request import Request


def test_a_plain_path_is_a_folder_below_this_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    made = make_input("base", "--base", "x #1", "--base-digest", None)
    assert (made.folder, made.source.uri) == (tmp_path / "x #1", (tmp_path / "x #1").as_uri())


@pytest.mark.parametrize("text", ["hf://llama@main", "hf://a/b", "file://host/x", "pvc://c/p", "s3://b/k", ""])
def test_other_sources_are_a_usage_error_that_names_the_flag(text: str) -> None:
    with pytest.raises(UsageError, match="--base"):
        make_input("base", "--base", text, "--base-digest", None)


def test_a_wrong_digest_is_a_usage_error_that_names_the_flag() -> None:
    with pytest.raises(UsageError, match="--base-digest 'abc' is not a sha256"):
        make_input("base", "--base", "x", "--base-digest", "abc")


def test_a_path_that_exists_only_decoded_is_refused_with_both_spellings(tmp_path: Path) -> None:
    (tmp_path / "a b").mkdir()
    with pytest.raises(InputError) as caught:
        make_input("base", "--base", f"file://{tmp_path}/a%2520b", "--base-digest", None).open()
    assert caught.value.reason == "SourceNotFound"
    assert f"{tmp_path}/a%20b" in caught.value.message
    assert f"{tmp_path}/a b" in caught.value.message


@pytest.mark.parametrize("output", [None, ".", "elsewhere"])
def test_what_may_not_be_read_of_a_source_is_not_the_output(output: str | None, tmp_path: Path) -> None:
    """Also where the sources lie in the folder that the output is in."""
    sources = Request(str(tmp_path / "base"), None, tmp_path).sources()
    refused = PermissionError(errno.EACCES, "Permission denied", str(tmp_path / "base" / "model.safetensors"))
    with (
        pytest.raises(InputError) as caught,
        sources.explaining(None if output is None else tmp_path / output),
    ):
        raise refused
    assert caught.value.reason == "SourceForbidden"
