"""The progress of a run in another process. A run computes one simulation or all members of a sweep."""

from __future__ import annotations

from stemphony.paths import ResultPaths
from stemphony.store import ledger, members, progress


class RunWatch:
    """Progress of the run that begins after this object was made.

    Parameters
    ----------
    result : ResultPaths
        The simulation, or the folder of the sweep.
    """

    def __init__(self, result: ResultPaths) -> None:
        self.result = result
        self._earlier = {one.root: ledger.latest_run(one) for one in self._simulations()}
        self._watches: dict[ResultPaths, tuple[progress.Watch, int]] = {}

    def _simulations(self) -> list[ResultPaths]:
        return [self.result, *members.all_members_of(self.result.root)]

    def overall(self) -> progress.Overall | None:
        """The present progress, or None before the run has jobs."""
        for one in self._simulations():
            number = ledger.latest_run(one)
            if number <= self._earlier.get(one.root, 0):
                continue
            # The plan is read again each time, because a goal may need another round with more jobs.
            if jobs := ledger.read_plan(one, number).get("jobs_to_run", 0):
                watch = self._watches[one][0] if one in self._watches else progress.Watch(one, number)
                self._watches[one] = watch, jobs
        parts = [watch.overall(jobs) for watch, jobs in self._watches.values()]
        return progress.together(parts) if parts else None
