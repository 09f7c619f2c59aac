"""How transformers' LlamaTokenizer uses a tokenizer.json: its vocabulary and tokens, with spaces put in its own way.

Other servers give models whose tokenizer_config.json names that class these ids, so this one does too. The class
writes a space in front of a text (`legacy`: of each text between special tokens) and ignores what tokenizer.json says
about spaces.
"""

from dataclasses import replace

from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers

from vicuna_server.prompts.tokenizer_files import TokenizerFiles

__all__ = ["in_llama_form", "takes_llama_form"]

_SPACE = "\u2581"
_MODEL_TYPES = ("llama", "")
"""Other types that name this class, such as Mistral's, are loaded with tokenizer.json as it is."""
_DEFAULTS = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}


def takes_llama_form(files: TokenizerFiles, content: str) -> bool:
    """Whether transformers would load a folder with this class.

    Args:
        files: What the folder's small files say.
        content: Text of tokenizer.json; a byte-level vocabulary, as LLaMA 3's, has no such spaces.
    """
    named = str(files.config.get("tokenizer_class") or "").removesuffix("Fast")
    return named == "LlamaTokenizer" and files.model_type in _MODEL_TYPES and '"ByteLevel"' not in content


def in_llama_form(backend: Tokenizer, files: TokenizerFiles) -> tuple[Tokenizer, TokenizerFiles]:
    """Return a tokenizer of the same vocabulary that treats spaces as the class does, and the tokens to add to it."""
    front = files.config.get("add_prefix_space") in (None, True)
    model = backend.model
    model.unk_token, model.fuse_unk, model.byte_fallback, model.dropout = None, True, True, None
    model.ignore_merges = False
    made = Tokenizer(model)
    scheme = ("always" if files.config.get("legacy") else "first") if front else "never"
    made.pre_tokenizer = pre_tokenizers.Metaspace(replacement=_SPACE, prepend_scheme=scheme, split=False)
    steps = [decoders.Replace(_SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    made.decoder = decoders.Sequence([*steps, *([decoders.Strip(content=" ", left=1)] if front else [])])
    if backend.post_processor is not None:
        made.post_processor = backend.post_processor
    defaults = {name: AddedToken(text, special=True) for name, text in _DEFAULTS.items() if name not in files.config}
    return made, replace(files, named={**defaults, **files.named}).with_forms_of_added()
