"""Fields that `/v1/responses` refuses by name."""

from collections.abc import Mapping

from vicuna_server.protocol.unsupported_fields import REFUSED, Refusal

__all__ = ["REFUSED_HERE"]

REFUSED_HERE: Mapping[str, Refusal] = {
    **REFUSED,
    "background": Refusal("a response is computed while its client waits; leave it out, and set stream to true"),
    "background_options": Refusal("a response is computed while its client waits; leave it out"),
    "conversation": Refusal("not supported; send previous_response_id, or the whole conversation as input"),
    "prompt": Refusal("prompts are not kept here; send its text as instructions and input"),
    "context_management": Refusal("not supported; leave it out, or set truncation to auto"),
    "messages": Refusal("the field is called input"),
    "functions": Refusal("the field is called tools"),
    "max_completion_tokens": Refusal("the field is called max_output_tokens here"),
    "max_new_tokens": Refusal("the field is called max_output_tokens here"),
    "logprobs": Refusal("write include: [message.output_text.logprobs], and top_logprobs for alternatives"),
    "system": Refusal("the field is called instructions"),
}
"""The route's own fields are never looked up here."""
