#!/usr/bin/env python3
"""A stand-in for `vllm serve`, of the standard library alone: its HTTP, its faults, and tokens that can be foretold.

It behaves as vLLM 0.32 was seen to: nothing listens until the model is loaded; `/health` says 200 while the engine
hangs and while it drains; a drain answers new requests with 500; an engine that dies leaves 503 for a moment and exit
code 0; too many requests get a 200 whose first event is an error. Tokens come from a process of its own, `EngineCore`,
which can be stopped and killed as the real one can.

    tests/support/vllm.py serve DIR [flags of vllm serve; those that it does not know are ignored]

Copied into a folder of PATH as `vllm` it is what a container or `vicuna-operator up` starts.

Environment: `FAKE_VLLM_TOKENS` (after so many comes an end, default 16), `FAKE_VLLM_TOKENS_PER_SECOND`,
`FAKE_VLLM_LOAD_SECONDS`, `FAKE_VLLM_VERSION`.
"""

import argparse
import asyncio
import hashlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

BLOCK = 16
DEAD_SECONDS = 1.0
_BYTE_LEVEL = {" ": "Ġ"}


class EngineDeadError(Exception):
    """The engine's process has ended."""


class RefusedError(Exception):
    """A request is answered with an error object."""

    def __init__(self, code: int, message: str, kind: str = "BadRequestError") -> None:
        super().__init__(message)
        self.code = code
        self.body = {"error": {"message": message, "type": kind, "param": None, "code": code}}


class Model:
    """Chooses tokens: each depends on all before it, on the seed where one counts, and on what a request forbids."""

    def __init__(self, folder: Path, tokens: int) -> None:
        config = json.loads((folder / "config.json").read_text())
        self.size = int(config["vocab_size"])
        self.length = int(config["max_position_embeddings"])
        eos = config.get("eos_token_id")
        self.eos = eos[0] if isinstance(eos, list) else eos
        self.vocabulary: dict[str, int] = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]
        words = {
            word: token for word, token in self.vocabulary.items() if word.lstrip("Ġ▁").isalnum() and word.isascii()
        }
        self.words = {token: word for word, token in words.items()}
        self.candidates = sorted(token for token in words.values() if token < self.size)[:2000]
        self.tokens = tokens
        self.folder = folder
        self.guide: Any = None

    def follow(self, body: Mapping[str, Any]) -> Any:
        """Return what keeps an answer to its grammar, as vLLM's backend "guidance" does; None: there is none."""
        if not body.get("structured_outputs"):
            return None
        if set(body["structured_outputs"]) != {"grammar"}:
            raise RefusedError(400, "this stand-in knows structured_outputs.grammar alone")
        import llguidance  # where it is wanted: an image of this file has the standard library alone

        if self.guide is None:
            path = str(self.folder / "tokenizer.json")
            self.guide = llguidance.LLTokenizer(path, n_vocab=self.size, eos_token=self.eos)
        grammar = llguidance.grammar_from("grammar", body["structured_outputs"]["grammar"])
        if why := llguidance.LLMatcher.validate_grammar(grammar, self.guide):
            raise RefusedError(400, f"Grammar error: {why}")
        return llguidance.LLMatcher(self.guide, grammar)

    def guided(self, matcher: Any, ranked: list[int]) -> list[int]:
        """Return tokens that the grammar allows next: the end first, then what closes, then one that was drawn."""
        mask = matcher.compute_bitmask()
        allowed = [token for token in range(self.size) if mask[token // 8] >> token % 8 & 1]
        first = [token for token in (self.eos, *map(self.vocabulary.get, '"}]')) if token in allowed]
        place = ranked[0] % len(allowed)
        chosen = [*first, *allowed[place:], *allowed[:place]]
        matcher.consume_token(chosen[0])
        return chosen

    def check(self, body: Mapping[str, Any], longest: int) -> None:
        """Refuse what vLLM refuses."""
        prompt = body["prompt"]
        if max(prompt) >= self.size or max(body.get("stop_token_ids") or [0]) >= self.size:
            raise RefusedError(400, "token ids are out of vocabulary")
        if not 0 < body.get("top_p", 1.0) <= 1:
            raise RefusedError(400, f"top_p must be in (0, 1], got {body['top_p']}.")
        if len(prompt) + body["max_tokens"] > longest:
            raise RefusedError(400, f"This model's maximum context length is {longest} tokens")

    def ranked(self, body: Mapping[str, Any], prompt: Sequence[int], said: Sequence[int]) -> list[int]:
        """Return tokens that could come next, the one that comes first."""
        allowed = self._allowed(body, said)
        forced = self._forced(body, said)
        if forced is not None:
            return [forced, *allowed]
        digest = hashlib.blake2b(f"{_seed(body)}{[*prompt, *said][-64:]}".encode()).digest()
        place = int.from_bytes(digest[:4], "big") % len(allowed)
        return [*allowed[place:], *allowed[:place]]

    def _forced(self, body: Mapping[str, Any], said: Sequence[int]) -> int | None:
        """Return the token that comes whatever the draw says: one of a large bias, or the end of a long answer."""
        held = _held_back(body, said)
        biased = [int(token) for token, bias in (body.get("logit_bias") or {}).items() if bias >= 50]
        for token in biased:
            if token not in held:
                return token
        ends = len(said) + 1 >= self.tokens and self.eos in (body.get("stop_token_ids") or ())
        return self.eos if ends and self.eos not in held else None

    def _allowed(self, body: Mapping[str, Any], said: Sequence[int]) -> list[int]:
        unwanted = {int(token) for token, bias in (body.get("logit_bias") or {}).items() if bias < 0}
        closed = _held_back(body, said) | unwanted | self._last_letters(body.get("bad_words") or (), said)
        named = body.get("allowed_token_ids") or self.candidates
        return [token for token in named if token not in closed] or [0]

    def _last_letters(self, words: Sequence[str], said: Sequence[int]) -> set[int]:
        """Return the tokens that would complete a word now, where each letter is a token."""
        spelled = [[self.vocabulary.get(_BYTE_LEVEL.get(letter, letter), -1) for letter in word] for word in words]
        return {ids[-1] for ids in spelled if ids[:-1] == list(said[len(said) - len(ids) + 1 :])}


def _held_back(body: Mapping[str, Any], said: Sequence[int]) -> set[int]:
    """Return the ends that it is too early for."""
    return set(body.get("stop_token_ids") or ()) if len(said) < body.get("min_tokens", 0) else set()


def _seed(body: Mapping[str, Any]) -> str:
    if body.get("temperature", 1.0) == 0:
        return "greedy"
    seed = body.get("seed")
    return os.urandom(8).hex() if seed in (None, -1) else str(seed)


class Core:
    """The process that makes tokens: each round of all sequences is a line to it and a line back."""

    def __init__(self) -> None:
        self.dead = False
        self._waiting: list[asyncio.Future[None]] = []
        self._wanted = asyncio.Event()

    async def run(self) -> None:
        """Work until the process ends."""
        loop = "import sys\nfor line in sys.stdin: print(flush=True)"
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", loop, "VLLM::EngineCore", stdin=pipe, stdout=pipe
        )
        assert process.stdin is not None
        assert process.stdout is not None
        ended = asyncio.create_task(process.wait())
        while not ended.done():
            wanted = asyncio.create_task(self._wanted.wait())
            await asyncio.wait((wanted, ended), return_when=asyncio.FIRST_COMPLETED)
            wanted.cancel()
            self._wanted.clear()
            batch, self._waiting = self._waiting, []
            with suppress(OSError):
                process.stdin.write(b"\n")
            line = await process.stdout.readline()
            for one in batch:
                if not one.done():
                    one.set_result(None) if line else one.set_exception(EngineDeadError())
            if not line:
                break
        self.dead = True
        for one in self._waiting:
            if not one.done():
                one.set_exception(EngineDeadError())

    async def step(self) -> None:
        """Wait for the next round."""
        if self.dead:
            raise EngineDeadError
        one = asyncio.get_running_loop().create_future()
        self._waiting.append(one)
        self._wanted.set()
        await one


class Vllm:
    """One server."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.model = Model(Path(args.model), int(os.environ.get("FAKE_VLLM_TOKENS") or 16))
        self.name = args.served_model_name or args.model
        self.longest = self.model.length if args.max_model_len in (None, "auto") else int(args.max_model_len)
        self.pace = float(os.environ.get("FAKE_VLLM_TOKENS_PER_SECOND") or 0)
        self.core = Core()
        self.places = asyncio.Semaphore(args.max_num_seqs)
        self.running = self.waiting = self.prompted = self.generated = 0
        self.draining = False
        self.cached: set[tuple[str, tuple[int, ...]]] = set()
        self.streams: set[asyncio.Task[None]] = set()

    def routes(self, method: str, path: str) -> tuple[int, Any]:
        """Answer what takes no time."""
        if path == "/health":
            return (503 if self.core.dead else 200), ""
        if path == "/version":
            return 200, {"version": os.environ.get("FAKE_VLLM_VERSION") or "0.32.0"}
        if path == "/metrics":
            return 200, self.metrics()
        if path == "/v1/models":
            return 200, {
                "object": "list",
                "data": [{"id": self.name, "object": "model", "max_model_len": self.longest}],
            }
        return 404, {"detail": "Not Found"}

    def metrics(self) -> str:
        """Return the exposition text, or as much of it as matters."""
        label = f'{{engine="0",model_name="{self.name}"}}'
        held = 'block_size="16",cache_dtype="auto",num_gpu_blocks="1000"'
        lines = [
            "# HELP python_gc_objects_collected_total Objects collected during gc",
            "# TYPE python_gc_objects_collected_total counter",
            'python_gc_objects_collected_total{generation="0"} 1.0',
        ]
        for name, kind, value in (
            ("num_requests_running", "gauge", self.running),
            ("num_requests_waiting", "gauge", self.waiting),
            ("kv_cache_usage_perc", "gauge", min(1.0, self.running / 100)),
            ("prompt_tokens", "counter", self.prompted),
            ("generation_tokens", "counter", self.generated),
        ):
            end = "_total" if kind == "counter" else ""
            lines += [f"# HELP vllm:{name}{end} About {name}.", f"# TYPE vllm:{name}{end} {kind}"]
            lines.append(f"vllm:{name}{end}{label} {float(value)}")
        lines += ["# HELP vllm:cache_config_info Information of the LLMEngine CacheConfig"]
        lines += ["# TYPE vllm:cache_config_info gauge", f"vllm:cache_config_info{{{held}}} 1.0"]
        return "\n".join(lines) + "\n"

    def accept(self, body: dict[str, Any]) -> None:
        """Refuse a request, or let it in."""
        if body.get("model", self.name) != self.name:
            raise RefusedError(404, f"The model `{body['model']}` does not exist.", "NotFoundError")
        body.setdefault("max_tokens", 16)
        self.model.check(body, self.longest)
        self.model.follow(body)
        if self.draining:
            raise RefusedError(500, "cannot schedule new futures after shutdown", "InternalServerError")

    async def generate(self, body: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        """Yield the choice of each event, last the usage."""
        limit = self.args.max_num_queued_reqs
        if limit and self.running + self.waiting >= limit:
            raise RefusedError(503, "The server is overloaded: too many queued requests.", "ServiceUnavailableError")
        prompt, said = body["prompt"], list[int]()
        self.waiting += 1
        try:
            await self.places.acquire()
        finally:
            self.waiting -= 1
        self.running += 1
        try:
            cached = self.reuse(body.get("cache_salt") or "", prompt)
            matcher = self.model.follow(body)
            while True:
                await self.core.step()
                if self.pace:
                    await asyncio.sleep(1 / self.pace)
                ranked = self.model.ranked(body, prompt, said)
                if matcher is not None:
                    ranked = self.model.guided(matcher, ranked)
                said.append(ranked[0])
                self.generated += 1
                yield self.choice(body, ranked, said)
                if self.reason(body, said):
                    break
            self.prompted += len(prompt)
        finally:
            self.running -= 1
            self.places.release()
        usage = {"prompt_tokens": len(prompt), "completion_tokens": len(said), "total_tokens": len(prompt) + len(said)}
        if self.args.enable_prompt_tokens_details:
            usage["prompt_tokens_details"] = {"cached_tokens": cached}  # type: ignore[assignment]
        yield {"choices": [], "usage": usage}

    def chat(self, body: dict[str, Any]) -> dict[str, Any]:
        """Return a chat as a completion: without a template, a token for each letter that is one."""
        text = "\n".join(message["content"] for message in body["messages"])
        letters = [self.model.vocabulary[letter] for letter in text if letter in self.model.vocabulary]
        ends = [] if self.model.eos is None else [self.model.eos]
        return {"stop_token_ids": ends, **body, "prompt": letters}

    def reuse(self, salt: str, prompt: Sequence[int]) -> int:
        """Return how many tokens of a prompt have been there before, in whole blocks, and remember it."""
        heads = [(salt, tuple(prompt[:end])) for end in range(BLOCK, len(prompt), BLOCK)]
        known = sum(head in self.cached for head in heads)
        self.cached.update(heads)
        return known * BLOCK

    def reason(self, body: Mapping[str, Any], said: Sequence[int]) -> str | None:
        """Return why an answer ends here."""
        if said[-1] in (body.get("stop_token_ids") or ()):
            return "stop"
        return "length" if len(said) >= body["max_tokens"] else None

    def choice(self, body: Mapping[str, Any], ranked: Sequence[int], said: Sequence[int]) -> dict[str, Any]:
        """Return one event's object."""
        one: dict[str, Any] = {"index": 0, "text": "", "logprobs": None, "finish_reason": self.reason(body, said)}
        if "messages" in body:
            one["delta"] = {"content": self.model.words.get(said[-1], "").replace("Ġ", " ").replace("▁", " ")}
        one |= {"stop_reason": None, "token_ids": [said[-1]] if body.get("return_token_ids") else None}
        if (count := body.get("logprobs")) is not None:
            top = {f"token_id:{token}": -0.5 - place for place, token in enumerate(ranked[: max(1, count)])}
            one["logprobs"] = {"text_offset": [0], "token_logprobs": [-0.5], "tokens": [next(iter(top))]}
            one["logprobs"]["top_logprobs"] = [top]
        return {"id": "cmpl-1", "object": "text_completion", "created": 1, "model": self.name, "choices": [one]}

    def scores(self, body: Mapping[str, Any]) -> list[Any] | None:
        """Return `prompt_logprobs`."""
        if (count := body.get("prompt_logprobs")) is None:
            return None
        places: list[Any] = [None]
        for index, token in enumerate(body["prompt"][1:], 1):
            likely = [one for one in self.model.ranked({"temperature": 0}, body["prompt"][:index], []) if one != token]
            told = {str(token): {"logprob": -1.5, "rank": 2, "decoded_token": None}}
            ranks = [1, *range(3, 2 + count)] if count else []
            for rank, one in zip(ranks, likely, strict=False):
                told[str(one)] = {"logprob": -0.5 - rank, "rank": rank, "decoded_token": None}
            places.append(told)
        return places

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one connection's only request."""
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            method, path, _ = head.split(" ", 2)
            sizes = [line.split(":")[1] for line in head.lower().splitlines() if line.startswith("content-length:")]
            content = await reader.readexactly(int(sizes[0])) if sizes else b""
            if (method, path) == ("POST", "/v1/completions"):
                await self.complete(json.loads(content), reader, writer)
            elif (method, path) == ("POST", "/v1/chat/completions"):
                await self.complete(self.chat(json.loads(content)), reader, writer)
            else:
                _respond(writer, *self.routes(method, path))
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def complete(self, body: dict[str, Any], reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer a completion, until the client leaves."""
        try:
            self.accept(body)
        except RefusedError as error:
            _respond(writer, error.code, error.body)
            return
        work = asyncio.create_task(self.stream(body, writer) if body.get("stream") else self.whole(body, writer))
        left = asyncio.create_task(reader.read())
        self.streams.add(work)
        work.add_done_callback(self.streams.discard)
        try:
            await asyncio.wait((work, left), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (work, left):
                task.cancel()
            await asyncio.wait((work,))

    async def whole(self, body: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        """Answer at once."""
        try:
            events = [event async for event in self.generate(body)]
        except (RefusedError, EngineDeadError) as error:
            _respond(writer, *_refusal(error))
            return
        last = events[-2]
        last["choices"][0]["prompt_logprobs"] = self.scores(body)
        _respond(writer, 200, {**last, "usage": events[-1]["usage"]})

    async def stream(self, body: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        """Answer token by token."""
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")

        async def send(data: str) -> None:
            text = f"data: {data}\n\n".encode()
            writer.write(b"%x\r\n%b\r\n" % (len(text), text))
            await writer.drain()

        try:
            async for event in self.generate(body):
                await send(json.dumps(event))
        except asyncio.CancelledError:
            if not self.draining:
                raise
        except (RefusedError, EngineDeadError) as error:
            await send(json.dumps(_refusal(error)[1]))
        await send("[DONE]")
        writer.write(b"0\r\n\r\n")

    async def drain(self) -> None:
        """End as SIGTERM has it: running streams end by themselves within the timeout, or at once without one."""
        self.draining = True
        if self.args.shutdown_timeout and self.streams:
            await asyncio.wait(self.streams, timeout=self.args.shutdown_timeout)
        for task in self.streams:
            task.cancel()
        if self.streams:
            await asyncio.wait(self.streams)


def _refusal(error: Exception) -> tuple[int, Any]:
    if isinstance(error, RefusedError):
        return error.code, error.body
    message = "EngineCore encountered an issue. See stack trace (above) for the root cause."
    return 500, {"error": {"message": message, "type": "InternalServerError", "param": None, "code": 500}}


def _respond(writer: asyncio.StreamWriter, status: int, body: Any) -> None:
    text = body if isinstance(body, str) else json.dumps(body)
    kind = "text/plain" if isinstance(body, str) else "application/json"
    content = text.encode()
    head = f"HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\ncontent-length: {len(content)}\r\nconnection: close\r\n\r\n"
    writer.write(head.encode() + content)


def parse(words: Sequence[str]) -> argparse.Namespace:
    """Read a command line of vLLM's."""
    parser = argparse.ArgumentParser(prog="vllm", allow_abbrev=False)
    parser.add_argument("command", choices=["serve"])
    parser.add_argument("model")
    for flag, kind, default in (
        ("--host", str, "127.0.0.1"),
        ("--port", int, 8000),
        ("--served-model-name", str, None),
        ("--max-model-len", str, None),
        ("--max-num-seqs", int, 256),
        ("--max-num-queued-reqs", int, 0),
        ("--shutdown-timeout", float, 0.0),
    ):
        parser.add_argument(flag, type=kind, default=default)
    parser.add_argument("--enable-prompt-tokens-details", action="store_true")
    return parser.parse_known_args(words)[0]


async def main(words: Sequence[str]) -> None:
    """Serve until told to stop, or until the engine's process has ended."""
    args = parse(words)
    await asyncio.sleep(float(os.environ.get("FAKE_VLLM_LOAD_SECONDS") or 0))
    vllm = Vllm(args)
    told = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, told.set)
    core = asyncio.create_task(vllm.core.run())
    server = await asyncio.start_server(vllm.serve, args.host, args.port, backlog=2048)
    print("INFO: Application startup complete.", file=sys.stderr, flush=True)
    stopping = asyncio.create_task(told.wait())
    await asyncio.wait((core, stopping), return_when=asyncio.FIRST_COMPLETED)
    if told.is_set():
        await vllm.drain()
    else:
        print("ERROR: Engine core proc EngineCore died unexpectedly.", file=sys.stderr, flush=True)
        await asyncio.sleep(DEAD_SECONDS)
    server.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
    sys.stdout.flush()
    os._exit(0)
