"""Closed-loop streaming clients, run in the cluster by `python3 - URL KEY SECONDS REVISIONS PAUSE CLIENTS MODEL…`.

Each client asks, reads its stream to the end, waits for up to PAUSE seconds and asks again until the time is over and
so many revisions have answered; 90 s more at most. How long a rollout takes is the kubelet's: it keeps objects of ended
pods for up to a minute, and they count as pods until then. Nothing of our own is imported. Printed at the end is JSON:
`ok`, and `failed`: for each failure when it began, what the client saw, and whether a byte of the answer had come.
"""

import asyncio
import json
import random
import sys
import time
from collections.abc import Callable
from typing import Any

import httpx


async def main() -> None:
    url, key, seconds, revisions, pause, clients, *models = sys.argv[1:]
    end = time.monotonic() + float(seconds)
    last = end + 90
    result: dict[str, Any] = {"ok": 0, "failed": [], "revisions": {}}

    def more() -> bool:
        return time.monotonic() < (end if len(result["revisions"]) >= int(revisions) else last)

    limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
    headers = {"authorization": f"Bearer {key}"}
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=60, limits=limits) as client:
        asking = (ask(client, models[n % len(models)], more, float(pause), result) for n in range(int(clients)))
        await asyncio.gather(*asking)
    print(json.dumps(result))


async def ask(
    client: httpx.AsyncClient, model: str, more: Callable[[], bool], pause: float, result: dict[str, Any]
) -> None:
    body = {"model": model, "stream": True, "messages": [{"role": "user", "content": "one two three"}]}
    while more():
        began, lines, saw = time.time(), [], ""
        try:
            async with client.stream("POST", "/v1/chat/completions", json=body) as response:
                if response.status_code != 200:
                    saw = f"HTTP {response.status_code} {(await response.aread()).decode()}"
                else:
                    lines = [line async for line in response.aiter_lines() if line.startswith("data: ")]
                    revision = response.headers.get("x-vicuna-revision", "")  # none where it began to wait
                    result["revisions"][revision] = result["revisions"].get(revision, 0) + 1
        except httpx.HTTPError as error:
            saw = repr(error)
        if not saw and lines and lines[-1] == "data: [DONE]" and '"error"' not in lines[-2]:
            result["ok"] += 1
        else:
            result["failed"].append({"began": began, "saw": saw or (lines or [""])[-1], "first": bool(lines)})
        await asyncio.sleep(random.uniform(0, pause))


asyncio.run(main())
