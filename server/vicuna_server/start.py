"""Where the `vicuna-server` command begins; `cli` goes on."""

from vicuna_contract.exits import ExitCode
from vicuna_contract.start import start

__all__ = ["main"]


def main() -> int:
    """Run the command line; return its exit code."""
    return start("vicuna_server.cli", ExitCode.INTERRUPTED)
