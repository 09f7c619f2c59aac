"""A small sentencepiece model trained as LLaMA's was: BPE, bytes for unknown characters, every space kept."""

import io
from functools import cache
from pathlib import Path

import sentencepiece

_ROOT = Path(__file__).parents[2]
_OTHERS = [
    *("import  os", "    def f(x):", "        return  x", "aaaa bb  aaa", "---- ====", "\u4f60\u597d \u4e16\u754c"),
    *("\u4e2d\u56fd\u4eba\u6c11", "\u65e5\u672c\u8a9e\u306e\u30c6\u30ad\u30b9\u30c8", "Gr\u00f6\u00dfe caf\u00e9"),
]


def corpus() -> str:
    """Return English text of some length."""
    return (_ROOT / "LICENSE").read_text()


@cache
def train(size: int = 900, kind: str = "bpe", seed: str = "") -> bytes:
    """Return the content of a tokenizer.model with `size` pieces."""
    lines = [line for line in corpus().splitlines() if line.strip()] + (_OTHERS + [seed] * bool(seed)) * 5
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines),
        model_writer=model,
        vocab_size=size,
        model_type=kind,
        byte_fallback=True,
        character_coverage=0.9995,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        split_digits=True,
        allow_whitespace_only_pieces=True,
        num_threads=1,
        minloglevel=2,
    )
    return model.getvalue()


def expected_ids(model: bytes, text: str, bos: int = 1, eos: int = 2) -> list[int]:
    """Return sentencepiece's ids with bos in front, each text between `</s>` cut apart, as training did."""
    processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    first, *rest = (processor.encode(part) for part in text.split("</s>"))
    return [bos, *first, *(token for part in rest for token in (eos, *part))]
