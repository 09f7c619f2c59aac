"""docs/contract.md names what the operator, the gateway and the server's clients expect of any server image."""

from pathlib import Path

import pytest

from support.engine_pod import engine_pod
from vicuna_contract import names as c
from vicuna_contract import signing, stream_state
from vicuna_contract.exits import TERMINAL_EXITS
from vicuna_contract.serve_arguments import ServeArguments
from vicuna_server.api.settings import ServiceSettings
from vicuna_server.gateway import first_event, frames, whole_response
from vicuna_server.gateway.settings import GatewaySettings

PAGE = (Path(__file__).parents[2] / "docs/contract.md").read_text()
KEPT = PAGE.partition("### What a custom server image must keep")[2].partition("\n### ")[0]


@pytest.mark.parametrize(
    "name",
    [
        *(c.REVISION_HEADER, c.TRIMMED_HEADER, c.SALT_HEADER, c.COUNTING_HEADER, signing.SIGNATURE_HEADER),
        *(c.LIVE_PATH, c.READY_PATH, c.ENGINE_PATH, c.COUNTS_PATH, c.COUNTS_COMMENT.decode(), c.DRAINED_FILE),
        *(c.STATE_HEADER, stream_state.STATE_COMMENT.decode(), stream_state.TOKENS_COMMENT.decode()),
        *(stream_state.REFUSED, *(f"`{reason}`" for reason in stream_state.WHY_OFF)),
        *(c.TERMINATION_LOG_VARIABLE, c.ARTIFACT_DIGEST_VARIABLE, c.VERIFY_VARIABLE, c.ASIDE_VARIABLE),
        *(signing.GATEWAY_KEYS_VARIABLE, signing.AUDIENCE_VARIABLE, c.SOURCE_ROOTS_VARIABLE, c.TOKEN_PATH_VARIABLE),
    ],
)
def test_every_name_between_containers_is_on_the_page(name: str) -> None:
    assert name in PAGE


def test_the_flags_that_the_operator_renders_are_on_the_page() -> None:
    rendered = [word for word in ServeArguments(model="/m", context_length=1).to_argv() if word.startswith("--")]
    section = PAGE.partition("## `vicuna-server serve`")[2]
    assert [flag for flag in rendered if flag not in section] == []


def test_the_times_and_sizes_are_those_of_the_code() -> None:
    serve, service = ServeArguments(model="/m"), ServiceSettings.__dataclass_fields__
    assert f"every {service['keepalive_seconds'].default:.0f} s" in KEPT
    assert f"after {GatewaySettings().idle_seconds:.0f} s of silence" in KEPT
    assert f"some seconds ({serve.drain_seconds})" in KEPT
    assert f"events within {frames.MOST_FRAME_BYTES >> 10} KiB" in KEPT
    assert f"refusals within {whole_response.REFUSAL_BYTES >> 10} KiB" in KEPT
    assert f"other bodies within {whole_response.MOST_BYTES >> 30} GiB" in KEPT
    assert ", ".join(map(str, sorted(first_event.TRY_ELSEWHERE))) in KEPT
    assert "exit code {}, {} or {} where".format(*sorted(map(int, TERMINAL_EXITS))) in KEPT


def test_the_pods_times_are_those_that_are_rendered() -> None:
    pod = engine_pod(maxStreamSeconds=100)
    probe = pod["containers"][0]["startupProbe"]
    assert f"within {probe['periodSeconds'] * probe['failureThreshold']} s, and" in KEPT
    assert f"always within {pod['containers'][0]['livenessProbe']['timeoutSeconds']} s" in KEPT
    alone = engine_pod(None, engine="builtin", maxStreamSeconds=100)
    assert f"is killed {alone['terminationGracePeriodSeconds'] - 100} s after" in KEPT
    left = pod["terminationGracePeriodSeconds"] - alone["terminationGracePeriodSeconds"]
    assert f"leaves vLLM {left} s" in PAGE.replace("\n", " ")
