"""`stemphony preview`: merge the finished jobs into a separate file while the others run.

The key `preview` in the status report of a finished job is something else: a small image.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from stemphony.errors import DamagedResultError, StorageError
from stemphony.experiment import campaign
from stemphony.experiment.campaign import Campaign
from stemphony.paths import ResultPaths
from stemphony.results.job_table import is_partial
from stemphony.results.merge import MergeOutcome, merge_simulation
from stemphony.results.merge_task import MergeTask

SHOWN = 10
"""Largest number of lines about missing jobs, and about unusable ones. Further lines are counted or left out."""


def merge_finished(
    result: ResultPaths, planned: Campaign, output: Path, say: Callable[[str], None], processes: int = 1
) -> MergeOutcome:
    """Merge the finished and undamaged job files of a campaign, and list the others.

    Averages include only the finished pairs of defocus and configuration. A defocus or configuration without a finished
    pair has no weight in averages. If it is not averaged, its values are NaN.

    Parameters
    ----------
    result : ResultPaths
        Folder of the simulation.
    planned : Campaign
        All jobs of the simulation.
    output : Path
        File of the preview.
    say : callable
        Called with each line for the user.
    processes : int
        Number of processes that read job files.

    Returns
    -------
    MergeOutcome
        The files that were merged, and those that were left out with the reason.

    Raises
    ------
    DamagedResultError
        No pair is finished.
    StorageError
        `output` cannot be written, belongs to the simulation, or exists and is not a preview.
    """
    own = {result.merged, result.specimen, result.identity, result.plan}
    if output.resolve() in {file.resolve() for file in own} or (result.root / "jobs") in output.resolve().parents:
        raise StorageError(f"{output} is a file of the simulation itself. Give a preview another name (--output FILE).")
    if os.path.lexists(output) and not is_partial(output):
        raise StorageError(
            f"{output} exists and is not a preview (a netCDF file whose root has partial = 1), so it is not "
            "overwritten. Give the preview another name (--output FILE), or move that file away."
        )
    task = MergeTask(planned.merge_params, result, partial=True)
    if not any(source.file.exists() for source in task.sources):
        raise DamagedResultError(
            f"{result.root}: none of {len(task.sources)} pairs is finished. Wait for the "
            "first job file, then make the preview again."
        )
    merged = merge_simulation(task, result.specimen, output, lambda text: say(f"note: {text}"), processes)
    missing = [source for source in task.sources if source not in merged.records]
    say(f"{os.path.relpath(output)}: {len(merged.records)} of {len(task.sources)} pairs, in the result's own layout")
    by_defocus: dict[float, list[int]] = {}
    for source in missing:
        by_defocus.setdefault(source.defocus_nm, []).append(source.configuration)
    for value, configurations in list(by_defocus.items())[:SHOWN]:
        say(f"missing   defocus {value:g} nm: {campaign.ranges(configurations)}")
    if len(by_defocus) > SHOWN:
        say(f"          … and at {len(by_defocus) - SHOWN} defoci more")
    for source, what in [entry for entry in merged.wrong if entry[1] != "missing"][:SHOWN]:
        say(f"left out  {os.path.relpath(source.file)}: {what}")
    return merged
