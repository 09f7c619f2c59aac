"""Commands in documents, held against the programs' own parsers; nothing is run."""

import argparse
import contextlib
import importlib
import io
import itertools
import json
import re
import shlex
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

from support.documents import CHART, ROOT
from vicuna_contract.arguments import Parser
from vicuna_operator import cli as operator_cli
from vicuna_operator.plugin import cli as plugin_cli
from vicuna_server.cli import COMMANDS

PROGRAMS = {"kubectl-vicuna", "vicuna-operator", "vicuna-server"}
OTHERS = {"curl", "helm", "jq", "kind", "kubectl", "make", "npm", "pip", "uv", "velero"}
OTHERS |= {"cosign", "sha256sum", "skopeo", "ssh-keygen"}
# Of the shell itself, and what takes what the others print.
SHELLS = {"break", "cat", "cd", "done", "echo", "for", "grep", "your-program"}
# What stands before a command: an assignment, or a word of the shell.
BEFORE = re.compile(r"[A-Za-z_]+=.*|do|then|else|exec|!|time|sudo")
PUNCTUATION = "();<>|&\n"
FOLDERS = "bench|charts|crds|docs|examples|hack|images|operator|server|tests|web"
NAMED_FILE = re.compile(rf"(?:\./)?(?:{FOLDERS})/[A-Za-z0-9._/-]+")
FLAG = re.compile(r"(?<![\w-])--?[a-z][a-z-]*")


def commands(text: str) -> Iterator[list[str]]:
    """Yield the words of each command of a shell's text, also of those in `$(…)`."""
    lexer = shlex.shlex(text, posix=True, punctuation_chars=PUNCTUATION)
    lexer.whitespace, lexer.whitespace_split, lexer.commenters = " \t", True, ""
    words: list[str] = []
    to_file = False
    for word in [*lexer, "\n"]:
        if word and not set(word) - set(PUNCTUATION):
            to_file = ">" in word
            if not to_file:
                yield from _command(words)
                words = []
        elif to_file:
            to_file = False
        else:
            words.append(word)


def _command(words: list[str]) -> Iterator[list[str]]:
    while words and BEFORE.fullmatch(words[0]):
        words = words[1:]
    if words[:2] == ["kubectl", "vicuna"]:
        words = ["kubectl-vicuna", *words[2:]]
    if words:
        yield [word for word in words if word != "…"]


def fault(words: Sequence[str]) -> str | None:
    """Return what a program of ours, make, helm or a missing file would have against a command; None for nothing."""
    if words[0] not in PROGRAMS | OTHERS | SHELLS:
        return f"{words[0]} is not the name of a program; mark a block that has no commands as text"
    missing = [word for word in words if NAMED_FILE.fullmatch(word) and not (ROOT / word).exists()]
    if missing:
        return f"there is no {missing[0]}"
    if words[0] in PROGRAMS:
        return parsed(words)
    return {"make": without_target, "helm": without_value}.get(words[0], lambda _: None)(words[1:])


def parsed(words: Sequence[str]) -> str | None:
    """Return what the parser of a program of ours says of a command, after which it would not run."""
    end = list(words).index("--") if "--" in words else len(words)
    if words[end + 1 :] and (found := fault(words[end + 1 :])):
        return found
    parser, rest = parser_of(words[:end])
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
            parser.parse_args(rest)
    except SystemExit as stopped:
        return said.getvalue().strip() if stopped.code else None
    return None


def parser_of(words: Sequence[str]) -> tuple[argparse.ArgumentParser, list[str]]:
    """Return the parser of a command, and the words that are left for it."""
    program, command, rest = words[0], next(iter(words[1:]), ""), list(words[1:])
    if program == "vicuna-server" and command in COMMANDS:
        return server_parser(command), rest[1:]
    if program == "vicuna-server":
        parser = Parser(prog=program)
        parser.add_argument("--version", action="version", version="")
        parser.add_argument("command", choices=sorted(COMMANDS))
        return parser, rest
    return (plugin_cli.create_parser() if program == "kubectl-vicuna" else operator_cli.create_parser(command)), rest


@cache
def server_parser(command: str) -> argparse.ArgumentParser:
    parser = Parser(prog=f"vicuna-server {command}")
    importlib.import_module(COMMANDS[command].module).add_arguments(parser)
    return parser


def misnamed(usage: str) -> str | None:
    """Return what a summary such as `vicuna-server merge --base URI [--delta URI]…` names and the program has not."""
    words = next(commands(re.split(r"[\[|…]", usage)[0]))
    parser, rest = parser_of(words)
    if words[0] == "vicuna-server" and words[1:] and words[1] not in COMMANDS:
        return f"vicuna-server has no {words[1]}"
    parser, unknown = _innermost(parser, rest)
    unknown += [flag for flag in FLAG.findall(usage) if flag not in parser._option_string_actions]
    return f"{parser.prog} has no {unknown[0]}" if unknown else None


def _innermost(parser: argparse.ArgumentParser, words: Sequence[str]) -> tuple[argparse.ArgumentParser, list[str]]:
    """Follow the verbs of a command to the last one's parser; name those that do not exist."""
    for word in words:
        below = verbs(parser)
        if word in below:
            parser = below[word]
        elif below and word.islower():
            return parser, [word]
    return parser, []


def verbs(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """Return the commands below a parser, each with its own parser."""
    actions = (action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    return next((action.choices for action in actions), {})


def without_target(words: Sequence[str]) -> str | None:
    """Return the target that make does not have."""
    named = [word for word in words if not word.startswith("-") and "=" not in word]
    targets = re.findall(r"^([a-z0-9-]+):(?!=)", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    return next((f"the Makefile has no target {word}" for word in named if word not in targets), None)


def without_value(words: Sequence[str]) -> str | None:
    """Return the value of the chart that helm's `--set` names and the schema does not know."""
    schema = json.loads((CHART / "values.schema.json").read_text())
    for flag, word in itertools.pairwise(words):
        if flag == "--set" and not chart_has(schema, word.partition("=")[0].split(".")):
            return f"the chart has no value {word}"
    return None


def chart_has(schema: dict[str, Any], path: Sequence[str]) -> bool:
    """Return whether the chart's schema knows a value; below an open object every name counts."""
    node = schema
    for name in path:
        node = schema["definitions"][node["$ref"].rpartition("/")[2]] if "$ref" in node else node
        if "properties" not in node:
            return True
        if name not in node["properties"]:
            return False
        node = node["properties"][name]
    return True
