"""Times of files that another machine wrote."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable
from pathlib import Path


def date_not_ahead(inputs: Iterable[Path]) -> None:
    """Set the times of the files `inputs` to now if they lie in the future, because another machine's clock is ahead.

    If an input is newer than the output, Snakemake treats the job as failed and deletes the output. A file that is
    missing, or whose time cannot be set, is left alone.
    """
    for entry in inputs:
        # The time of another user's file cannot be set; Snakemake then says what is wrong.
        with contextlib.suppress(OSError):
            if entry.stat().st_mtime > time.time():
                os.utime(entry)
