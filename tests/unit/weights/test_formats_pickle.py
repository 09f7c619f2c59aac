"""Pickled checkpoints from strangers: nothing runs, nothing explodes, everything is placed right."""

import os
import pickle
import shlex
import struct
import subprocess
import sys
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.amount import examples
from vicuna_server.errors import InputError
from vicuna_server.files.data_file import LocalFile
from vicuna_server.weights.formats.pickle_format import read_tensors
from vicuna_server.weights.tensors import Tensor, read_elements

_MODULE = "vicuna_server.weights.formats.pickle_format"


def _read(path: Path) -> dict[str, Tensor]:
    return {tensor.name: tensor for tensor in read_tensors(LocalFile(path))}


def _refused(path: Path) -> InputError:
    with pytest.raises(InputError) as caught:
        read_tensors(LocalFile(path))
    assert str(path) in caught.value.message
    return caught.value


def _same(path: Path, state: dict[str, torch.Tensor]) -> None:
    found = _read(path)
    assert list(found) == list(state)
    for name, tensor in state.items():
        raw = tensor.detach().contiguous().flatten().view(torch.uint8).numpy().tobytes()
        assert read_elements(found[name], 0, tensor.numel()) == raw, name
        assert found[name].shape == tuple(tensor.shape)


def _archive(path: Path, description: bytes, storages: dict[str, bytes] | None = None, root: str = "archive") -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{root}/data.pkl", description)
        for key, data in (storages or {}).items():
            archive.writestr(f"{root}/data/{key}", data)
    return path


_DTYPES = [
    *(torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2),
    *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.uint16, torch.bool),
]


def test_every_type_and_shape_is_found_where_torch_wrote_it(tmp_path: Path) -> None:
    state: dict[str, torch.Tensor] = {str(dtype): torch.arange(2, 12).to(dtype).reshape(2, 5) for dtype in _DTYPES}
    state |= {"scalar": torch.tensor(3.5), "none": torch.empty(0, 4), "one": torch.ones(1, 7)[:, 2:3]}
    state["parameter"] = torch.nn.Parameter(torch.ones(3))
    torch.save(state, tmp_path / "pytorch_model.bin")
    _same(tmp_path / "pytorch_model.bin", state)


def test_a_state_dict_of_a_module_with_its_metadata_is_found(tmp_path: Path) -> None:
    module = torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.LayerNorm(5))
    torch.save({"state_dict": module.state_dict()}, tmp_path / "pytorch_model.bin")
    _same(tmp_path / "pytorch_model.bin", dict(module.state_dict()))


def test_an_archive_packed_again_by_another_program_is_found(tmp_path: Path) -> None:
    state = {f"t{number}": torch.arange(number + 1.0) for number in range(40)}
    torch.save(state, tmp_path / "plain.bin")
    path = tmp_path / "pytorch_model.bin"
    with zipfile.ZipFile(tmp_path / "plain.bin") as old, zipfile.ZipFile(path, "w") as new:
        for info in old.infolist():
            new.writestr(info.filename.replace("plain/", "other/"), old.read(info))
    _same(path, state)


def test_an_archive_beyond_4_gib_is_found(tmp_path: Path) -> None:
    """ZIP64: a record that is too large for the old fields, and one that lies beyond them."""
    path = tmp_path / "pytorch_model.bin"
    elements = (2**32 + 4096) // 4
    tensors = [("big", "FloatStorage", "0", 0, (elements,), (1,)), ("last", "FloatStorage", "1", 1, (2,), (1,))]
    _write_zip64(path, _description(tensors), elements * 4, b"\x07" * 20)
    with zipfile.ZipFile(path) as archive:  # Python's reader sees the archive that is meant
        assert [info.file_size for info in archive.infolist()][1:] == [elements * 4, 20]
    found = _read(path)
    assert found["big"].nbytes > 2**32
    assert found["last"].offset > 2**32
    assert read_elements(found["last"], 0, 2) == b"\x07" * 8
    assert path.stat().st_blocks * 512 < 2**20


def _description(tensors: Sequence[tuple[str, str, str, int, tuple[int, ...], tuple[int, ...]]]) -> bytes:
    """Make a data.pkl of (name, storage class, key, offset, shape, strides), as torch.save does."""

    def integer(value: int) -> bytes:
        return pickle.dumps(value, 2)[2:-1]

    def text(value: str) -> bytes:
        return b"X" + struct.pack("<I", len(value.encode())) + value.encode()

    out = b"\x80\x02}("
    for name, storage, key, offset, shape, strides in tensors:
        out += text(name) + b"ctorch._utils\n_rebuild_tensor_v2\n(("
        out += text("storage") + f"ctorch\n{storage}\n".encode() + text(key) + text("cpu") + integer(1) + b"tQ"
        out += integer(offset)
        out += b"(" + b"".join(map(integer, shape)) + b"t(" + b"".join(map(integer, strides)) + b"t"
        out += b"\x89ccollections\nOrderedDict\n)RtR"
    return out + b"u."


def _write_zip64(path: Path, description: bytes, hole: int, last: bytes) -> None:
    """Write a description, a record of zeros that is a hole in the file, and a last record."""
    directory = b""
    with path.open("wb") as file:
        for name, size in ((b"a/data.pkl", len(description)), (b"a/data/0", hole), (b"a/data/1", len(last))):
            header = file.tell()
            file.write(struct.pack("<4s5H3L2H", b"PK\x03\x04", 45, 0, 0, 0, 0, 0, *[2**32 - 1] * 2, len(name), 20))
            file.write(name + struct.pack("<HHQQ", 1, 16, size, size))
            content = {len(description): description, len(last): last}.get(size)
            if content is None:
                file.seek(size, os.SEEK_CUR)
            else:
                file.write(content)
            fields = (45, 45, 0, 0, 0, 0, 0, *[2**32 - 1] * 2, len(name), 28, 0, 0, 0, 0, 2**32 - 1)
            directory += struct.pack("<4s6H3L5H2L", b"PK\x01\x02", *fields)
            directory += name + struct.pack("<HHQQQ", 1, 24, size, size, header)
        start = file.tell()
        file.write(directory)
        file.write(struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, 3, 3, len(directory), start))
        file.write(struct.pack("<4sLQL", b"PK\x06\x07", 0, start + len(directory), 1))
        file.write(struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 0xFFFF, 0xFFFF, 2**32 - 1, 2**32 - 1, 0))


class _Call:
    """Pickles as a call."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self._parts = (function, arguments)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self._parts


class _State:
    def __init__(self) -> None:
        self.note = "x"


@pytest.mark.parametrize(
    "value",
    [
        _Call(os.system, "touch pwned"),
        _Call(eval, "open('pwned', 'w')"),
        {"deep": [(_Call(os.system, "touch pwned"),)]},
        OrderedDict(a=_Call(getattr, _Call(__import__, "os"), "system")),
        _Call(torch.load, "pwned"),
        _Call(torch.hub.load, "a", "b"),
        _State(),
        Path("pwned"),
        _Call(OrderedDict, [("a", 1)]),
    ],
)
def test_what_could_run_code_is_refused_and_does_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: object
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "pytorch_model.bin"
    torch.save({"a": torch.ones(2), "b": value}, path)
    assert _refused(path).reason in {"UnsafePickle", "NotACheckpoint"}
    for protocol in (0, 1, 2, 4, 5):
        _archive(path, pickle.dumps({"b": value}, protocol))
        assert _refused(path).reason in {"UnsafePickle", "NotACheckpoint"}
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize(
    "program",
    [
        b"cos\nsystem\n(X\x04\x00\x00\x00trueltR.",
        b"(X\x04\x00\x00\x00trueios\nsystem\n.",
        b"(cos\nsystem\nX\x04\x00\x00\x00trueo.",
        b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x04true\x85R.",
        b"\x80\x02cos\nsystem\n)\x81.",
        b"\x80\x02}X\x01\x00\x00\x00ab.",
        b"\x82\x01.",
    ],
)
def test_instructions_that_make_objects_are_unsafe(tmp_path: Path, program: bytes) -> None:
    error = _refused(_archive(tmp_path / "pytorch_model.bin", program))
    assert error.reason in {"UnsafePickle", "NotACheckpoint"}


def test_the_forbidden_name_stands_in_the_message(tmp_path: Path) -> None:
    error = _refused(_archive(tmp_path / "pytorch_model.bin", b"cposix\nsystem\n."))
    assert error.reason == "UnsafePickle"
    assert "posix.system" in error.message


@pytest.mark.long
@pytest.mark.parametrize(
    "program",
    [
        pytest.param(b"\x80\x02}r\xff\xff\xff\x7f.", id="a memo of two billion places"),
        pytest.param(b"\x80\x02" + b"]" * 3_000_000 + b".", id="millions of lists"),
        pytest.param(b"\x80\x02" + b")" + b"\x85" * 1_000_000 + b"}(h\x00K\x01u.", id="a tuple nested a million times"),
        pytest.param(b"\x80\x02})" + b"\x85" * 100_000 + b"K\x01s.", id="a nested tuple as a key"),
        pytest.param(b"\x80\x02" + b"(" * 1_000_000 + b".", id="a million marks"),
        pytest.param(b"\x80\x02" + b"]" * 500_000 + b"(t" * 500_000 + b".", id="marks over a high stack"),
        pytest.param(b"\x80\x02X\xff\xff\xff\xffabc.", id="a text beyond the end"),
        pytest.param(b"\x80\x02", id="no end"),
        pytest.param(b"", id="nothing"),
        pytest.param(b".", id="an empty stack"),
        pytest.param(b"\x80\x02}h\x05.", id="an unknown memo"),
        pytest.param(b"\x80\x02K\x01Q.", id="a strange storage"),
        pytest.param(b"\x80\x02}(X\x02\x00\x00\x00\xc3\x28K\x01u.", id="a name that is not UTF-8"),
        pytest.param(b"\x80\x02}(X\x03\x00\x00\x00\xed\xa0\x80K\x01u.", id="a name of half a pair"),
        pytest.param(b"\x80\x02}(X\x01\x00\x00\x00aK\x01u.", id="a number for a tensor"),
        pytest.param(b"\x80\x02}.", id="an empty table"),
        pytest.param(b"\x80\x02].", id="a list"),
    ],
)
def test_broken_descriptions_are_refused_in_one_sentence(tmp_path: Path, program: bytes) -> None:
    error = _refused(_archive(tmp_path / "pytorch_model.bin", program))
    assert error.reason in {"NotACheckpoint", "UnsafePickle"}
    assert len(error.message) < 300 + len(str(tmp_path))


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ((0, (4,), (1,)), None),
        ((2, (2,), (1,)), None),
        ((0, (2, 2), (2, 1)), None),
        ((0, (1, 4), (999, 1)), None),
        ((1, (4,), (1,)), "lies outside its record"),
        ((2**62, (1,), (1,)), "lies outside its record"),
        ((0, (2**40, 2**40), (2**40, 1)), "lies outside its record"),
        ((-1, (2,), (1,)), "is broken"),
        ((0, (-2, -2), (-2, 1)), "is broken"),
        ((0, (2, 2), (1, 2)), "not stored contiguously"),
        ((0, (2,), (2,)), "not stored contiguously"),
        ((0, (3, 2), (1, 1)), "not stored contiguously"),
        ((0, (4,), (0,)), "not stored contiguously"),
        ((0, (4,), (1, 1)), "is broken"),
        ((0, (1,) * 65, (1,) * 65), "is broken"),
    ],
)
def test_a_tensor_lies_whole_and_in_order_inside_its_storage(
    tmp_path: Path, place: tuple[int, tuple[int, ...], tuple[int, ...]], words: str | None
) -> None:
    description = _description([("a", "FloatStorage", "0", *place)])
    path = _archive(tmp_path / "pytorch_model.bin", description, {"0": bytes(16), "1": bytes(1000)})
    if words is None:
        assert list(_read(path)) == ["a"]
    else:
        assert words in _refused(path).message


def test_a_storage_that_is_not_there_is_noticed(tmp_path: Path) -> None:
    path = _archive(tmp_path / "pytorch_model.bin", _description([("a", "HalfStorage", "7", 0, (1,), (1,))]))
    assert "lies outside its record" in _refused(path).message


@pytest.mark.parametrize(
    "tensor",
    [
        torch.eye(3).to_sparse(),
        torch.ones(3, dtype=torch.complex64),
        torch.ones(3, dtype=torch.complex64).imag.conj(),
        torch._neg_view(torch.ones(3)),
        torch.empty(3, device="meta"),
    ],
    ids=["sparse", "complex", "imaginary", "negated", "meta"],
)
def test_tensors_that_are_not_rows_of_numbers_are_refused(tmp_path: Path, tensor: torch.Tensor) -> None:
    path = tmp_path / "pytorch_model.bin"
    torch.save({"a": tensor}, path)
    assert _refused(path).reason == "NotACheckpoint"


def test_odd_escapes_are_refused_without_a_word_of_pythons_own(tmp_path: Path) -> None:
    error = _refused(_archive(tmp_path / "pytorch_model.bin", b"S'\\d'\n."))
    assert error.reason == "UnsafePickle"


def test_a_quantised_tensor_is_refused(tmp_path: Path) -> None:
    path = _archive(tmp_path / "pytorch_model.bin", b"\x80\x02}X\x01\x00\x00\x00actorch._utils\n_rebuild_qtensor\n.")
    assert "quantised" in _refused(path).message


def test_a_file_of_another_byte_order_is_refused(tmp_path: Path) -> None:
    path = _archive(tmp_path / "pytorch_model.bin", _description([("a", "FloatStorage", "0", 0, (1,), (1,))]))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("archive/byteorder", "big")
    assert "big-endian" in _refused(path).message


def test_two_records_of_one_name_are_refused(tmp_path: Path) -> None:
    path = _archive(tmp_path / "pytorch_model.bin", _description([("a", "FloatStorage", "0", 0, (1,), (1,))]))
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("archive/data.pkl", b"\x80\x02}.")
    assert "two records of one name" in _refused(path).message


def test_a_program_or_any_other_zip_is_not_a_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "pytorch_model.bin"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("word/document.xml", "<a/>")
    assert "no torch checkpoint" in _refused(path).message
    _archive(path, b"\x80\x02}.")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("archive/constants.pkl", b"")
    assert "TorchScript" in _refused(path).message


def test_a_compressed_description_is_not_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "pytorch_model.bin"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(10_000_000))
    assert "compressed" in _refused(path).message


def test_a_description_or_directory_of_unlikely_size_is_not_read(tmp_path: Path) -> None:
    path = _archive(tmp_path / "pytorch_model.bin", bytes(17 * 2**20))
    assert "describes its tensors in 17825792 bytes" in _refused(path).message
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 1, 1, 2**30, 0, 0)
    with path.open("wb") as file:
        file.write(b"PK\x03\x04")
        file.truncate(2**30)
        file.seek(2**30)
        file.write(end)
    assert "its directory claims 1073741824 bytes" in _refused(path).message


def test_a_safetensors_file_under_a_pickles_name_is_told(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"a": torch.ones(2)}, tmp_path / "pytorch_model.bin")
    assert "name it model.safetensors" in _refused(tmp_path / "pytorch_model.bin").message


@pytest.mark.long
def test_the_command_for_a_file_of_old_torch_works(tmp_path: Path) -> None:
    state = {"a": torch.arange(6.0).reshape(2, 3)}
    path = tmp_path / "pytorch_model.bin"
    torch.save(state, path, _use_new_zipfile_serialization=False)
    error = _refused(path)
    assert error.reason == "LegacyPickle"
    command = error.message.partition("in its folder: ")[2]
    convert, _, move = command.partition(" && ")
    words = shlex.split(convert)
    assert words[0] == "python"
    subprocess.run([sys.executable, *words[1:]], cwd=tmp_path, check=True, timeout=100)
    subprocess.run(shlex.split(move), cwd=tmp_path, check=True)
    _same(path, state)


@pytest.mark.long
def test_reading_needs_no_torch(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(2)}, tmp_path / "pytorch_model.bin")
    code = (
        f"import sys; from pathlib import Path; from {_MODULE} import read_tensors\n"
        "from vicuna_server.files.data_file import LocalFile\n"
        "print(read_tensors(LocalFile(Path(sys.argv[1])))[0].shape, 'torch' in sys.modules)"
    )
    words = [sys.executable, "-c", code, str(tmp_path / "pytorch_model.bin")]
    done = subprocess.run(words, check=True, capture_output=True, text=True, timeout=60)
    assert done.stdout == "(2,) False\n"


@pytest.mark.long
@settings(
    max_examples=examples(300),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(position=st.integers(0, 10_000), removed=st.integers(0, 6), added=st.binary(max_size=6), whole=st.booleans())
def test_damaged_files_are_read_inside_their_bounds_or_refused(
    tmp_path: Path, position: int, removed: int, added: bytes, whole: bool
) -> None:
    """Damage in the description alone (in a sound archive), or anywhere in the file."""
    path = tmp_path / "pytorch_model.bin"
    torch.save(OrderedDict(a=torch.ones(3), b=torch.zeros(2, 2).half(), c=torch.nn.Parameter(torch.ones(1))), path)
    content = path.read_bytes()
    if not whole:
        with zipfile.ZipFile(path) as archive:
            content = archive.read("pytorch_model/data.pkl")
    position %= len(content)
    content = content[:position] + added + content[position + removed :]
    if whole:
        path.write_bytes(content)
    else:
        _archive(path, content, {"0": bytes(12), "1": bytes(8), "2": bytes(4)})
    try:
        found = _read(path)
    except InputError as error:
        error.message.encode()
        return
    for tensor in found.values():
        assert 0 <= tensor.offset <= tensor.offset + tensor.nbytes <= path.stat().st_size
