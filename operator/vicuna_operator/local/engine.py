"""vLLM as a process of a local run: the rendered container's command, beside the server's, which is its front."""

import shutil
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vicuna_contract.exits import ExitCode
from vicuna_contract.vllm_arguments import CACHE_VARIABLES
from vicuna_operator.errors import LocalRunError
from vicuna_operator.local.process import find
from vicuna_operator.local.translate import LocalCommand, translate, with_option

__all__ = ["LocalEngine", "local_engine"]

_HINT = "install vLLM 0.32, or name the program: --vllm PATH"


@dataclass(frozen=True)
class LocalEngine:
    """The engine's command, and where it will listen."""

    command: LocalCommand
    port: int

    def behind(self, front: LocalCommand, drained: Path) -> LocalCommand:
        """Return the front's command with this engine behind it; `drained` is the file it writes at its end."""
        argv = with_option(front.argv, "--engine-url", f"http://127.0.0.1:{self.port}")
        return LocalCommand(with_option(argv, "--drained-file", str(drained)), front.env)


def local_engine(pod: Mapping[str, Any], folders: Mapping[str, Path], program: Path | None) -> LocalEngine | None:
    """Return the engine of a rendered pod; None where the server has none beside it.

    Raises:
        LocalRunError: vLLM is not installed.
    """
    if len(pod["containers"]) == 1:
        return None
    rendered = translate(pod, folders, index=1)
    port = _free_port()
    shell = pod["containers"][1]["command"][:-1]  # here it is not the first process of a container
    name, *arguments = rendered.argv[len(shell) :]
    words = with_option([_program(program, name), *arguments], "--port", str(port))
    # The user has a name and caches, which serve the next run too.
    env = {name: value for name, value in rendered.env.items() if name not in {*CACHE_VARIABLES, "LOGNAME"}}
    keeper = [sys.executable, "-m", "vicuna_operator.local.keeper"]
    return LocalEngine(LocalCommand([*keeper, *words], env), port)


def _program(stated: Path | None, name: str) -> str:
    if stated is None:
        return find(name, _HINT)
    found = shutil.which(str(stated))
    if found is None:
        raise LocalRunError(f"--vllm {stated}: there is no program; {_HINT}", ExitCode.USAGE)
    return found


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
