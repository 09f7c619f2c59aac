"""The message for a route that does not exist."""

import pytest

from vicuna_server.asgi.hints import no_route

ROUTES = {"/v1/chat/completions", "/v1/models", "/v1/models/{name:path}", "/tokenize", "/livez"}


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/v1/v1/chat/completions", "was added again: it is /v1/chat/completions"),
        ("/v1/v1/v1/models/", "was added again: it is /v1/models"),
        ("/chat/completions", "the API is under /v1: it is /v1/chat/completions"),
        ("/chat/completions/", "the API is under /v1: it is /v1/chat/completions"),
        ("/v1/chat/completions/", "it is /v1/chat/completions, written exactly so"),
        ("//v1//chat/completions", "it is /v1/chat/completions, written exactly so"),
        ("/V1/Chat/Completions", "it is /v1/chat/completions, written exactly so"),
        ("/tokenize/", "it is /tokenize, written exactly so"),
        ("/v1", "/v1/models for example"),
        ("/v1/", "/v1/models for example"),
        ("/v1/responses", "what there is: /v1/chat/completions, /v1/models"),
        ("/api/tags", "what there is: /v1/chat/completions, /v1/models"),
    ],
)
def test_the_message_names_the_route_that_was_meant(path: str, said: str) -> None:
    sentence = no_route("POST", path, ROUTES)
    assert sentence.startswith(f"the route 'POST {path}' does not exist; ")
    assert said in sentence


def test_an_unrelated_path_gets_no_hint_and_is_shortened() -> None:
    assert no_route("GET", "/robots.txt", ROUTES) == "the route 'GET /robots.txt' does not exist"
    assert len(no_route("GET", "/" + "a/" * 5000, ROUTES)) < 350
