"""Attempts at jobs that began and ended without a word: killed, out of memory, or their node failed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from stemphony.paths import ResultPaths
from stemphony.status.delivery import last_event
from stemphony.status.events import Event

_ENDS: Final = (Event.FINISH_FP_CONFIGURATION, Event.ERROR)


@dataclass(frozen=True)
class Orphan:
    """An attempt at a job whose spool has no end.

    Attributes
    ----------
    was_retried : bool
        Whether a later attempt at the same job began in the same run.
    """

    job: str
    attempt: int
    was_retried: bool


def orphans_of(result: ResultPaths, run: int) -> list[Orphan]:
    """Attempts of a run whose spool ends neither with FINISH_FP_CONFIGURATION nor with ERROR.

    Only for a moment when no job of the run is alive any more.
    """
    ended: dict[tuple[str, int], bool] = {}
    for spool in result.events(run).rglob("*.attempt-*.jsonl"):
        event = last_event(spool)
        if event is not None and isinstance(event.get("job"), str) and isinstance(event.get("attempt"), int):
            key = event["job"], event["attempt"]
            ended[key] = ended.get(key, False) or event["event"] in _ENDS
    newest: dict[str, int] = {}
    for job, attempt in ended:
        newest[job] = max(attempt, newest.get(job, 0))
    return [Orphan(job, attempt, attempt < newest[job]) for (job, attempt), end in sorted(ended.items()) if not end]
