"""Runs a command with a model server and a gateway beside it: `python tests/clients/with_server.py COMMAND…`.

There are two models. One is random, of two layers, and its tokens are bytes; it never ends an answer by itself. The
other is the scripted engine, which calls a tool that the user names, writes what a schema asks for and echoes else.
The command finds in its environment `VICUNA_URL` and `VICUNA_SCRIPTED_URL` (the servers), `VICUNA_GATEWAY_URL`,
`VICUNA_MODEL`, `VICUNA_SCRIPTED_MODEL`, `VICUNA_TOKENIZER` (the random model's folder) and `VICUNA_EXPECTED`: a JSON
file with what transformers says of some texts.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from support.serving import MODEL, write_tiny_model

SCRIPTED = "scripted"
PAIRS = [("The capital of France is", " Paris"), ("2 + 2 =", " 4"), ("Grüße aus", " Köln")]
READY_SECONDS = 120.0
LOOPBACK = ["--host", "127.0.0.1", "--port", "0", "--access-log", "off"]


def main(command: list[str]) -> int:
    """Return the command's exit status."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = write_tiny_model(Path(scratch) / "model", endless=True)
        expected = Path(scratch) / "expected.json"
        serve = ["serve", "--model", str(folder), "--served-name"]
        gateway = ["gateway", "--no-keys", "--metrics-port", "0"]
        with (
            _running(Path(scratch) / "server.log", *serve, MODEL, "--dtype", "float32") as server,
            _running(Path(scratch) / "scripted.log", *serve, SCRIPTED, "--engine", "scripted") as scripted,
            _running(Path(scratch) / "gateway.log", *gateway, *_upstreams(server, scripted)) as front,
        ):
            expected.write_text(json.dumps([_judged(folder, *pair) for pair in PAIRS]))
            found = {"VICUNA_URL": server, "VICUNA_GATEWAY_URL": front, "VICUNA_MODEL": MODEL}
            found |= {"VICUNA_SCRIPTED_URL": scripted, "VICUNA_SCRIPTED_MODEL": SCRIPTED}
            found |= {"VICUNA_TOKENIZER": str(folder), "VICUNA_EXPECTED": str(expected), "HF_HUB_OFFLINE": "1"}
            environment = {**os.environ, **found}
            environment.pop("PYTHONPATH", None)  # the clients have an environment of their own
            return subprocess.run(command, env=environment, check=False).returncode


def _upstreams(server: str, scripted: str) -> list[str]:
    """Return the gateway's words for both models."""
    return ["--upstream", f"{MODEL}={server}", "--upstream", f"{SCRIPTED}={scripted}"]


def _judged(folder: Path, context: str, continuation: str) -> dict[str, object]:
    """Return the log probability of a continuation by transformers, and whether each of its tokens is the likeliest."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype="float32").eval()
    ids, behind = tokenizer(context + continuation)["input_ids"], len(tokenizer(context)["input_ids"])
    with torch.inference_mode():
        logprobs = model(torch.tensor([ids])).logits[0, :-1].log_softmax(-1)
    rows, wanted = logprobs[behind - 1 :], torch.tensor(ids[behind:])
    total = float(rows.gather(1, wanted[:, None]).sum())
    greedy = bool((rows.argmax(-1) == wanted).all())
    return {"context": context, "continuation": continuation, "logprob": total, "greedy": greedy}


@contextmanager
def _running(log: Path, *words: str) -> Iterator[str]:
    """Run a command of `vicuna-server` until the block ends; its address, once it is ready."""
    with log.open("w") as stderr:
        process = subprocess.Popen([sys.executable, "-m", "vicuna_server", *words, *LOOPBACK], stderr=stderr)
        try:
            yield _address(process, log)
        finally:
            process.terminate()
            process.wait()


def _address(process: subprocess.Popen[bytes], log: Path) -> str:
    """Wait until a process is ready and return where."""
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        told = re.search(r"listening on (?:http://127\.0\.0\.1:|port )(\d+)", log.read_text())
        try:
            if told and httpx.get(f"http://127.0.0.1:{told[1]}/readyz", timeout=5).status_code == 200:
                return f"http://127.0.0.1:{told[1]}"
        except httpx.HTTPError:
            pass
        time.sleep(0.2)
    raise SystemExit(f"{log.stem}: did not become ready:\n{log.read_text()}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
