"""Each field of the current clients is known: supported, refused or ignored on purpose."""

from typing import Any

import pytest

from vicuna_server.protocol.body import RequestBody
from vicuna_server.protocol.chat import ChatRequest
from vicuna_server.protocol.completions import CompletionRequest
from vicuna_server.protocol.embeddings import EmbeddingRequest
from vicuna_server.protocol.tokens import TokenizeRequest
from vicuna_server.protocol.unsupported_fields import IGNORED

VLLM: dict[type[RequestBody], str] = {
    ChatRequest: (
        "messages model frequency_penalty logit_bias logprobs top_logprobs max_tokens max_completion_tokens n "
        "presence_penalty response_format seed stop stream stream_options temperature top_p tools tool_choice "
        "reasoning_effort thinking_token_budget include_reasoning parallel_tool_calls user use_beam_search top_k "
        "min_p repetition_penalty watermarking length_penalty stop_token_ids include_stop_str_in_output ignore_eos "
        "min_tokens skip_special_tokens spaces_between_special_tokens truncate_prompt_tokens truncation_side "
        "prompt_logprobs logprob_token_ids allowed_token_ids bad_words echo add_generation_prompt "
        "continue_final_message add_special_tokens documents chat_template chat_template_kwargs media_io_kwargs "
        "mm_processor_kwargs structured_outputs priority request_id session_id return_tokens_as_token_ids "
        "return_token_ids routed_experts_prompt_start return_token_offsets return_prompt_text mm_payload "
        "return_mm_kwargs cache_salt kv_transfer_params ec_transfer_params vllm_xargs repetition_detection "
        "stream_interval"
    ),
    CompletionRequest: (
        "model prompt echo frequency_penalty logit_bias logprobs max_tokens n presence_penalty seed stop stream "
        "stream_options suffix temperature top_p user use_beam_search top_k min_p repetition_penalty watermarking "
        "length_penalty stop_token_ids include_stop_str_in_output ignore_eos min_tokens skip_special_tokens "
        "spaces_between_special_tokens truncate_prompt_tokens truncation_side allowed_token_ids prompt_logprobs "
        "logprob_token_ids bad_words prompt_embeds add_special_tokens response_format structured_outputs priority "
        "request_id session_id return_tokens_as_token_ids return_token_ids routed_experts_prompt_start "
        "return_token_offsets mm_payload return_mm_kwargs cache_salt kv_transfer_params ec_transfer_params vllm_xargs "
        "repetition_detection thinking_token_budget stream_interval"
    ),
    EmbeddingRequest: (
        "model user truncate_prompt_tokens padding truncation_side request_id priority mm_processor_kwargs cache_salt "
        "input add_special_tokens encoding_format embed_dtype endianness dimensions use_activation messages "
        "add_generation_prompt continue_final_message chat_template chat_template_kwargs media_io_kwargs"
    ),
    TokenizeRequest: (
        "model prompt messages add_special_tokens return_token_strs add_generation_prompt continue_final_message "
        "chat_template chat_template_kwargs media_io_kwargs mm_processor_kwargs tools"
    ),
}
"""Fields of vLLM 0.32."""


def openai_types() -> dict[type[RequestBody], type[Any]]:
    from openai.types import EmbeddingCreateParams, completion_create_params  # a second's import
    from openai.types.chat import completion_create_params as chat_create_params

    return {
        ChatRequest: chat_create_params.CompletionCreateParamsStreaming,
        CompletionRequest: completion_create_params.CompletionCreateParamsStreaming,
        EmbeddingRequest: EmbeddingCreateParams,
    }


@pytest.mark.long
def test_each_field_of_openais_client_and_of_vllm_is_supported_refused_or_ignored() -> None:
    """If this fails for a new field: decide whether ignoring it would change the response."""
    fields = [(model, name) for model, names in VLLM.items() for name in names.split()]
    fields += [(model, name) for model, kind in openai_types().items() for name in kind.__annotations__]
    assert len(fields) > 200
    unknown = [
        f"{model.__name__}.{name}"
        for model, name in fields
        if name not in {*model.model_fields, *model.refused, *IGNORED}
    ]
    assert unknown == []
