"""Take the specimen, and results of equal jobs, from other members of a sweep.

Members that differ only in the merge, or in the number of configurations, have jobs with the same params. The first
member in the order of labels computes such a job, and the others copy its result.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import netCDF4

from stemphony import paths, provenance
from stemphony.errors import StemphonyError
from stemphony.experiment import campaign
from stemphony.paths import ResultPaths
from stemphony.results.job_file import is_result_of, read_checksum, write_checksum
from stemphony.store import claims, ledger
from stemphony.store.atomic import atomic_path


def siblings(result: ResultPaths) -> Iterator[ResultPaths]:
    """The other members of the sweep of the simulation `result`, in the order of their labels; none without a sweep."""
    if not result.is_member:
        return
    with suppress(OSError):
        for folder in sorted(result.root.parent.iterdir()):
            if folder.name != result.root.name and paths.is_label(folder.name):
                yield ResultPaths(folder)


def shared_specimen(output: Path, digest: str) -> bool:
    """Take specimen.nc of a sibling whose specimen has the same `digest`, and write it to `output`.

    Returns whether there is one. Raises StorageError if `output` cannot be written.
    """
    from stemphony.specimen.specimen_file import read_attributes, read_specimen_file

    for sibling in siblings(ResultPaths(output.parent)):
        try:
            if read_attributes(sibling.specimen).get("specimen_digest") != digest:
                continue
            read_specimen_file(sibling.specimen)  # damaged files are not taken
        except (StemphonyError, OSError):
            continue
        with atomic_path(output) as temporary:
            shutil.copyfile(sibling.specimen, temporary)
        return True
    return False


def take_from_sibling(
    output: Path,
    params: Mapping[str, Any],
    identity: ledger.Identity,
    check: Callable[[], None],
    say: Callable[[str], None],
) -> str:
    """Copy the result of the same job from a sibling. Wait if a sibling earlier in the order computes it now.

    Parameters
    ----------
    output : Path
        The job's result file.
    params : mapping
        Params of the job.
    identity : Identity
        Identity of this simulation. The copy gets its id.
    check : callable
        Called while this job waits; may raise to end it.
    say : callable
        Writes a line to the log.

    Returns
    -------
    str
        Label of the sibling; empty if none has the result.
    """
    own = ResultPaths.of_job_file(output)
    pair = paths.defocus_id(params["defocus_nm"]), int(params["configuration"])
    digest, seed = provenance.digest(params), params["simulation"]["random_seed"]
    for sibling in siblings(own):
        file = sibling.job(*pair)
        # A member waits only for members before it in the order, so two members never wait for each other.
        if sibling.root.name < own.root.name and sibling.claim(*pair).exists() and _plans(sibling, pair, digest):
            say(f"{sibling.root.name} of this sweep computes the same job; waiting for its result")
            claims.wait(sibling.claim(*pair), check)
        kept = read_checksum(file)
        if kept is None or kept.job_digest != digest:
            continue
        with suppress(StemphonyError):
            theirs = ledger.identity(sibling, seed or 0)
            if seed is not None and theirs.effective_seed(seed) != identity.effective_seed(seed):
                continue
            if is_result_of(file, params, theirs.ids):
                _copy(file, output, params, identity.id)
                return sibling.root.name
    return ""


def _plans(sibling: ResultPaths, pair: tuple[str, int], digest: str) -> bool:
    """Whether a sibling's plan has this job."""
    try:
        planned = campaign.of_plan(ledger.read_plan(sibling))
        return provenance.digest(planned.job_params(*pair)) == digest
    except (KeyError, TypeError, ValueError, AttributeError, IndexError):
        return False


def _copy(file: Path, output: Path, params: Mapping[str, Any], simulation_id: str) -> None:
    """Copy a job file into another simulation, with its id."""
    with atomic_path(output) as temporary:
        shutil.copyfile(file, temporary)
        with netCDF4.Dataset(temporary, "a") as root:
            root.id = simulation_id
            root["runtime"].UUID = simulation_id
        write_checksum(temporary, output, params)
