import pytest

from vicuna_contract.vllm_arguments import VLLM_IMAGE
from vicuna_operator.config import FLAGS, load_config
from vicuna_operator.errors import ConfigError

IMAGE = {"VICUNA_SERVER_IMAGE": "registry.example/server:1"}


def test_defaults() -> None:
    config = load_config({}, IMAGE)
    assert config.plan.server_image == "registry.example/server:1"
    assert config.plan.server_image_pull_policy == "IfNotPresent"
    assert (config.plan.front_image, config.plan.vllm_image) == ("", VLLM_IMAGE)
    assert config.plan.merge_progress is True
    assert config.watch_namespaces == ()
    assert config.lease_name == "vicuna-operator"
    assert config.health_port == 8080
    assert (config.log_level, config.log_format) == ("INFO", "plain")


def test_everything_from_the_environment() -> None:
    config = load_config(
        {},
        IMAGE
        | {
            "VICUNA_SERVER_IMAGE_PULL_POLICY": "Never",
            "VICUNA_FRONT_IMAGE": "registry.example/front:1",
            "VICUNA_VLLM_IMAGE": "registry.example/vllm:1",
            "VICUNA_WATCH_NAMESPACES": "a, b,,a",
            "VICUNA_LEASE_NAME": "lease",
            "VICUNA_MERGE_PROGRESS": "False",
            "VICUNA_NETWORK_PEERS": '[{"podSelector": {}}]',
            "VICUNA_HEALTH_PORT": "0",
            "VICUNA_LOG_LEVEL": "debug",
            "VICUNA_LOG_FORMAT": "json",
            "POD_NAME": "pod-1",
            "POD_NAMESPACE": "system",
        },
    )
    assert config.plan.server_image_pull_policy == "Never"
    assert (config.plan.front_image, config.plan.vllm_image) == ("registry.example/front:1", "registry.example/vllm:1")
    assert config.plan.merge_progress is False
    assert config.plan.network_peers == [{"podSelector": {}}]
    assert config.watch_namespaces == ("a", "b")
    assert (config.lease_name, config.identity, config.namespace) == ("lease", "pod-1", "system")
    assert config.health_port == 0
    assert (config.log_level, config.log_format) == ("DEBUG", "json")


def test_public_keys_of_gateways_are_checked_and_written_one_way() -> None:
    one, two = f"{'A' * 43}=", f"{'E' * 43}="
    assert (
        load_config({}, IMAGE | {"VICUNA_GATEWAY_KEYS": f" {one} ,{two},{one}\n"}).plan.gateway_keys == f"{one},{two}"
    )
    assert load_config({}, IMAGE).plan.gateway_keys == ""


def test_a_flag_wins_over_the_environment_and_an_absent_one_does_not() -> None:
    config = load_config({"VICUNA_LEASE_NAME": "flag", "POD_NAMESPACE": None}, IMAGE | {"POD_NAMESPACE": "env"})
    assert (config.lease_name, config.namespace) == ("flag", "env")


def test_two_replicas_without_a_pod_name_have_two_identities() -> None:
    assert load_config({}, IMAGE).identity != load_config({}, IMAGE).identity


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("VICUNA_SERVER_IMAGE", ""),
        ("VICUNA_SERVER_IMAGE", "two words"),
        ("VICUNA_FRONT_IMAGE", "two words"),
        ("VICUNA_VLLM_IMAGE", "two words"),
        ("VICUNA_SERVER_IMAGE_PULL_POLICY", "Sometimes"),
        ("VICUNA_WATCH_NAMESPACES", "ok,Not_ok"),
        ("VICUNA_LEASE_NAME", "Über"),
        ("VICUNA_MERGE_PROGRESS", "perhaps"),
        ("VICUNA_PLATFORM_USER", "perhaps"),
        ("VICUNA_ALLOWED", "images"),
        ("VICUNA_ALLOWED", '{"images": "x"}'),
        ("VICUNA_ALLOWED", '{"image": []}'),
        ("VICUNA_GATEWAY_KEYS", "x"),
        ("VICUNA_GATEWAY_KEYS", ","),
        ("VICUNA_NETWORK_PEERS", "{}"),
        ("VICUNA_NETWORK_PEERS", "[1]"),
        ("VICUNA_HEALTH_PORT", "http"),
        ("VICUNA_HEALTH_PORT", "65536"),
        ("VICUNA_LOG_LEVEL", "loud"),
        ("VICUNA_LOG_FORMAT", "xml"),
        ("POD_NAMESPACE", "a/b"),
    ],
)
def test_a_wrong_setting_names_its_variable(variable: str, value: str) -> None:
    assert variable in FLAGS
    with pytest.raises(ConfigError, match=variable):
        load_config({}, IMAGE | {variable: value})
