"""Streams side by side, run inside the cluster by `python3 - URL KEY MODEL TOKENS STREAMS`; no own imports.

Each stream asks with words of its own. Printed are lines of JSON: `{"streaming": N}` once all have some text, and in
the end a list with the `text`, the last line (`last`), what went wrong (`error`) and the longest `gap` of each.
"""

import asyncio
import json
import sys
import time
from typing import Any

import httpx

ENOUGH = 10


async def main() -> None:
    url, key, model, tokens, streams = sys.argv[1:]
    results: list[dict[str, Any]] = [{"text": "", "last": "", "error": "", "gap": 0.0} for _ in range(int(streams))]
    waiting = set(range(len(results)))

    def on_text(number: int) -> None:
        if number in waiting and len(results[number]["text"]) > ENOUGH:
            waiting.remove(number)
            if not waiting:
                print(json.dumps({"streaming": len(results)}), flush=True)

    headers = {"authorization": f"Bearer {key}"}
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=60, limits=limits) as client:
        asking = (read(client, model, int(tokens), number, results[number], on_text) for number in range(len(results)))
        await asyncio.gather(*asking)
    print(json.dumps(results), flush=True)


async def read(client: httpx.AsyncClient, model: str, tokens: int, number: int, result: Any, on_text: Any) -> None:
    words = " ".join(f"{number}-{place}" for place in range(number % 7 + 2))
    body = {"model": model, "max_tokens": tokens, "temperature": 0, "ignore_eos": True, "stream": True}
    body["messages"] = [{"role": "user", "content": words}]
    try:
        async with client.stream("POST", "/v1/chat/completions", json=body) as response:
            moment = time.monotonic()
            async for line in response.aiter_lines():
                if not line.startswith("data: "):
                    continue
                now = time.monotonic()
                if result["text"]:
                    result["gap"] = max(result["gap"], now - moment)
                moment, result["last"] = now, line
                if line == "data: [DONE]":
                    continue
                event = json.loads(line[6:])
                if "error" in event:
                    result["error"] = json.dumps(event["error"])
                for choice in event.get("choices", ()):
                    result["text"] += choice["delta"].get("content") or ""
                on_text(number)
    except httpx.HTTPError as error:
        result["error"] = repr(error)


asyncio.run(main())
