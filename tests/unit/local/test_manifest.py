"""A manifest that cannot be run says which file, which line or which field."""

from pathlib import Path

import pytest

from vicuna_operator.errors import LocalRunError
from vicuna_operator.local.manifest import read_model

GOOD = """
apiVersion: vicuna.dev/v1alpha1
kind: VicunaModel
metadata: {name: demo}
spec:
  weights: {base: {source: "file:///weights/base"}}
"""


def read(tmp_path: Path, text: str) -> LocalRunError:
    path = tmp_path / "model.yaml"
    path.write_text(text)
    with pytest.raises(LocalRunError) as caught:
        read_model(path)
    assert str(path) in str(caught.value)
    return caught.value


def test_other_objects_of_the_file_are_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "model.yaml"
    path.write_text(f"kind: ConfigMap\n---{GOOD}---\n")
    assert read_model(path).name == "demo"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: [", "line"),
        ("", "0 objects of kind VicunaModel"),
        (f"{GOOD}---{GOOD}", "2 objects of kind VicunaModel"),
        (GOOD.replace("v1alpha1", "v9"), "apiVersion"),
        (GOOD.replace("{name: demo}", "{}"), "metadata.name"),
        (GOOD.replace("source:", "sauce:"), "spec.weights.base"),
        (GOOD + "  servnig: {}\n", "spec.servnig"),
        (GOOD + "  serving: {replicas: many}\n", "spec.serving.replicas"),
    ],
)
def test_wrong_manifests_name_the_place(tmp_path: Path, text: str, words: str) -> None:
    error = read(tmp_path, text)
    assert words in str(error)
    assert error.exit_code == 65


def test_a_missing_file_is_no_input(tmp_path: Path) -> None:
    with pytest.raises(LocalRunError, match="No such file") as caught:
        read_model(tmp_path / "absent.yaml")
    assert caught.value.exit_code == 66


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "model.yaml"
    path.write_bytes(b"\xff\xfe\xff")
    with pytest.raises(LocalRunError, match="UTF-8"):
        read_model(path)
