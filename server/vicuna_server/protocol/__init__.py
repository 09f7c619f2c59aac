"""OpenAI's wire format, independent of a web framework."""
