"""What a merge will write: tensors, shards and small files, decided and judged before the first byte."""
