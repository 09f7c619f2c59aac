"""Where the `vicuna-operator` command begins; `cli` goes on."""

from vicuna_contract.start import start

__all__ = ["main"]


def main() -> int:
    """Run the command line; return its exit code."""
    return start("vicuna_operator.cli", 130)
