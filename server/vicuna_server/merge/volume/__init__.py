"""The output volume: what merges leave on it, and how several of them share it.

storage     room, durability, and what its failures mean
artifact    looking up what is there already
verify      whether it is what its manifest says
claim       one merger at a time, by a file; `holder` tells whether its process is dead
staging     the hidden folder an artifact grows in, until one rename; `exchange` replaces a broken one
journal     which files in there are finished
leftovers   using those again after a kill
sweeping    what goes when it is old, or when its room is needed
listing     what there is; `pruning` removes what nobody uses
"""
