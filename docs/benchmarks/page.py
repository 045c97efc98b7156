"""Write tables into the pages on performance and into the README. Each table stands between two marks."""

from __future__ import annotations

import datetime
import os
import re
import sys
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path

LOAD_BEFORE = os.getloadavg()[0]
PAGE = Path(__file__).resolve().parents[1] / "performance.md"
MORE = PAGE.with_name("performance-more.md")
METHOD = PAGE.parent / "explanation" / "performance.md"
BUSY = "**The machine was busy; columns with elapsed time are not valid.**"
LONGEST = 120
"""Longest line of prose on a page [characters]. Rows of tables and pictures stay on one line, because they must."""


def rewrite(command: str, lines: Iterable[str], page: Path = PAGE) -> None:
    """Replace the text between `<!-- begin: COMMAND -->` and `<!-- end: COMMAND -->` in a page, and print it."""
    text, made = page.read_text(encoding="utf-8"), "\n".join(wrapped(lines))
    begin, end = _marks(command, text, page)
    before, rest = text.split(begin)
    page.write_text(f"{before}{begin}\n{made}\n{end}{rest.split(end)[1]}", encoding="utf-8")
    print(made)
    print(f"\nwritten to {page.name} in {page.parent.name}/")


def wrapped(lines: Iterable[str]) -> list[str]:
    """Lines of a page. Long lines of prose are continued on the next line."""
    made: list[str] = []
    for line in lines:
        stays = len(line) <= LONGEST or line.startswith(("|", "!["))
        made += [line] if stays else textwrap.wrap(line, LONGEST, break_long_words=False, break_on_hyphens=False)
    return made


def between(command: str, text: str) -> str:
    """The lines that `rewrite` wrote for a command into the page with this text."""
    begin, end = _marks(command, text, PAGE)
    return text.split(begin)[1].split(end)[0].strip("\n")


def _marks(command: str, text: str, page: Path) -> tuple[str, str]:
    begin, end = f"<!-- begin: {command} -->", f"<!-- end: {command} -->"
    if text.count(begin) != 1 or text.count(end) != 1 or text.index(begin) > text.index(end):
        raise SystemExit(f"{page}: it must have one line {begin} and, below it, one line {end}")
    return begin, end


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A table in Markdown."""
    return ["| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *rows)]


def circumstances(cpu_model: str, fftw: str) -> str:
    """A line that says where and when tables were made. The load before shows how much others used the machine."""
    memory = re.search(r"MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text(encoding="ascii"))
    gib = f", {int(memory[1]) / 2**20:.0f} GiB" if memory else ""
    cores = len(os.sched_getaffinity(0))
    return (
        f"Made {datetime.date.today()} on {cpu_model}, {cores} cores{gib}, load average {LOAD_BEFORE:.1f} before; "
        f"{fftw}."
    )


def busy_mark() -> str:
    """Text for the end of the line of `circumstances`, for tables that have columns with elapsed time.

    The text is empty if the machine was idle before. If other programs used more than half of the cores, the text says
    that these columns are not valid. A script calls this function before it measures, because then it also warns.
    """
    half = len(os.sched_getaffinity(0)) / 2
    if half >= LOAD_BEFORE:
        return ""
    print(
        f"warning: the load average is {LOAD_BEFORE:.1f}, more than half of the cores. Elapsed times may be too long, "
        "and the table will say so. CPU times and ratios of CPU times stay valid.",
        file=sys.stderr,
        flush=True,
    )
    return f" {BUSY}"
