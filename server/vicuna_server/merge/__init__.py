"""Merging weights: base + delta becomes one immutable, content-addressed artifact folder.

    cli → job: inputs → planning/: preflight/ → artifacts/: identity, lock, staging → building: pipeline/ → one rename

    inputs       sources from URI to opened checkpoint, as a `request` names them
    preflight/   all that can be wrong, told before a byte is written
    arithmetic/  what becomes of a tensor: layout, sums, copies, checksum
    pipeline/    fetch, read, combine, hash, write, make durable
    planning/    what will be written, decided before the first byte
    stated_digests  digests that the user states, compared with what was read
    leftovers    shards that a dead run finished

Below it stand `artifacts`, `weights` and `files`; above it `inspect` and `make_delta`. Nothing here needs
transformers; torch adds, and is imported late.
"""
