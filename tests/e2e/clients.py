"""Runs inside the cluster (`python3 - URL MODEL CLIENTS STOPFILE` in a pod of the server image): closed-loop clients.

Each streams one answer after the other over a connection it keeps, until the stop file appears. The last line of
standard output is JSON: how many requests there were, which revisions answered, and what went wrong.
"""

import asyncio
import collections
import json
import os
import sys
import time

import httpx


async def ask(client: httpx.AsyncClient, model: str) -> str:
    """Stream one answer to its end; return the revision that gave it."""
    question = {"model": model, "stream": True, "messages": [{"role": "user", "content": "Tell me a story."}]}
    async with client.stream("POST", "/v1/chat/completions", json=question) as response:
        response.raise_for_status()
        lines = [line async for line in response.aiter_lines() if line.startswith("data: ")]
    assert lines[-1:] == ["data: [DONE]"], f"the stream was cut after {len(lines)} events"
    chunks = [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]
    assert not any("error" in chunk for chunk in chunks), chunks[-1]
    finished = [choice["finish_reason"] for chunk in chunks for choice in chunk["choices"] if choice["finish_reason"]]
    assert len(finished) == 1, f"the answer ended {len(finished)} times"
    return str(response.headers["x-vicuna-revision"])


async def loop(url: str, model: str, stop: str, seen: collections.Counter[str], failures: list[str]) -> None:
    """Ask until the stop file is there."""
    async with httpx.AsyncClient(base_url=url, timeout=120) as client:
        while not os.path.exists(stop):  # noqa: ASYNC240  # a file of the pod's own memory
            try:
                seen[await ask(client, model)] += 1
            except (httpx.HTTPError, AssertionError, ValueError) as error:
                failures.append(f"{time.strftime('%H:%M:%S')} {type(error).__name__}: {error}")
                await asyncio.sleep(0.5)


async def main() -> None:
    """Let all clients run at once."""
    url, model, clients, stop = sys.argv[1:5]
    seen: collections.Counter[str] = collections.Counter()
    failures: list[str] = []
    await asyncio.gather(*(loop(url, model, stop, seen, failures) for _ in range(int(clients))))
    print(
        json.dumps(
            {"requests": sum(seen.values()), "revisions": seen, "failures": failures[:20], "failed": len(failures)}
        )
    )


asyncio.run(main())
