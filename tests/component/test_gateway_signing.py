"""What a gateway with a signing key sends to servers, and its response if a server refuses it."""

import json

from support.gateway import TINY, chat, faulty, gateway, head
from support.signing import PATH, Pair
from vicuna_server.api.signature import Signatures
from vicuna_server.gateway.catalogue import Model
from vicuna_server.gateway.signing import Signer

PAIR = Pair()
BODY = b'{"choices":[]}'
OK = head("application/json", length=len(BODY)) + BODY
REFUSED = head("application/json", length=2, status="401 Unauthorized") + b"{}"


def _signatures(request: bytes) -> list[str]:
    lines = request.partition(b"\r\n\r\n")[0].decode().split("\r\n")[1:]
    pairs = [line.split(": ", 1) for line in lines]
    return [value for name, value in pairs if name.lower() == "x-vicuna-signature"]


async def test_each_request_carries_one_signature_and_never_the_clients() -> None:
    model = Model("team", "tiny", "tiny", uid="uid-1")
    async with faulty(OK) as server, gateway() as door:
        door.upstream.signer = Signer(PAIR.private)
        door.route(server.url, model=model)
        for sent in ({}, {"X-Vicuna-Signature": "mine"}):
            assert (await door.client.post(PATH, json=chat(), headers=sent)).status_code == 200
        door.upstream.signer = None
        await door.client.post(PATH, json=chat(), headers={"x-vicuna-signature": "mine"})
    first, second, without = map(_signatures, server.requests)
    for (token,) in (first, second):
        Signatures([PAIR.public], "team/tiny/uid-1").check(token, "POST", PATH)
    assert without == []


async def test_a_server_that_refuses_the_gateway_is_passed_over() -> None:
    async with faulty(REFUSED) as refusing, faulty(OK) as well, gateway() as door:
        door.route(refusing.url, well.url)
        # What a request begins with chooses its server, and the servers' ports differ from run to run.
        answers = [await door.client.post(PATH, json=chat(words=f"{number}")) for number in range(32)]
        assert [answer.content for answer in answers] == [BODY] * 32
        assert refusing.requests


async def test_where_all_refuse_the_client_is_not_told_that_its_key_is_wrong() -> None:
    async with faulty(REFUSED) as refusing, gateway() as door:
        door.route(refusing.url)
        answer = await door.client.post(PATH, json=chat())
    error = json.loads(answer.content)["error"]
    assert (answer.status_code, error["code"]) == (502, "upstream_refused")
    assert TINY.id in error["message"]
