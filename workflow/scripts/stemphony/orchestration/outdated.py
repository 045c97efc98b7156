"""Find result files that are outdated although they look current to Snakemake.

Snakemake compares times and its own records. So a damaged file looks current. If the records are lost, a file of
another campaign looks current, too.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from stemphony import provenance
from stemphony.errors import StemphonyError
from stemphony.experiment.campaign import Campaign
from stemphony.orchestration import dag
from stemphony.paths import ResultPaths
from stemphony.store import ledger

SCRIPTS = Path(__file__).resolve().parents[2]
"""Folder of the rules' scripts."""

# Each function imports netCDF4 itself. The import takes 0.1 s, and mostly there is no file to read.


def foreign_job_files(planned: Campaign, result: ResultPaths, first: int = 0) -> list[Path]:
    """Job files of `result` without a record of Snakemake whose checksum files name another campaign than `planned`.

    Parameters
    ----------
    first : int
        First configuration to look at.

    Returns
    -------
    list of Path
        Existing files; empty if there are none.
    """
    pairs = [(defocus.id, number) for defocus in planned.defoci for number in range(first, planned.configurations)]
    files = {pair: result.job(*pair) for pair in pairs}
    unrecorded = {pair: file for pair, file in files.items() if file.exists() and not dag.has_record(file)}
    if not unrecorded:
        return []
    from stemphony.results.job_file import read_checksum

    found = []
    for pair, file in unrecorded.items():
        kept = read_checksum(file)
        if kept is not None and kept.job_digest not in ("", provenance.digest(planned.job_params(*pair))):
            found.append(file)
    return found


def why_merge_again(planned: Campaign, result: ResultPaths) -> str:
    """Note for the user why the stem.nc of `result` must be merged again for the campaign `planned`.

    The note is empty if it need not be merged again, is missing, or may not be read.
    """
    merged = result.merged
    if not (merged.is_file() and os.access(merged, os.R_OK)):
        return ""
    from stemphony.results.origin import origin_of

    origin = origin_of(merged)
    if origin is None:
        return f"{merged} is truncated or damaged: it is merged again"
    if not dag.has_record(merged) and origin.merge_digest != provenance.digest(planned.merge_params):
        return f"{merged} is of another config: it is merged again"
    return ""


def is_merged(planned: Campaign, result: ResultPaths) -> bool:
    """Whether the stem.nc of `result` is readable and was merged from the jobs of `planned`."""
    from stemphony.results.origin import origin_of

    origin = origin_of(result.merged)
    return origin is not None and origin.merge_digest == provenance.digest(planned.merge_params)


def is_of_another_specimen(planned: Campaign, result: ResultPaths) -> bool:
    """Whether the specimen.nc of `result` was made from another specimen than the one of `planned`.

    If the file cannot be read, the plan of the last run says from which specimen it was made.
    """
    from stemphony.specimen.specimen_file import read_attributes

    wanted = planned.specimen_params["specimen_digest"]
    try:
        made_from = read_attributes(result.specimen).get("specimen_digest")
    except (StemphonyError, OSError):
        made_from = ledger.read_plan(result).get("specimen_digest", wanted)
    return bool(made_from != wanted)


def restore_specimen(planned: Campaign, result: ResultPaths, variables: Mapping[str, str] | None = None) -> list[str]:
    """Make specimen.nc again with the script of its rule, if it is damaged, or lost while job files exist.

    If an input is missing, Snakemake computes every job that reads it again, even if the input is `ancient`. If an
    input is damaged, Snakemake does not notice it.

    Parameters
    ----------
    planned, result : Campaign, ResultPaths
        The campaign and the paths of its files.
    variables : mapping or None
        Environment variables that the script needs in addition to those of this process.

    Returns
    -------
    list of str
        Notes for the user.
    """
    is_lost = not result.specimen.exists()
    if is_lost and not any(result.root.glob("jobs/*/configuration_*.nc")):
        return []
    if not is_lost and not _is_damaged(result.specimen):
        return []
    if is_of_another_specimen(planned, result):
        return []  # the rule makes the file, and then all jobs run again
    params = provenance.canonical_json(planned.specimen_params)
    command = [sys.executable, str(SCRIPTS / "prepare_specimen.py"), params, str(result.specimen)]
    environment = {**os.environ, **(variables or {})}
    made = subprocess.run(command, check=False, stdout=subprocess.DEVNULL, env=environment).returncode == 0
    return [] if is_lost or not made else [f"{result.specimen} was damaged and is made again; it decides no other file"]


def _is_damaged(specimen: Path) -> bool:
    """Whether the attributes of specimen.nc are damaged; False if the user may not read it. Jobs check the rest."""
    from stemphony.specimen.specimen_file import read_attributes

    try:
        read_attributes(specimen)
    except (StemphonyError, OSError):
        return os.access(specimen, os.R_OK)
    return False
