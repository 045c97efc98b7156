"""All checks before the first job. They turn a config and its input files into a `Preflight`, which holds the plan.

Only the main process checks. Jobs read the plan.
"""

from __future__ import annotations

import json
import math
import os
import shlex
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stemphony import contract, paths, provenance
from stemphony.counting import number_of
from stemphony.errors import ConfigError, StorageError
from stemphony.experiment import campaign, configuration, overrides, sensitivity_files
from stemphony.experiment.blurring import widest_source_nm
from stemphony.experiment.campaign import Campaign, InputFiles
from stemphony.experiment.doubts import AtomsAtRest, doubts, probe_outside, refuse_false_haadf
from stemphony.experiment.model import Experiment, detector_names, rounded_down
from stemphony.experiment.scan_edges import ScanEdges, margin_in_effect, pattern_repeats
from stemphony.orchestration.advice import (
    job_row,
    memory_hint,
    optics_rows,
    resolution_rows,
    size_in_words,
    special_texts,
    tilt_rows,
    wave_rows,
    window_hint,
)
from stemphony.orchestration.pattern_plan import pattern_hints, pattern_rows
from stemphony.orchestration.scan_plan import merged_again, require_whole_periods, scan_hints, scan_rows
from stemphony.orchestration.standing import Standing
from stemphony.orchestration.symmetry_choice import SymmetryChoice
from stemphony.physics.constants import MRAD, NM
from stemphony.status import settings as status_settings
from stemphony.status.events import planned_defoci
from stemphony.store.progress import duration

if TYPE_CHECKING:
    from stemphony.compute.cost import WavePlan
    from stemphony.experiment.scan_edges import ScanLattice
    from stemphony.physics.slicing import Slices
    from stemphony.specimen.building import Building
    from stemphony.specimen.crystal import Crystal
    from stemphony.specimen.specimen import Specimen

NM_FORMATS = ("stemsalabim", "cel")
"""Formats of structure files whose lengths are in nm."""


@dataclass(frozen=True)
class Inputs:
    """A validated config and the files it names.

    Attributes
    ----------
    config : mapping
        Complete, with defaults, and without secrets.
    config_files : tuple of Path
        The config files. The sender of status events reads its secrets from them.
    specimen_file, snapshots_file : Path, Path or None
        Structure file, and trajectory file; None without snapshots.
    warnings : tuple of str
        Notes for the user.
    sensitivity_files : mapping
        File of each detector with a sensitivity.
    """

    config: Mapping[str, Any]
    config_files: tuple[Path, ...]
    specimen_file: Path
    snapshots_file: Path | None
    warnings: tuple[str, ...] = ()
    sensitivity_files: Mapping[str, Path] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        """Environment variables with the paths of the simulation's input files, for the scripts of rules."""
        variables = {contract.SPECIMEN_VARIABLE: str(self.specimen_file)}
        if self.snapshots_file is not None:
            variables[contract.SNAPSHOTS_VARIABLE] = str(self.snapshots_file)
        if self.sensitivity_files:
            files = {name: str(file) for name, file in self.sensitivity_files.items()}
            variables[contract.SENSITIVITIES_VARIABLE] = json.dumps(files)
        return variables


@dataclass(frozen=True)
class Sources:
    """Where the atoms come from, in words: reading of the file, formula of its cell, displacements, occupancies."""

    reading: str
    formula: str
    displacements: str
    occupancies: str


@dataclass(frozen=True)
class Preflight:
    """A campaign that has passed all checks.

    Attributes
    ----------
    campaign, inputs, experiment
        The campaign, the config with its files, and the experiment with the symmetry that jobs use.
    atoms : int
        Number of sites of the specimen.
    crystal, sources, building
        Numbers of the specimen, and in words where it comes from and how it was built.
    mem_mb, budget_mb, result_mb : float
        Memory of one job, its part for transmission functions and waves, and size of the merged result [MB].
    cpu_hours, runtime_min : float, int
        CPU time of all jobs [h], and time limit of one job [min].
    tail : float
        Share of the probe's intensity outside the cell at the worst defocus.
    calibrated, has_fft_plans : bool
        Whether the speed of this machine was measured, and whether this machine has the plans of the FFTs.
    waves : WavePlan
    symmetry, standing
        The symmetry of the specimen and the scan, and the existing job files compared with the plan.
    notes : tuple of str
        Notes for the user.
    """

    campaign: Campaign
    inputs: Inputs
    experiment: Experiment
    atoms: int
    crystal: Crystal
    sources: Sources
    mem_mb: int
    budget_mb: float
    result_mb: float
    cpu_hours: float
    runtime_min: int
    tail: float
    calibrated: bool
    has_fft_plans: bool
    waves: WavePlan
    symmetry: SymmetryChoice
    notes: tuple[str, ...] = field(default=())
    building: Building | None = None
    standing: Standing | None = None

    def extended(self, configurations: int) -> Preflight:
        """Return this plan with another number of configurations: a further round of a goal."""
        scale = configurations / self.campaign.configurations
        planned = self.campaign.extended(configurations)
        standing = None if self.standing is None else Standing.of(planned, self.standing.result)
        return replace(self, campaign=planned, cpu_hours=scale * self.cpu_hours, standing=standing)

    def lines(self) -> list[str]:
        """Lines of the plan for the user."""
        e, c = self.experiment, self.campaign
        lx, ly, lz = e.cell
        nx, ny = e.grid.gpts
        defoci = ", ".join(f"{defocus.value_nm:g}" for defocus in c.defoci[:9]) + (" …" if len(c.defoci) > 9 else "")
        dx, dy = e.grid.sampling
        origin = "measured on this machine" if self.calibrated else "typical machine; `stemphony check` measures"
        detectors = [f"{name} {a / MRAD:g}–{b / MRAD:g} mrad" for name, (a, b) in e.rings.items()]
        detectors += special_texts(e)
        detectors += [number_of(len(e.bins) - 1, "radial bin")] if e.adf else []
        detectors += ["CBED"] if e.cbed_max is not None else []
        what = "sites" if self.crystal.partial_sites else "atoms"
        rows = [
            ("simulation", f"{c.name}: {c.config['simulation']['title']}"),
            ("specimen", f"{self.atoms} {what} in {lx:.5g} × {ly:.5g} × {lz:.5g} Å ({self.sources.reading})"),
            ("crystal", self.crystal.text(self.sources.formula)),
            ("thermal displacements", self.sources.displacements),
            ("occupancies", self.sources.occupancies),
            *(self.building.lines() if self.building else ()),
            ("grid", f"{nx} × {ny} points of {dx:.4f} × {dy:.4f} Å, {e.precision} precision{self._windows()}"),
            *_finer_potential(e),
            ("band limit", f"{e.band_limit_angle / MRAD:.2f} mrad"),
            ("slices", _slices(e.slicing, len(e.depth_slices))),
            *scan_rows(c, e),
            *resolution_rows(e),
            *pattern_rows(e),
            *tilt_rows(e),
            *optics_rows(c),
            *self.symmetry.rows(e, c.configurations if c.config["frozen_phonon"]["enabled"] else 0),
            *([("detectors", "; ".join(detectors))] if detectors else []),
            *wave_rows(e, len(c.defoci), *_kept_waves(c)),
            ("defoci", f"{len(c.defoci)}: {defoci} nm"),
            ("jobs", f"{c.jobs} = {_factors(c)}{self._goal()}"),
            (f"probe outside the {'cell' if e.window is None else 'window'}", self._outside()),
            ("memory of one job", f"about {size_in_words(self.mem_mb)}"),
            job_row(3600 * self.cpu_hours / c.jobs, int(c.config["resources"]["threads"]), self.runtime_min),
            ("size of the result", f"about {size_in_words(self.result_mb, digits=3)}"),
            ("algorithm", self._algorithm()),
            ("computing time", f"{self._cost()} ({origin})"),
            *self._planning(),
        ]  # fmt: skip
        return [f"{name:<25}{text}" for name, text in rows] + [f"note: {note}" for note in self.notes]

    def _goal(self) -> str:
        """Text with the accuracy that decides the number of configurations."""
        goal = self.campaign.goal
        if goal is None:
            return ""
        names = ", ".join(goal.detectors)
        return f" so far; more until the error of {names} is {100 * goal.until:.3g} %, at most {goal.most}"

    def _longest(self) -> str:
        c = self.campaign
        if c.most_jobs == c.jobs:
            return ""
        return f" so far, at most {duration(3600 * self.cpu_hours * c.most_jobs / c.jobs)}"

    def _windows(self) -> str:
        from stemphony.compute.windows import windows

        e = self.experiment
        if e.window is None:
            return ""
        return f"; {len(list(windows(e.computed)))} windows of {e.grid.extent[0]:.4g} × {e.grid.extent[1]:.4g} Å"

    def _outside(self) -> str:
        share = f"{100 * self.tail:.2f} %"
        if self.experiment.window is None:
            return f"{share} of its intensity at the worst defocus"
        return (
            f"{share} of the incident probe's intensity at the worst defocus; signals may deviate by several times "
            "that, which each job measures"
        )

    @property
    def hours_to_do(self) -> float:
        """CPU time of the pairs that must be computed [h]."""
        return self.cpu_hours * (1.0 if self.standing is None else self.standing.share(self.waves.shared))

    @property
    def replacement_cost(self) -> str:
        """CPU time of the pairs that would be replaced, in words."""
        if self.standing is None:
            return ""
        share = self.standing.share(self.waves.shared, self.standing.replaced)
        return f"about {duration(3600 * self.cpu_hours * share)} of CPU"

    def _cost(self) -> str:
        """Text with the CPU time of the pairs that are still to do, and of all pairs."""
        whole, standing = f"about {duration(3600 * self.cpu_hours)} of CPU in all{self._longest()}", self.standing
        if standing is None or len(standing.missing) == standing.pairs:
            return whole
        if not standing.to_do:
            return f"all pairs are computed already; {whole}"
        part = f"{len(standing.to_do)} of {number_of(standing.pairs, 'pair')}"
        return f"about {duration(3600 * self.hours_to_do)} of CPU for {part}; {whole}"

    def _planning(self) -> list[tuple[str, str]]:
        """Row on the FFT plans that the first job makes. The estimates do not contain this time. Empty if cached."""
        if self.has_fft_plans or (self.standing is not None and not self.standing.to_do):
            return []
        text = "the first job makes them for this grid: up to a minute of CPU more, once on each kind of machine"
        return [("FFT plans", text)]

    def _algorithm(self) -> str:
        """Text on how the probes go through the specimen."""
        e, w = self.experiment.computed, self.waves
        chosen = " (chosen by auto)" if e.algorithm == "auto" else ""
        tilts = "" if e.precession is None else f" at each of {e.precession.steps} tilts"
        if not e.detects:
            return "multislice, one wave for each exit wave"
        if w.algorithm == "multislice":
            each = "the probe" if e.positions == 1 else f"each of the {e.positions} probes"
            return f"multislice, one wave for {each} of a job{tilts}{chosen}"
        if not w.shared:
            waves, of_job = number_of(w.waves, "wave"), number_of(e.positions, "probe")
            return f"probe_basis{chosen}, up to {waves} for the {of_job} of a job{tilts}"
        probes, n = e.positions * len(self.campaign.defoci), self.campaign.configurations
        return (
            f"probe_basis{chosen}, {number_of(w.waves, 'wave')} for the {number_of(probes, 'probe')} of a "
            f"configuration at all defoci; {w.kept_mb * n:.3g} MB are kept for that (`stemphony clean` removes them)"
        )

    @property
    def description(self) -> dict[str, Any]:
        """Description of the simulation for START_SIMULATION: `status.events.DESCRIPTION_KEYS` and planned defoci."""
        specimen, e = self.campaign.config["specimen"], self.experiment
        angles = {**e.rings, **{name: (one.inner, one.outer) for name, one in e.sensitive.items()}}
        rings = ", ".join(f"{name} {a / MRAD:g}–{b / MRAD:g} mrad" for name, (a, b) in angles.items())
        described = {
            "specimen_formula": self.sources.formula or self.crystal.formula,
            "beam_energy_kev": self.campaign.config["probe"]["energy_kev"],
            "thickness_nm": round((e.cell[2] - specimen["vacuum_angstrom"][2]) / NM, 4),
            "detectors": rings or None,
            "planned_defoci_nm": planned_defoci(defocus.value_nm for defocus in self.campaign.defoci),
        }
        return {key: value for key, value in described.items() if value is not None}

    def plan(self, run: int, num_processors: int, jobs_to_run: int, created: str) -> dict[str, Any]:
        """Content of plan.json: what this run computes, and values that a job cannot find out itself.

        Parameters
        ----------
        run : int
            Number of the run.
        num_processors : int
            Jobs that may run at once.
        jobs_to_run : int
            Jobs that this run will start.
        created : str
            Time of the plan (ISO 8601).
        """
        c, block = self.campaign, self.inputs.config["http_reporting"]
        return {
            "created": created,
            "run": run,
            "title": c.config["simulation"]["title"],
            "num_defoci": len(c.defoci),
            "num_configurations": c.configurations,
            "num_processors": num_processors,
            "threads": c.config["resources"]["threads"],
            "jobs_to_run": jobs_to_run,
            "defoci_ids": [defocus.id for defocus in c.defoci],
            "defoci_nm": [defocus.value_nm for defocus in c.defoci],
            "weights": [defocus.weight for defocus in c.defoci],
            "keep_coordinates": self.keep_coordinates,
            "reporting": bool(block["reporting"]),
            "config_files": [str(file) for file in self.inputs.config_files],
            "config": configuration.without_secrets(c.config),
            "config_digest": provenance.digest(configuration.without_secrets(c.config)),
            "merge_digest": provenance.digest(c.merge_params),
            "scan_edges": c.edges.in_plan(),
            "scan_symmetry": None if c.symmetry is None else c.symmetry.in_params(),
            "specimen_digest": c.specimen_params["specimen_digest"],
            "physics_version": provenance.PHYSICS_VERSION,
            "files": asdict(c.files),
            "resources": {"mem_mb": self.mem_mb, "runtime_min": self.runtime_min},
            "budget_mb": self.budget_mb,
            "program_arguments": _program_arguments(),
            "algorithm": self.waves.algorithm,
            "shared_waves": self.waves.shared,
            "cell_angstrom": list(self.experiment.cell),
            "controller": provenance.environment(),
            "cpu_hours": self.hours_to_do,
            "plan": self.lines(),
        }  # fmt: skip

    @property
    def keep_coordinates(self) -> bool:
        """Whether jobs keep their displaced atoms."""
        wanted = self.campaign.config["frozen_phonon"]["save_coordinates"]
        return campaign.keeps_coordinates(wanted, self.campaign.most_jobs, self.atoms)


def read_inputs(config: Mapping[str, Any], config_files: Sequence[Path]) -> Inputs:
    """Validate a config, and find the files that it names.

    Parameters
    ----------
    config : mapping
        The config as Snakemake merged it.
    config_files : sequence of Path
        The files of the config. Relative paths in it start from the folder of the last file.

    Raises
    ------
    ConfigError
        The config is not valid, or a file that it names does not exist.
    """
    files = tuple(Path(file).resolve() for file in config_files)
    # Snakemake has read the files already. But if a key appears twice, Snakemake silently takes the last value.
    return inputs_of(configuration.validate(overrides.typed(config, configuration.load(files))), files)


def inputs_of(complete: Mapping[str, Any], files: tuple[Path, ...], notes: Sequence[str] = ()) -> Inputs:
    """Find the files that a `complete` config names, and check http_reporting.

    Parameters
    ----------
    complete : mapping
        A validated config, with all defaults.
    files : tuple of Path
        The config files. Files that the config names are in the folder of the last one, else in the working directory.
    notes : sequence of str
        Notes on the config so far. They become the first warnings.

    Raises
    ------
    ConfigError
        A file does not exist, or http_reporting is not valid.
    """
    folder = files[-1].parent if files else Path.cwd()
    reporting = status_settings.resolve(complete["http_reporting"], folder)
    warnings = [*notes, *reporting.warnings]
    if reporting.reporting and reporting.preview and not detector_names(complete["adf"]):
        warnings.append("http_reporting.preview sends nothing: there is no named detector. Name one in adf.detectors.")
    specimen = find_file("specimen.file", complete["specimen"]["file"], folder)
    snapshots = complete["frozen_phonon"]["snapshots"]
    return Inputs(
        config=configuration.without_secrets(complete),
        config_files=files,
        specimen_file=specimen,
        snapshots_file=None if snapshots is None else find_file("frozen_phonon.snapshots", snapshots, folder),
        warnings=tuple(warnings),
        sensitivity_files=_sensitivity_files(complete["adf"], folder),
    )


def _sensitivity_files(adf: Mapping[str, Any], folder: Path) -> dict[str, Path]:
    """Find the files that detectors name, and check that maps have pixels."""
    named = sensitivity_files.named_files(adf)
    files = {name: find_file(f"adf.detectors.{name}.sensitivity", file, folder) for name, file in named.items()}
    sensitivity_files.require_pixels(adf, files)
    return files


def _program_arguments() -> str:
    """The command line of this process, without the block http_reporting, which may hold secrets."""
    return shlex.join("http_reporting=…" if "http_reporting" in word else word for word in sys.argv[1:])


def _finer_potential(e: Experiment) -> list[tuple[str, str]]:
    if (factor := e.potential_oversampling) == 1:
        return []
    nx, ny = e.grid.finer(factor).gpts
    return [("potential", f"{nx} × {ny} points, {factor} × {factor} for each point of the waves")]


def _factors(planned: Campaign) -> str:
    """Numbers of defoci and configurations."""
    defoci = number_of(len(planned.defoci), "defocus", "defoci")
    return f"{defoci} × {number_of(planned.configurations, 'configuration')}"


def _slices(slices: Slices, depths: int) -> str:
    """Numbers and thicknesses of the slices, number of stored depths, and where the boundaries lie."""
    counts = Counter(round(thickness, 4) for thickness in slices.thicknesses)
    exit_surface = counts.pop(0.0, 0)
    text = ", ".join(f"{count} of {thickness:.4f} Å" for thickness, count in counts.most_common(4))
    text += f" and {number_of(len(counts) - 4, 'other thickness', 'other thicknesses')}" if len(counts) > 4 else ""
    text += " and one for the exit surface" if exit_surface else ""
    text += f", {number_of(depths, 'depth')} stored"
    moved = slices.offset < 0  # false for NaN
    return f"{text}; a slice includes atoms up to {-slices.offset:.4f} Å in front of it" if moved else text


def find_file(where: str, name: str, folder: Path) -> Path:
    """Find the file `name` that the key `where` of a config gives.

    It is in `folder`, that of the config file, else in the working directory.

    Raises
    ------
    ConfigError
        There is no such file.
    """
    if "://" in name:
        raise ConfigError(where, "got an address; allowed is a file. Save it here and give its name.")
    tried = [Path(name)] if Path(name).is_absolute() else [folder / name, Path.cwd() / name]
    for candidate in tried:
        try:
            if candidate.exists():
                return candidate.resolve()
        except OSError as error:
            raise ConfigError(where, f"{candidate} cannot be read: {error.strerror}. Correct the path.") from None
    places = " and ".join(dict.fromkeys(str(candidate) for candidate in tried))
    raise ConfigError(where, f"got {name!r}; there is no such file. Looked for {places}. Correct the path.")


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

    return result_wave_bytes(experiment, len(planned.defoci), *_kept_waves(planned)) / 1e6


def _kept_waves(planned: Campaign) -> tuple[int, bool]:
    """Number of pairs whose exit waves are kept separately, and whether the incident probe is stored."""
    block = planned.merge_params.get("waves")
    if block is None:
        return 0, False
    return len(planned.defoci) * (1 if block["average_configurations"] else planned.configurations), block["probe"]


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
