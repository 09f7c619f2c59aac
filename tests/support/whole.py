"""Plain transformers as the judge of an artifact: it is whole where no key is missing, unexpected or mismatched."""

import hashlib
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vicuna_contract.names import MANIFEST_NAME
from vicuna_server.artifacts.manifest import Manifest


def load_whole(folder: Path) -> Any:
    """Load a model with plain transformers and return it; fail where it is not whole."""
    import transformers

    hub: Any = transformers
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model, found = hub.AutoModelForCausalLM.from_pretrained(
            folder, output_loading_info=True, local_files_only=True, ignore_mismatched_sizes=True
        )
    assert not any(found.values()), found
    return model


def assert_whole_for_transformers(folder: Path) -> None:
    """Load an artifact with plain transformers: every key, the tokenizer, and the prompt format that is pinned."""
    import transformers

    hub: Any = transformers
    load_whole(folder)
    tokenizer = hub.AutoTokenizer.from_pretrained(folder, local_files_only=True)
    manifest = Manifest.load(folder)
    if manifest is not None and manifest.chat_template != "none":
        said = [{"role": "user", "content": "Hello"}]
        assert tokenizer.apply_chat_template(said, add_generation_prompt=True)["input_ids"]


class Judge:
    """Judges each distinct artifact below a folder once; one that is found again unchanged costs nothing."""

    def __init__(self) -> None:
        self._judged: set[str] = set()

    def judge(self, root: Path) -> None:
        """Look at every artifact that has been published below `root`.

        Raises:
            AssertionError: one is not whole; it names the folder.
        """
        for folder, seal in _artifacts(root):
            if seal not in self._judged:
                self._judged.add(seal)
                try:
                    assert_whole_for_transformers(folder)
                except Exception as error:
                    raise AssertionError(f"{folder} is not whole for plain transformers: {error}") from error


def _artifacts(root: Path) -> Iterator[tuple[Path, str]]:
    """Yield folders that are named as artifacts are, and what stands for their content."""
    for path in root.rglob(MANIFEST_NAME):
        if re.fullmatch("[0-9a-f]{16}", path.parent.name):
            yield path.parent, hashlib.sha256(path.read_bytes()).hexdigest()
