"""The pinned prompt format, written beside the tokenizer's own files."""

from pathlib import Path

import pytest

from vicuna_server.errors import InputError
from vicuna_server.weights.tokenizers.pinning import pinned_files
from vicuna_server.weights.tokenizers.tokenizer import Tokenizer


@pytest.mark.parametrize("content", ['{"tokenizer_class": ', "[1]", ""])
def test_a_config_that_changed_since_it_was_judged_ends_the_merge(tmp_path: Path, content: str) -> None:
    path = tmp_path / "tokenizer_config.json"
    path.write_text(content)
    with pytest.raises(InputError, match="was changed while it was read; merge again"):
        pinned_files(Tokenizer({path.name: path}), "vicuna_v1.1")
