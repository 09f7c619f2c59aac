"""Files as the system gives them: opened beneath a boundary, read and written past the cache, made durable, renamed.

boundary    how far a source reaches; `beneath` opens what lies in it, and nothing outside
ledger      what was read of files whose digest is stated
data_file   one file of a source, wherever it lies: the protocol, and the one on this machine
input_file  a large file read past the page cache, into `buffers`; `output_file` written past it
storage     room on a volume, durability, and what its failures mean
exchange    a new folder in the place of an old one by one rename
json_files  small files as people read them
"""
