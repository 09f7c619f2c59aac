"""Commands in namespaces of their own, such as a network that nobody else has."""

import functools
import shutil
import subprocess

import pytest

__all__ = ["unshared"]


def unshared(*kinds: str) -> list[str]:
    """Return the words in front of a command; the test is skipped where this machine allows none.

    Args:
        kinds: options of `unshare`, such as --net.
    """
    words = ("unshare", "--map-root-user", *kinds)
    if not _is_allowed(words):
        pytest.skip("needs unshare, and leave to use it")
    return [*words]


@functools.cache
def _is_allowed(words: tuple[str, ...]) -> bool:
    if shutil.which(words[0]) is None:
        return False
    return subprocess.run([*words, "true"], capture_output=True, check=False).returncode == 0
