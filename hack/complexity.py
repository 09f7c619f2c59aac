"""Fails where a function decides too much; part of `make check`.

ruff's C90 counts statements only. Here radon counts conditional expressions, comprehensions and `and`/`or` too, in
every function, those inside functions included. What an assertion says is not counted.
"""

import argparse
import ast
import sys
from collections.abc import Iterator
from pathlib import Path

from radon.visitors import ComplexityVisitor

MOST = 10


def main() -> int:
    parser = argparse.ArgumentParser(description=f"Name every function whose cyclomatic complexity is above {MOST}.")
    parser.add_argument("folders", nargs="+", type=Path)
    args = parser.parse_args()
    files = sorted(path for folder in args.folders for path in folder.rglob("*.py"))
    over = [found for path in files for found in above(path)]
    for found in over:
        print(found, file=sys.stderr)
    if over:
        print(f"complexity: {len(over)} above {MOST}; give a part a name and a function of its own", file=sys.stderr)
    return 1 if over else 0


def above(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            (function,) = ComplexityVisitor.from_ast(node, off=False, no_assert=True).functions
            if function.complexity > MOST:
                yield f"{path}:{node.lineno}: {node.name} has complexity {function.complexity}"


if __name__ == "__main__":
    sys.exit(main())
