"""EleutherAI's lm-eval: log likelihoods and generation, without a data set. Judge of the figures: transformers."""

import json
import os
from typing import Any

import pytest
from conftest import RANDOM
from lm_eval.api.instance import Instance
from lm_eval.models.api_models import JsonChatStr
from lm_eval.models.openai_completions import LocalChatCompletion, LocalCompletionsAPI

pytestmark = RANDOM

STOPS = ["\n", "Q:", "A:", "</s>", "<|im_end|>", "Question:"]


def instance(kind: Any, *arguments: Any) -> Instance:
    return Instance(request_type=kind, doc={}, arguments=arguments, idx=0)


def completions(base_url: str, model: str, **options: Any) -> LocalCompletionsAPI:
    return LocalCompletionsAPI(
        model=model,
        base_url=f"{base_url}/completions",
        tokenizer=os.environ["VICUNA_TOKENIZER"],
        num_concurrent=1,
        max_retries=1,
        **options,
    )


@pytest.mark.parametrize("ids", [True, False], ids=["ids", "text"])
def test_log_likelihoods_are_those_of_transformers(
    base_url: str, model: str, ids: bool, expected: list[dict[str, Any]]
) -> None:
    asked = [instance("loglikelihood", one["context"], one["continuation"]) for one in expected]
    subject = completions(base_url, model, tokenized_requests=ids)
    got = subject.loglikelihood(asked, disable_tqdm=True)
    assert [logprob for logprob, _ in got] == pytest.approx([one["logprob"] for one in expected], abs=1e-2)
    assert [greedy for _, greedy in got] == [one["greedy"] for one in expected]


def test_texts_are_generated_with_as_many_stop_strings_as_tasks_have(base_url: str, model: str) -> None:
    wanted = {"until": STOPS, "max_gen_toks": 6, "temperature": 0}
    (text,) = completions(base_url, model).generate_until(
        [instance("generate_until", "The capital of France is", wanted)], disable_tqdm=True
    )
    assert isinstance(text, str)


def test_chats_are_answered(base_url: str, model: str) -> None:
    chat = LocalChatCompletion(
        model=model, base_url=f"{base_url}/chat/completions", tokenizer_backend=None, num_concurrent=1, max_retries=1
    )
    asked = JsonChatStr(json.dumps([{"role": "user", "content": "Hi"}]))
    (text,) = chat.generate_until(
        [instance("generate_until", asked, {"until": ["\n"], "max_gen_toks": 6, "temperature": 0})], disable_tqdm=True
    )
    assert isinstance(text, str)
