"""Ids of calls, in OpenAI's form, or in the form that a template demands."""

import hashlib
import secrets
import string

from vicuna_server.tools.formats import CallFormat

__all__ = ["fitting_id", "new_id"]

_LETTERS = string.ascii_letters + string.digits
_RANDOM = 24
"""142 bits: no two calls have the same id."""


def new_id(form: CallFormat) -> str:
    """Return a new id for a call."""
    prefix, length = ("call_", _RANDOM) if form.id_length is None else ("", form.id_length)
    return prefix + "".join(secrets.choice(_LETTERS) for _ in range(length))


def fitting_id(ident: str, form: CallFormat) -> str:
    """Return an id that the format's template takes: the same for the same id, and itself where it fits."""
    length = form.id_length
    if length is None or (len(ident) == length and ident.isascii() and ident.isalnum()):
        return ident
    return hashlib.sha256(ident.encode(errors="replace")).hexdigest()[:length]
