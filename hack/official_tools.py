"""Put helm and kubectl, as their projects publish them, into a folder; each is checked against the sha256 below.

    python hack/official_tools.py FOLDER

Standard library alone. Ends with 1, and one line that says why, where they cannot be had; with SIGALRM where nobody
answers in time. HELM_DOWNLOADS and KUBECTL_DOWNLOADS name mirrors.
"""

import argparse
import hashlib
import http.client
import io
import os
import platform
import signal
import sys
import tarfile
import urllib.request
from pathlib import Path
from typing import NamedTuple

HELM = os.environ.get("HELM_DOWNLOADS", "https://get.helm.sh")
KUBECTL = os.environ.get("KUBECTL_DOWNLOADS", "https://dl.k8s.io")
MOST_BYTES = 200_000_000
ANSWER_SECONDS = 5
DOWNLOAD_SECONDS = 120


class Tool(NamedTuple):
    """One program of one platform."""

    name: str
    url: str
    sha256: str
    """Of what the address answers."""
    member: str = ""
    """Where the program is in it, if that is an archive."""


# From the projects' own release notes (helm) and `.sha256` files (kubectl).
TOOLS = {
    "x86_64": [
        Tool(
            "helm",
            f"{HELM}/helm-v4.3.0-linux-amd64.tar.gz",
            "86584a54def73570558f66f5111cc53dfed56689637ae32c1201205d494f54fb",
            "linux-amd64/helm",
        ),
        Tool(
            "kubectl",
            f"{KUBECTL}/release/v1.37.1/bin/linux/amd64/kubectl",
            "65691ff77eb6fa44c908b77a1082c9f092c3b9733b5cefabec0d1104890e21a8",
        ),
    ],
    "aarch64": [
        Tool(
            "helm",
            f"{HELM}/helm-v4.3.0-linux-arm64.tar.gz",
            "31c5794dd55c66a51e6b7d2e2ac7a114ae8b1de41ff1d9ba51748ac973b06a08",
            "linux-arm64/helm",
        ),
        Tool(
            "kubectl",
            f"{KUBECTL}/release/v1.37.1/bin/linux/arm64/kubectl",
            "ff749f4b78d9c4f1ec87307df9b50119ed819e2094aa9810cb9acffc3286c8c7",
        ),
    ],
}


class NotToBeHadError(Exception):
    """A tool cannot be had; the message says why."""


def fetch(tool: Tool) -> bytes:
    """Return the program.

    Raises:
        NotToBeHadError: nobody answers, or what comes is not the file that was published.
    """
    try:
        with urllib.request.urlopen(tool.url, timeout=ANSWER_SECONDS) as response:
            content = response.read(MOST_BYTES)
    except (OSError, http.client.HTTPException) as error:
        raise NotToBeHadError(f"{tool.url}: {error}") from error
    found = hashlib.sha256(content).hexdigest()
    if found != tool.sha256:
        raise NotToBeHadError(f"{tool.url} has the sha256 {found}, not {tool.sha256}")
    if not tool.member:
        return content
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        member = archive.extractfile(tool.member)
        assert member is not None, "the checksum is that of an archive with this file"
        return member.read()


def install(tools: list[Tool], folder: Path) -> None:
    """Write the programs into a folder, each by a rename: an interrupted run leaves no half program behind.

    Raises:
        NotToBeHadError: see `fetch`; nothing of that tool is written.
    """
    for tool in tools:
        content = fetch(tool)
        part = folder / f".{tool.name}.part"
        part.write_bytes(content)
        part.chmod(0o755)
        part.replace(folder / tool.name)


def main() -> int:
    """Install what this machine needs."""
    parser = argparse.ArgumentParser(description="Put the official helm and kubectl into a folder.")
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    tools = TOOLS.get(platform.machine() if sys.platform == "linux" else sys.platform)
    try:
        if tools is None:
            raise NotToBeHadError(f"no checksum is known for {sys.platform} {platform.machine()}")
        # The signal ends the process, and with it a look-up of a name that hangs, which no timeout of a socket does.
        signal.alarm(ANSWER_SECONDS)
        for tool in tools:
            urllib.request.urlopen(tool.url, timeout=ANSWER_SECONDS).close()
        signal.alarm(DOWNLOAD_SECONDS)
        install(tools, folder)
    except (NotToBeHadError, OSError, http.client.HTTPException, ValueError) as error:
        print(f"tools: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
