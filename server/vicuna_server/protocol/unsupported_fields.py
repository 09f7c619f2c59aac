"""Fields of other servers' dialects: which are refused because silence would be a wrong answer, and which do nothing.

Sources: the request fields of OpenAI's API reference, vLLM's, SGLang's, llama.cpp's, text-generation-inference's,
Ollama's and text-generation-webui's servers, and transformers' GenerationConfig.
"""

from collections.abc import Mapping
from typing import NamedTuple

__all__ = ["IGNORED", "REFUSED", "REFUSED_FOR_VECTORS", "Refusal", "refuse", "unknown"]


class Refusal(NamedTuple):
    """Why a field is refused, and which values of it ask for nothing: null, and false, 0 and what is empty mostly."""

    why: str
    harmless: tuple[object, ...] = ()
    also: tuple[object, ...] = ()


def _each(names: str, why: str, *harmless: object, also: tuple[object, ...] = ()) -> dict[str, Refusal]:
    return {name: Refusal(why, harmless, also) for name in names.split()}


REFUSED: Mapping[str, Refusal] = {
    **_each(
        "guided_json guided_regex guided_choice guided_grammar guided_whitespace_pattern structured_outputs "
        "structural_tag json_schema json_object grammar grammar_string regex ebnf format schema output_schema "
        "force_words_ids constraints",
        "this server does not constrain answers to a form; leave it out, and say in the prompt what form is wanted",
    ),
    **_each("response_format", "only text is supported by this server", {"type": "text"}),
    **_each(
        "tools functions tool_resources documents plugins mcp_servers moderation",
        "not supported by this server, leave it out",
    ),
    **_each("web_search_options", "not supported by this server, leave it out", also=({},)),  # a search with defaults
    **_each(
        "audio images image_url mm_processor_kwargs mm_payload media_io_kwargs prompt_embeds",
        "this model reads and writes text only",
    ),
    **_each("modalities", "only text is supported by this server", ["text"]),
    **_each(
        "decoder_input_details top_n_tokens n_probs return_hidden_states return_token_ids "
        "return_tokens_as_token_ids return_full_text return_token_offsets return_token_strs return_prompt_text "
        "return_mm_kwargs return_routed_experts routed_experts_prompt_start logprob_token_ids",
        "this server does not return that; leave it out",
    ),
    **_each("lora lora_path lora_request adapter adapter_id", "this server has one model; adapters are merged into it"),
    **_each(
        "use_beam_search early_stopping num_beam_groups diversity_penalty penalty_alpha",
        "answers are sampled, not searched for; leave it out",
    ),
    **_each("num_beams best_of length_penalty", "answers are sampled, not searched for; leave it out", 1),
    **_each(
        "mirostat mirostat_mode top_a top_n_sigma dry_multiplier xtc_probability dynatemp_range smoothing_factor "
        "no_repeat_ngram_size epsilon_cutoff eta_cutoff suppress_tokens begin_suppress_tokens sequence_bias "
        "exponential_decay_length_penalty logits_processors logits_processor custom_logit_processor custom_params "
        "bad_words_ids stop_regex watermark watermarking repetition_detection vllm_xargs negative_prompt "
        "dynamic_temperature samplers sampler_order",
        "this way of sampling is not supported; leave it out",
    ),
    **_each("tfs tfs_z encoder_repetition_penalty guidance_scale", "this way of sampling is not supported", 1),
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
    **_each("custom_token_bans", "give the tokens a logit_bias of -100, or the words in bad_words"),
    **_each("do_sample", "for the likeliest tokens say temperature: 0", True, also=(False,)),
    **_each("extra_body options parameters sampling_params", "its fields belong into the body itself"),
    **_each("num_ctx truncation_length max_model_len", "the length of the context is set where the model is served"),
    **_each("truncate_prompt_tokens truncate", "prompts are not cut; a chat may say truncation: auto"),
    **_each("chat_template chat_template_str instruction_template", "the template is set where the model is served"),
    **_each("system instructions", "the system text is a message of role system"),
    **_each("input contents", "the conversation is called messages, a plain text prompt"),
    **_each("messages", "conversations are answered at /v1/chat/completions"),
    **_each("prompt", "plain texts are continued at /v1/completions"),
    **_each("truncation", "only a chat may leave out what is too long", "disabled"),
    **_each("suffix", "this model continues text and cannot fill in before an ending; leave it out"),
    **_each("echo", "only /v1/completions gives the prompt back; leave it out"),
    **_each("continue_final_message", "only the last message of a chat can be continued"),
    **_each("add_generation_prompt", "the template's opening of an answer is always added", True, also=(False,)),
    **_each(
        "add_special_tokens", "BOS stands where the model was trained with it; send token ids", True, also=(False,)
    ),
}
"""What would change the answer. Fields that a route has itself never get here."""

REFUSED_FOR_VECTORS: Mapping[str, Refusal] = {
    **REFUSED,
    **_each("messages prompt texts inputs sentences documents contents", "what vectors are made of is called input"),
    **_each(
        "input_type task task_type task_instruction instruction prompt_name late_chunking text_type",
        "this model makes the same vector of a text whatever it is for; leave it out",
    ),
    **_each(
        "output_dimension dimension outputDimensionality dims truncate_dim",
        "the vectors of this model cannot be shortened; leave it out",
    ),
    **_each("normalize normalized use_activation", "all vectors have length 1", True, also=(False,)),
    **_each(
        "embed_dtype output_dtype embedding_type embedding_types",
        "vectors are of float32",
        "float",
        "float32",
        ["float"],
    ),
    **_each("endianness", "vectors in base64 are little-endian", "native", "little"),
    **_each("padding", "texts are not padded; leave it out", "do_not_pad"),
    **_each("truncate truncate_prompt_tokens truncation", "texts are not cut; leave it out", "NONE", "none"),
}
"""What would change a vector."""

_NO_MATTER = (
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
IGNORED = frozenset(_NO_MATTER.split())
"""What has no meaning here, or only together with a field that is refused."""


def refuse(fields: Mapping[str, object] | None, refused: Mapping[str, Refusal] = REFUSED) -> None:
    """Refuse a body's further fields where leaving one out of account would make another answer.

    Args:
        fields: name and value of what the route does not know.
        refused: what is refused, and why.

    Raises:
        ValueError: the message begins with the field's name.
    """
    for name, value in (fields or {}).items():
        refusal = refused.get(name)
        if refusal is None or value is None or value in refusal.harmless:
            continue
        if value or any(value == one and type(value) is type(one) for one in refusal.also):
            raise ValueError(f"{name}: {refusal.why}")


def unknown(fields: Mapping[str, object] | None, refused: Mapping[str, Refusal] = REFUSED) -> list[str]:
    """Return the names that are neither refused nor known to do nothing."""
    return [name for name in fields or {} if name not in refused and name not in IGNORED]
