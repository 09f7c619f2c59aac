"""Runs a command with a model server beside it: `python tests/clients/with_server.py COMMAND…`.

The model is a random one of two layers whose tokens are bytes. The command finds in its environment `VICUNA_URL`,
`VICUNA_MODEL`, `VICUNA_TOKENIZER` (the model's folder) and `VICUNA_EXPECTED`: a JSON file with what transformers says
of some texts.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from support.serving import MODEL, write_tiny_model

PAIRS = [("The capital of France is", " Paris"), ("2 + 2 =", " 4"), ("Grüße aus", " Köln")]
READY_SECONDS = 120.0


def main(command: list[str]) -> int:
    """Return the command's exit status."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = write_tiny_model(Path(scratch) / "model")
        expected = Path(scratch) / "expected.json"
        expected.write_text(json.dumps([_judged(folder, *pair) for pair in PAIRS]))
        port_file = Path(scratch) / "log"
        words = ["serve", "--model", str(folder), "--served-name", MODEL, "--dtype", "float32"]
        words += ["--host", "127.0.0.1", "--port", "0", "--access-log", "off"]
        with port_file.open("w") as log:
            server = subprocess.Popen([sys.executable, "-m", "vicuna_server", *words], stderr=log)
            try:
                url = _address(server, port_file)
                found = {"VICUNA_URL": url, "VICUNA_MODEL": MODEL, "VICUNA_TOKENIZER": str(folder)}
                environment = {**os.environ, **found, "VICUNA_EXPECTED": str(expected), "HF_HUB_OFFLINE": "1"}
                environment.pop("PYTHONPATH", None)  # the clients have an environment of their own
                return subprocess.run(command, env=environment, check=False).returncode
            finally:
                server.terminate()
                server.wait()


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


def _address(server: subprocess.Popen[bytes], log: Path) -> str:
    """Wait until the server is ready and return where."""
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        told = [word for word in log.read_text().split() if word.startswith("http://127.0.0.1:")]
        try:
            if told and httpx.get(f"{told[0]}/readyz", timeout=5).status_code == 200:
                return told[0]
        except httpx.HTTPError:
            pass
        time.sleep(0.2)
    raise SystemExit(f"the server did not become ready:\n{log.read_text()}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
