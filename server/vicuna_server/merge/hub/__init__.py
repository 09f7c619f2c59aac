"""Sources on a Hugging Face hub: looked at where they lie, then fetched file by file while they are merged.

listing      what a repository holds at one commit, each file as a `file.HubFile`
small_files  config, index, tokenizer, adapters: fetched whole before the preflight
file         one file, read in place by `client`'s range requests, which outlast cuts (`patience`, `answers`)
requests     one GET: whom the token goes to (`token`), where redirects may lead (`destinations`), how long it may take
store        brings the weights here, a little ahead of the reader: `window` says which, `download` fetches one
scratch      what an earlier run fetched, and the room that it all takes
"""
