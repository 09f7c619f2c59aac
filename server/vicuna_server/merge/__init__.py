"""Merging weights: base + delta becomes one immutable, content-addressed artifact folder.

    cli → job: sources (hub) → preflight (checkpoint, kinds, tokenizer, chat_template) → identity
             → claim → pipeline (arithmetic, layout) → artifact: staged, fsynced, renamed

Nothing here needs transformers; torch reads pickles and adds.
"""
