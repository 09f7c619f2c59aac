"""The engine of this project: a batch of sequences of a transformers model, scheduled step by step."""
