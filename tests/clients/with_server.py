"""Runs a command with model servers and a gateway beside it.

    python tests/clients/with_server.py [--trained] COMMAND…

There are two models. One is random, of two layers, and its tokens are bytes; it never ends an answer by itself. The
other is the scripted engine, which calls the tools that the user names, writes what a schema asks for and echoes else.
With `--trained` there is a third: SmolLM2, merged of the demo's base and delta.

The models are called tiny, scripted and trained. The command finds in its environment `VICUNA_TINY_URL`,
`VICUNA_SCRIPTED_URL` and `VICUNA_TRAINED_URL` (the servers), `VICUNA_GATEWAY_URL`, `VICUNA_TOKENIZER` (the random
model's folder) and `VICUNA_EXPECTED`: a JSON file with what transformers says of some texts.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import httpx
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from support.serving import MODEL, write_tiny_model

ROOT = Path(__file__).resolve().parents[2]
SCRIPTED, TRAINED = "scripted", "trained"
PAIRS = [("The capital of France is", " Paris"), ("2 + 2 =", " 4"), ("Grüße aus", " Köln")]
READY_SECONDS = 300.0
LOOPBACK = ["--host", "127.0.0.1", "--port", "0", "--access-log", "off"]


def main(command: list[str]) -> int:
    """Return the command's exit status."""
    trained = command[:1] == ["--trained"]
    with tempfile.TemporaryDirectory() as folder, ExitStack() as started:
        scratch = Path(folder)
        tiny, expected = write_tiny_model(scratch / "model", endless=True), scratch / "expected.json"

        def start(name: str, *words: str) -> Callable[[], str]:
            return started.enter_context(_running(scratch / f"{name}.log", *words))

        def serve(name: str, model: Path, *options: str) -> Callable[[], str]:
            return start(name, "serve", "--model", str(model), "--served-name", name, *options)

        starting = {
            MODEL: serve(MODEL, tiny, "--dtype", "float32"),
            SCRIPTED: serve(SCRIPTED, tiny, "--engine", "scripted"),
        }
        if trained:
            starting[TRAINED] = serve(TRAINED, _merged(scratch / "artifacts"), "--dtype", "float32")
        servers = {name: address() for name, address in starting.items()}
        upstreams = [word for name, url in servers.items() for word in ("--upstream", f"{name}={url}")]
        gateway = ["gateway", "--no-keys", "--metrics-port", "0", *upstreams]
        front = start("gateway", *gateway)()
        expected.write_text(json.dumps([_judged(tiny, *pair) for pair in PAIRS]))
        found = {f"VICUNA_{name.upper()}_URL": url for name, url in servers.items()} | {"VICUNA_GATEWAY_URL": front}
        found |= {"VICUNA_TOKENIZER": str(tiny), "VICUNA_EXPECTED": str(expected), "HF_HUB_OFFLINE": "1"}
        environment = {**os.environ, **found}
        environment.pop("PYTHONPATH", None)  # the clients have an environment of their own
        return subprocess.run(command[trained:], env=environment, check=False).returncode


def _merged(root: Path) -> Path:
    """Return the artifact that `vicuna-server merge` makes of the demo's pair."""
    pair = Path(os.environ.get("VICUNA_DEMO_DIR", ROOT / ".demo" / "pair")).absolute()
    subprocess.run([sys.executable, str(ROOT / "hack" / "demo_pair.py"), "--output", str(pair)], check=True)
    inputs = ["--base", f"file://{pair}/base", "--delta", f"file://{pair}/delta", "--dtype", "float16"]
    merge = [sys.executable, "-m", "vicuna_server", "merge", *inputs, "--output", str(root)]
    subprocess.run(merge, check=True, capture_output=True)
    (folder,) = (path.parent for path in root.glob("*/vicuna-manifest.json"))
    return folder


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
def _running(log: Path, *words: str) -> Iterator[Callable[[], str]]:
    """Run a command of `vicuna-server` until the block ends; yield what waits until it is ready and says where."""
    with log.open("w") as stderr:
        process = subprocess.Popen([sys.executable, "-m", "vicuna_server", *words, *LOOPBACK], stderr=stderr)
        try:
            yield partial(_address, process, log)
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
