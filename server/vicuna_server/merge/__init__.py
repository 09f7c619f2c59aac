"""Merging weights: base + delta becomes one immutable, content-addressed artifact folder.

    cli → job: sources (hub/) → plan: judging/ → identity → volume/: claim, staging → building: flow/ → one rename

    formats/     files of weights: which tensors, where            tokenizing/  tokenizer and prompt format
    judging/     all that can be wrong, told before a byte is written
    flow/        read, combine, hash, write, make durable           volume/      claims, staging, artifacts on a volume
    hub/         sources from a hub, file by file                   adapters/    LoRA on top
    make_delta/  the way back                                       inspecting/  what a source is

Nothing here needs transformers; torch adds, and is imported late.
"""
