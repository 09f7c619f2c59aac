"""SHA256SUMS over all files of a release, and a signature over it by a key file.

The signature is OpenSSH's (`ssh-keygen -Y sign`): whoever checks it needs nothing that is not on every machine.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path

from release.commands import run
from release.parts import ReleaseError

__all__ = ["NAMESPACE", "SIGNATURE", "SUMS", "check_sums", "sha256_of", "sign", "sums_text", "write_sums"]

SUMS = "SHA256SUMS"
SIGNATURE = f"{SUMS}.sig"
NAMESPACE = "vicuna-release"
"""Of the signature: one that was made for something else is refused."""


def sha256_of(file: Path) -> str:
    """Return the hash of a file's bytes."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def sums_text(hashes: Mapping[str, str]) -> str:
    """Return the text that `sha256sum --check` reads, sorted by name."""
    return "".join(f"{hashes[name]}  {name}\n" for name in sorted(hashes))


def write_sums(folder: Path) -> Path:
    """Write the checksums of all files in a folder; an earlier list and its signature are replaced."""
    (folder / SIGNATURE).unlink(missing_ok=True)
    files = [file for file in folder.iterdir() if file.is_file() and file.name != SUMS]
    (folder / SUMS).write_text(sums_text({file.name: sha256_of(file) for file in files}))
    return folder / SUMS


def check_sums(folder: Path) -> None:
    """Refuse a folder in which a file is not what SHA256SUMS says.

    Raises:
        ReleaseError: a file is another one, or missing.
    """
    for line in (folder / SUMS).read_text().splitlines():
        stated, _, name = line.partition("  ")
        if not (folder / name).is_file() or sha256_of(folder / name) != stated:
            raise ReleaseError(f"{folder / name} is not the file of {SUMS}; make the release again")


def sign(folder: Path, key: Path) -> Path:
    """Sign the checksums with a private key of OpenSSH.

    Raises:
        ReleaseError: ssh-keygen is missing, or does not take the key.
    """
    run("ssh-keygen", "-q", "-Y", "sign", "-f", str(key), "-n", NAMESPACE, str(folder / SUMS))
    return folder / SIGNATURE
