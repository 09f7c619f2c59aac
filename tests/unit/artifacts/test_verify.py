"""What a damaged artifact is found by."""

from pathlib import Path

from vicuna_server.artifacts.manifest import Manifest
from vicuna_server.errors import InputError


def test_a_manifest_vouches_for_itself(tmp_path: Path) -> None:
    """Whichever byte changes: the checksum, or the check that there is one, notices."""
    source = {"source": "file:///base", "fingerprint": "sampled:0"}
    manifest = Manifest.model_validate(
        {
            "artifactID": "0123456789abcdef",
            "inputs": {"base": source},
            "recipe": {"kind": "none", "dtype": "float16", "version": 1},
        }
        | {"chatTemplate": "vicuna_v1.1", "tensorCount": 1, "totalSize": 0, "files": []}
        | {"tool": {"name": "vicuna-server", "version": "1"}}
    )
    text = manifest.to_json().encode()
    path = tmp_path / "vicuna-manifest.json"
    path.write_bytes(text)
    assert Manifest.load(tmp_path) == manifest
    assert Manifest.is_sealed(tmp_path)
    for place in range(len(text)):
        path.write_bytes(text[:place] + bytes([text[place] ^ 1]) + text[place + 1 :])
        try:
            unnoticed = Manifest.load(tmp_path) is not None and Manifest.is_sealed(tmp_path)
        except InputError:
            unnoticed = False
        assert not unnoticed, text[place : place + 20]
