"""A repository on a Hugging Face hub: looked at where it lies, fetched file by file.

listing      what a repository holds at one commit, each file as a `file.HubFile`
small_files  config, index, tokenizer, adapters: fetched whole before the preflight
file         one file, read in place by `client`'s range requests, which outlast cuts (`patience`, `answers`)
download     one file, fetched whole, resumed and checked
requests     one GET: whom the token goes to (`token`), where redirects may lead (`destinations`), how long it may take
"""
