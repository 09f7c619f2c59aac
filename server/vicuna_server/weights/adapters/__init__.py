"""LoRA adapters in PEFT's format, merged into base (and delta) as PEFT's `merge_and_unload` does.

config.py      what adapter_config.json asks for, and what of it is not supported
folder.py      an adapter's folder: which of its tensors change or replace which of the model's
companions.py  other files of weights beside an adapter's own
low_rank.py    the change itself: scale * B @ A, added row by row
"""
