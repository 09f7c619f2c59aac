"""Conversations side by side, run inside the cluster by `python3 - URL KEY MODEL USERS TURNS STRAY`; no own imports.

All begin with the same system message. With STRAY 1 each request names a session of its own, so that the gateway has
no reason to send two requests of a conversation to the same server. Printed is JSON: `cached`, the tokens of prompts
that were not computed again; `possible`, those that the shared message and earlier turns had already; `first`, the
seconds to the first text of each request.
"""

import asyncio
import json
import sys
import time
import uuid
from typing import Any

import httpx

SYSTEM = " ".join(f"Rule {number}: answer in a few short and friendly words, and never repeat rule {number}."
                  for number in range(20))  # fmt: skip
WORDS = 12


async def main() -> None:
    url, key, model, users, turns, stray = sys.argv[1:]
    seen: dict[str, Any] = {"cached": 0, "possible": 0, "first": []}
    limits = httpx.Limits(max_connections=None)
    headers = {"authorization": f"Bearer {key}"}
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=300, limits=limits) as client:

        async def ask(messages: list[dict[str, str]]) -> tuple[str, Any, float]:
            body = {"model": model, "messages": messages, "max_tokens": WORDS, "temperature": 0, "stream": True}
            body |= {"ignore_eos": True, "stream_options": {"include_usage": True}}
            session = {"x-session-id": uuid.uuid4().hex} if stray == "1" else {}
            text, usage, began, first = "", None, time.monotonic(), 0.0
            async with client.stream("POST", "/v1/chat/completions", json=body, headers=session) as response:
                response.raise_for_status()
                async for line in response.aiter_lines():
                    if not line.startswith("data: {"):
                        continue
                    event = json.loads(line[6:])
                    usage = event.get("usage") or usage
                    said = "".join(choice["delta"].get("content") or "" for choice in event["choices"])
                    first = first or (time.monotonic() - began if said else 0.0)
                    text += said
            return text, usage, first

        async def talk(number: int) -> None:
            messages, known = [{"role": "system", "content": SYSTEM}], shared
            for turn in range(int(turns)):
                messages.append(
                    {"role": "user", "content": f"In round {stray} user {number} asks for the {turn + 1}. time."}
                )
                text, usage, first = await ask(messages)
                messages.append({"role": "assistant", "content": text})
                seen["cached"] += usage["prompt_tokens_details"]["cached_tokens"]
                seen["possible"] += known
                seen["first"].append(first)
                known = usage["prompt_tokens"]

        alone = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": ""}]
        shared = (await ask(alone))[1]["prompt_tokens"] - 8  # the empty message and the beginning of the answer
        await asyncio.gather(*(talk(number) for number in range(int(users))))
    print(json.dumps(seen))


asyncio.run(main())
