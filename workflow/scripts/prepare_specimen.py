"""Rule prepare_specimen: make `specimen.nc` from a structure file, and a trajectory file with snapshots.

    python prepare_specimen.py PARAMS_JSON OUTPUT

The params have the SHA-256 of the files, so that moving them runs nothing again. The paths are in the environment
variables STEMPHONY_SPECIMEN_FILE and STEMPHONY_SNAPSHOTS_FILE.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

# PYTHONSAFEPATH keeps the working directory out of the path, and this folder with it.
sys.path.insert(0, str(Path(__file__).resolve().parent))

from stemphony.contract import SNAPSHOTS_VARIABLE, SPECIMEN_VARIABLE
from stemphony.errors import SpecimenError, StemphonyError
from stemphony.orchestration.script import run
from stemphony.provenance import canonical_json
from stemphony.specimen.specimen_file import write_specimen
from stemphony.specimen.structures import CHECKS, content_sha256, read_snapshots, read_specimen

USAGE = "usage: prepare_specimen.py PARAMS_JSON OUTPUT"


def main(arguments: list[str]) -> None:
    """Read, check and write the specimen that `PARAMS_JSON` describes."""
    if len(arguments) != 2:
        sys.exit(USAGE)
    params: dict[str, Any] = json.loads(arguments[0])
    settings = dict(params["specimen"])
    file = unchanged_file(SPECIMEN_VARIABLE, settings.pop("file_sha256"))
    # The main process has checked density and distances, and knows what the config accepts.
    specimen = read_specimen(file, **settings, accept=CHECKS)
    snapshots_sha256 = params.get("snapshots_sha256")
    if snapshots_sha256 is not None:
        trajectory = unchanged_file(SNAPSHOTS_VARIABLE, snapshots_sha256)
        specimen = replace(specimen, frames=read_snapshots(trajectory, specimen))
    write_specimen(
        Path(arguments[1]),
        specimen,
        {
            "specimen_digest": params["specimen_digest"],
            "physics_version": str(params["physics_version"]),
            "specimen_params": canonical_json(params["specimen"]),
            "snapshots_sha256": snapshots_sha256 or "",
        },
    )


def unchanged_file(variable: str, sha256: str) -> Path:
    """The file that an environment variable names, if its content is the planned one.

    Raises
    ------
    StemphonyError
        The variable is not set.
    SpecimenError
        The file was edited after the campaign was planned.
    """
    value = os.environ.get(variable)
    if not value:
        raise StemphonyError(f"{variable} is not set. Start this script through rule prepare_specimen, which sets it.")
    file = Path(value)
    found = content_sha256(file)
    if found != sha256:
        raise SpecimenError(
            file,
            f"was edited after the campaign was planned (SHA-256 {found[:12]}…, planned {sha256[:12]}…). "
            "Run Snakemake again.",
        )
    return file


if __name__ == "__main__":
    run(main)
