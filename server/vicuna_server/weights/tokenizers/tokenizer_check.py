"""Comparing tokenizer.json with tokenizer.model on sampled texts, each read by the library it was made for."""

from pathlib import Path

from vicuna_server.files.beneath import read_file
from vicuna_server.weights.tokenizers.sentencepiece_format import PieceType, parse_model

__all__ = ["disagreement"]

_TEXTS = (
    "The quick brown fox jumps over the lazy dog; isn't it 3.14159?",
    "def f(x):\n    return  x ** 2  # two\n\n\tend",
    "Größe, naïve café, Москва, Αθήνα, العربية",
    "你好世界。中国人民 日本語のテキスト 한국어",
    "🙂 👩‍🔬 \u200b∑∫√ ½ ™",
)
_JOINED = 40  # further texts, made of the vocabulary's pieces
_PIECES = 6  # in each


def disagreement(model_path: Path, tokenizer_json: bytes) -> str | None:
    """Return a text that the two cut differently, None where they agree or one of them cannot be read.

    Texts neither begin with a space nor hold special tokens: there, programs differ by intent.

    Args:
        model_path: tokenizer.model.
        tokenizer_json: tokenizer.json's content.
    """
    import sentencepiece
    from tokenizers import Tokenizer

    content = read_file(model_path)
    try:
        pieces = [piece.text for piece in parse_model(content).pieces if piece.type is PieceType.NORMAL]
        ours = sentencepiece.SentencePieceProcessor(model_proto=content)
        theirs = Tokenizer.from_str(tokenizer_json.decode())
    except Exception:  # noqa: BLE001 - both libraries raise bare ones; a file of another kind is nothing to compare
        return None
    for text in (*_TEXTS, *_joined(pieces)):
        if theirs.encode(text, add_special_tokens=False).ids != ours.encode(text):
            return text
    return None


def _joined(pieces: list[str]) -> list[str]:
    """Return texts of pieces from all over the vocabulary."""
    total = _JOINED * _PIECES
    picked = [pieces[place * len(pieces) // total].replace("▁", " ") for place in range(total)] if pieces else []
    return ["x" + "".join(picked[start::_JOINED]) for start in range(_JOINED)]
