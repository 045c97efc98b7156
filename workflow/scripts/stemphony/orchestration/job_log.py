"""The log of a job: notes that the job writes, and the error message at the end."""

from __future__ import annotations

import sys
from pathlib import Path

from stemphony import contract, ordinary_files


def say(text: str) -> None:
    """Write `text` as a note into the job's log."""
    print(f"{contract.NOTE_PREFIX}{text}", file=sys.stderr, flush=True)


def last_word(log: Path) -> str:
    """The error message at the end of a job's log; empty if the last line is a note, progress or part of a traceback.

    If a job failed before it began, or if its disk was full, this message is its only trace.
    """
    try:
        lines = ordinary_files.read_end(log).rstrip().splitlines()
    except OSError:
        return ""
    last = lines[-1] if lines else ""
    return (
        ""
        if last[:1].isspace() or last.startswith(contract.NOTE_PREFIX) or last.endswith(contract.PROGRESS_SUFFIX)
        else last
    )
