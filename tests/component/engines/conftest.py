"""Every engine, loaded; vLLM servers are shared by a module."""

import os
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from support.engine_suite import BUILTIN, CONTEXT, SCRIPTED, Subject, new_engine
from support.engines import FAKE, REAL, VllmProcess, real_vllm, running_real, vllm_process
from support.serving import write_tiny_model
from vicuna_server.engine import Engine
from vicuna_server.engine.settings import LoadSettings

SPEED = {"FAKE_VLLM_TOKENS": "10000", "FAKE_VLLM_TOKENS_PER_SECOND": "300"}
KINDS = (SCRIPTED, BUILTIN, FAKE, pytest.param(REAL, marks=pytest.mark.timeout(600)))


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if running_real():
        return Path(os.environ["VICUNA_VLLM_MODEL"])
    return write_tiny_model(tmp_path_factory.mktemp("tiny") / "model", context=CONTEXT, heads=1)


@pytest.fixture(scope="session")
def servers(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], VllmProcess]]:
    """One vLLM server of each kind for the whole module, started when it is first wanted."""
    running: dict[str, tuple[Any, VllmProcess]] = {}

    def server(kind: str) -> VllmProcess:
        if kind not in running:
            if kind == REAL and not real_vllm():
                pytest.skip("VICUNA_VLLM does not name a vLLM")
            log = tmp_path_factory.mktemp("vllm") / f"{kind}.log"
            context = vllm_process(kind, folder, log, "--served-model-name", "m", **SPEED)
            running[kind] = context, context.__enter__()
        return running[kind][1]

    yield server
    for context, _ in running.values():
        context.__exit__(None, None, None)


@pytest.fixture
async def make(folder: Path, servers: Callable[[str], VllmProcess]) -> AsyncIterator[Callable[..., Any]]:
    engines: list[Engine] = []

    async def made(kind: str, **settings: Any) -> Subject:
        load = LoadSettings(folder, **{"dtype": "float32", "max_concurrency": 4, **settings})
        server = servers(kind) if kind in (FAKE, REAL) else None
        engine = new_engine(kind, load, server)
        engines.append(engine)
        await engine.load()
        return Subject(kind, engine, server)

    yield made
    for engine in engines:
        await engine.close()


@pytest.fixture(params=KINDS)
async def subject(request: pytest.FixtureRequest, make: Callable[..., Any]) -> Subject:
    made: Subject = await make(request.param)
    return made


@pytest.fixture(params=KINDS[1:])
async def model(request: pytest.FixtureRequest, make: Callable[..., Any]) -> Subject:
    """An engine whose tokens are the model's."""
    made: Subject = await make(request.param)
    return made


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(params=KINDS[1:])
def model_kind(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name
