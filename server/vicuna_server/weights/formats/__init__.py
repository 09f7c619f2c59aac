"""Checkpoints' files: what tensors they hold and where, read without running anything."""
