"""The OpenAI wire format, without a web framework."""
