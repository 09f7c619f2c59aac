"""The message for a route that does not exist."""

import pytest

from vicuna_server.asgi.hints import no_route

ROUTES = {"/v1/chat/completions", "/v1/models", "/v1/models/{name:path}", "/tokenize", "/livez"}


@pytest.mark.parametrize(
    ("path", "hint"),
    [
        ("/v1/v1/chat/completions", "use /v1/chat/completions: the client's base URL ends with /v1, and"),
        ("/v1/v1/v1/models/", "use /v1/models: the client's base URL ends with /v1, and"),
        ("/chat/completions", "use /v1/chat/completions: the API is under /v1"),
        ("/chat/completions/", "use /v1/chat/completions: the API is under /v1"),
        ("/v1/chat/completions/", "use /v1/chat/completions, written exactly like this"),
        ("//v1//chat/completions", "use /v1/chat/completions, written exactly like this"),
        ("/V1/Chat/Completions", "use /v1/chat/completions, written exactly like this"),
        ("/tokenize/", "use /tokenize, written exactly like this"),
        ("/v1", "such as /v1/models"),
        ("/v1/", "such as /v1/models"),
        ("/v1/responses", "use one of /v1/chat/completions, /v1/models"),
        ("/api/tags", "use one of /v1/chat/completions, /v1/models"),
    ],
)
def test_the_message_names_the_route_that_was_meant(path: str, hint: str) -> None:
    sentence = no_route("POST", path, ROUTES)
    assert sentence.startswith(f"the route 'POST {path}' does not exist; ")
    assert hint in sentence


def test_an_unrelated_path_gets_no_hint_and_is_shortened() -> None:
    assert no_route("GET", "/robots.txt", ROUTES) == "the route 'GET /robots.txt' does not exist"
    assert len(no_route("GET", "/" + "a/" * 5000, ROUTES)) < 350
