"""What the operator and the containers rely on of each other, as code: docs/contract.md says the same in words.

Pure: values in, values out; nothing here opens a file or a connection, and nothing of ours is imported.
"""
