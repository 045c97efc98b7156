"""The plan: a campaign that has passed all checks, in words for the user and as plan.json for the jobs."""

from __future__ import annotations

import shlex
import sys
from collections import Counter
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from stemphony import provenance
from stemphony.counting import number_of
from stemphony.experiment import campaign, configuration
from stemphony.experiment.campaign import Campaign
from stemphony.experiment.model import Experiment
from stemphony.orchestration.advice import (
    job_row,
    optics_rows,
    resolution_rows,
    size_in_words,
    special_texts,
    tilt_rows,
    wave_rows,
)
from stemphony.orchestration.inputs import Inputs
from stemphony.orchestration.pattern_plan import pattern_rows
from stemphony.orchestration.scan_plan import scan_rows
from stemphony.orchestration.standing import Standing
from stemphony.orchestration.symmetry_choice import SymmetryChoice
from stemphony.physics.constants import MRAD, NM
from stemphony.status.events import planned_defoci
from stemphony.store.progress import duration

if TYPE_CHECKING:
    from stemphony.compute.cost import WavePlan
    from stemphony.physics.slicing import Slices
    from stemphony.specimen.building import Building
    from stemphony.specimen.crystal import Crystal


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
            *wave_rows(e, len(c.defoci), *kept_waves(c)),
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


def kept_waves(planned: Campaign) -> tuple[int, bool]:
    """Return the number of pairs whose exit waves are kept separately, and whether the incident probe is stored."""
    block = planned.merge_params.get("waves")
    if block is None:
        return 0, False
    return len(planned.defoci) * (1 if block["average_configurations"] else planned.configurations), block["probe"]


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
