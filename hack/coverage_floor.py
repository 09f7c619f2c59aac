"""Judge the coverage that `make coverage` has measured by `fail_under` of pyproject.toml, a floor that only rises."""

import io
import sys

import coverage


def verdict(total: float, floor: float) -> tuple[str, int]:
    """Return what to say of a coverage in percent, and the exit status."""
    found = f"coverage: make unit covers {total:.2f} % of lines and branches; pyproject.toml asks for {floor:g} %"
    if total < floor:
        return f"{found}. Add tests for what you added; `coverage report --skip-covered -m` shows the gaps.", 1
    if total >= floor + 1:
        return f"{found}. Raise fail_under in pyproject.toml to {int(total)}.", 0
    return f"{found}.", 0


def main() -> int:
    """Read the data and say how it compares."""
    measured = coverage.Coverage()
    measured.load()
    said, status = verdict(measured.report(file=io.StringIO()), float(measured.get_option("report:fail_under") or 0))
    print(said)
    return status


if __name__ == "__main__":
    sys.exit(main())
