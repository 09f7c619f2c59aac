"""Request fields of other servers: which are refused, since ignoring them would change the response, and which not.

Sources: the request fields of OpenAI's API reference, vLLM's, SGLang's, llama.cpp's, text-generation-inference's,
Ollama's and text-generation-webui's servers, and transformers' GenerationConfig.
"""

from collections.abc import Mapping
from typing import NamedTuple

__all__ = ["IGNORED", "REFUSED", "REFUSED_FOR_VECTORS", "Refusal", "refuse", "unknown"]


class Refusal(NamedTuple):
    """Why a field is refused, and for which values. Null, false, 0 and empty values are accepted by default.

    Attributes:
        why: The reason and the next step, for the message.
        accepted: Further values that are accepted, since they ask for what happens anyway.
        also_refused: Values that are refused although they are false, 0 or empty.
    """

    why: str
    accepted: tuple[object, ...] = ()
    also_refused: tuple[object, ...] = ()


def _each(names: str, why: str, *accepted: object, also_refused: tuple[object, ...] = ()) -> dict[str, Refusal]:
    return {name: Refusal(why, accepted, also_refused) for name in names.split()}


REFUSED: Mapping[str, Refusal] = {
    **_each(
        "json_schema json_object format schema output_schema",
        "the field is called response_format here: text, json_object or json_schema",
    ),
    **_each(
        "grammar grammar_string regex ebnf structural_tag guided_decoding guided_json_object",
        "the field is called structured_outputs here: json, regex, choice, grammar or json_object",
    ),
    **_each("guided_whitespace_pattern", "not supported, JSON comes on one line; leave it out"),
    **_each(
        "response_format structured_outputs guided_json guided_regex guided_choice guided_grammar",
        "only completions have a format; leave it out",
        {"type": "text"},
    ),
    **_each("force_words_ids constraints", "not supported; say with structured_outputs what the answer may be"),
    **_each(
        "tools functions tool_resources documents plugins mcp_servers moderation",
        "not supported by this server; leave it out",
    ),
    **_each(
        "web_search_options", "not supported by this server; leave it out", also_refused=({},)
    ),  # a search with defaults
    **_each(
        "audio images image_url mm_processor_kwargs mm_payload media_io_kwargs prompt_embeds",
        "this model reads and writes text only; leave it out",
    ),
    **_each("modalities", "only text is supported by this server; leave it out", ["text"]),
    **_each(
        "decoder_input_details top_n_tokens n_probs return_hidden_states return_token_ids "
        "return_tokens_as_token_ids return_full_text return_token_offsets return_token_strs return_prompt_text "
        "return_mm_kwargs return_routed_experts routed_experts_prompt_start logprob_token_ids",
        "this server does not return that; leave it out",
    ),
    **_each(
        "lora lora_path lora_request adapter adapter_id",
        "this server has one model, with its adapters merged into it; leave it out",
    ),
    **_each(
        "use_beam_search early_stopping num_beam_groups diversity_penalty penalty_alpha",
        "beam search is not supported; leave it out",
    ),
    **_each("num_beams length_penalty", "beam search is not supported; leave it out", 1),
    **_each(
        "mirostat mirostat_mode top_a top_n_sigma dry_multiplier xtc_probability dynatemp_range smoothing_factor "
        "no_repeat_ngram_size epsilon_cutoff eta_cutoff suppress_tokens begin_suppress_tokens sequence_bias "
        "exponential_decay_length_penalty logits_processors logits_processor custom_logit_processor custom_params "
        "bad_words_ids stop_regex watermark watermarking repetition_detection vllm_xargs negative_prompt "
        "dynamic_temperature samplers sampler_order",
        "this way of sampling is not supported; leave it out",
    ),
    **_each(
        "tfs tfs_z encoder_repetition_penalty guidance_scale", "this way of sampling is not supported; leave it out", 1
    ),
    **_each("best_of", "not supported, all choices are returned; leave it out, or set it to 1", 1),
    **_each("typical", "the field is called typical_p here", 1),
    **_each("repeat_penalty rep_pen", "the field is called repetition_penalty here", 1),
    **_each(
        "max_new_tokens n_predict num_predict max_length max_output_tokens maxOutputTokens max_completion_tokens",
        "the field is called max_tokens here",
    ),
    **_each("top_logprobs", "the field is called logprobs here"),
    **_each("min_new_tokens min_length", "the field is called min_tokens here"),
    **_each("stop_sequences stopping_strings stopSequences", "the field is called stop here"),
    **_each("eos_token_id", "the field is called stop_token_ids here"),
    **_each("ban_eos_token", "the field is called ignore_eos here"),
    **_each("custom_token_bans", "not supported; give the tokens a logit_bias of -100, or list the words in bad_words"),
    **_each("do_sample", "not supported; for greedy decoding set temperature to 0", True, also_refused=(False,)),
    **_each(
        "extra_body options parameters sampling_params",
        "not supported as an object; put its fields into the body itself",
    ),
    **_each(
        "num_ctx truncation_length max_model_len", "the context length is set where the model is served; leave it out"
    ),
    **_each(
        "truncate_prompt_tokens truncate", "prompts are not cut; leave it out, or set truncation to auto in a chat"
    ),
    **_each(
        "chat_template chat_template_str instruction_template",
        "the chat template is set where the model is served; leave it out",
    ),
    **_each("system instructions", "not supported; send the system text as a message of role system"),
    **_each("input contents", "the field is called messages for a chat, prompt for plain text"),
    **_each("messages", "send conversations to /v1/chat/completions"),
    **_each("prompt", "send plain texts to /v1/completions"),
    **_each("truncation", "only chats can be cut to the context; leave it out", "disabled"),
    **_each("suffix", "not supported, this model only continues text; leave it out"),
    **_each("echo", "only /v1/completions repeats the prompt; leave it out"),
    **_each("continue_final_message", "only the last message of a chat can be continued; leave it out"),
    **_each(
        "add_generation_prompt",
        "the template's generation prompt is always added; leave it out",
        True,
        also_refused=(False,),
    ),
    **_each(
        "add_special_tokens",
        "BOS is added as the model's tokenizer says; leave it out, or send token ids",
        True,
        also_refused=(False,),
    ),
}
"""Fields that would change the response. A route's own fields are never looked up here."""

REFUSED_FOR_VECTORS: Mapping[str, Refusal] = {
    **REFUSED,
    **_each("messages prompt texts inputs sentences documents contents", "the field is called input"),
    **_each(
        "input_type task task_type task_instruction instruction prompt_name late_chunking text_type",
        "this model's vector of a text does not depend on the task; leave it out",
    ),
    **_each(
        "output_dimension dimension outputDimensionality dims truncate_dim",
        "this model's vectors cannot be shortened; leave it out",
    ),
    **_each(
        "normalize normalized use_activation", "all vectors have length 1; leave it out", True, also_refused=(False,)
    ),
    **_each(
        "embed_dtype output_dtype embedding_type embedding_types",
        "vectors have float32 precision; leave it out",
        "float",
        "float32",
        ["float"],
    ),
    **_each("endianness", "vectors in base64 are little-endian; leave it out", "native", "little"),
    **_each("padding", "texts are not padded; leave it out", "do_not_pad"),
    **_each("truncate truncate_prompt_tokens truncation", "texts are not cut; leave it out", "NONE", "none"),
}
"""Fields that would change a vector."""

_IGNORED_NAMES = (
    "user metadata store service_tier safety_identifier prompt_cache_key prompt_cache_options prompt_cache_retention "
    "prediction reasoning_effort reasoning thinking_token_budget verbosity parallel_tool_calls tool_choice "
    "function_call priority request_id session_id "
    "chat_template_kwargs cache_prompt id_slot n_keep keep_alive cache_salt details "
    "spaces_between_special_tokens guided_decoding_backend guided_options_request backend "
    "include_reasoning separate_reasoning stream_reasoning kv_transfer_params ec_transfer_params "
    "stream_interval truncation_side detokenize custom_llm_provider "
    "echo_prompt return_prompt mirostat_tau mirostat_eta dry_base dry_allowed_length dry_sequence_breakers "
    "xtc_threshold dynatemp_exponent length_penalty_alpha repeat_last_n penalize_nl min_keep timings_per_token"
)
IGNORED = frozenset(_IGNORED_NAMES.split())
"""Fields without a meaning here, or with one only beside a field that is refused."""


def refuse(fields: Mapping[str, object] | None, refused: Mapping[str, Refusal] = REFUSED) -> None:
    """Refuse further fields of a body where ignoring them would change the response.

    Args:
        fields: Name and value of the fields that the route does not have.
        refused: The fields that are refused, and why.

    Raises:
        ValueError: The message begins with the field's name.
    """
    for name, value in (fields or {}).items():
        refusal = refused.get(name)
        if refusal is None or value is None or value in refusal.accepted:
            continue
        if value or any(value == one and type(value) is type(one) for one in refusal.also_refused):
            raise ValueError(f"{name}: {refusal.why}")


def unknown(fields: Mapping[str, object] | None, refused: Mapping[str, Refusal] = REFUSED) -> list[str]:
    """Return the names that are neither refused nor known to do nothing."""
    return [name for name in fields or {} if name not in refused and name not in IGNORED]
