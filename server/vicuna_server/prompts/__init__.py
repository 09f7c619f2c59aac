"""Conversation to prompt text and stop strings. Pure."""
