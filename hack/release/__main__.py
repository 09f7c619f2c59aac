"""The steps of a release, each a command: see docs/releasing.md. `make release` runs them."""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from release import locks, mirror, publishing, wheels
from release.changelog import date_of, write_changelog
from release.checksums import sign
from release.parts import ReleaseError, checked_form
from release.plugin import build_plugin
from release.source import TREE, commit_time

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one step; 1, and one line that says why, where it cannot be done."""
    arguments = _parser().parse_args(argv)
    try:
        arguments.run(arguments)
    except ReleaseError as error:
        print(f"release: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="release", description="Make a release, or one step of it.")
    steps = parser.add_subparsers(required=True, metavar="STEP")

    step = steps.add_parser("build", help="all files of a release, into a folder")
    step.add_argument("version")
    step.add_argument("--base", required=True, help="base image of all images, by digest")
    step.add_argument("--output", type=Path, required=True)
    step.add_argument("--registry", default="", help="where the images will be: REGISTRY/OWNER")
    step.add_argument("--images", default="", help="which images; all by default")
    step.add_argument("--platforms", default="", help="such as linux/amd64,linux/arm64; the builder's own by default")
    step.set_defaults(run=lambda a: publishing.build(publishing.Wanted(**_without_run(a))))

    step = steps.add_parser("sign", help="sign SHA256SUMS of a release with a private key of OpenSSH")
    step.add_argument("folder", type=Path)
    step.add_argument("key", type=Path)
    step.set_defaults(run=lambda a: sign(a.folder, a.key))

    step = steps.add_parser("push", help="copy images and chart of a release into the registry that the chart names")
    step.add_argument("folder", type=Path)
    step.add_argument("--plain-http", action="store_true", help="the registry has no TLS")
    step.set_defaults(run=lambda a: publishing.push(a.folder, plain_http=a.plain_http))

    step = steps.add_parser("mirror", help="list images of a release by digest; copy them and the chart")
    step.add_argument("chart", help="oci://… or the file of a packaged chart")
    step.add_argument("--version", default="", help="of the chart in oci://…; the newest by default")
    step.add_argument("--to", default="", help="the other registry, with the path in it; only list by default")
    step.add_argument("--plain-http", action="store_true", help="the registries have no TLS")
    step.set_defaults(run=lambda a: mirror.mirror(a.chart, a.version, a.to, plain_http=a.plain_http))

    step = steps.add_parser("wheel", help="the wheel alone")
    step.add_argument("--output", type=Path, required=True)
    step.set_defaults(run=lambda a: wheels.build_wheel(TREE, a.output, commit_time(TREE)))

    step = steps.add_parser("plugin", help="kubectl-vicuna as one file, of a wheel")
    step.add_argument("wheel", type=Path)
    step.add_argument("--output", type=Path, required=True)
    step.add_argument("--target", action="append", type=_target, help="PLATFORM:PYTHON; all by default")
    step.set_defaults(
        run=lambda a: build_plugin(a.wheel, publishing.PLUGIN_LOCK, a.output, commit_time(TREE), a.target)
    )

    step = steps.add_parser("changelog", help="move the files of changes/ into CHANGELOG.md, as a version of today")
    step.add_argument("version")
    step.set_defaults(run=lambda a: write_changelog(TREE, checked_form(a.version), date_of(time.time())))

    step = steps.add_parser("locks", help="make the lists of dependencies with hashes anew (uv)")
    step.set_defaults(run=lambda _: locks.write_locks(TREE))
    return parser


def _without_run(arguments: argparse.Namespace) -> dict[str, Any]:
    return {name: value for name, value in vars(arguments).items() if name != "run"}


def _target(text: str) -> tuple[str, str]:
    platform, _, version = text.partition(":")
    return platform, version


if __name__ == "__main__":
    sys.exit(main())
