"""From a folder to the engine that serves it, for every command that runs a model. Imports torch only at the end."""

import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from vicuna_contract.extras import require
from vicuna_contract.names import MANIFEST_NAME
from vicuna_contract.serve_arguments import ENGINES
from vicuna_contract.templates import AUTO, FROM_TOKENIZER, TEMPLATE_SUFFIX
from vicuna_server.artifacts.manifest import Manifest
from vicuna_server.engine import Engine
from vicuna_server.engine.contents import WeightCheck, check_small_files, damaged
from vicuna_server.engine.prefetch import prefetch
from vicuna_server.engine.settings import LoadSettings
from vicuna_server.engine.vllm.settings import VllmSettings
from vicuna_server.errors import InputError, UsageError

if TYPE_CHECKING:
    from vicuna_server.engine.builtin.loading import LoadedModel

__all__ = ["check_folder", "create_engine"]

_READ = (".json", ".jinja", ".txt", ".model", ".safetensors", ".bin", ".py")


def check_folder(
    folder: Path, artifact_id: str | None = None, digest: str | None = None, kind: str | None = None
) -> Manifest | None:
    """Refuse a folder that is not a model, or is another one than expected; return its manifest, if it has one.

    Args:
        folder: The artifact, or any folder in Hugging Face's layout.
        artifact_id: The manifest must name this artifact; None: any artifact, also one without a manifest.
        digest: The manifest's files must have it; None: any digest.
        kind: Of engine, one of `ENGINES`; None: as `VICUNA_ENGINE` says.

    Raises:
        InputError: `ModelNotFound`, `ModelBroken`, `ArtifactMismatch` or `ArtifactDamaged`.
        UsageError: `VICUNA_ENGINE` names no engine.
    """
    scripted = _kind(kind) == "scripted"
    if not folder.is_dir():
        raise InputError("ModelNotFound", f"--model {folder} is not a folder; check the path and the volume's mount")
    _check_readable(folder)
    manifest = Manifest.load(folder)
    if artifact_id is not None:
        _check_artifact(folder, manifest, artifact_id)
    if digest is not None:
        _check_digest(folder, manifest, digest)
    if not scripted and not (folder / "config.json").is_file():
        raise InputError("ModelNotFound", f"{folder} is not a model, since it has no config.json; check the path")
    if manifest is not None and not scripted:
        _check_files(folder, manifest)
        check_small_files(folder, manifest.files)
    return manifest


def create_engine(settings: LoadSettings, kind: str | None = None, vllm: VllmSettings | None = None) -> Engine:
    """Return the engine, not loaded yet.

    Args:
        settings: What it serves.
        kind: One of `ENGINES`; None: as `VICUNA_ENGINE` says, builtin where that is not set.
        vllm: Where the vLLM server is, for that kind.

    Raises:
        UsageError: There is no engine of this name, a variable of the scripted engine is not a number, or the vLLM
            server's address is missing.
        ModuleNotFoundError: What transformers needs is not installed.
    """
    kind = _kind(kind)
    if kind == "vllm":
        return _vllm_engine(settings, vllm)
    if kind == "scripted":
        from vicuna_server.engine.scripted import ScriptedEngine, ScriptedSettings

        asked = FROM_TOKENIZER if settings.chat_template.endswith(TEMPLATE_SUFFIX) else settings.chat_template
        template = settings.pinned_template or FROM_TOKENIZER if asked == AUTO else asked
        script = ScriptedSettings.from_env(os.environ, settings.context_length)
        return ScriptedEngine(script, template, settings.max_concurrency)
    for late in ("tokenizers", "accelerate"):  # transformers imports them late, and would report the model as broken
        require(late)
    prefetch(settings.folder)  # while torch and transformers are imported, which takes seconds
    check = WeightCheck(settings.folder, settings.files)
    from vicuna_server.engine.builtin.engine import BuiltinEngine

    return BuiltinEngine(settings, partial(_load_checked, check))


def _vllm_engine(settings: LoadSettings, vllm: VllmSettings | None) -> Engine:
    if vllm is None:
        raise UsageError("--engine vllm needs --engine-url (VICUNA_ENGINE_URL), such as http://127.0.0.1:8001")
    for late in ("tokenizers", "jinja2"):
        require(late)
    from vicuna_server.engine.vllm.engine import VllmEngine

    return VllmEngine(settings, vllm, WeightCheck(settings.folder, settings.files))


def _load_checked(check: WeightCheck, settings: LoadSettings) -> "LoadedModel":
    """Load the model and wait until its weights are known to be the manifest's.

    Raises:
        InputError: `ArtifactDamaged`, also where the damage is why the model cannot be loaded.
    """
    from vicuna_server.engine.builtin.loading import load_model

    try:
        loaded = load_model(settings)
        check.finish()
    except BaseException:
        check.end()
        check.tell()
        raise
    return loaded


def _kind(kind: str | None) -> str:
    kind = kind or os.environ.get("VICUNA_ENGINE") or "builtin"
    kind = "builtin" if kind == "transformers" else kind  # as it was called before
    if kind not in ENGINES:
        raise UsageError(f"--engine (VICUNA_ENGINE) is {kind!r}; use one of {', '.join(ENGINES)}")
    return kind


def _check_readable(folder: Path) -> None:
    """Open each file that is read: libraries say of one that may not be read that it is not there, or broken."""
    try:
        for path in folder.iterdir():
            if path.suffix in _READ and path.is_file():
                os.close(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
    except PermissionError as error:
        raise InputError(
            "ModelBroken", f"{error.filename} cannot be read: {error.strerror}; let user {os.geteuid()} read the model"
        ) from error


def _check_artifact(folder: Path, manifest: Manifest | None, artifact_id: str) -> None:
    if manifest is None:
        raise InputError(
            "ArtifactMismatch", f"{folder} has no manifest, but artifact {artifact_id} is expected; merge it again"
        )
    if manifest.artifact_id != artifact_id:
        raise InputError(
            "ArtifactMismatch",
            f"{folder} holds artifact {manifest.artifact_id}, but {artifact_id} is expected; "
            "point --model at that artifact's folder",
        )


def _check_digest(folder: Path, manifest: Manifest | None, digest: str) -> None:
    if manifest is None or manifest.digest != digest:
        found = f"files whose digest is {manifest.digest}" if manifest else "no manifest"
        raise InputError(
            "ArtifactMismatch",
            f"{folder} holds {found}, but the merge wrote files with {digest}: they were changed, or merged again; "
            "put the files back, or remove the folder and merge again",
        )
    _refuse_unlisted(folder, manifest)


def _check_files(folder: Path, manifest: Manifest) -> None:
    for entry in manifest.files:
        path = folder / entry.path
        size = path.stat().st_size if path.is_file() else None
        if size != entry.size:
            found = "is missing" if size is None else f"has {size} bytes instead of {entry.size}"
            raise damaged(path, found)


def _refuse_unlisted(folder: Path, manifest: Manifest) -> None:
    """Refuse files that the manifest does not list and transformers would read: their bytes are not verified."""
    known = {entry.path for entry in manifest.files} | {MANIFEST_NAME}
    for path in sorted(folder.iterdir()):
        if path.name not in known and (path.is_dir() or path.suffix in _READ):
            raise damaged(path, "is not in its manifest")
