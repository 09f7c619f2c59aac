"""Sources: what a VicunaModel declares is what a container reads, letter by letter."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vicuna_contract.sources import (
    ClaimSource,
    FileSource,
    HubSource,
    hub_spelling,
    other_spelling,
    parse_argument,
    parse_declared,
    parse_digest,
)

NAMES = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1).filter(
    lambda name: name not in (".", "..") and "%" not in name
)


@pytest.mark.parametrize(
    ("uri", "want"),
    [
        ("hf://huggyllama/llama-13b", HubSource("huggyllama/llama-13b", "main")),
        ("pvc://inputs/llama/13b/", ClaimSource("inputs", "llama/13b")),
        ("pvc://inputs", ClaimSource("inputs", "")),
        ("pvc://inputs/my#folder", ClaimSource("inputs", "my#folder")),
        ("pvc://inputs/what?", ClaimSource("inputs", "what?")),
        ("pvc://inputs/a%20b", ClaimSource("inputs", "a%20b")),
        ("pvc://inputs/a b ", ClaimSource("inputs", "a b ")),
        ("pvc://inputs/..a/b..", ClaimSource("inputs", "..a/b..")),
        ("file:///data/100% #1", FileSource("/data/100% #1")),
    ],
)
def test_declared_sources_are_literal(uri: str, want: object) -> None:
    assert parse_declared(uri) == want


@pytest.mark.parametrize(
    ("uri", "named"),
    [
        ("hf://llama", "hf://ORG/NAME"),
        ("hf://a/b@main", "revision"),
        ("pvc:///x", "pvc://CLAIM/PATH"),
        ("s3://b/k", "none of"),
        ("file://host/x", "none of"),
        ("pvc://c/a/../b", "must not contain"),
        ("pvc://c/%2e%2e/b", "must not contain"),
        ("pvc://c/%252e%252E/b", "must not contain"),
        ("pvc://c/a%2f..%2Fb", "must not contain"),
        ("pvc://c/.%2e", "must not contain"),
        ("pvc://c/a\0b", "zero byte"),
        ("file:///a/%2e%2e/b", "must not contain"),
    ],
)
def test_declared_sources_that_are_refused(uri: str, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        parse_declared(uri)


def test_a_revision_goes_with_a_hubs_source() -> None:
    source = parse_declared("hf://a/b", "f" * 40)
    assert isinstance(source, HubSource)
    assert (source.uri, source.commit) == (f"hf://a/b@{'f' * 40}", "f" * 40)
    assert HubSource("a/b").commit is None


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("hf://huggyllama/llama-13b@main", HubSource("huggyllama/llama-13b", "main")),
        ("hf://a/b@refs/pr/3", HubSource("a/b", "refs/pr/3")),
        ("file:///a%20b/c", FileSource("/a b/c")),
        ("file://localhost/a", FileSource("/a")),
        ("some/folder #1", FileSource("some/folder #1")),
        ("/a%20b", FileSource("/a%20b")),
        ("../up", FileSource("../up")),
    ],
)
def test_arguments(text: str, want: object) -> None:
    assert parse_argument(text) == want


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("hf://llama@main", "hf://ORG/NAME@REVISION"),
        ("hf://a/b", "hf://a/b@main"),
        ("file://host/x", "file:///PATH"),
        ("file://", "file:///PATH"),
        ("file:///a/../b", "must not contain"),
        ("file:///a/%2e%2e/b", "must not contain"),
        ("file:///a%00b", "zero byte"),
        ("file:///my#folder", "%23"),
        ("file:///what?", "%3F"),
        ("pvc://c/p", "neither"),
        ("", "neither"),
    ],
)
def test_arguments_that_are_refused(text: str, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        parse_argument(text)


@given(st.lists(NAMES, min_size=1, max_size=4).map("/".join).filter(lambda path: path.strip("/") == path))
def test_a_claims_folder_reaches_the_container_as_it_is_written(path: str) -> None:
    source = parse_declared(f"pvc://inputs/{path}")
    assert isinstance(source, ClaimSource)
    assert parse_argument(source.mounted_at("/sources/base").uri) == FileSource(f"/sources/base/{path}")


@pytest.mark.parametrize(
    ("path", "want"), [("/a%20b", "/a b"), ("/a%2Fb", "/a/b"), ("/a b", None), ("/100%", None), ("/a+b", None)]
)
def test_the_other_spelling_of_a_path(path: str, want: str | None) -> None:
    assert other_spelling(path) == want


def test_digests_are_read_with_and_without_their_algorithm() -> None:
    assert parse_digest("A" * 64) == parse_digest(" sha256:" + "a" * 64) == "a" * 64
    for text in ("abc", "a" * 63, "sha512:" + "a" * 64, "g" * 64):
        with pytest.raises(ValueError, match="is not a sha256"):
            parse_digest(text)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("hf://huggyllama/llama-7b", "say hf://huggyllama/llama-7b@main, or a commit"),
        ("https://huggingface.co/huggyllama/llama-7b", "say hf://huggyllama/llama-7b@main"),
        ("https://huggingface.co/huggyllama/llama-7b/tree/v1.1", "say hf://huggyllama/llama-7b@v1.1"),
        ("https://huggingface.co/a/b/resolve/main/model.safetensors?download=true", "say hf://a/b@main"),
    ],
)
def test_what_means_a_repository_is_told_how_to_say_so(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        parse_argument(text)


@pytest.mark.parametrize(
    ("text", "uri"),
    [
        ("huggyllama/llama-7b", "hf://huggyllama/llama-7b@main"),
        ("lmsys/vicuna-7b-delta-v1.1", "hf://lmsys/vicuna-7b-delta-v1.1@main"),
        ("./llama-7b", None),
        ("../llama-7b", None),
        ("/models/llama-7b", None),
        ("a/b/c", None),
        ("llama-7b", None),
        ("", None),
    ],
)
def test_a_plain_name_of_a_repository_has_a_uri(text: str, uri: str | None) -> None:
    assert hub_spelling(text) == uri
