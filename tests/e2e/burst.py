"""Requests all at once, run inside the cluster by `python3 - URL KEY COUNT MODEL`; no own imports.

Printed is a JSON list, an entry for each request: its `status`, the error's `code` and `message`, and its `seconds`.
"""

import asyncio
import json
import sys
import time
from typing import Any

import httpx


async def main() -> None:
    url, key, count, model = sys.argv[1:]
    headers = {"authorization": f"Bearer {key}"}
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=120, limits=httpx.Limits()) as client:
        print(json.dumps(await asyncio.gather(*(ask(client, model) for _ in range(int(count))))))


async def ask(client: httpx.AsyncClient, model: str) -> dict[str, Any]:
    began = time.monotonic()
    body = {"model": model, "max_tokens": 3, "messages": [{"role": "user", "content": "one two three"}]}
    response = await client.post("/v1/chat/completions", json=body)
    error = response.json().get("error") or {}
    return {
        "status": response.status_code,
        "code": error.get("code"),
        "message": error.get("message"),
        "seconds": time.monotonic() - began,
    }


asyncio.run(main())
