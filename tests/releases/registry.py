"""Debian's docker-registry on a port of this machine, and small images as OCI archives."""

import hashlib
import io
import json
import shutil
import socket
import subprocess
import tarfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PROGRAM = "docker-registry"
CONFIG = """version: 0.1
storage: {{filesystem: {{rootdirectory: {folder}}}}}
http: {{addr: "127.0.0.1:{port}"}}
log: {{level: warn}}
"""


def missing() -> list[str]:
    """Return the programs that tests with a registry lack."""
    return [name for name in (PROGRAM, "skopeo") if shutil.which(name) is None]


@contextmanager
def registry(folder: Path) -> Iterator[str]:
    """Run a registry without TLS; give its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config = folder / "config.yml"
    config.write_text(CONFIG.format(folder=folder / "data", port=port))
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([PROGRAM, "serve", str(config)], stdout=log, stderr=log)
    try:
        _answers(process, f"http://localhost:{port}/v2/", folder / "log")
        yield f"localhost:{port}"
    finally:
        process.terminate()
        process.wait()


def _answers(process: "subprocess.Popen[bytes]", url: str, log: Path) -> None:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        assert process.poll() is None, log.read_text()
        try:
            urllib.request.urlopen(url, timeout=5).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise AssertionError(f"{url} does not answer: {log.read_text()}")


def write_image(archive: Path, text: str) -> str:
    """Write an image for two platforms, with one small layer each, as an OCI archive; return its digest."""
    blobs: dict[str, bytes] = {}

    def add(content: bytes, kind: str, **more: object) -> dict[str, object]:
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        blobs[digest] = content
        return {"mediaType": f"application/vnd.oci.image.{kind}", "digest": digest, "size": len(content), **more}

    manifests = []
    for machine in ("amd64", "arm64"):
        layer = _layer(f"{text} {machine}")
        about: dict[str, object] = {"architecture": machine, "os": "linux", "config": {}}
        digest = f"sha256:{hashlib.sha256(layer).hexdigest()}"
        about["rootfs"] = {"type": "layers", "diff_ids": [digest]}
        config = add(json.dumps(about).encode(), "config.v1+json")
        manifest = {"schemaVersion": 2, "config": config, "layers": [add(layer, "layer.v1.tar")]}
        manifest["mediaType"] = "application/vnd.oci.image.manifest.v1+json"
        platform = {"architecture": machine, "os": "linux"}
        manifests.append(add(json.dumps(manifest).encode(), "manifest.v1+json", platform=platform))
    kind = "application/vnd.oci.image.index.v1+json"
    index = add(json.dumps({"schemaVersion": 2, "mediaType": kind, "manifests": manifests}).encode(), "index.v1+json")
    files = {f"blobs/{digest.replace(':', '/')}": content for digest, content in blobs.items()}
    files["oci-layout"] = b'{"imageLayoutVersion": "1.0.0"}'
    files["index.json"] = json.dumps({"schemaVersion": 2, "manifests": [index]}).encode()
    archive.write_bytes(_tar(files))
    return str(index["digest"])


def _layer(text: str) -> bytes:
    about = f"Metadata-Version: 2.1\nName: {text.split()[0]}\nVersion: 1.0\n"
    return _tar({"venv/lib/python3.11/site-packages/a-1.0.dist-info/METADATA": about.encode(), "a": text.encode()})


def _tar(files: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for name, content in files.items():
            about = tarfile.TarInfo(name)
            about.size = len(content)
            tar.addfile(about, io.BytesIO(content))
    return packed.getvalue()
