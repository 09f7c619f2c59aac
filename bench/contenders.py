"""What bench/chat.py compares: how each is started and asked. Each server is a process of its own."""

import asyncio
import json
import os
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import httpx
import psutil
from bandwidth import weight_bytes_of_a_step
from checkouts import packages_of, python_path
from processes import free_port, spawn, stop, tree, wait_for

__all__ = ["Contender", "Generate", "Message", "Served", "TransformersServe", "VicunaServer"]

Message = dict[str, str]


class Contender(Protocol):
    """Something that answers chats.

    Attributes:
        name: as rows have it.
        batch: the most sequences that one of its steps computes.
    """

    name: str
    batch: int

    def start(self) -> None:
        """Start it and wait until it answers."""

    def stream(self, http: httpx.AsyncClient, messages: Sequence[Message], tokens: int) -> AsyncIterator[str]:
        """Answer greedily with at most so many tokens, piece by piece."""

    def processes(self) -> list[psutil.Process]:
        """Return all that works for its answers."""

    def weight_bytes(self) -> int:
        """Return the bytes of weights that a step reads."""

    def stop(self) -> None:
        """End it."""


@dataclass
class Served:
    """A server process that speaks OpenAI's protocol."""

    model: Path
    dtype: str
    device: str
    name: str = ""
    batch: int = 32
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    def command(self) -> list[str]:
        raise NotImplementedError

    def environment(self) -> dict[str, str]:
        return os.environ | {"HF_HUB_OFFLINE": "1"}

    def ready_path(self) -> str:
        raise NotImplementedError

    def start(self) -> None:
        self.process = spawn(self.command(), self.name, self.environment())
        wait_for(f"http://127.0.0.1:{self.port}{self.ready_path()}", self.process, self.name)

    def processes(self) -> list[psutil.Process]:
        return [] if self.process is None else tree(self.process.pid)

    def weight_bytes(self) -> int:
        return weight_bytes_of_a_step(self.model, self.dtype)

    def stop(self) -> None:
        stop(self.process)

    async def stream(self, http: httpx.AsyncClient, messages: Sequence[Message], tokens: int) -> AsyncIterator[str]:
        body = {"model": self.api_name(), "messages": list(messages), "max_tokens": tokens, "temperature": 0}
        url = f"http://127.0.0.1:{self.port}/v1/chat/completions"
        async with http.stream("POST", url, json=body | {"stream": True}) as response:
            response.raise_for_status()
            async for line in response.aiter_lines():
                if line.startswith("data: {"):
                    event: dict[str, Any] = json.loads(line.removeprefix("data: "))
                    if "error" in event:
                        raise RuntimeError(f"{self.name}: {event['error']}")
                    for choice in event["choices"]:
                        if text := choice["delta"].get("content"):
                            yield text

    def api_name(self) -> str:
        return "m"


@dataclass
class VicunaServer(Served):
    """This project's server.

    Attributes:
        checkout: another checkout of this repository, whose code is run; None: this one's.
    """

    name: str = "ours"
    cache: str = "1Gi"
    checkout: Path | None = None

    def command(self) -> list[str]:
        model = ["--model", str(self.model), "--served-name", "m", "--dtype", self.dtype, "--device", self.device]
        listen = ["--host", "127.0.0.1", "--port", str(self.port)]
        room = ["--kv-cache-memory", self.cache, "--max-concurrency", str(self.batch)]
        return [sys.executable, "-m", "vicuna_server", "serve", *model, *listen, *room]

    def environment(self) -> dict[str, str]:
        return super().environment() | python_path(packages_of(self.checkout))

    def ready_path(self) -> str:
        return "/readyz"

    def peak_bytes(self) -> tuple[int, int]:
        """Return the process's peak and present anonymous memory."""
        if self.process is None:
            raise RuntimeError("not started")
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        fields = dict(line.split(":", 1) for line in lines)
        return tuple(int(fields[name].split()[0]) * 1024 for name in ("VmHWM", "RssAnon"))  # type: ignore[return-value]


@dataclass
class TransformersServe(Served):
    """`transformers serve`, with its continuous batching bounded, since it would take most of the host's memory."""

    name: str = "transformers serve --continuous-batching"
    batching: bool = True

    def command(self) -> list[str]:
        blocks = ["--cb-num-blocks", "1024", "--cb-block-size", "32", "--cb-max-batch-tokens", "1024"]
        batching = ["--continuous-batching", *blocks] if self.batching else []
        where = ["--device", self.device, "--dtype", self.dtype, "--port", str(self.port)]
        return [str(Path(sys.executable).with_name("transformers")), "serve", str(self.model), *batching, *where]

    def ready_path(self) -> str:
        return "/health"

    def api_name(self) -> str:
        return str(self.model)


class Generate:
    """transformers' own `generate` in this process, one request after the other, nothing shown before the end."""

    name = "transformers generate"
    batch = 1

    def __init__(self, model: Path, dtype: str, device: str) -> None:
        self._folder, self._dtype, self._device = model, dtype, device
        self._model: Any = None
        self._tokenizer: Any = None
        self._one_at_a_time = threading.Lock()

    def start(self) -> None:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self._tokenizer = AutoTokenizer.from_pretrained(self._folder)
        model = AutoModelForCausalLM.from_pretrained(self._folder, dtype=self._dtype)
        self._model = model.to(self._device).eval()

    def processes(self) -> list[psutil.Process]:
        return [psutil.Process()]  # the clients' work is in it too

    def weight_bytes(self) -> int:
        return weight_bytes_of_a_step(self._folder, self._dtype)

    def stop(self) -> None:
        self._model = None

    async def stream(self, http: httpx.AsyncClient, messages: Sequence[Message], tokens: int) -> AsyncIterator[str]:
        del http
        yield await asyncio.to_thread(self._answer, list(messages), tokens)

    def _answer(self, messages: list[Message], tokens: int) -> str:
        import torch

        with self._one_at_a_time, torch.inference_mode():
            options = {"tokenize": True, "add_generation_prompt": True, "return_tensors": "pt", "return_dict": True}
            inputs = self._tokenizer.apply_chat_template(messages, **options).to(self._device)
            out = self._model.generate(**inputs, max_new_tokens=tokens, do_sample=False)
            text: str = self._tokenizer.decode(out[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
            return text
