"""Merging weights: base + delta becomes one immutable, content-addressed artifact folder.

    cli → job: sources (hub) → preflight (checkpoint, kinds, tokenizer, chat_template) → identity
             → volume/: claim, staging → building: pipeline (arithmetic, layout), manifest → one rename

Nothing here needs transformers; torch reads pickles and adds.
"""
