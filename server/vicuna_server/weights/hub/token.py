"""The hub's token: where it comes from, that it does not stay in the environment, and who may be sent it."""

import ctypes
import os
from urllib.parse import urlsplit

from vicuna_server.errors import InputError
from vicuna_server.loopback import is_loopback

__all__ = ["require_private_way", "take_token", "token"]

_VARIABLES = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")

_taken: str | None = None


def take_token() -> None:
    """Take the token out of this process's environment, /proc/self/environ included, and keep it for `token`.

    Neither a child process nor a file of a source that leads to the environment is told it from then on.
    """
    global _taken
    # Secrets and shells leave a newline at its end, which a header cannot hold.
    found = [value for name in _VARIABLES if (value := "".join(os.environ.get(name, "").split()))]
    for name in _VARIABLES:
        _wipe(name)
        os.environ.pop(name, None)
    if found:
        _taken = found[0]


def token() -> str | None:
    """Return what was taken; None: what the client finds by itself counts, such as the file in HF_TOKEN_PATH."""
    take_token()
    return _taken


def require_private_way(url: str) -> None:
    """Refuse to send a token where everybody on the way can read it: over plain http, unless to this very machine.

    Raises:
        InputError: `TokenNotSafe`.
    """
    parts = urlsplit(url)
    if parts.scheme == "http" and not is_loopback(parts.hostname or ""):
        raise InputError(
            "TokenNotSafe",
            f"{parts.scheme}://{parts.netloc.rpartition('@')[2]} is a hub without TLS, and a token is sent over TLS "
            "only; name one that is reached by https (HF_ENDPOINT), or give no token (credentialsSecret, HF_TOKEN, "
            "HF_TOKEN_PATH)",
        )


def _wipe(name: str) -> None:
    """Overwrite a variable's value where the process was given it: taking it out only removes what points there."""
    library = ctypes.CDLL(None)
    library.getenv.restype = ctypes.c_void_p
    place = library.getenv(name.encode())
    if place:
        ctypes.memset(place, 0, len(ctypes.string_at(place)))
