"""All checks before the first job. They turn a config and its input files into a `Preflight`, which holds the plan.

Only the main process checks. Jobs read the plan.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stemphony import paths, provenance
from stemphony.errors import ConfigError, StorageError
from stemphony.experiment import campaign, sensitivity_files
from stemphony.experiment.blurring import widest_source_nm
from stemphony.experiment.campaign import Campaign, InputFiles
from stemphony.experiment.doubts import AtomsAtRest, doubts, probe_outside, refuse_false_haadf
from stemphony.experiment.model import Experiment, rounded_down
from stemphony.experiment.scan_edges import ScanEdges, margin_in_effect, pattern_repeats
from stemphony.orchestration.advice import (
    memory_hint,
    window_hint,
)
from stemphony.orchestration.inputs import Inputs
from stemphony.orchestration.pattern_plan import pattern_hints
from stemphony.orchestration.plan import Preflight, Sources, kept_waves
from stemphony.orchestration.scan_plan import merged_again, require_whole_periods, scan_hints
from stemphony.orchestration.standing import Standing
from stemphony.orchestration.symmetry_choice import SymmetryChoice
from stemphony.physics.constants import MRAD

if TYPE_CHECKING:
    from stemphony.experiment.scan_edges import ScanLattice
    from stemphony.specimen.crystal import Crystal
    from stemphony.specimen.specimen import Specimen

NM_FORMATS = ("stemsalabim", "cel")
"""Formats of structure files whose lengths are in nm."""


Reading = tuple["Specimen", "Crystal", InputFiles, Callable[[], "ScanLattice"]]
"""Results of reading the structure and the trajectory; the last item makes the lattice."""


def check(inputs: Inputs, base: Path = Path(paths.RESULTS), readings: dict[str, Reading] | None = None) -> Preflight:
    """Check a whole campaign before its first job, and estimate its cost.

    Parameters
    ----------
    inputs, base : Inputs, Path
        The complete config with its files, and the folder of all results.
    readings : dict or None
        Structures and trajectories that earlier members of a sweep have read, so that each is read only once. This call
        adds its own.

    Raises
    ------
    ConfigError, SpecimenError, StorageError
        A check failed. The first failed check raises.
    """
    from stemphony.store import ledger

    result = paths.ResultPaths.of(inputs.config["simulation"]["name"], base)
    require_writable(result.root)
    config = inputs.config
    earlier = ledger.read_plan(result)
    margin_nm = _margin_nm(config, result, earlier)
    specimen, crystal, files, lattice = _read_once(inputs, {} if readings is None else readings)
    planned = campaign.plan(config, files, edges=_edges(config, specimen, lattice, margin_nm))
    require_whole_periods(planned)
    sensitivities = sensitivity_files.read(inputs.sensitivity_files)
    experiment = Experiment.of(planned.common_params, specimen.cell, specimen.layers, sensitivities)
    symmetry = SymmetryChoice.of(planned, experiment, specimen)
    planned, experiment = replace(planned, symmetry=symmetry.used), replace(experiment, symmetry=symmetry.used)
    _require_points_in_aperture(experiment)
    refuse_false_haadf(config["adf"], experiment)
    atoms = len(specimen.symbols)
    estimates = _estimates(planned, experiment, atoms)
    tail = probe_outside(planned, experiment)
    made = Preflight(
        campaign=planned,
        inputs=inputs,
        experiment=experiment,
        atoms=atoms,
        crystal=crystal,
        sources=_sources(config, specimen, crystal),
        **estimates,
        tail=tail,
        symmetry=symmetry,
        building=specimen.building,
        standing=Standing.of(planned, result),
        notes=(
            *inputs.warnings,
            *planned.notes,
            *experiment.notes,
            *specimen.notes,
            *_unused_u(config["specimen"], specimen.symbols.tolist()),
            *_unused_tables(config["grating"], specimen.symbols.tolist()),
            *crystal.notes(),
            *_without_effect(config, specimen),
            *_choices(planned, experiment),
            *scan_hints(planned, experiment),
            *pattern_hints(planned, experiment),
            *merged_again(planned, earlier, result.merged.exists()),
            *doubts(planned, experiment, _doubtful(specimen, config), tail),
            *window_hint(planned, experiment, estimates["cpu_hours"]),
            *memory_hint(estimates["mem_mb"], experiment),
            *_of_another_version(result, planned.jobs),
        ),
    )
    assert made.standing is not None
    return replace(made, notes=(*made.notes, *made.standing.notes(made.replacement_cost)))


def _edges(
    config: Mapping[str, Any], specimen: Specimen, lattice: Callable[[], ScanLattice], margin_nm: float
) -> ScanEdges:
    """How images and patterns continue beyond the edges of the scan."""
    source_nm, integrated = widest_source_nm(config["probe"]), config["adf"]["integrated"]
    edges = ScanEdges.of(config["scan"], specimen.cell[:2], source_nm, margin_nm, lattice, integrated)
    return replace(edges, pattern_repeats=pattern_repeats(config, specimen.cell[:2], lattice))


def _margin_nm(config: Mapping[str, Any], result: paths.ResultPaths, earlier: Mapping[str, Any] | None) -> float:
    """Return the margin of the scan [nm] that this run computes; `earlier` is the plan of an earlier run.

    Raises
    ------
    StorageError
        The record of earlier runs is damaged.
    """
    from stemphony.store import ledger

    kept_nm, is_first_run = None, not result.identity.exists()
    if not is_first_run:
        kept_nm = ledger.identity(result, config["simulation"]["random_seed"]).margin_nm
    elif earlier:
        kept_nm = ScanEdges.of_plan(earlier).margin_nm  # simulation.json was lost
    return margin_in_effect(config["scan"]["margin_nm"], kept_nm, is_first_run, widest_source_nm(config["probe"]))


def _estimates(planned: Campaign, experiment: Experiment, atoms: int) -> dict[str, Any]:
    """Return memory, time and size of a campaign, as attributes of `Preflight`."""
    from stemphony.compute.calibration import seconds_per_probe_slice
    from stemphony.compute.cost import DEFAULT_BUDGET_MB, memory_mb, result_bytes, wave_plan
    from stemphony.compute.propagation import strip_plan
    from stemphony.compute.stored_waves import wave_slices
    from stemphony.compute.wisdom import has_plans

    computed, resources = experiment.computed, planned.config["resources"]
    threads, wanted, runtime = resources["threads"], resources["mem_mb"], resources["runtime_min"]
    budget = DEFAULT_BUDGET_MB if wanted == "auto" else _budget(computed, atoms, threads, wanted)
    defoci = [defocus.value_nm for defocus in planned.defoci]
    waves = wave_plan(computed, defoci, planned.shares_configurations, budget)
    work = waves.work + wave_slices(computed) * len(defoci)
    memory = memory_mb(computed, atoms, threads, budget, waves)
    seconds, calibrated = seconds_per_probe_slice(experiment.grid.gpts, experiment.precision)
    # A job may have to compute the shared waves itself.
    job_seconds = work * seconds / (1 if waves.shared else len(defoci))
    return {
        "mem_mb": wanted if wanted != "auto" else 100 * math.ceil(memory * 1.2 / 100),
        "budget_mb": budget,
        "result_mb": _result_mb(planned, atoms, result_bytes(experiment.stored)) + _waves_mb(planned, experiment),
        "cpu_hours": planned.configurations * work * seconds / 3600,
        "runtime_min": runtime if runtime != "auto" else max(10, math.ceil(3 * job_seconds / threads / 60)),
        "calibrated": calibrated,
        "has_fft_plans": has_plans(partial(strip_plan, computed)),
        "waves": waves,
    }


def _read_once(inputs: Inputs, readings: dict[str, Reading]) -> Reading:
    """The structure and the trajectory. They are read only if no member with the same input has read them."""
    config, phonons = inputs.config, inputs.config["frozen_phonon"]
    files = (inputs.specimen_file, inputs.snapshots_file, *sorted(inputs.sensitivity_files.items()))
    tables = config["grating"]["parametrization"], config["grating"]["parametrization_of"]
    key = provenance.canonical_json([config["specimen"], phonons["enabled"], tables, str(files)])
    if key not in readings:
        readings[key] = _read_specimen(inputs)
    return readings[key]


def _read_specimen(inputs: Inputs) -> Reading:
    """Read the structure and the trajectory, and check that they have everything that the config needs.

    The last item makes the translations under which the specimen repeats.
    """
    from stemphony.physics.scattering import FactorChoice
    from stemphony.specimen import structures
    from stemphony.specimen.crystal import Crystal
    from stemphony.specimen.translations import Translations

    config, block, file = inputs.config, inputs.config["specimen"], inputs.specimen_file
    settings = {key: value for key, value in block.items() if key not in ("file", campaign.SPECIMEN_TILT)}
    specimen = structures.read_specimen(file, **settings)
    crystal = Crystal.of(specimen)
    if "density" not in block["accept"]:
        crystal.require_density(file)
    factors = FactorChoice(config["grating"]["parametrization"], config["grating"]["parametrization_of"])
    structures.require_elements(specimen, factors, file)
    drawn = specimen.occupancy is not None or any(film.redrawn for film in specimen.films)
    digests = {name: sensitivity_files.file_digest(name, file) for name, file in inputs.sensitivity_files.items()}
    files = InputFiles(
        structures.content_sha256(file), revision=specimen.revision, occupancies_drawn=drawn, sensitivities=digests
    )
    frames = None
    if inputs.snapshots_file is not None:
        frames = structures.read_snapshots(inputs.snapshots_file, specimen)
        files = replace(
            files, snapshots_sha256=structures.content_sha256(inputs.snapshots_file), snapshots=len(frames),
            occupancies_drawn=False,
        )  # fmt: skip
    elif config["frozen_phonon"]["enabled"]:
        structures.require_u_iso(specimen, file)
    return specimen, crystal, files, lambda: Translations(specimen, frames)


def _require_points_in_aperture(experiment: Experiment) -> None:
    """Refuse a hard annular aperture that contains no point of the grid."""
    from stemphony.compute.windows import doubled_grid
    from stemphony.physics.probe import outermost_angle

    e = experiment
    if e.soft_aperture or e.semiangle_inner == 0:
        return  # such an aperture always contains a point
    # The error of windows is measured with wider windows, whose grids have other points.
    grids = [e.grid] if e.window is None else [e.grid, doubled_grid(e)]
    outermost = min(
        outermost_angle(grid, e.wavelength, e.semiangle, replace(e, tilt=tilt).beam)
        for grid in grids
        for tilt in e.tilts
    )
    if e.semiangle_inner > outermost:
        largest = rounded_down(outermost / MRAD, 3)
        wider = "cell (specimen.repeat or size_nm)" if e.window is None else "grating.window_angstrom"
        raise ConfigError(
            "probe.semiangle_inner_mrad",
            f"got {e.semiangle_inner / MRAD:g}; no point of this grid lies between it and semiangle_mrad = "
            f"{e.semiangle / MRAD:g}. The nearest one inside is at {largest} mrad. Use at most {largest}, "
            f"soft_aperture: true, or a wider {wider}.",
        )


def _budget(experiment: Experiment, atoms: int, threads: int, wanted_mb: float) -> float:
    """Memory for waves and transmission functions [MB] in a job that may use `wanted_mb` in all."""
    from stemphony.compute.cost import memory_mb

    rest = memory_mb(experiment, atoms, threads, budget_mb=0.0)
    wave = experiment.grid.gpts[0] * experiment.grid.gpts[1] * experiment.complex_dtype.itemsize / 1e6
    least = rest + (threads + 2) * 2 * wave
    if wanted_mb < least:
        raise ConfigError(
            "resources.mem_mb",
            f"got {wanted_mb}; one job of this size needs at least {math.ceil(least)} MB. Use that, or auto.",
        )
    return wanted_mb - rest


def _result_mb(planned: Campaign, atoms: int, job_bytes: tuple[int, int]) -> float:
    signals = 0
    for block, size in zip(("adf", "cbed"), job_bytes, strict=True):
        averages = planned.config[block]
        configurations = 1 if averages["average_configurations"] else planned.configurations
        copies = 2 if averages.get("standard_errors") and averages["average_configurations"] else 1
        signals += copies * size * configurations * (1 if averages["average_defoci"] else len(planned.defoci))
    wanted = planned.config["frozen_phonon"]["save_coordinates"]
    frames = planned.jobs if campaign.keeps_coordinates(wanted, planned.most_jobs, atoms) else 1
    return float(signals + frames * atoms * campaign.COORDINATES_BYTES) / 1e6


def _waves_mb(planned: Campaign, experiment: Experiment) -> float:
    """Size of the group `waves` of the result [MB]."""
    from stemphony.compute.stored_waves import result_wave_bytes

    return result_wave_bytes(experiment, len(planned.defoci), *kept_waves(planned)) / 1e6


def _of_another_version(result: paths.ResultPaths, jobs: int) -> list[str]:
    """Note on finished results of another physics_version. New results replace them."""
    from stemphony.results.job_check import recorded_version

    job = next(iter(sorted(result.root.glob("jobs/defocus_*/configuration_*.nc"))), None)
    for file in (result.merged, job):
        version = None if file is None else recorded_version(file)
        if version is not None and version != provenance.PHYSICS_VERSION:
            several = f"All {jobs} jobs are computed again and replace"
            every = "The job is computed again and replaces" if jobs == 1 else several
            return [
                f"{file} was computed with physics_version {version}, this program has {provenance.PHYSICS_VERSION} "
                f"(CHANGELOG says what changed). {every} the files of "
                f"{result.root}; to keep these, move the folder away first."
            ]
    return []


def _unused_u(specimen: Mapping[str, Any], symbols: Sequence[str]) -> list[str]:
    unused = sorted(set(specimen["u_iso_angstrom2"]) - set(symbols))
    return [f"specimen.u_iso_angstrom2: there is no {', '.join(unused)} in the specimen."] if unused else []


def _unused_tables(grating: Mapping[str, Any], symbols: Sequence[str]) -> list[str]:
    unused = sorted(set(grating["parametrization_of"]) - set(symbols))
    return [f"grating.parametrization_of: there is no {', '.join(unused)} in the specimen."] if unused else []


def _choices(planned: Campaign, experiment: Experiment) -> list[str]:
    """Notes on values that the program chose because the user gave none."""
    notes = []
    if planned.config["adf"]["detectors"] is None and experiment.rings:
        notes.append(
            "adf.detectors is not given: bf, abf and haadf were derived from the semi-angle and the band limit."
        )
    return notes


def _doubtful(specimen: Specimen, config: Mapping[str, Any]) -> AtomsAtRest:
    """The specimen in the form that `doubts` needs."""
    draws = config["frozen_phonon"]["enabled"] and not _uses_snapshots(config)
    heights = specimen.positions[:, 2]
    return AtomsAtRest(specimen.symbols, heights, specimen.u_iso if draws else None, specimen.species)


def _sources(config: Mapping[str, Any], specimen: Specimen, crystal: Crystal) -> Sources:
    """Where the atoms of a specimen come from, as text for the plan."""
    phonons = config["frozen_phonon"]
    if not phonons["enabled"]:
        displacements = "none: frozen_phonon.enabled is false"
    elif _uses_snapshots(config):
        displacements = "the snapshots"
    else:
        displacements = specimen.u_source
    if not crystal.partial_sites:
        occupancies = "every site is full"
    elif _uses_snapshots(config):
        occupancies = "the snapshots"
    else:
        occupancies = (
            f"{crystal.partial_sites} of {len(specimen.symbols)} sites are partial, and drawn in each configuration"
        )
    unit = "nm" if specimen.format in NM_FORMATS else "Å"
    reading = f"{specimen.format}, read by {specimen.reader}: {unit}" if specimen.reader else f"read by ASE: {unit}"
    return Sources(reading, specimen.formula, displacements, occupancies)


def _uses_snapshots(config: Mapping[str, Any]) -> bool:
    """Whether the configurations are the frames of a trajectory."""
    return bool(config["frozen_phonon"]["enabled"] and config["frozen_phonon"]["snapshots"] is not None)


def _without_effect(config: Mapping[str, Any], specimen: Specimen) -> list[str]:
    """Notes on keys and occupancies that have no effect with snapshots, or with atoms at rest."""
    block, notes = config["specimen"], []
    if _uses_snapshots(config):
        given = [key for key in ("u_iso_angstrom2", "temperature_k", "debye_temperature_k") if block[key]]
        if given:
            keys = ", ".join(f"specimen.{key}" for key in given)
            notes.append(f"no effect: {keys}. The snapshots are complete configurations.")
        if specimen.occupancy is not None:
            notes.append("the occupancies of the structure file are not used: all atoms of the snapshots are present.")
    elif specimen.occupancy is not None and not config["frozen_phonon"]["enabled"]:
        notes.append(
            "frozen_phonon.enabled is false, so the occupancies are drawn once: images show one arrangement of the "
            "atoms, not the mean. Enable frozen phonons, with a U of 0 for atoms at rest, to average over arrangements."
        )
    return notes


def require_writable(folder: Path) -> None:
    """Check that files can be made in `folder`, or in its first parent that exists. Write nothing.

    Raises
    ------
    StorageError
        A folder is not writable, or a file exists in its place.
    """
    existing = folder
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    result = paths.ResultPaths(folder)
    work, name = result.directory, result.name
    below = ("", f"run_multislice/{name}", f"snakemake/{name}")
    beside = (work / top / part for top in ("logs", "benchmarks") for part in below)
    inside = (folder / name for name in ("jobs", "figures", "reports"))
    places = (existing.resolve(), work, work / ".snakemake", *beside, *inside, *folder.glob("jobs/defocus_*"))
    for place in dict.fromkeys(places):
        if place.exists() and (not place.is_dir() or not os.access(place, os.W_OK | os.X_OK)):
            what = "is not writable for you. Make it writable" if place.is_dir() else "is not a folder. Move it away"
            raise StorageError(
                f"results folder {folder}: {place.resolve()} {what}, or work in another folder "
                "(snakemake --directory, stemphony run --directory)."
            )
