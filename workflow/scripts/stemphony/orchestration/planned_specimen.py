"""The specimen that the params of a rule describe, read from the structure file that was planned."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from stemphony.contract import SNAPSHOTS_VARIABLE, SPECIMEN_VARIABLE
from stemphony.errors import SpecimenError, StemphonyError
from stemphony.provenance import canonical_json
from stemphony.specimen.structures import CHECKS, Specimen, content_sha256, read_snapshots, read_specimen


def planned_specimen(params: Mapping[str, Any]) -> Specimen:
    """Read, check and build the specimen of `Campaign.specimen_params`.

    The paths of its files are in the environment variables STEMPHONY_SPECIMEN_FILE and STEMPHONY_SNAPSHOTS_FILE.

    Raises
    ------
    StemphonyError
        A variable is not set.
    SpecimenError
        A file was edited after the campaign was planned, or cannot be read.
    """
    settings = dict(params["specimen"])
    file = unchanged_file(SPECIMEN_VARIABLE, settings.pop("file_sha256"))
    # The main process has checked density and distances, and knows what the config accepts.
    specimen = read_specimen(file, **settings, accept=CHECKS)
    snapshots_sha256 = params.get("snapshots_sha256")
    if snapshots_sha256 is not None:
        trajectory = unchanged_file(SNAPSHOTS_VARIABLE, snapshots_sha256)
        specimen = replace(specimen, frames=read_snapshots(trajectory, specimen))
    return specimen


def attributes_of(params: Mapping[str, Any]) -> dict[str, str]:
    """Provenance of this specimen in its file."""
    return {
        "specimen_digest": params["specimen_digest"],
        "physics_version": str(params["physics_version"]),
        "specimen_params": canonical_json(params["specimen"]),
        "snapshots_sha256": params.get("snapshots_sha256") or "",
    }


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
        raise StemphonyError(
            f"{variable} is not set. Start this script through rule prepare_specimen or rule prepare_accuracy, which "
            "set it."
        )
    file = Path(value)
    found = content_sha256(file)
    if found != sha256:
        raise SpecimenError(
            file,
            f"was edited after the campaign was planned (SHA-256 {found[:12]}…, planned {sha256[:12]}…). "
            "Run Snakemake again.",
        )
    return file
