"""Rule prepare_accuracy: positions and atoms of an error budget, in the cell of the config and in a larger one.

    python prepare_accuracy.py PARAMS_JSON OUTPUT LARGER

The params are those of `accuracy.refinements.params_of`. The paths of the structure file and of the trajectory are
in the environment variables STEMPHONY_SPECIMEN_FILE and STEMPHONY_SNAPSHOTS_FILE.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

# PYTHONSAFEPATH keeps the working directory out of the search path, but also this folder. So it is added here.
sys.path.insert(0, str(Path(__file__).resolve().parent))

from stemphony.contract import SNAPSHOTS_VARIABLE, SPECIMEN_VARIABLE
from stemphony.orchestration import job, script
from stemphony.provenance import canonical_json


def prepare_accuracy(params: dict[str, Any], output: Path, larger: Path) -> None:
    """Write the specimens of an error budget: that of the config to `output`, and a larger cell to `larger`.

    If the cell cannot be made larger, the second file says why. `params` are those of `accuracy.refinements.params_of`.

    Raises
    ------
    ConfigError
        The config has no named detectors.
    SpecimenError
        The structure file cannot be read, or was edited after the campaign was planned.
    """
    from stemphony.accuracy.atoms import ATTRIBUTE, chosen_places, in_larger_cell
    from stemphony.errors import ConfigError, SpecimenError
    from stemphony.experiment.model import Experiment
    from stemphony.specimen.planned import attributes_of, planned_specimen
    from stemphony.specimen.specimen_file import write_specimen

    file = script.named_file(SPECIMEN_VARIABLE)
    trajectory = script.named_file(SNAPSHOTS_VARIABLE) if params["specimen"].get("snapshots_sha256") else None
    specimen = planned_specimen(params["specimen"], file, trajectory)
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
            grown = in_larger_cell(params, experiment, specimen, file, places)
        except (ConfigError, SpecimenError) as error:
            reason = str(error)
    content = {"reason": reason}
    write_specimen(larger, specimen if reason else grown, origin | {ATTRIBUTE: canonical_json(content)})


def main(arguments: list[str]) -> None:
    """Write the specimens of an error budget. `arguments` are PARAMS_JSON, OUTPUT and LARGER, see the module."""
    params, output, larger = arguments
    job.limit_threads(1)
    prepare_accuracy(json.loads(params), Path(output), Path(larger))


if __name__ == "__main__":
    script.run(main)
