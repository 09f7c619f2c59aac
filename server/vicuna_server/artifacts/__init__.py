"""Artifacts, and the volume they lie on: what merges leave there, and how several of them share it.

manifest     what an artifact is made of; `identity` its name, which follows from that
digests      the sha256 of files and folders
lookup       artifacts that are there already; `verify` whether one is what its manifest says
lock         one merger at a time, by a file; `holder` tells whether its process is dead
staging      the hidden folder an artifact grows in, until one rename; `journal` which files in there are finished
quarantine   an artifact that is doubted: every byte read, a damaged one put aside
sweeping     what goes when it is old, or when its room is needed
listing      what there is; `pruning` removes what nobody uses; `cli` and `text` tell of both
"""
