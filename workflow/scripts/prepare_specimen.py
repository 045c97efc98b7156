"""Rule prepare_specimen: make `specimen.nc` from a structure file and, with snapshots, a trajectory file.

    python prepare_specimen.py PARAMS_JSON OUTPUT

The params hold the SHA-256 of the input files, not their paths, so no job runs again if a file is moved. The paths are
in the environment variables STEMPHONY_SPECIMEN_FILE, STEMPHONY_SNAPSHOTS_FILE and STEMPHONY_SENSITIVITY_FILES.
`specimen.nc` also holds the sensitivities of detectors, because it is the only input that every job reads.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

# PYTHONSAFEPATH keeps the working directory out of the search path, but also this folder. So it is added here.
sys.path.insert(0, str(Path(__file__).resolve().parent))

from stemphony import paths
from stemphony.contract import SENSITIVITIES_VARIABLE, SNAPSHOTS_VARIABLE, SPECIMEN_VARIABLE, variable
from stemphony.experiment import sensitivity_files
from stemphony.orchestration import module_run
from stemphony.orchestration.job_log import say
from stemphony.orchestration.script import named_file, run
from stemphony.specimen.planned import attributes_of, planned_specimen
from stemphony.specimen.specimen_file import write_specimen

USAGE = "usage: prepare_specimen.py PARAMS_JSON OUTPUT"


def main(arguments: list[str]) -> None:
    """Read, check and write a specimen. `arguments` are PARAMS_JSON and OUTPUT, see the module.

    Raises
    ------
    SystemExit
        There are more or fewer arguments.
    StemphonyError
        A file cannot be read, was edited after the campaign was planned, or cannot be written.
    """
    if len(arguments) != 2:
        sys.exit(USAGE)
    params: dict[str, Any] = json.loads(arguments[0])
    output = Path(arguments[1])
    module_run.join(paths.ResultPaths(output.parent), "prepare_specimen")
    label = output.parent.name if paths.is_label(output.parent.name) else ""
    if label and _is_shared(output, params["specimen_digest"]):
        say("another simulation of this sweep has the same atoms: its file is taken")
        return
    trajectory = named_file(SNAPSHOTS_VARIABLE, label) if params.get("snapshots_sha256") else None
    specimen = planned_specimen(params, named_file(SPECIMEN_VARIABLE, label), trajectory)
    if planned := params.get("sensitivities"):
        files = {name: Path(file) for name, file in json.loads(variable(SENSITIVITIES_VARIABLE, label)).items()}
        specimen = replace(specimen, sensitivities=sensitivity_files.read_planned(files, planned))
    write_specimen(output, specimen, attributes_of(params))


def _is_shared(output: Path, digest: str) -> bool:
    from stemphony.results.siblings import shared_specimen

    return shared_specimen(output, digest)


if __name__ == "__main__":
    run(main)
