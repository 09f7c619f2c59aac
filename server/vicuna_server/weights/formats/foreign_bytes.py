"""What a file is that is not what its name says, told from its first bytes."""

from vicuna_server.files.data_file import DataFile

__all__ = ["recognise", "recognise_start"]

_FIRST_BYTES = 512
_SAMPLES = 5
_SAMPLE_BYTES = 4096
_MOST_LETTERS = 60

_POINTER = b"version https://git-lfs"
_PAGES = (b"<!doctype html", b"<html", b"<head", b"<body", b"<script", b"<!--")
# what hubs and storages answer where a file should be; download tools save it under the file's name
_ANSWERS = (
    *(b"entry not found", b"repository not found", b"not found", b"404", b"access to model", b"access denied"),
    *(b"invalid username", b"invalid credentials", b"unauthorized", b"forbidden", b"<?xml", b"<error", b'{"error"'),
    *(b"internal server error", b"bad gateway", b"service unavailable", b"too many requests", b"rate limit"),
)
_PACKED = {
    b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"7z\xbc\xaf": "7-Zip", b"Rar!": "RAR",
    b"\x28\xb5\x2f\xfd": "Zstandard", b"PK\x03\x04": "zip",
}  # fmt: skip
_OTHER = {
    b"GGUF": "is a GGUF file of llama.cpp; give the original weights, which it was made from",
    b"tjgg": "is a GGML file of llama.cpp; give the original weights, which it was made from",
    b"fmgg": "is a GGML file of llama.cpp; give the original weights, which it was made from",
    b"lmgg": "is a GGML file of llama.cpp; give the original weights, which it was made from",
    b"\x89HDF": "is an HDF5 file of Keras; give the weights as safetensors",
    b"\x93NUMPY": "is a NumPy array; give the weights as safetensors",
}


def recognise(file: DataFile, wanted: str) -> str | None:
    """Say what a file is instead, and what to do: the rest of a sentence that begins with its name.

    Args:
        file: what to look at; its first bytes are read, a few more where these are zeros.
        wanted: what it should be, such as "the weights".

    Returns:
        None where it is not recognised.
    """
    first = file.read(0, _FIRST_BYTES)
    known = recognise_start(first, wanted)
    if known is not None:
        return known
    # two zips, or two JSON texts, begin with the same bytes, and two safetensors files do after the header's length:
    # an XOR of two such files is zero there
    alike = first[8:10] if file.name.endswith(".safetensors") else b""
    if not any(first[:4]) or (alike and not any(alike)):
        return _all_zero_or_xor(file)
    return None


def recognise_start(first: bytes, wanted: str) -> str | None:
    """Say the same of a file's first bytes alone, some 64 of them at least."""
    if not first:
        return "is empty; fetch it again"
    if first.startswith(_POINTER):
        return f"is a git-lfs pointer, not {wanted}; run git lfs pull"
    text = first.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if text.startswith(_PAGES):
        return f"is a web page, not {wanted}: a page of login or error was saved under its name; fetch it again"
    if text.startswith(_ANSWERS):
        words = first.decode(errors="replace").strip().partition("\n")[0][:_MOST_LETTERS]
        return f"holds an error message ({words!r}), not {wanted}; fetch it again, with a token that may read it"
    for magic, name in _PACKED.items():
        if first.startswith(magic):
            return f"is a {name} archive, not {wanted}; unpack it"
    return next((what for magic, what in _OTHER.items() if first.startswith(magic)), None)


def _all_zero_or_xor(file: DataFile) -> str:
    places = [max(0, file.size - _SAMPLE_BYTES) * number // (_SAMPLES - 1) for number in range(_SAMPLES)]
    if any(any(file.read(place, _SAMPLE_BYTES)) for place in places):
        return (
            "looks like an XOR of two files, as Open Assistant and OpenBuddy published theirs; decode it with its "
            "publisher's script and the base's files, and give the result as base"
        )
    return "holds zeros where its content should be: a download was never finished; fetch it again"
