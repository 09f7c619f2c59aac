"""Tokenizer and prompt format: read, checked, repaired, never saved anew by transformers."""
