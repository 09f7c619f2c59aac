"""Headers of safetensors files that lie: the format's own library is the judge."""

import json
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError, safe_open

from support.amount import examples
from vicuna_server.errors import InputError
from vicuna_server.files.data_file import LocalFile
from vicuna_server.weights.formats.safetensors_format import read_tensors
from vicuna_server.weights.tensors import Tensor

_REASONS = {"NotACheckpoint", "TruncatedShard", "UnsupportedDtype"}
_SOUND = {
    "a": {"dtype": "F16", "shape": [2, 3], "data_offsets": [0, 12]},
    "b": {"dtype": "F32", "shape": [], "data_offsets": [12, 16]},
    "none": {"dtype": "U8", "shape": [0, 7], "data_offsets": [16, 16]},
    "c": {"dtype": "I64", "shape": [1], "data_offsets": [16, 24]},
}


def _write(folder: Path, header: str | bytes, data_bytes: int = 24) -> LocalFile:
    text = header if isinstance(header, bytes) else header.encode("utf-8", "surrogatepass")
    path = folder / "model.safetensors"
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(data_bytes))
    return LocalFile(path)


def _judge(file: LocalFile) -> list[str] | None:
    """Return the names that the official library finds; None where it refuses the file."""
    try:
        with safe_open(file.path, "np") as opened:
            return sorted(opened.keys())
    except SafetensorError:
        return None


def _read(file: LocalFile) -> list[Tensor] | InputError:
    try:
        return read_tensors(file)
    except InputError as error:
        return error


def _refused(file: LocalFile) -> InputError:
    error = _read(file)
    assert isinstance(error, InputError), error
    assert error.reason in _REASONS
    assert str(file) in error.message
    error.message.encode()
    return error


def _check_against_judge(file: LocalFile) -> None:
    found = _read(file)
    if isinstance(found, InputError):
        # types that this program does not merge are the only sound files it refuses
        assert _refused(file).reason == "UnsupportedDtype" or _judge(file) is None
        return
    assert sorted(tensor.name for tensor in found) == _judge(file)
    position = min((tensor.offset for tensor in found), default=file.size)
    for tensor in found:
        assert tensor.offset == position
        position += tensor.nbytes
    assert position == file.size


def test_the_sound_header_is_sound(tmp_path: Path) -> None:
    file = _write(tmp_path, json.dumps(_SOUND | {"__metadata__": {"format": "pt"}}))
    assert [tensor.name for tensor in read_tensors(file)] == ["a", "b", "none", "c"]
    assert _judge(file) is not None


def _changed(**changes: Any) -> str:
    return json.dumps(_SOUND | {"a": _SOUND["a"] | changes})


@pytest.mark.parametrize(
    ("header", "words"),
    [
        (_changed(data_offsets=[-2, 10]), "a lacks a valid"),
        (_changed(data_offsets=[4, 16]), "leaves a hole"),
        (json.dumps(_SOUND | {"b": _SOUND["b"] | {"data_offsets": [8, 12]}}), "overlaps"),
        (json.dumps({name: entry for name, entry in _SOUND.items() if name != "b"}), "leaves a hole"),
        (_changed(data_offsets=[0, 2**64]), "a lacks a valid"),
        (_changed(shape=[2**62, 4], data_offsets=[0, 0]), "a shape that does not fit"),
        (_changed(shape=[2**31, 2**31, 3]), "a shape that does not fit"),
        (_changed(shape=[True, 6]), "a lacks a valid"),
        (_changed(shape=[2.0, 3]), "a lacks a valid"),
        (_changed(shape=[-2, -3]), "a lacks a valid"),
        (_changed(shape=[1] * 65 + [6]), "a shape that does not fit"),
        (_changed(dtype=["F16"]), "a lacks a valid"),
        (_changed(data_offsets=[0, 12, 24]), "a lacks a valid"),
        (_changed(data_offsets={"0": 12}), "a lacks a valid"),
        (json.dumps(_SOUND)[:-1] + ', "a": ' + json.dumps(_SOUND["a"]) + "}", "twice"),
        ('{"a": {"dtype": "F16", "dtype": "F16", "shape": [12], "data_offsets": [0, 24]}}', "twice"),
        ('{"\\ud800": {"dtype": "U8", "shape": [24], "data_offsets": [0, 24]}}', "surrogates"),
        ('{"__metadata__": {"format": 1}}', "metadata"),
        ('{"a": NaN}', "NaN"),
        (_changed(data_offsets=[0, 12]).replace("[0, 12]", "[-0, 12]"), "-0"),
        ('{"a": ' + "[" * 200_000 + "]" * 200_000 + "}", "nested too deeply"),
        ('{"a": ' + '{"a":' * 200_000 + "1" + "}" * 200_000 + "}", "nested too deeply"),
        ('{"a": ' + "9" * 10_000 + "}", "integer"),
        (b'{"\xff": 1}', "utf-8"),
        ('{"a": {"dtype": "F16"', "header"),
        ('{"a": null}', "a is not an object"),
    ],
)
def test_a_header_that_lies_is_refused_in_one_sentence(tmp_path: Path, header: str | bytes, words: str) -> None:
    file = _write(tmp_path, header)
    error = _refused(file)
    assert error.reason == "NotACheckpoint"
    assert words in error.message
    assert len(error.message) < 400 + len(str(file))


def test_a_type_that_is_not_merged_is_named(tmp_path: Path) -> None:
    file = _write(tmp_path, '{"a": {"dtype": "F8_E8M0", "shape": [24], "data_offsets": [0, 24]}}')
    with pytest.raises(InputError, match="a is F8_E8M0") as caught:
        read_tensors(file)
    assert caught.value.reason == "UnsupportedDtype"


def test_a_header_that_claims_more_than_any_model_needs_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(struct.pack("<Q", 50_000_000) + b"{")
    with path.open("r+b") as file:
        file.truncate(60_000_000)
    with pytest.raises(InputError, match="claims a header of 50000000 bytes"):
        read_tensors(LocalFile(path))


_NUMBERS = st.one_of(
    st.integers(-3, 30), st.sampled_from([2**31, 2**32, 2**63 - 1, 2**63, 2**64, 10**30]), st.booleans(), st.floats()
)
_JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | _NUMBERS | st.text(max_size=4) | st.sampled_from(["F16", "F32", "U8", "F4"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=8,
)
_ENTRIES = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(["F16", "F32", "U8", "I64", "F4", "BOOL", "C64"]) | _JSON,
        "shape": st.lists(st.integers(0, 4), max_size=3) | st.lists(_NUMBERS, max_size=3) | _JSON,
        "data_offsets": st.tuples(st.integers(0, 24), st.integers(0, 24)) | _JSON,
    }
)
_FUZZ = settings(
    max_examples=examples(150),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@_FUZZ
@given(header=st.dictionaries(st.text(max_size=3), _ENTRIES | _JSON, max_size=4), data_bytes=st.integers(0, 30))
def test_random_headers_are_judged_as_by_the_formats_library(tmp_path: Path, header: Any, data_bytes: int) -> None:
    _check_against_judge(_write(tmp_path, json.dumps(header), data_bytes))


@_FUZZ
@given(position=st.integers(0, 10_000), removed=st.integers(0, 4), added=st.binary(max_size=4), cut=st.integers(-8, 8))
def test_damaged_headers_are_judged_as_by_the_formats_library(
    tmp_path: Path, position: int, removed: int, added: bytes, cut: int
) -> None:
    file = _write(tmp_path, json.dumps(_SOUND | {"__metadata__": {"format": "pt"}}))
    content = file.path.read_bytes()
    position %= len(content)
    content = content[:position] + added + content[position + removed :]
    file.path.write_bytes(content[:cut] if cut < 0 else content + bytes(cut))
    _check_against_judge(file)
