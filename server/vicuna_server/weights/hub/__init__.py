"""A repository on a Hugging Face hub: looked at where it lies, fetched file by file.

repository   one revision as a `remote.RemoteSource`
listing      what a repository holds at one commit, each file as a `file.HubFile`
file         one file, read in place by `client`'s range requests, which outlast cuts (`retry`, `responses`)
download     one file, fetched whole, resumed and checked
requests     one GET: whom the token goes to (`token`), where redirects may lead (`redirects`), how long it may take
"""
