"""`stemphony preview`: merge what is finished into a file of its own, while the rest runs.

Not to be confused with `preview`, the small image that a finished job sends with its status report.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from stemphony.errors import DamagedResultError, StorageError
from stemphony.experiment import campaign
from stemphony.experiment.campaign import Campaign
from stemphony.paths import ResultPaths
from stemphony.results.averages import Merge
from stemphony.results.merge import Merged, is_partial, merge_simulation

SHOWN = 10


def merge_finished(
    result: ResultPaths, planned: Campaign, output: Path, say: Callable[[str], None], processes: int = 1
) -> Merged:
    """Merge the pairs of a campaign whose job files are there and good, and say which.

    The averages are those of the pairs that are in; a defocus (or a configuration) of which there is none yet holds NaN
    where it is kept apart, and no weight where it is averaged.

    Raises
    ------
    DamagedResultError
        No pair is finished.
    StorageError
        The file cannot be written, it is one of the simulation's own, or there is one of this name that is no preview.
    """
    own = {result.merged, result.specimen, result.identity, result.plan}
    if output.resolve() in {file.resolve() for file in own} or (result.root / "jobs") in output.resolve().parents:
        raise StorageError(f"{output} is a file of the simulation itself. Give a preview another name (--output FILE).")
    if os.path.lexists(output) and not is_partial(output):
        raise StorageError(
            f"{output} is there already and is no preview (a netCDF file whose root says partial = 1); nothing else is "
            "overwritten. Give the preview another name (--output FILE), or move that file away."
        )
    # Whoever has only opened the folder of a preview is not to take it for the result.
    task = Merge(planned.merge_params, result, partial=True)
    if not any(source.file.exists() for source in task.sources):
        raise DamagedResultError(
            f"{result.root}: none of {len(task.sources)} pairs is finished; there is nothing to see yet."
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
