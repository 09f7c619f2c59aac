"""A tokenizer as of LLaMA 3: byte-level, its special tokens last, and "#" with the id of LLaMA's end."""

import json
from pathlib import Path

__all__ = ["ROWS", "llama_3_tokenizer"]

ROWS = 64


def llama_3_tokenizer(folder: Path, **config: str) -> None:
    """Write sixty-one words, then the special tokens; tokenizer_config.json only where `config` says something."""
    words = ["!", '"', "#", *(f"w{number}" for number in range(ROWS - 6))]
    special = ["<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>"]
    plain = {"special": True, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    added = [{"id": len(words) + place, "content": text, **plain} for place, text in enumerate(special)]
    split = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    model = {"type": "WordLevel", "vocab": {word: token for token, word in enumerate(words)}, "unk_token": "!"}
    content = {
        "version": "1.0",
        "added_tokens": added,
        "pre_tokenizer": split,
        "decoder": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
        "model": model,
    }
    (folder / "tokenizer.json").write_text(json.dumps(content))
    (folder / "tokenizer.model").write_text("IQ== 0\nIg== 1\nIw== 2\n")  # tiktoken's form
    if config:
        (folder / "tokenizer_config.json").write_text(json.dumps(config))
