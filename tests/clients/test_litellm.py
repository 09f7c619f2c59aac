"""LiteLLM: calls, and the exceptions by which its router falls back."""

import litellm
import pytest
from refusals import refused

ASKED = [{"role": "user", "content": "Hello"}]


@pytest.mark.parametrize(
    "dialect", ["openai", "hosted_vllm", "custom_openai", "litellm_proxy", "text-completion-openai"]
)
def test_chat_and_stream(base_url: str, model: str, dialect: str) -> None:
    call = {"model": f"{dialect}/{model}", "api_base": base_url, "api_key": "none", "messages": ASKED, "max_tokens": 6}
    whole = litellm.completion(**call, temperature=0)
    pieces = litellm.completion(**call, temperature=0, stream=True)
    assert "".join(one.choices[0].delta.content or "" for one in pieces) == whole.choices[0].message.content


def test_embeddings(base_url: str, model: str) -> None:
    answer = litellm.embedding(model=f"openai/{model}", api_base=base_url, api_key="none", input=["a", "b"])
    assert len(answer.data) == 2


@pytest.mark.parametrize("dialect", ["openai", "hosted_vllm"])
def test_an_overflow_is_an_overflow(base_url: str, model: str, dialect: str) -> None:
    long = [{"role": "user", "content": "word " * 3000}]
    with pytest.raises(litellm.ContextWindowExceededError):
        litellm.completion(
            model=f"{dialect}/{model}", api_base=base_url, api_key="none", messages=long, max_tokens=4, num_retries=0
        )


@pytest.mark.parametrize("dialect", ["openai", "hosted_vllm"])
def test_tools_are_refused(base_url: str, model: str, dialect: str) -> None:
    call = {"model": f"{dialect}/{model}", "api_base": base_url, "api_key": "none", "num_retries": 0}
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
    with refused("tools"):
        litellm.completion(**call, messages=ASKED, tools=[tool])


def test_responses(base_url: str, model: str) -> None:
    call = {"model": f"openai/{model}", "api_base": base_url, "api_key": "none", "num_retries": 0}
    answer = litellm.responses(**call, input="Hi", max_output_tokens=16, temperature=0)
    assert answer.usage.output_tokens == 16  # it asks for no fewer
    *_, last = litellm.responses(**call, input="Hi", max_output_tokens=16, temperature=0, stream=True)
    assert last.response.output[0].content[0].text == answer.output[0].content[0].text
