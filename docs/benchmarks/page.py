"""Tables of docs/performance.md that commands make, each between two marks."""

from __future__ import annotations

import datetime
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

LOAD_BEFORE = os.getloadavg()[0]
PAGE = Path(__file__).resolve().parents[1] / "performance.md"


def rewrite(command: str, lines: Iterable[str], page: Path = PAGE) -> None:
    """Replace what stands between `<!-- begin: COMMAND -->` and `<!-- end: COMMAND -->`, and print it."""
    text, begin, end = page.read_text(encoding="utf-8"), f"<!-- begin: {command} -->", f"<!-- end: {command} -->"
    if text.count(begin) != 1 or text.count(end) != 1 or text.index(begin) > text.index(end):
        raise SystemExit(f"{page}: it must have one line {begin} and, below it, one line {end}")
    made = "\n".join(lines)
    before, rest = text.split(begin)
    page.write_text(f"{before}{begin}\n{made}\n{end}{rest.split(end)[1]}", encoding="utf-8")
    print(made)
    print(f"\nwritten to {page.name} in {page.parent.name}/")


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A table in Markdown."""
    return ["| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *rows)]


def circumstances(cpu_model: str, fftw: str) -> str:
    """Where and when tables were made; the load before says how far others used the machine."""
    memory = re.search(r"MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text(encoding="ascii"))
    gib = f", {int(memory[1]) / 2**20:.0f} GiB" if memory else ""
    cores = len(os.sched_getaffinity(0))
    return (
        f"Made {datetime.date.today()} on {cpu_model}, {cores} cores{gib}, load average {LOAD_BEFORE:.1f} before; "
        f"{fftw}."
    )
