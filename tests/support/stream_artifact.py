"""A folder that is an artifact by its manifest alone, for scripted servers whose streams others are to go on with."""

from pathlib import Path

from vicuna_server.artifacts.manifest import Inputs, Manifest, Recipe, Source, Tool

__all__ = ["stream_artifact"]


def stream_artifact(folder: Path) -> Path:
    """Write it, and return the folder."""
    manifest = Manifest(
        artifact_id="0123456789abcdef",
        inputs=Inputs(base=Source(source="file:///base", fingerprint="x")),
        recipe=Recipe(kind="none", dtype="float16", version=1),
        chat_template="vicuna_v1.1",
        tensor_count=0,
        total_size=0,
        files=[],
        tool=Tool(name="test", version="0"),
    )
    folder.mkdir()
    (folder / "vicuna-manifest.json").write_text(manifest.to_json())
    return folder
