"""Rule prepare_accuracy: the atoms of an error budget, in the cell of the config and in a larger one, and its positions.

    python prepare_accuracy.py PARAMS_JSON OUTPUT LARGER

The params are those of `Campaign.accuracy_params`. The paths of the structure file and of the trajectory are in the
environment variables STEMPHONY_SPECIMEN_FILE and STEMPHONY_SNAPSHOTS_FILE.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

# PYTHONSAFEPATH keeps the working directory out of the path, and this folder with it.
sys.path.insert(0, str(Path(__file__).resolve().parent))

from stemphony.orchestration import job, script
from stemphony.provenance import canonical_json


def prepare_accuracy(params: dict[str, Any], output: Path, larger: Path) -> None:
    """Write both specimens. Where the cell cannot be made larger, the second file says why."""
    from stemphony.errors import ConfigError, SpecimenError
    from stemphony.experiment.model import Experiment
    from stemphony.orchestration.accuracy_atoms import ATTRIBUTE, chosen_places, in_larger_cell
    from stemphony.orchestration.planned_specimen import attributes_of, planned_specimen
    from stemphony.specimen.specimen_file import write_specimen

    specimen = planned_specimen(params["specimen"])
    experiment = Experiment.of(params["common"], specimen.cell, specimen.layers).stored
    if not experiment.rings:
        raise ConfigError(
            "adf.enabled", "is false, or there is no named detector; an error budget compares the signals of named "
            "detectors. Enable adf, and name detectors or leave adf.detectors null.",
        )  # fmt: skip
    places, others = chosen_places(experiment, specimen)
    origin = attributes_of(params["specimen"])
    write_specimen(output, specimen, origin | {ATTRIBUTE: canonical_json({"places": places, "others": others})})
    reason = params["no_larger_cell"]
    if not reason:
        try:
            grown = in_larger_cell(params, experiment, specimen, places)
        except (ConfigError, SpecimenError) as error:
            reason = str(error)
    content = {"reason": reason}
    write_specimen(larger, specimen if reason else grown, origin | {ATTRIBUTE: canonical_json(content)})


def main(arguments: list[str]) -> None:
    """Run from a shell rule."""
    params, output, larger = arguments
    job.limit_threads(1)
    prepare_accuracy(json.loads(params), Path(output), Path(larger))


if __name__ == "__main__":
    script.run(main)
