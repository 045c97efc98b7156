"""Rule judge_round: after a round of configurations, decide whether the goal is reached or how many more are needed.

    python judge_round.py PARAMS SPECIMEN OUTPUT [PROCESSES]

PARAMS is the JSON text of the rule's params: the params of the merge, and the number of the round.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

# PYTHONSAFEPATH keeps the working directory out of the search path, but also this folder. So it is added here.
sys.path.insert(0, str(Path(__file__).resolve().parent))

from stemphony import paths
from stemphony.orchestration import job, script


def judge_round(params: dict[str, Any], specimen_file: Path, output: Path, processes: int = 1) -> None:
    """Judge a round from its job files, and write the decision to `output`.

    Parameters
    ----------
    params : dict
        Params of the rule: `merge`, the params of the merge, and `round`, its number from 0.
    specimen_file : Path
        The normalised atoms, `specimen.nc`.
    output : Path
        JSON file in the folder `rounds` of the simulation.
    processes : int
        Number of processes that read job files in parallel.

    Raises
    ------
    DamagedResultError, StorageError
        A file is damaged, or `output` cannot be written.
    """
    from stemphony.experiment.model import Experiment
    from stemphony.experiment.stopping import Goal
    from stemphony.results import round_errors
    from stemphony.results.merge_task import MergeTask
    from stemphony.results.signal_blocks import blurring_of
    from stemphony.specimen.specimen_file import read_specimen_file
    from stemphony.store.atomic import write_text_atomic
    from stemphony.store.dates import date_not_ahead
    from stemphony.store.rounds import round_in_words

    merge = params["merge"]
    task = MergeTask(merge, paths.ResultPaths(output.parents[1]))
    goal = Goal(**{**merge["goal"], "detectors": tuple(merge["goal"]["detectors"])})
    specimen = read_specimen_file(specimen_file)
    experiment = Experiment.of(task.common, specimen.cell, specimen.layers)
    errors = round_errors.image_errors(task, experiment, blurring_of(task), goal.detectors, processes)
    number = merge["configurations"]
    content = round_errors.decision(goal, params["round"], number, experiment.distinct, errors)
    write_text_atomic(output, json.dumps(content, indent=1) + "\n")
    print(round_in_words(content), file=sys.stderr)
    date_not_ahead([specimen_file, *(source.file for source in task.sources)])


def main(arguments: list[str]) -> None:
    """Judge a round. `arguments` are PARAMS, SPECIMEN, OUTPUT and perhaps PROCESSES, see the module."""
    params, specimen_file, output, *processes = arguments
    job.limit_threads(1)
    judge_round(json.loads(params), Path(specimen_file), Path(output), int(processes[0]) if processes else 1)


if __name__ == "__main__":
    script.run(main)
