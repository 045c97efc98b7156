"""Make the specimen that the params of a rule describe, from the files that were planned."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from stemphony.errors import SpecimenError
from stemphony.provenance import canonical_json
from stemphony.specimen.specimen import Specimen
from stemphony.specimen.structures import CHECKS, content_sha256, read_snapshots, read_specimen


def planned_specimen(params: Mapping[str, Any], file: Path, trajectory: Path | None) -> Specimen:
    """Read, check and build the specimen of `Campaign.specimen_params`.

    Parameters
    ----------
    params : mapping
        Params of the specimen, with the SHA-256 of its files.
    file, trajectory : Path
        Structure file and trajectory. The trajectory is None without snapshots.

    Returns
    -------
    Specimen
        With `frames` if a trajectory is given.

    Raises
    ------
    SpecimenError
        A file was edited after the campaign was planned, or cannot be read.
    """
    specimen = read_planned(params["specimen"], file)
    if trajectory is None:
        return specimen
    _require_unchanged(trajectory, params["snapshots_sha256"])
    return replace(specimen, frames=read_snapshots(trajectory, specimen))


def read_planned(settings: Mapping[str, Any], file: Path) -> Specimen:
    """Read the specimen of `settings`, a block `specimen` with `file_sha256`, from `file`; see `planned_specimen`.

    Raises
    ------
    SpecimenError
        The file was edited after the campaign was planned, or cannot be read.
    """
    _require_unchanged(file, settings["file_sha256"])
    keys = {key: value for key, value in settings.items() if key != "file_sha256"}
    # Density and distances are not checked again. The main process has checked them, as far as the config asks for it.
    return read_specimen(file, **keys, accept=CHECKS)


def attributes_of(params: Mapping[str, Any]) -> dict[str, str]:
    """Provenance of the specimen that `params` describe, for the attributes of its file.

    `params` are those of `Campaign.specimen_params`.
    """
    return {
        "specimen_digest": params["specimen_digest"],
        "physics_version": str(params["physics_version"]),
        "specimen_params": canonical_json(params["specimen"]),
        "snapshots_sha256": params.get("snapshots_sha256") or "",
    }


def _require_unchanged(file: Path, sha256: str) -> None:
    found = content_sha256(file)
    if found != sha256:
        raise SpecimenError(
            file,
            f"was edited after the campaign was planned (SHA-256 {found[:12]}…, planned {sha256[:12]}…). "
            "Run Snakemake again.",
        )
