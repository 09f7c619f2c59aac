"""FastChat as a contender of bench/chat.py."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import psutil
from bandwidth import weight_bytes_of_a_step
from checkouts import python_path
from contenders import Message
from processes import free_port, spawn, stop, tree, wait_for

__all__ = ["FastChat"]


class FastChat:
    """FastChat's controller and model worker; the worker is asked itself, with the model's own chat template.

    Args:
        model: Folder of the model.
        dtype: Its number format.
        device: cpu or cuda.
        packages: Folder with `fastchat` and what it needs, searched before the environment's.
    """

    name = "FastChat model_worker"
    batch = 1  # each request computes by itself

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
        # It writes logs of its own, else into the current folder.
        logs = {"HF_HUB_OFFLINE": "1", "LOGDIR": tempfile.gettempdir()}
        environment = os.environ | logs | python_path([self._packages])
        self._processes.append(
            spawn(
                [*module, "fastchat.serve.controller", "--host", "127.0.0.1", "--port", str(self._controller_port)],
                "fastchat-controller",
                environment,
            )
        )
        wait_for(f"{controller}/list_models", self._processes[0], self.name, method="POST")
        model = ["--model-path", self._folder.name, "--model-names", "m", "--dtype", self._dtype]
        model += ["--device", self._device]
        listen = ["--host", "127.0.0.1", "--port", str(self._port), "--limit-worker-concurrency", "64"]
        addresses = ["--worker-address", worker, "--controller-address", controller]
        worker_command = [*module, "fastchat.serve.model_worker", *model, *listen, *addresses]
        self._processes.append(spawn(worker_command, "fastchat-worker", environment))
        wait_for(f"{worker}/worker_get_status", self._processes[1], self.name, method="POST")

    def processes(self) -> list[psutil.Process]:
        return [one for process in self._processes for one in tree(process.pid)]

    def weight_bytes(self) -> int:
        return weight_bytes_of_a_step(self._model, self._dtype)

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
