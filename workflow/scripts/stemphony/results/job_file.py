"""The result file of one (defocus, configuration)."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import netCDF4
import numpy as np

from stemphony import paths, provenance
from stemphony.compute.atoms import Atoms
from stemphony.compute.recorder import JobSignals
from stemphony.errors import StorageError
from stemphony.experiment.model import Experiment
from stemphony.physics.slicing import slice_indices
from stemphony.results.layout import (
    MRAD_PER_RAD,
    NM_PER_ANGSTROM,
    AtomTable,
    Axes,
    add_adf,
    add_atoms,
    add_attributes,
    add_cbed,
    add_params,
    elements_of_frame,
    put_frame,
)
from stemphony.specimen.structures import Specimen
from stemphony.store.atomic import atomic_path, write_text_atomic
from stemphony.store.checkpoints import take_back

JOB_DIGEST = "# job_digest "  # in the file with the checksum


@dataclass(frozen=True)
class JobRecord:
    """What a job file says of its origin.

    Attributes
    ----------
    params : mapping
        The params of the rule; their digest is what the merge compares.
    effective_seed : int or None
        The seed used, drawn or given; None where nothing was drawn.
    root, runtime : mapping
        Attributes of the file and of its group `runtime`.
    """

    params: Mapping[str, Any]
    effective_seed: int | None
    root: Mapping[str, Any]
    runtime: Mapping[str, Any]


def write_job(
    file: Path,
    experiment: Experiment,
    record: JobRecord,
    signals: JobSignals,
    table: AtomTable,
    atoms: Atoms | None,
) -> None:
    """Write a job's file atomically, and the SHA-256 of its bytes beside it.

    Parameters
    ----------
    atoms : Atoms or None
        The displaced atoms, where coordinates are kept.

    Raises
    ------
    StorageError
        The folder cannot be written or the disk is full; nothing half-written is left.
    """
    axes = Axes([record.params["defocus_nm"]], [record.params["configuration"]])
    with atomic_path(file) as temporary:
        with netCDF4.Dataset(temporary, "w", format="NETCDF4") as root:
            add_attributes(
                root,
                {
                    **record.root,
                    "job_digest": provenance.digest(record.params),
                    "physics_version": provenance.PHYSICS_VERSION,
                    "effective_seed": record.effective_seed,
                },
            )
            add_attributes(root.createGroup("runtime"), record.runtime)
            add_params(root, axes.defocus_nm, [1.0], _blocks(experiment, record), experiment.real_dtype)
            add_atoms(root, table, 1 if atoms is not None else 0, experiment.real_dtype)
            if atoms is not None:
                element = elements_of_frame(table, atoms.present)
                put_frame(root, 0, atoms.positions * NM_PER_ANGSTROM, atoms.slice_index, element)
            _put_signals(root, experiment, axes, signals)
        checksum = _checksum(temporary, file.name, record.params)
        # Before the data: a data file without its own checksum must never be seen.
        write_text_atomic(paths.checksum(file), checksum)
    # A second attempt of this job may have put its checksum there before our data replaced its data.
    if paths.checksum(file).read_text(encoding="ascii") != checksum:
        write_text_atomic(paths.checksum(file), _checksum(file, file.name, record.params))


def _checksum(file: Path, name: str, params: Mapping[str, Any]) -> str:
    """What `sha256sum --check` reads, and in a line that it skips whose file it is: nobody must open it for that."""
    return f"{provenance.file_sha256(file)}  {name}\n{JOB_DIGEST}{provenance.digest(params)}\n"


@dataclass(frozen=True)
class Checksum:
    """What stands beside a job file.

    Attributes
    ----------
    sha256 : str
        Of the bytes that its job has written.
    job_digest : str
        Digest of the params that it was computed from; empty where it is not told.
    """

    sha256: str
    job_digest: str


def read_checksum(file: Path) -> Checksum | None:
    """What stands beside a job file, None if there is nothing or it is not readable."""
    try:
        first, *others = paths.checksum(file).read_text(encoding="ascii").splitlines()
        sha256 = first.split()[0]
    except (OSError, ValueError, IndexError):
        return None
    told = [line.removeprefix(JOB_DIGEST) for line in others if line.startswith(JOB_DIGEST)]
    return Checksum(sha256, told[0] if told else "")


def is_result_of(file: Path, params: Mapping[str, Any], simulation_id: str) -> bool:
    """Whether a file is the whole, undamaged result of these params in this simulation."""
    checksum = read_checksum(file)
    try:
        if checksum is None or provenance.file_sha256(file) != checksum.sha256:
            return False
        with netCDF4.Dataset(file) as root:
            return bool(root.job_digest == provenance.digest(params) and root.id == simulation_id)
    except (OSError, RuntimeError, AttributeError):
        return False


def take_finished(file: Path, aside: Path, params: Mapping[str, Any], simulation_id: str) -> bool:
    """Whether another process has made a job's result, in its place or kept aside from Snakemake, see `put_aside`."""
    # Opened anew, a folder of a network file system shows what others have put there.
    with suppress(OSError):
        list(file.parent.iterdir())
    if is_result_of(file, params, simulation_id):
        return True
    if not is_result_of(aside, params, simulation_id):
        return False
    try:
        take_back(aside, file)
    except (StorageError, OSError):
        return False
    return True


def _blocks(experiment: Experiment, record: JobRecord) -> dict[str, Any]:
    blocks = {name: value for name, value in record.params.items() if isinstance(value, Mapping)}
    return effective_blocks(experiment, blocks, record.effective_seed)


def effective_blocks(experiment: Experiment, blocks: Mapping[str, Any], seed: int | None) -> dict[str, Any]:
    """Config blocks with what was made of them: the seed used, the grid, and the reference of the potentials."""
    from stemphony.physics.scattering import REFERENCES

    nx, ny = experiment.grid.gpts
    made: dict[str, Any] = {name: dict(values) for name, values in blocks.items()}
    made.setdefault("simulation", {})["random_seed"] = seed
    made.setdefault("grating", {}).update(
        nx=nx, ny=ny, sampling_x_angstrom=experiment.grid.sampling[0], sampling_y_angstrom=experiment.grid.sampling[1],
        slices=experiment.slices, band_limit_mrad=experiment.band_limit_angle * MRAD_PER_RAD,
        parametrization_reference=REFERENCES[experiment.parametrization],
    )  # fmt: skip
    return made


def _put_signals(root: netCDF4.Dataset, experiment: Experiment, axes: Axes, signals: JobSignals) -> None:
    if experiment.adf:
        add_adf(root, experiment, axes)
        # File axes: defocus, x, y, phonon, slice, plasmon energy, angle.
        root["adf"]["adf_intensities"][...] = signals.bins[None, :, :, None, :, None, :]
        if experiment.center_of_mass:
            com = signals.center_of_mass * MRAD_PER_RAD
            root["adf"]["center_of_mass"][...] = com[None, :, :, None, :, None, :]
        images = root["images"]
        for index, name in enumerate(experiment.rings):
            images[name][...] = np.moveaxis(signals.rings[..., index], 2, 0)[None, None]
        images["total_intensity"][...] = np.moveaxis(signals.total, 2, 0)[None, None]
    if signals.cbed is not None and signals.cbed_angles is not None:
        add_cbed(root, experiment, axes, signals.cbed_angles)
        root["cbed"]["cbed_intensities"][...] = signals.cbed[None, :, :, None, :, None]


def recorded_identity(result: paths.ResultPaths) -> tuple[str, int] | None:
    """Id and effective seed that a job file carries, None without a readable one in which a seed was used."""
    for file in sorted(result.root.glob("jobs/defocus_*/configuration_*.nc")):
        try:
            with netCDF4.Dataset(file) as root:
                return str(root.id), int(root.effective_seed)
        except (OSError, RuntimeError, AttributeError):
            continue
    return None


def atom_table(specimen: Specimen, experiment: Experiment) -> AtomTable:
    """The atoms at rest, as result files keep them."""
    return AtomTable(
        cell=specimen.cell,
        symbols=np.asarray(specimen.symbols),
        positions=specimen.positions,
        slice_index=slice_indices(specimen.positions[:, 2], specimen.cell[2], experiment.slices),
        u_iso=np.nan_to_num(specimen.u_iso),
        radius=specimen.radius,
        u_aniso=specimen.u_aniso,
        occupancy=specimen.occupancy,
        texts={
            "source_format": specimen.format,
            "reader": specimen.reader,
            "formula": specimen.formula,
            "u_source": specimen.u_source,
            "notes": list(specimen.notes),
        },
        slices=experiment.slices,
    )
