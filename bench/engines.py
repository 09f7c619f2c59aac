"""Other engines as contenders of bench/chat.py: vLLM with our front and without it, and llama.cpp."""

import os
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from bandwidth import gguf_bytes_of_a_step
from contenders import Served

from vicuna_contract.vllm_arguments import EngineArguments, engine_environment

__all__ = ["LlamaServer", "VicunaOverVllm", "VllmServer"]

CACHE_BYTES = 2**30  # for keys and values, as our server has
QUESTION_TOKENS = 512  # more than a question of this benchmark has
ALL_LAYERS = 999


@dataclass
class VllmServer(Served):
    """`vllm serve` with the arguments that the operator gives it.

    Attributes:
        programs: folder of the program `vllm`.
        flags: further ones.
        cpus: what it computes on; none: all CPUs of this process.
    """

    name: str = "vLLM"
    programs: Path = Path()
    flags: tuple[str, ...] = ()
    cpus: tuple[int, ...] = ()
    caches: "tempfile.TemporaryDirectory[str]" = field(default_factory=lambda: _folder("vllm"))

    def command(self) -> list[str]:
        gpus = 1 if self.device == "cuda" else 0
        arguments = EngineArguments(
            str(self.model), "m", gpus, self.dtype, max_concurrency=self.batch, added=self._added(), port=self.port
        )
        alone = ["taskset", "--cpu-list", self._cpus()] if self.cpus else []
        return [*alone, str(self.programs / "vllm"), *arguments.to_argv()]

    def _cpus(self) -> str:
        return ",".join(map(str, self.cpus or sorted(os.sched_getaffinity(0))))

    def _added(self) -> tuple[str, ...]:
        # It refuses to start unless this share of a GPU is free, and other contenders are on it.
        share = ("--gpu-memory-utilization", "0.5") if self.device == "cuda" else ()
        return ("--kv-cache-memory-bytes", str(CACHE_BYTES), *share, *self.flags)

    def environment(self) -> dict[str, str]:
        # Its Python and its packages are its own.
        ours = ("PYTHONPATH", "OMP_NUM_THREADS")
        inherited = {name: value for name, value in os.environ.items() if name not in ours}
        # By default it leaves one CPU, and every second one of a core, unused.
        return {"VLLM_CPU_OMP_THREADS_BIND": self._cpus()} | inherited | engine_environment(self.caches.name)

    def ready_path(self) -> str:
        return "/health"

    def stop(self) -> None:
        super().stop()
        self.caches.cleanup()


@dataclass
class VicunaOverVllm(Served):
    """This project's server in front of a vLLM that runs already.

    Attributes:
        engine: that vLLM, a contender itself: its work counts here too.
    """

    name: str = "ours over vLLM"
    engine: VllmServer = field(kw_only=True)

    def command(self) -> list[str]:
        model = ["--model", str(self.model), "--served-name", "m", "--max-concurrency", str(self.batch)]
        listen = ["--host", "127.0.0.1", "--port", str(self.port)]
        engine = ["--engine", "vllm", "--engine-url", f"http://127.0.0.1:{self.engine.port}"]
        return [sys.executable, "-m", "vicuna_server", "serve", *model, *listen, *engine]

    def ready_path(self) -> str:
        return "/readyz"

    def processes(self) -> list[psutil.Process]:
        return [*super().processes(), *self.engine.processes()]


@dataclass
class LlamaServer(Served):
    """llama.cpp's server.

    Attributes:
        program: `llama-server`.
        gguf: the model, in llama.cpp's own format.
        tokens: the most that an answer has; with the question it sets the size of a place.
    """

    name: str = "llama.cpp"
    program: Path = Path()
    gguf: Path = Path()
    tokens: int = 64

    def command(self) -> list[str]:
        # The context is shared out to the places.
        context = self.batch * (QUESTION_TOKENS + self.tokens)
        places = ["-np", str(self.batch), "-c", str(context), "-t", str(len(os.sched_getaffinity(0)))]
        layers = ["-ngl", str(ALL_LAYERS if self.device == "cuda" else 0)]
        listen = ["--host", "127.0.0.1", "--port", str(self.port), "--alias", "m"]
        return [str(self.program), "-m", str(self.gguf), *listen, *places, *layers]

    def ready_path(self) -> str:
        return "/health"

    def weight_bytes(self) -> int:
        return gguf_bytes_of_a_step(self.gguf)


def _folder(name: str) -> "tempfile.TemporaryDirectory[str]":
    return tempfile.TemporaryDirectory(prefix=f"bench-{name}-")
