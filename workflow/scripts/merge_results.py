"""Rule merge_results: all job files of a simulation into one stem.nc.

    python merge_results.py PARAMS SPECIMEN OUTPUT [PROCESSES]

PARAMS is the JSON text of the rule's params, which say which job files belong to the result. The script checks all job
files. If any file is unusable, the script merges nothing, deletes nothing, and names the file. PROCESSES is the number
of processes that read in parallel.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

# PYTHONSAFEPATH keeps the working directory out of the search path, but also this folder. So it is added here.
sys.path.insert(0, str(Path(__file__).resolve().parent))

from stemphony import paths
from stemphony.contract import MERGE_RULE
from stemphony.orchestration import job, module_run, script
from stemphony.orchestration.attempt import run_number
from stemphony.orchestration.job_log import say


def merge_results(params: dict[str, Any], specimen_file: Path, output: Path, processes: int = 1) -> None:
    """Check and merge the job files beside `output`.

    Parameters
    ----------
    params : dict
        Params of the rule, which say which job files belong to the result.
    specimen_file : Path
        The normalised atoms, `specimen.nc`.
    output : Path
        The merged file, `stem.nc`, in the folder of the simulation.
    processes : int
        Number of processes that read job files in parallel.

    Raises
    ------
    DamagedResultError, StorageError
        A job file is unusable, or `output` cannot be written.
    """
    from stemphony.results.merge import merge_simulation
    from stemphony.results.merge_task import MergeTask
    from stemphony.results.origin import write_checksum
    from stemphony.store.dates import date_not_ahead

    task = MergeTask(params, paths.ResultPaths(output.parent))

    merge_simulation(task, specimen_file, output, say, processes, run_number(task.result))
    write_checksum(output)
    date_not_ahead([specimen_file, *(source.file for source in task.sources)])


def main(arguments: list[str]) -> None:
    """Merge the job files of a simulation.

    `arguments` are PARAMS, SPECIMEN, OUTPUT and perhaps PROCESSES, see the module.
    """
    params, specimen_file, output, *processes = arguments
    job.limit_threads(1)
    result = paths.ResultPaths(Path(output).parent)
    module_run.join(result, MERGE_RULE)
    merge_results(json.loads(params), Path(specimen_file), Path(output), int(processes[0]) if processes else 1)
    module_run.finish(result)


if __name__ == "__main__":
    script.run(main)
