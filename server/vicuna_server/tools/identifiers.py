"""Ids of calls, in OpenAI's form, or in the form that a template demands."""

import hashlib
import string

from vicuna_server.tools.formats import CallFormat

__all__ = ["call_id", "fitting_id"]

_LETTERS = string.ascii_letters + string.digits
_LENGTH = 24
_DOMAIN = b"vicuna.dev/call/v1\0"


def call_id(form: CallFormat, answer: str, number: int) -> str:
    """Return the id of an answer's call, which another server gives it too that goes on with the answer.

    Args:
        form: How calls are written.
        answer: The answer's own id, which no other has.
        number: Of the call, from 0.
    """
    prefix, length = ("call_", _LENGTH) if form.id_length is None else ("", form.id_length)
    left = int.from_bytes(hashlib.sha256(_DOMAIN + f"{answer}\0{number}".encode()).digest(), "big")
    letters = []
    for _ in range(length):
        left, place = divmod(left, len(_LETTERS))
        letters.append(_LETTERS[place])
    return prefix + "".join(letters)


def fitting_id(ident: str, form: CallFormat) -> str:
    """Return an id that the format's template takes: the same for the same id, and itself where it fits."""
    length = form.id_length
    if length is None or (len(ident) == length and ident.isascii() and ident.isalnum()):
        return ident
    return hashlib.sha256(ident.encode(errors="replace")).hexdigest()[:length]
