"""What documents tell people to type and to apply: every command is one that its program takes, every object is valid.

Nothing is run. Commands of ours are read by their real parsers, `make` by its targets, `helm --set` by the chart's
schema; files that are named exist. YAML is held against the CRD or the chart's schema, whichever it is for.
"""

import itertools
import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import jsonschema
import pytest
import yaml

from support import crd_schema
from support.documented_commands import OTHERS, PROGRAMS, commands, fault, misnamed, verbs
from support.documents import CHART, PAGES, ROOT, SHELL, Code, blocks, shell, spans
from vicuna_operator.plugin.cli import create_parser as plugin_parser

# Releases that are over had other commands.
CURRENT = [page for page in PAGES if page.name != "CHANGELOG.md"]
SUMMARY = re.compile(r"\[-|\[\[|\[…")
OURS = re.compile(r"^(?:kubectl vicuna|kubectl-vicuna|vicuna-operator|vicuna-server)(?= [a-z])", re.MULTILINE)


def usages(text: str) -> list[str]:
    """Cut a text into summaries, each of which begins with a program's name at the start of a line."""
    starts = [match.start() for match in OURS.finditer(text)]
    return [text[start:end] for start, end in itertools.pairwise([*starts, len(text)])]


def faults(code: Code) -> Iterator[str]:
    """Yield what is wrong with the commands of a block."""
    if SUMMARY.search(code.text) and (summaries := usages(code.text)):
        yield from filter(None, map(misnamed, summaries))
        return
    for words in commands(shell(code)):
        if found := fault(words):
            yield f"{' '.join(words)}: {found}"


def written(*languages: str) -> list[Code]:
    """Return the blocks of all pages in any of these languages."""
    return [code for page in CURRENT for code in blocks(page) if code.language in languages]


def test_every_command_is_one_that_its_program_takes() -> None:
    assert {str(code): found for code in written(*SHELL) if (found := list(faults(code)))} == {}


def test_every_verb_of_the_plugin_has_its_row() -> None:
    rows = re.findall(r"^\| `kubectl vicuna (\w+)", (ROOT / "docs" / "using.md").read_text(), flags=re.MULTILINE)
    assert Counter(rows) == Counter(verbs(plugin_parser()).keys())


def test_commands_of_every_program_are_found() -> None:
    found = {words[0] for code in written(*SHELL) if not SUMMARY.search(code.text) for words in commands(shell(code))}
    assert found >= PROGRAMS | OTHERS


def test_commands_in_sentences_name_what_the_program_has() -> None:
    found = {str(code): misnamed(code.text) for page in CURRENT for code in spans(page) if usages(code.text)}
    assert {place: what for place, what in found.items() if what} == {}


def wrong(code: Code) -> list[str]:
    """Return what is wrong with a block of YAML or JSON."""
    if code.language == "json":
        json.loads(code.text)
        return []
    return [error for body in yaml.safe_load_all(code.text) for error in objections(body)]


def objections(body: object) -> list[str]:
    if not isinstance(body, dict):
        return []
    if body.get("kind") == "VicunaModel":
        return crd_schema.admit(body)[1]
    if set(body) == {"spec"}:  # a part of a VicunaModel: no field that an API server would drop
        node = crd_schema.schema()["properties"]["spec"]
        return (
            [] if crd_schema.pruned(body["spec"], node) == body["spec"] else ["spec has a field that the CRD has not"]
        )
    schema = json.loads((CHART / "values.schema.json").read_text())
    if set(body) <= set(schema["properties"]):
        return [error.message for error in jsonschema.Draft7Validator(schema).iter_errors(body)]
    return [] if "apiVersion" in body else [f"neither a VicunaModel nor values of the chart: {sorted(map(str, body))}"]


def test_every_object_is_valid() -> None:
    assert {str(code): found for code in written("yaml", "json") if (found := wrong(code))} == {}


def page_with(folder: Path, text: str) -> list[Code]:
    page = folder / "page.md"
    page.write_text(text)
    return list(blocks(page))


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("vicuna-server merge --base a --output b --frob 1", "unrecognized arguments: --frob"),
        ("vicuna-server merge --base a", "required: --output"),
        ("vicuna-server mrege --base a", "invalid choice: 'mrege'"),
        ("vicuna-operator up examples/demo.yaml -- vicuna-server chat --frob", "unrecognized arguments: --frob"),
        ("X=$(kubectl vicuna key make alice)", "invalid choice: 'make'"),
        ('for x in a b; do\n  kubectl vicuna wait "$x" --timeout soon || break\ndone', "'soon' is not a number from 0"),
        ("make lint\nmake all ARGS=1", "no target all"),
        ("helm upgrade a charts/vicuna-operator --set gateway.enabeld=true", "no value gateway.enabeld"),
        ("kubectl delete pvc a # the\nweights kubectl delete crd b", "weights is not the name of a program"),
        ("kubectl apply -f examples/none.yaml", "there is no examples/none.yaml"),
        ("vicuna-server merge --base URI [--tleda URI]…", "has no --tleda"),
        ("vicuna-server artifacts lst ROOT [--json]", "has no lst"),
    ],
)
def test_a_wrong_command_is_named(tmp_path: Path, typed: str, said: str) -> None:
    (code,) = page_with(tmp_path, f"```bash\n{typed}\n```\n")
    (found,) = faults(code)
    assert said in found


def test_what_is_printed_commented_or_fed_is_no_command(tmp_path: Path) -> None:
    text = "```console\n$ make lint \\\n    ARGS=1     # make nothing\nmake nothing\n```\n"
    text += "\n    cat <<'END' | kubectl apply -f -\n    make nothing\n    END\n    make check > make\n"
    found = [words for code in page_with(tmp_path, text) for words in commands(shell(code))]
    assert found == [
        ["make", "lint", "ARGS=1"],
        ["cat"],
        ["kubectl", "apply", "-f", "-"],
        ["make", "check"],
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("spec: {weights: {bsae: {}}}", "a field that the CRD has not"),
        ("gateway: {maxRequests: 0}", "less than the minimum"),
        ("frob: 1", "neither a VicunaModel nor values"),
        ("kind: VicunaModel\nmetadata: {name: a}\nspec: {weights: {}}", "'base' is a required property"),
    ],
)
def test_a_wrong_object_is_named(tmp_path: Path, text: str, said: str) -> None:
    (code,) = page_with(tmp_path, f"```yaml\n{text}\n```\n")
    assert said in "".join(wrong(code))
