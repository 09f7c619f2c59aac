#!/usr/bin/env python3
"""A stand-in for llama.cpp's `llama-server`: its flags that the benchmark uses, `/health`, and chats that stream.

As the real one it answers 503 until the model is loaded, refuses a file that is not GGUF, and begins a stream with a
piece without text.
"""

import argparse
import json
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

LOAD_SECONDS = 0.3


class Server(ThreadingHTTPServer):
    """Knows its arguments, its places, and when it is loaded."""

    def __init__(self, args: argparse.Namespace) -> None:
        super().__init__((args.host, args.port), Handler)
        self.alias: str = args.alias
        self.places = threading.Semaphore(args.np)
        self.loaded = time.monotonic() + LOAD_SECONDS


class Handler(BaseHTTPRequestHandler):
    """Answers one request."""

    server: Server

    def do_GET(self) -> None:
        """Tell whether the model is loaded."""
        self.send_response(200 if self.path == "/health" and time.monotonic() > self.server.loaded else 503)
        self.send_header("content-length", "0")
        self.end_headers()

    def do_POST(self) -> None:
        """Answer a chat."""
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        known = self.path == "/v1/chat/completions" and body["stream"] and body["model"] == self.server.alias
        self.send_response(200 if known else 400)
        self.send_header("content-type", "text/event-stream")
        self.end_headers()
        if known:
            with self.server.places:
                self.stream(body["max_tokens"])

    def stream(self, tokens: int) -> None:
        """Send the pieces of an answer."""
        self.event({"role": "assistant", "content": None})
        for _ in range(tokens):
            self.event({"content": "a"})
        self.event({}, "length")
        self.wfile.write(b"data: [DONE]\n\n")

    def event(self, delta: dict[str, Any], reason: str | None = None) -> None:
        """Send one piece."""
        chunk = {"choices": [{"index": 0, "delta": delta, "finish_reason": reason}]}
        self.wfile.write(f"data: {json.dumps(chunk)}\n\n".encode())

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


def main() -> None:
    """Serve until the process is ended."""
    parser = argparse.ArgumentParser(prog="llama-server", allow_abbrev=False)
    for flag in ("-m", "--host", "--alias"):
        parser.add_argument(flag, required=True)
    for flag in ("--port", "-np", "-c", "-t", "-ngl"):
        parser.add_argument(flag, type=int, required=True)
    args = parser.parse_args()
    if Path(args.m).read_bytes()[:4] != b"GGUF":
        sys.exit("failed to load model: invalid magic characters")
    Server(args).serve_forever()


if __name__ == "__main__":
    main()
