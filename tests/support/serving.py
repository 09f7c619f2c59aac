"""Running servers and tiny models for serving tests."""

import asyncio
import ssl
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import httpx

from vicuna_server.api.app import create_app
from vicuna_server.api.lifecycle import Lifecycle
from vicuna_server.api.server import serve
from vicuna_server.api.settings import ServiceSettings
from vicuna_server.asgi.listening import bind
from vicuna_server.engine import Engine

if TYPE_CHECKING:
    import openai  # which takes a second

MODEL = "tiny"
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""For clients that ask http:// alone: without it each reads the system's certificates, which takes 40 ms."""
T = TypeVar("T")
CHATML = (
    "{% for m in messages %}{% if m.content == 'refuse me' %}{{ raise_exception('I refuse') }}{% endif %}"
    "<{{ m.role }}>{{ m.content }}\n{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
)


@dataclass(frozen=True)
class Running:
    """A server in this process, a client that never retries, and plain HTTP."""

    url: str
    port: int
    engine: Engine
    lifecycle: Lifecycle
    client: "openai.AsyncOpenAI"
    http: httpx.AsyncClient


@asynccontextmanager
async def running(
    engine: Engine, *, wait: bool = True, keep_alive_seconds: int = 620, **settings: Any
) -> AsyncIterator[Running]:
    """Serve the engine on a loopback port, by the code that `vicuna-server serve` runs, until the block ends."""
    lifecycle = Lifecycle()
    service = ServiceSettings(**{"served_name": MODEL, "revision": "rev1", "created": 1, **settings})
    listener = bind("127.0.0.1", 0)
    port = listener.getsockname()[1]
    app = create_app(engine, service, lifecycle)
    limits = (service.max_stream_seconds, 0.0, keep_alive_seconds)
    serving = asyncio.create_task(serve(app, listener, engine, lifecycle, *limits))
    if wait:
        await lifecycle.settled.wait()
    url = f"http://127.0.0.1:{port}"
    try:
        async with (
            openai_client(url, timeout=60) as client,
            httpx.AsyncClient(base_url=url, timeout=60, verify=NO_TLS) as http,
        ):
            yield Running(url, port, engine, lifecycle, client, http)
    finally:
        lifecycle.begin_drain()
        await serving


def openai_client(url: str, *, api_key: str = "none", max_retries: int = 0, **settings: Any) -> "openai.AsyncOpenAI":
    """Make a client of the API at an http:// URL; it never retries unless told to."""
    import openai

    plain = openai.DefaultAsyncHttpxClient(verify=NO_TLS)
    return openai.AsyncOpenAI(
        base_url=f"{url}/v1", api_key=api_key, max_retries=max_retries, http_client=plain, **settings
    )


async def eventually(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    """Wait for a condition that no event announces."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110  # the engine's counters have no event
            await asyncio.sleep(0.005)


def write_tiny_model(
    folder: Path, *, chat_template: str | None = CHATML, context: int = 4096, endless: bool = False, heads: int = 4
) -> Path:
    """Write a random two-layer LLaMA in float32 whose tokens are bytes: 256 of them, `<s>` and `</s>`.

    Args:
        folder: Where to.
        chat_template: The tokenizer's; None: it has none.
        context: Tokens.
        heads: Of attention; with one, each has 32 numbers, which other engines' kernels need.
        endless: Without `</s>`. One token in 250 would be it where tokens are drawn, and the answer shorter than asked.
    """
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={letter: index for index, letter in enumerate(letters)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token=None if endless else "</s>")
    if chat_template is not None:
        fast.chat_template = chat_template
    fast.save_pretrained(folder)
    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=len(fast),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=heads,
        num_key_value_heads=max(1, heads // 2),
        max_position_embeddings=context,
        bos_token_id=fast.bos_token_id,
        eos_token_id=fast.eos_token_id,
        pad_token_id=None,
        initializer_range=0.5,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@asynccontextmanager
async def tiny_engine(folder: Path, **settings: Any) -> AsyncIterator[Any]:
    """Load a tiny model into an engine of its own; in float32, unless the settings say otherwise."""
    from vicuna_server.engine.builtin.engine import BuiltinEngine
    from vicuna_server.engine.settings import LoadSettings

    subject = BuiltinEngine(LoadSettings(folder, **{"dtype": "float32", "max_concurrency": 4, **settings}))
    await subject.load()
    try:
        yield subject
    finally:
        await subject.close()


@contextmanager
def in_background(service: AbstractAsyncContextManager[T]) -> Iterator[T]:
    """Run an asynchronous service in a thread with a loop of its own, for tests that are not asynchronous."""
    entered: Future[T] = Future()
    stop = asyncio.Event()

    async def live() -> None:
        async with service as value:
            entered.set_result(value)
            await stop.wait()

    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_until_complete, args=(live(),))
    thread.start()
    try:
        yield entered.result(60)
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()
