import aiohttp

from vicuna_operator.controller.health import Health


async def answer(health: Health, path: str) -> tuple[int, str]:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{health.port}{path}") as got,
    ):
        return got.status, await got.text()


async def test_probes() -> None:
    problem: list[str] = []
    health = Health(0, lambda: problem[0] if problem else None, host="127.0.0.1", metrics=lambda: b"up 1\n")
    await health.start()
    try:
        assert await answer(health, "/healthz") == (200, "ok\n")
        assert (await answer(health, "/readyz"))[0] == 503
        health.ready = True
        assert await answer(health, "/readyz") == (200, "ok\n")
        assert await answer(health, "/metrics") == (200, "up 1\n")
        problem.append("a pass has been running for 900 s")
        assert await answer(health, "/healthz") == (500, "a pass has been running for 900 s\n")
    finally:
        await health.close()
