"""What lies in a folder that holds no weights under the names they are looked for, and what to do with it."""

import re
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

from vicuna_server.errors import InputError
from vicuna_server.files.beneath import list_folder
from vicuna_server.files.descent import LeavesSourceError
from vicuna_server.wording import printable

__all__ = ["FolderContent", "broken_link", "look_into", "what_is_there"]

_MOST_NAMED = 3
_CACHE = re.compile(r"models--(?P<org>.+?)--(?P<name>.+)")
_CHECKPOINT = re.compile(r"(?:checkpoint|epoch|step|iter)[-_]?(\d+)")
_WEIGHTS = re.compile(
    r"(model|pytorch_model)(-.*)?\.(safetensors|bin)(\.index\.json)?|adapter_model\.(safetensors|bin)|"
    r"consolidated\.\d\d\.pth"
)
# what files of these names are, and how to get weights that can be read; the first match is reported
_KINDS: tuple[tuple[str, str], ...] = (
    (r".+\.(part|incomplete|crdownload|aria2|tmp|download|!qb)", "unfinished downloads; fetch them again"),
    (
        r"pytorch_model_fsdp.*|.+\.distcp",
        "shards of FSDP; join them with accelerate merge-weights, or save with FULL_STATE_DICT",
    ),
    (
        r"zero_to_fp32\.py|.*zero_pp_rank.*|mp_rank.*|.*_optim_states\.pt|.*_model_states\.pt",
        "a checkpoint of DeepSpeed; run its zero_to_fp32.py",
    ),
    (r".+\.gguf", "GGUF files of llama.cpp; give the original weights, which they were made from"),
    (r"ggml.*\.bin|.+\.ggml|.+\.ggmlv3.*", "GGML files of llama.cpp; give the original weights, which they came from"),
    (
        r"consolidated(-\d+-of-\d+)?\.safetensors",
        "weights in Mistral's own layout; fetch model-….safetensors of the same repository, or convert them with "
        "transformers' convert_mistral_weights_to_hf.py",
    ),
    (r"consolidated\.\d\d\.pth", "weights in Meta's layout without their params.json; put it beside them"),
    (
        r"(pytorch_)?model[.-](fp16|fp32|bf16|float16|bfloat16|ema|non_ema|int8|4bit|8bit)\b.*\.(safetensors|bin)|"
        r"(pytorch_)?model.*\.(fp16|fp32|bf16|ema|non_ema)\.(safetensors|bin)",
        "a variant by name; rename it to model.safetensors (or pytorch_model.bin), a shard without the word in between",
    ),
    (r"adapter_model\.(safetensors|bin)", "an adapter's weights without their adapter_config.json; put it beside them"),
    (r"tf_model.*\.h5|.+\.h5|.+\.keras", "TensorFlow's weights; save them as safetensors with transformers"),
    (r"flax_model.*\.msgpack|.+\.msgpack", "Flax's weights; save them as safetensors with transformers"),
    (r".+\.onnx(_data|\.data)?|openvino_model\..+|.+\.engine|.+\.tflite|.+\.mlmodel", "a compiled model; give weights"),
    (r"weights.*\.npz|.+\.npz|.+\.npy", "arrays of NumPy or MLX; save them as safetensors"),
    (r".+\.nemo|.+\.ot|.+\.mar", "a packed model of another library; export it to Hugging Face's layout"),
    (r".+\.(zip|tar|tgz|tar\.gz|tar\.bz2|tar\.xz|tar\.zst|7z|rar)", "an archive; unpack it"),
    (r"(?!(optimizer|scheduler|scaler|rng_state|random_states|training_args)).+\.(pt|pth|ckpt)",
     "a checkpoint of torch under a name of its own; save it as model.safetensors by transformers' names"),
    (r".+\.safetensors", "safetensors under a name of its own; name it model.safetensors if it is the whole model"),
    (r"(?!(optimizer|scheduler|training_args)).+\.bin",
     "a file under a name of its own; name it pytorch_model.bin if it is the whole model"),
)  # fmt: skip


@dataclass(frozen=True)
class FolderContent:
    """What lies in a folder, by name.

    Attributes:
        files: names of files, and of links that leave the source: who opens such a one is told.
        folders: names of folders.
        dangling: where links point that lead nowhere.
    """

    files: frozenset[str]
    folders: frozenset[str] = frozenset()
    dangling: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, folder: Path) -> "FolderContent":
        """Look into a folder.

        Raises:
            LeavesSourceError: it lies behind a link that leaves the source.
            OSError: it cannot be read.
        """
        kinds: dict[str, set[str]] = {"file": set(), "folder": set(), "outside": set()}
        dangling = {}
        for entry in list_folder(folder):
            kinds.setdefault(entry.kind, set()).add(entry.name)
            if entry.kind == "dangling":
                dangling[entry.name] = entry.target
        return cls(frozenset(kinds["file"] | kinds["outside"]), frozenset(kinds["folder"]), dangling)


def look_into(folder: Path, holding: str) -> FolderContent:
    """Return what lies in a folder that a user named; `holding` says what it should hold.

    Raises:
        InputError: `SourceNotFound` where there is no such folder, `SourceForbidden` where it cannot be read.
    """
    try:
        return FolderContent.of(folder)
    except (FileNotFoundError, NotADirectoryError) as error:
        is_file = isinstance(error, NotADirectoryError) and folder.exists()
        what = "is a file, not a folder" if is_file else "does not exist"
        raise InputError("SourceNotFound", f"{folder} {what}; name the folder that holds {holding}") from error
    except OSError as error:
        raise InputError("SourceForbidden", f"{folder} cannot be read: {error.strerror}; check its mode") from error


def broken_link(content: FolderContent, names: Collection[str]) -> str | None:
    """Say that one of these names is a link to nothing: the rest of a sentence; None where none is."""
    broken = [name for name in sorted(names) if name in content.dangling]
    if not broken:
        return None
    what = f"{broken[0]} is a link to {content.dangling[broken[0]]}, which is not there"
    more = f" (and {len(broken) - 1} more like it)" if broken[1:] else ""
    return f"{what}{more}; mount or copy the whole cache, its blobs too, or copy the folder with cp -L"


def what_is_there(folder: Path | str, content: FolderContent, wanted: str = "a model") -> str:
    """Say what a folder holds in place of weights, and what to do: the end of a sentence.

    Args:
        folder: which one it is.
        content: what lies there.
        wanted: what is to be named instead where nothing better is known.
    """
    link = broken_link(content, [name for name in content.dangling if _WEIGHTS.fullmatch(name)] or content.dangling)
    if link:
        return link
    below = _below(Path(folder), content)
    if below:
        return below
    kind = _kind(content)
    if kind:
        return kind
    if not content.files and not content.folders:
        return f"it is empty; name {wanted}"
    names = sorted(content.files) + [f"{name}/" for name in sorted(content.folders)]
    return f"it holds {_some(names)}; name {wanted}"


def _kind(content: FolderContent) -> str | None:
    """Say what the files are by their names."""
    for pattern, what in _KINDS:
        found = sorted(name for name in content.files if re.fullmatch(pattern, name, re.IGNORECASE))
        if found:
            return f"it holds {_some(found)}, {what}"
    return None


def _below(folder: Path, content: FolderContent) -> str | None:
    """Name the folder below that is meant, where there is one."""
    return _cached(folder, content) or _numbered(folder, content) or _sharded(content) or _inner(folder, content)


def _cached(folder: Path, content: FolderContent) -> str | None:
    """Name a commit's folder of a hub's cache."""
    if {"snapshots", "blobs"} & content.folders:
        cache = _CACHE.fullmatch(folder.name)
        which = f"the cache's folder of {cache['org']}/{cache['name']}" if cache else "a folder of a hub's cache"
        commits = _names_in(folder / "snapshots")
        return f"it is {which}; name a commit's folder in it, {folder / 'snapshots' / _one(commits, '<commit>')}"
    caches = sorted(name for name in content.folders if _CACHE.fullmatch(name))
    if caches:
        return f"it is a hub's cache; name a commit's folder in it, such as {folder / caches[0]}/snapshots/<commit>"
    return None


def _numbered(folder: Path, content: FolderContent) -> str | None:
    """Name the last of a training's checkpoints."""
    numbered = [(int(match[1]), name) for name in content.folders if (match := _CHECKPOINT.fullmatch(name))]
    if numbered:
        names = [name for _, name in sorted(numbered)]
        return f"it holds {_some([f'{name}/' for name in names])}; name the one that is meant, {folder / names[-1]}"
    return None


def _sharded(content: FolderContent) -> str | None:
    """Say how shards of a training become weights."""
    if any(re.fullmatch(r"global_step\d+", name) for name in content.folders) and "zero_to_fp32.py" in content.files:
        return "it holds a checkpoint of DeepSpeed; run its zero_to_fp32.py"
    fsdp = sorted(name for name in content.folders if name.startswith("pytorch_model_fsdp"))
    if fsdp:
        return f"it holds {fsdp[0]}/, shards of FSDP; join them with accelerate merge-weights"
    return None


def _inner(folder: Path, content: FolderContent) -> str | None:
    """Name the folders below that hold weights."""
    inner = sorted(
        name for name in content.folders if any(_WEIGHTS.fullmatch(file) for file in _names_in(folder / name))
    )
    return f"its weights lie in {_some([f'{name}/' for name in inner])}; name {folder / inner[0]}" if inner else None


def _names_in(folder: Path) -> list[str]:
    try:
        return [entry.name for entry in list_folder(folder)]
    except (OSError, LeavesSourceError):
        return []


def _one(names: list[str], otherwise: str) -> str:
    return names[0] if len(names) == 1 else otherwise


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return ", ".join(map(printable, names[:_MOST_NAMED])) + more
