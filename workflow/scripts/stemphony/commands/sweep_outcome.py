"""Print the end of `stemphony run` when the Snakemake of a sweep has ended."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from pathlib import Path

from stemphony.commands.outcome import SHOWN_PAIRS, Outcome
from stemphony.contract import NOTHING_TO_DO
from stemphony.counting import number_of
from stemphony.paths import ResultPaths, SweepPaths
from stemphony.store import members, own_runs, progress


class SweepOutcome(Outcome):
    """The end of a Snakemake process whose config has a sweep. `result.root` is the folder of the sweep."""

    def _show_results(self) -> None:
        files, found = SweepPaths(self.result.root), members.members_of(self.result.root)
        if any(NOTHING_TO_DO in line for line in self.lines):
            print("nothing to compute: all results are up to date.")
        elif not self._has_begun:
            print(self._lines_that_matter())
            return
        else:
            merged = sum(member.merged.exists() for member in found)
            verb = "is" if 1 in (merged, len(found)) else "are"
            members_merged = f"{merged} of {number_of(len(found), 'simulation')} {verb} merged"
            print(f"finished in {progress.duration(self.elapsed_s)}: {members_merged}.")
        root = shlex.quote(os.path.relpath(self.result.root))
        for name, place in (("members", self.result.root), ("together", files.combined), ("figure", files.figure)):
            if place.exists():
                print(f"{name:<10}{os.path.relpath(place)}")
        print(f"{'log':<10}{os.path.relpath(self.log_file)}")
        print(f"{'next':<10}{_combine_again(files, found) or f'stemphony status {root}'}")

    def _failed_jobs(self) -> list[str]:
        lines: list[str] = []
        for member in members.members_of(self.result.root):
            own = Outcome(
                self.status, self.lines, self.log_file, self.directory, member, self.interrupted, self.elapsed_s
            )
            for pair in own._failed_pairs():
                where = f"defocus {pair.defocus_nm:g} nm, configuration {pair.configuration}"
                lines.append(f"failed: {member.root.name}, {where}: {pair.reason}")
                lines.append(f"        log: {os.path.relpath(pair.log)}")
        if len(lines) > 2 * SHOWN_PAIRS:
            left = len(lines) // 2 - SHOWN_PAIRS
            root = shlex.quote(os.path.relpath(self.result.root))
            return [*lines[: 2 * SHOWN_PAIRS], f"… and {number_of(left, 'more pair')}: stemphony status {root}"]
        return lines or super()._failed_jobs()


def _combine_again(files: SweepPaths, found: Sequence[ResultPaths]) -> str:
    """What to do after a run of only some members, such as a rerun, because such a run does not combine the members.

    Empty if there is nothing to do.
    """
    merged = sorted((one.merged.stat().st_mtime_ns, str(one.root)) for one in found if one.merged.exists())
    newest, root = merged[-1] if merged else (0, "")
    if files.combined.exists() and files.combined.stat().st_mtime_ns >= newest:
        return ""
    state = "is older than a member" if files.combined.exists() else "is not made yet"
    config = shlex.join(map(str, own_runs.config_files_of(ResultPaths(Path(root))))) if root else ""
    return f"{os.path.relpath(files.combined)} {state}; to make it: stemphony run {config or 'CONFIG'}"
