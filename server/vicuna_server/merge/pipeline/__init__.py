"""The bytes' way: fetched, read ahead, combined, hashed, written, made durable, each in a thread of its own.

shards   all shards, one after the other; `reading`, `hashing` and `writing` are its stages
store    brings the weights of remote sources here, a little ahead of the reader: `window` says which
scratch  what an earlier run fetched, and the room that it all takes
"""
