"""The result file of one job: one defocus and one configuration."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import netCDF4
import numpy as np

from stemphony import ordinary_files, paths, provenance
from stemphony.compute.atoms import Atoms
from stemphony.compute.pattern_array import give_back
from stemphony.compute.recorder import JobSignals
from stemphony.errors import StorageError
from stemphony.experiment.model import Experiment
from stemphony.results.layout import (
    LOSS_SPECTRUM,
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
from stemphony.results.wave_group import put_waves
from stemphony.specimen.specimen import Specimen
from stemphony.store.atomic import atomic_path, write_text_atomic
from stemphony.store.checkpoints import take_back

JOB_DIGEST = "# job_digest "
"""Begin of the line in the checksum file that holds the digest of the job's params."""


@dataclass(frozen=True)
class JobRecord:
    """Origin of a job file.

    Attributes
    ----------
    params : mapping
        Params of the job. The merge compares their digest.
    effective_seed : int or None
        The seed in use, drawn or given; None if nothing was drawn.
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
    """Write the file of a job atomically, with the SHA-256 of its bytes beside it.

    Parameters
    ----------
    file : Path
    experiment : Experiment
    record : JobRecord
        Origin of the file.
    signals : JobSignals
    table : AtomTable
        The atoms at rest.
    atoms : Atoms or None
        The displaced atoms; None if coordinates are not kept.

    Raises
    ------
    StorageError
        The folder cannot be written or the disk is full. No incomplete file is left.
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
        # The checksum comes first, so that no data file exists without its checksum.
        write_text_atomic(paths.checksum(file), checksum)
    # Another attempt of this job may run at the same time. If it wrote its checksum between the two steps above, the
    # checksum does not belong to the data.
    if paths.checksum(file).read_text(encoding="ascii") != checksum:
        write_text_atomic(paths.checksum(file), _checksum(file, file.name, record.params))


def write_checksum(data: Path, file: Path, params: Mapping[str, Any]) -> None:
    """Write the checksum of the job file `file`, whose bytes are still in `data`; `params` are the params of the job.

    Raises StorageError if the folder of `file` cannot be written, and OSError if `data` cannot be read.
    """
    write_text_atomic(paths.checksum(file), _checksum(data, file.name, params))


def _checksum(file: Path, name: str, params: Mapping[str, Any]) -> str:
    """Text of the checksum file: a line for `sha256sum --check`, and a comment with the digest of the params.

    With the comment, a reader knows the job of a file without opening it.
    """
    return f"{provenance.file_sha256(file)}  {name}\n{JOB_DIGEST}{provenance.digest(params)}\n"


@dataclass(frozen=True)
class Checksum:
    """Content of a checksum file.

    Attributes
    ----------
    sha256 : str
        SHA-256 of the bytes that the job wrote.
    job_digest : str
        Digest of the job's params; empty if the file does not hold it.
    """

    sha256: str
    job_digest: str


def read_checksum(file: Path) -> Checksum | None:
    """Read the checksum file of `file`, a job file or result; None if it is missing or unreadable."""
    try:
        first, *others = ordinary_files.read_text(paths.checksum(file), "ascii").splitlines()
        sha256 = first.split()[0]
    except (OSError, ValueError, IndexError):
        return None
    told = [line.removeprefix(JOB_DIGEST) for line in others if line.startswith(JOB_DIGEST)]
    return Checksum(sha256, told[0] if told else "")


def is_result_of(file: Path, params: Mapping[str, Any], ids: Collection[str]) -> bool:
    """Whether `file` is the undamaged result of a job.

    The params of the job are `params`, and the id of its simulation is one of `ids`. False also if the file cannot be
    read.
    """
    checksum = read_checksum(file)
    try:
        if checksum is None or provenance.file_sha256(file) != checksum.sha256:
            return False
        with netCDF4.Dataset(file) as root:
            return bool(root.job_digest == provenance.digest(params) and root.id in ids)
    except (OSError, RuntimeError, AttributeError):
        return False


def take_finished(file: Path, aside: Path, params: Mapping[str, Any], ids: Collection[str]) -> bool:
    """Take the result that another process has made for a job.

    Parameters
    ----------
    file, aside : Path
        Place of the result, and its second name if Snakemake was about to delete it, see `checkpoints.put_aside`.
    params : mapping
        Params of the job.
    ids : collection of str
        Id of the simulation, and of those that it was copied from.

    Returns
    -------
    bool
        Whether the result is now in its place.
    """
    # Listing a folder of a network file system makes files of other machines visible.
    with suppress(OSError):
        list(file.parent.iterdir())
    if is_result_of(file, params, ids):
        return True
    if not is_result_of(aside, params, ids):
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
    """Return blocks of the config with derived values: seed in use, grid, and reference of the scattering factors.

    Parameters
    ----------
    experiment : Experiment
        It gives the grid, the slices and the scattering factors.
    blocks : mapping
        Blocks of the config, by name. They are not changed.
    seed : int or None
        Seed in use; None if nothing was drawn.

    Returns
    -------
    dict
        Copies of the blocks, with the derived values.
    """
    nx, ny = experiment.grid.gpts
    made: dict[str, Any] = {name: dict(values) for name, values in blocks.items()}
    made.setdefault("simulation", {})["random_seed"] = seed
    made.setdefault("grating", {}).update(
        nx=nx, ny=ny, sampling_x_angstrom=experiment.grid.sampling[0], sampling_y_angstrom=experiment.grid.sampling[1],
        slices=experiment.slices, slice_offset_angstrom=experiment.slicing.offset,
        band_limit_mrad=experiment.band_limit_angle * MRAD_PER_RAD,
        parametrization_reference=_references(experiment, blocks),
    )  # fmt: skip
    return made


def _references(experiment: Experiment, blocks: Mapping[str, Any]) -> str:
    """Publications of the scattering factors."""
    from stemphony.physics.scattering import IONS_REFERENCE, REFERENCES

    factors = experiment.factors
    used = [REFERENCES[factors.default], *(f"{name}: {REFERENCES[table]}" for name, table in factors.of.items())]
    if blocks.get("specimen", {}).get("charges", "neutral") != "neutral":
        used.append(f"ions: {IONS_REFERENCE}")
    return "; ".join(used)


def _put_signals(root: netCDF4.Dataset, experiment: Experiment, axes: Axes, signals: JobSignals) -> None:
    if experiment.adf:
        add_adf(root, experiment, axes)
        # File axes: defocus, x, y, phonon, slice, plasmon energy, angle.
        root["adf"]["adf_intensities"][...] = _by_loss(experiment, signals.bins)[None, :, :, None]
        if experiment.center_of_mass:
            com = _by_loss(experiment, signals.center_of_mass * MRAD_PER_RAD)
            root["adf"]["center_of_mass"][...] = com[None, :, :, None]
        if signals.spectrum is not None:
            root["adf"][LOSS_SPECTRUM][...] = signals.spectrum[None, :, :, None]
        images = root["images"]
        for index, name in enumerate(experiment.images):
            images[name][...] = np.moveaxis(signals.rings[..., index], 2, 0)[None, None]
        images["total_intensity"][...] = np.moveaxis(signals.total, 2, 0)[None, None]
    if signals.cbed is not None and signals.cbed_angles is not None:
        add_cbed(root, experiment.patterns, axes, signals.cbed_angles)
        variable = root["cbed"]["cbed_intensities"]
        # Row by row, because netCDF4 copies what it writes.
        for row, patterns in enumerate(_by_loss(experiment, signals.cbed)):
            variable[0, row, :, 0] = patterns
            give_back(signals.cbed)
    if signals.stored is not None:
        put_waves(root, experiment, axes, signals.stored)


def _by_loss(experiment: Experiment, values: np.ndarray) -> np.ndarray:
    """Signals (x, y, depth, energy loss, …); without plasmons there is one energy loss, 0."""
    return values[:, :, :, None] if experiment.plasmons is None else values


def recorded_identity(result: paths.ResultPaths) -> tuple[str, int] | None:
    """Return id and effective seed of the simulation `result` from any of its job files.

    None if no readable file holds a seed.
    """
    for file in sorted(result.root.glob("jobs/defocus_*/configuration_*.nc")):
        try:
            with netCDF4.Dataset(file) as root:
                return str(root.id), int(root.effective_seed)
        except (OSError, RuntimeError, AttributeError):
            continue
    return None


def atom_table(specimen: Specimen, experiment: Experiment) -> AtomTable:
    """Return the atoms at rest of `specimen` as result files hold them, in the slices of `experiment`."""
    return AtomTable(
        cell=specimen.cell,
        symbols=np.asarray(specimen.symbols),
        positions=specimen.positions,
        slice_index=slices_at_rest(specimen, experiment),
        u_iso=np.nan_to_num(specimen.u_iso),
        radius=specimen.radius,
        u_aniso=specimen.u_aniso,
        occupancy=specimen.occupancy,
        texts={
            "source_format": specimen.format,
            "reader": specimen.reader,
            "formula": specimen.formula,
            "u_source": specimen.u_source,
            "orientation": specimen.orientation,
            "notes": json.dumps(list(specimen.notes), ensure_ascii=False) if specimen.notes else "",
        },
        faces=np.asarray(experiment.slicing.faces),
    )


def slices_at_rest(specimen: Specimen, experiment: Experiment) -> np.ndarray:
    """Return the slice of each atom of `specimen` at rest, (N,) of int, among those of `experiment`.

    The structure file decides if `experiment` has its slices, else the height of the atom.
    """
    if experiment.slices_of_file and specimen.slice_id is not None:
        return specimen.slice_id
    return experiment.slicing.index(specimen.layers.heights)
