"""Write the speed figures of the README from the tables of docs/performance.md: `python docs/benchmarks/readme.py`."""

from __future__ import annotations

import re

import page

COMMAND = "make bench-peers"
README = page.PAGE.parents[1] / "README.md"


def sentences(performance: str) -> list[str]:
    """Lines for the README, from the table that `make bench-peers` wrote into the page."""
    table = page.between(COMMAND, performance)
    small, large = (_figure(rf"^\| {grid}² \|.*\*\*([\d.]+)\*\*", table) for grid in (512, 1024))
    series = _figure(r"^\| Stemphony, probe_basis,.*\*\*([\d.]+)\*\*", table)
    return [
        f"On one core, abTEM needs {small} times the CPU time of Stemphony on a 512² grid, and {large} times on 1024².",
        f"For a series of 7 defoci × 256 positions, abTEM needs {series} times the CPU time of Stemphony's algorithm "
        "`probe_basis`.",
        "[docs/performance.md](docs/performance.md) has the tables.",
    ]


def _figure(pattern: str, table: str) -> str:
    found = re.search(pattern, table, re.MULTILINE)
    if found is None:
        raise SystemExit(f"docs/performance.md: the table of `{COMMAND}` has no row like {pattern}. Run `{COMMAND}`.")
    return found[1]


def main() -> None:
    """Rewrite the part of the README between the marks."""
    page.rewrite(COMMAND, sentences(page.PAGE.read_text(encoding="utf-8")), README)


if __name__ == "__main__":
    main()
