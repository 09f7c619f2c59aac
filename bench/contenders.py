"""The servers that bench/chat.py compares: how each is started and asked. Every one is a process of its own."""

import asyncio
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import httpx
from checkouts import packages_of, python_path

__all__ = ["Contender", "FastChat", "Generate", "Message", "TransformersServe", "VicunaServer"]

Message = dict[str, str]
START_SECONDS = 600.0


class Contender(Protocol):
    """Something that answers chats."""

    name: str

    def start(self) -> None:
        """Start it and wait until it answers."""

    def stream(self, http: httpx.AsyncClient, messages: Sequence[Message], tokens: int) -> AsyncIterator[str]:
        """Answer greedily with at most so many tokens, piece by piece."""

    def stop(self) -> None:
        """End it."""


@dataclass
class Served:
    """A server process that speaks OpenAI's protocol."""

    model: Path
    dtype: str
    device: str
    name: str = ""
    port: int = field(default_factory=lambda: free_port())
    process: subprocess.Popen[bytes] | None = None

    def command(self) -> list[str]:
        raise NotImplementedError

    def packages(self) -> list[Path]:
        return []

    def ready_path(self) -> str:
        raise NotImplementedError

    def start(self) -> None:
        self.process = spawn(self.command(), self.name, *self.packages())
        wait_for(f"http://127.0.0.1:{self.port}{self.ready_path()}", self.process, self.name)

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
        raise NotImplementedError


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
        return [sys.executable, "-m", "vicuna_server", "serve", *model, *listen, "--kv-cache-memory", self.cache]

    def packages(self) -> list[Path]:
        return packages_of(self.checkout)

    def ready_path(self) -> str:
        return "/readyz"

    def api_name(self) -> str:
        return "m"

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


class FastChat:
    """FastChat's controller and model worker; the worker is asked itself, with the model's own chat template.

    Args:
        model: Folder of the model.
        dtype: Its number format.
        device: cpu or cuda.
        packages: Folder with `fastchat` and what it needs, searched before the environment's.
    """

    name = "FastChat model_worker"

    def __init__(self, model: Path, dtype: str, device: str, packages: Path) -> None:
        self._dtype, self._device, self._packages = dtype, device, packages
        self._folder = tempfile.TemporaryDirectory(prefix="fastchat-model-")
        for path in model.iterdir():
            if path.name != "config.json":
                (Path(self._folder.name) / path.name).symlink_to(path.absolute())
        config = json.loads((model / "config.json").read_text())
        # FastChat reads a factor that transformers 5 writes only where it is not 1.
        config.setdefault("rope_parameters", {}).setdefault("factor", 1.0)
        (Path(self._folder.name) / "config.json").write_text(json.dumps(config))
        self._model = model
        self._port, self._controller_port = free_port(), free_port()
        self._processes: list[subprocess.Popen[bytes]] = []
        self._tokenizer: Any = None

    def start(self) -> None:
        from transformers import AutoTokenizer

        self._tokenizer = AutoTokenizer.from_pretrained(self._model)
        controller, worker = (f"http://127.0.0.1:{port}" for port in (self._controller_port, self._port))
        module = [sys.executable, "-m"]
        self._processes.append(
            spawn(
                [*module, "fastchat.serve.controller", "--host", "127.0.0.1", "--port", str(self._controller_port)],
                "fastchat-controller",
                self._packages,
            )
        )
        wait_for(f"{controller}/list_models", self._processes[0], self.name, method="POST")
        model = ["--model-path", self._folder.name, "--model-names", "m", "--dtype", self._dtype]
        model += ["--device", self._device]
        listen = ["--host", "127.0.0.1", "--port", str(self._port), "--limit-worker-concurrency", "64"]
        addresses = ["--worker-address", worker, "--controller-address", controller]
        worker_command = [*module, "fastchat.serve.model_worker", *model, *listen, *addresses]
        self._processes.append(spawn(worker_command, "fastchat-worker", self._packages))
        wait_for(f"{worker}/worker_get_status", self._processes[1], self.name, method="POST")

    def stop(self) -> None:
        for process in self._processes:
            stop(process)
        self._folder.cleanup()

    async def stream(self, http: httpx.AsyncClient, messages: Sequence[Message], tokens: int) -> AsyncIterator[str]:
        prompt = self._tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=True)
        body = {"model": "m", "prompt": prompt, "max_new_tokens": tokens, "temperature": 0.0, "echo": False}
        url = f"http://127.0.0.1:{self._port}/worker_generate_stream"
        shown, rest = "", b""
        async with http.stream("POST", url, json=body | {"stop": None}) as response:
            response.raise_for_status()
            async for data in response.aiter_bytes():
                *whole, rest = (rest + data).split(b"\0")
                for part in whole:
                    event = json.loads(part)
                    if event["error_code"]:
                        raise RuntimeError(f"{self.name}: {event['text']}")
                    if event["text"] != shown:
                        yield event["text"][len(shown) :]
                        shown = event["text"]


class Generate:
    """transformers' own `generate` in this process, one request after the other, nothing shown before the end."""

    name = "transformers generate"

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


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def spawn(command: list[str], name: str, *packages: Path) -> subprocess.Popen[bytes]:
    environment = os.environ | {"HF_HUB_OFFLINE": "1"} | python_path(packages)
    environment["LOGDIR"] = tempfile.gettempdir()  # FastChat writes logs of its own, else into the current folder
    log = Path(tempfile.gettempdir()) / f"bench-{name.split()[0]}-{os.getpid()}.log"
    with log.open("wb") as output:
        return subprocess.Popen(command, stdout=output, stderr=output, env=environment)


def wait_for(url: str, process: subprocess.Popen[bytes], name: str, method: str = "GET") -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise SystemExit(f"{name} ended with code {process.returncode}; its log is bench-*-{os.getpid()}.log")
        try:
            if httpx.request(method, url, timeout=5).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    raise SystemExit(f"{name} was not ready after {START_SECONDS:.0f} s")


def stop(process: subprocess.Popen[bytes] | None) -> None:
    if process is not None:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
