"""Merging weights: base + delta becomes one immutable, content-addressed artifact folder.

    cli → job: sources (hub) → preflight (checkpoint, kinds, tokenizer, chat_template) → identity
             → volume/: claim, staging → building: pipeline (arithmetic, layout), manifest → one rename

adapters/ merges LoRA adapters on top, hub/ brings sources from a hub, make_delta/ is the way back. Nothing here needs
transformers; torch adds, and is imported late.
"""
