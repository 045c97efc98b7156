"""The table of jobs of a config: defoci with ids and weights, configurations, and the params of each rule."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any, Final

import numpy as np

from stemphony import paths, provenance
from stemphony.errors import ConfigError
from stemphony.experiment import losses
from stemphony.experiment.blurring import source_keys
from stemphony.experiment.model import JOB_KEYS, USUAL_RINGS, detector_names, ring_mrad, sensitivity_of
from stemphony.experiment.scan import NEUTRAL as SCAN_NEUTRAL
from stemphony.experiment.scan_edges import ScanEdges, is_whole_cell
from stemphony.experiment.stopping import Goal
from stemphony.experiment.stored_patterns import own_keys
from stemphony.experiment.wave_request import job_block, merge_block
from stemphony.physics.constants import FWHM_PER_SIGMA
from stemphony.physics.electron import chromatic_focal_spread
from stemphony.physics.plane_symmetry import PlaneGroup

NM_PER_MM = 1e6
"""One millimetre [nm]. The config has the coefficient of chromatic aberration in mm."""

FWHM_OF_WIDTH = {"fwhm": 1.0, "sigma": FWHM_PER_SIGMA, "half_width_1_e": FWHM_PER_SIGMA / math.sqrt(2)}
"""Ratio of the full width at half maximum of a Gaussian to the width that `probe.chromatic.width` names.

A Gaussian falls to 1/e at √2 standard deviations from its middle.
"""

COORDINATES_BYTES = 12
"""Size of the coordinates of one atom [bytes]: three numbers in single precision."""

COORDINATES_LIMIT_BYTES = 1e9
"""Largest size of the displaced atoms of all jobs [bytes] that `save_coordinates: auto` keeps in the result. The schema
states the same limit."""

SPECIMEN_CHECKS = ("file", "occupancy", "accept")
"""Keys of the block `specimen` that decide whether a specimen is accepted but do not change its content."""

SPECIMEN_TILT = "tilt_mrad"
"""Key of the block `specimen` that changes waves but no atoms. So it belongs to the params of jobs."""

NO_TILT = [0.0, 0.0]
"""Neutral tilt of beam and specimen [mrad]. At this value, a key of a tilt is left out of the params."""

SPECIMEN_NEUTRAL: dict[str, Any] = {
    "u_source": "file",
    "temperature_k": None,
    "debye_temperature_k": None,
    "zone_axis": None,
    "up": None,
    "max_strain": 0.0,
    "size_nm": None,
    "thickness_nm": None,
    "origin": None,
    "termination": None,
    "substitutions": [],
    "amorphous_layers": None,
    "charges": "neutral",
}
"""Keys of the block `specimen` that version 0.1.0 did not know, with the value that changes nothing.

A key with this value is left out of the params, so that no job of version 0.1.0 runs again.
"""


@dataclass(frozen=True)
class Defocus:
    """One defocus: its value [nm], its id in file names, its place on the defocus axis, and its weight."""

    value_nm: float
    id: str
    index: int
    weight: float


@dataclass(frozen=True)
class InputFiles:
    """Content of the input files, as far as a campaign depends on it. Paths never matter.

    Attributes
    ----------
    specimen_sha256 : str
        SHA-256 of the structure file.
    snapshots_sha256 : str or None
        SHA-256 of the trajectory; None without one.
    snapshots : int or None
        Number of frames of the trajectory.
    revision : int
        Revision of the reader: 2 if version 0.1 read other atoms, U or coordinates from this file, else 1.
    occupancies_drawn : bool
        Whether each configuration draws which sites hold their atom, or draws the atoms of amorphous films.
    sensitivities : mapping
        SHA-256 of the sensitivity file of each detector that names a file.
    """

    specimen_sha256: str
    snapshots_sha256: str | None = None
    snapshots: int | None = None
    revision: int = 1
    occupancies_drawn: bool = False
    sensitivities: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Campaign:
    """All jobs of one simulation.

    Attributes
    ----------
    config : mapping
        The validated config without secrets.
    defoci : tuple of Defocus
        In the order of the defocus axis.
    files : InputFiles
        Content of the input files.
    configurations : int
        Number of configurations per defocus. With a goal, the total of the present round.
    notes : tuple of str
        Notes for the user about the defoci.
    goal : Goal or None
        Accuracy that decides the number of configurations.
    edges : ScanEdges
        How the scan goes on behind its edges.
    symmetry : PlaneGroup or None
        Operations that reduce the scan to distinct positions; None if jobs compute every position.
    """

    config: Mapping[str, Any]
    files: InputFiles
    defoci: tuple[Defocus, ...]
    configurations: int
    notes: tuple[str, ...]
    goal: Goal | None = None
    edges: ScanEdges = field(default_factory=ScanEdges)
    symmetry: PlaneGroup | None = None

    @property
    def name(self) -> str:
        """Name of the simulation."""
        return str(self.config["simulation"]["name"])

    @property
    def jobs(self) -> int:
        """Number of (defocus, configuration) pairs."""
        return len(self.defoci) * self.configurations

    @property
    def most_jobs(self) -> int:
        """Largest number of pairs that this simulation may get."""
        return self.jobs if self.goal is None else len(self.defoci) * max(self.goal.most, self.configurations)

    def extended(self, configurations: int) -> Campaign:
        """Return this campaign with so many `configurations` per defocus: a further round of a goal."""
        return replace(self, configurations=configurations)

    def defocus(self, identifier: str) -> Defocus:
        """Return the defocus with the id `identifier`, see `paths.defocus_id`; KeyError if there is none."""
        return self._defoci_by_id[identifier]

    # Snakemake asks for the params of every job, so shared params are made once.
    @cached_property
    def _defoci_by_id(self) -> dict[str, Defocus]:
        return {defocus.id: defocus for defocus in self.defoci}

    @cached_property
    def specimen_params(self) -> dict[str, Any]:
        """Params of the rule prepare_specimen: everything that decides the content of specimen.nc."""
        specimen = {
            key: value
            for key, value in self.config["specimen"].items()
            if key not in (*SPECIMEN_CHECKS, SPECIMEN_TILT)
            and not (key in SPECIMEN_NEUTRAL and value == SPECIMEN_NEUTRAL[key])
        }
        content: dict[str, Any] = {
            "specimen": {"file_sha256": self.files.specimen_sha256, **specimen},
            "snapshots_sha256": self.files.snapshots_sha256,
            "physics_version": provenance.PHYSICS_VERSION,
        }
        if self.files.revision != 1:
            content["revision"] = self.files.revision
        if self.files.sensitivities:
            # specimen.nc is the only input that every job reads. So it also holds the sensitivities of detectors.
            content["sensitivities"] = dict(self.files.sensitivities)
        return {**content, "specimen_digest": provenance.digest(content)}

    @cached_property
    def common_params(self) -> dict[str, Any]:
        """The part of a job's params that all jobs share."""
        blocks: dict[str, Any] = {
            block: {key: self.config[block][key] for key in keys} for block, keys in JOB_KEYS.items()
        }
        lossy = losses.job_block(self.config)
        if not blocks["frozen_phonon"]["enabled"] or self.files.snapshots_sha256:
            # Then no displacements are drawn, so the keys about drawing decide no number. The seed decides no number
            # either, unless occupancies or energy losses are drawn.
            if not lossy and (self.files.snapshots_sha256 or not self.files.occupancies_drawn):
                blocks["simulation"]["random_seed"] = None
            blocks["frozen_phonon"].update(independent_defoci=None, displace_z=None)
        # The first version did not have some keys. At their neutral value they are left out, so no job runs again.
        if blocks["simulation"]["algorithm"] != "multislice":
            blocks["simulation"]["basis_tolerance"] = self.config["simulation"]["basis_tolerance"]
        for key in ("window_angstrom", "slice_boundaries_angstrom"):
            if self.config["grating"][key] is not None:
                blocks["grating"][key] = self.config["grating"][key]
        if blocks["adf"]["enabled"] and blocks["adf"]["detectors"] is None:
            blocks["adf"]["usual_rings"] = USUAL_RINGS
        if chosen := self.config["grating"].get("parametrization_of"):
            blocks["grating"]["parametrization_of"] = chosen
        if (oversampling := self.config["grating"].get("potential_oversampling", 1)) != 1:
            blocks["grating"]["potential_oversampling"] = oversampling
        blocks["adf"]["detectors"] = self._detectors
        blocks["probe"] |= self._tilts_of_beam
        blocks["cbed"] |= own_keys(self.config["cbed"])
        if self.config["probe"].get("plane_wave"):
            blocks["probe"]["plane_wave"] = True
        if lossy:
            blocks[losses.BLOCK] = lossy
        if waves := job_block(self.config):
            blocks["waves"] = waves
        if (tilt := self.config["specimen"].get(SPECIMEN_TILT, NO_TILT)) != NO_TILT:
            blocks["specimen"] = {SPECIMEN_TILT: tilt}
        scan = self.config["scan"]
        blocks["scan"] |= {key: scan[key] for key, neutral in SCAN_NEUTRAL.items() if scan.get(key, neutral) != neutral}
        blocks["scan"] |= self.edges.job_keys
        if self.symmetry is not None:
            blocks["scan"]["symmetry_group"] = self.symmetry.in_params()
        return {
            **blocks,
            "specimen_digest": self.specimen_params["specimen_digest"],
            "physics_version": provenance.PHYSICS_VERSION,
        }

    @property
    def _detectors(self) -> dict[str, Any] | None:
        """Named detectors as params. The SHA-256 of a sensitivity replaces its path; other detectors are lists."""
        detectors = self.config["adf"]["detectors"]
        if detectors is None:
            return None
        made: dict[str, Any] = {}
        for name, entry in detectors.items():
            if not isinstance(entry, Mapping):
                made[name] = entry
            elif sensitivity_of(entry) is None:
                made[name] = list(ring_mrad(entry))
            else:
                made[name] = {**entry, "sensitivity": self.files.sensitivities.get(name, "")}
        return made

    @property
    def _tilts_of_beam(self) -> dict[str, Any]:
        """Keys of a tilted beam that version 0.1.0 did not know, if they change a number."""
        probe = self.config["probe"]
        precession = probe.get("precession")
        keys = {} if precession is None else {"precession": precession}
        is_tilted = precession is not None or probe["tilt_mrad"] != NO_TILT
        return {**keys, "descan": True} if is_tilted and probe.get("descan") else keys

    @property
    def shares_configurations(self) -> bool:
        """Whether several defoci have the same atoms, so that one propagation can serve them all.

        With precession or plasmons, each job has many sets of waves. Those of several defoci would not fit into memory
        together. Patterns with a scan of their own have waves of their own, which defoci do not share.
        """
        common = self.common_params
        several = "precession" in common["probe"] or losses.BLOCK in common
        shared = not common["frozen_phonon"]["independent_defoci"] and not several
        own_waves = common["cbed"]["enabled"] and "scan" in common["cbed"]
        return len(self.defoci) > 1 and shared and not own_waves

    def job_params(self, defocus: str, configuration: int) -> dict[str, Any]:
        """Params of one job of the rule run_multislice, with the id `defocus` and the index `configuration`.

        They hold only what decides the numbers of this job. If they change, the job runs again. Raises KeyError if
        there is no such defocus.
        """
        return job_params(self.common_params, self.defocus(defocus).value_nm, configuration)

    @property
    def merge_params(self) -> dict[str, Any]:
        """Params of the rule merge_results."""
        averages = ("average_configurations", "average_defoci")
        return {
            **self._repeats,
            "common": self.common_params,
            "defoci_nm": [defocus.value_nm for defocus in self.defoci],
            "weights": [defocus.weight for defocus in self.defoci],
            "configurations": self.configurations,
            "independent_defoci": self.config["frozen_phonon"]["independent_defoci"],
            "source_fwhm_nm": self.config["probe"]["source_fwhm_nm"],
            **source_keys(self.config["probe"]),
            "adf": {key: self.config["adf"][key] for key in averages},
            "cbed": {key: self.config["cbed"][key] for key in averages} | self._of_patterns,
            "save_coordinates": self.config["frozen_phonon"]["save_coordinates"],
            **self._integrated,
            **({"waves": waves} if (waves := merge_block(self.config)) else {}),
            **({} if self.goal is None else {"goal": asdict(self.goal)}),
        }

    @property
    def _of_patterns(self) -> dict[str, Any]:
        """Params of the merge for patterns, if it blurs them or adds their standard errors."""
        cbed = self.config["cbed"]
        if not cbed["enabled"]:
            return {}
        keys: dict[str, Any] = {"standard_errors": True} if cbed.get("standard_errors") else {}
        own = cbed.get("scan")
        if self.config["probe"]["source_fwhm_nm"] == 0 or (own or {}).get("positions") is not None:
            return keys
        return {**keys, "source": "scan" if own is None else list(self.edges.pattern_repeats)}

    @property
    def _integrated(self) -> dict[str, Any]:
        """Param of a merge with phase images: how the window repeats; None if only the whole cell repeats."""
        if not self.config["adf"].get("integrated"):
            return {}
        repeats = self.edges.repeats
        return {"integrated": {"repeats": None if repeats is None else list(repeats)}}

    @property
    def _repeats(self) -> dict[str, Any]:
        """Param of a merge with a source: how the window repeats.

        If the scan is the whole cell, the param is left out, so that no such result of version 0.1 is merged again.
        """
        repeats, scan = self.edges.repeats, self.config["scan"]
        is_needed = repeats is not None and self.config["probe"]["source_fwhm_nm"] > 0
        if not is_needed or (repeats == (0, 0) and is_whole_cell(scan, 0) and is_whole_cell(scan, 1)):
            return {}
        return {"scan_repeats": list(repeats or ())}

    @property
    def figures(self) -> tuple[str, ...]:
        """Names of the images that plot_results makes."""
        names = list(detector_names(self.config["adf"]))
        depths = self.config["depths"]
        if names and (depths["every_angstrom"] is not None or depths["at_angstrom"] is not None):
            names.append("thickness_curves")
        if self.config["cbed"]["enabled"]:
            names.append("cbed_mean")
        return tuple(names)


def keeps_coordinates(save_coordinates: bool | str, jobs: int, atoms: int) -> bool:
    """Whether the result keeps the displaced atoms of all jobs.

    `save_coordinates` is the key of the config. Its value `auto` keeps the coordinates of so many `jobs` with so many
    `atoms` each, up to COORDINATES_LIMIT_BYTES.
    """
    if save_coordinates == "auto":
        return jobs * atoms * COORDINATES_BYTES <= COORDINATES_LIMIT_BYTES
    return bool(save_coordinates)


def ranges(configurations: Iterable[int]) -> str:
    """Write indices of `configurations` as ranges: `0-3, 7`. Their order does not matter."""
    text: list[str] = []
    first = last = -1
    for number in [*sorted(configurations), -1]:
        if last >= 0 and number == last + 1:
            last = number
            continue
        if last >= 0:
            text.append(f"{first}" if first == last else f"{first}-{last}")
        first = last = number
    return ", ".join(text)


def job_params(common: Mapping[str, Any], defocus_nm: float, configuration: int) -> dict[str, Any]:
    """Make the params of one job from the part that all jobs share. Jobs and the merge both use this function.

    `common` is this part, see `Campaign.common_params`. `defocus_nm` is the defocus [nm], and `configuration` the index
    of the configuration.
    """
    return {**common, "defocus_nm": defocus_nm, "configuration": configuration}


MOST_JOBS: Final = 1_000_000
"""Largest number of jobs of a plan that is read. The monitor accepts as many. A limit is needed, because a plan of a
few bytes can claim any number of jobs."""


def of_plan(plan_file: Mapping[str, Any]) -> Campaign:
    """Return the campaign that a plan holds. `plan_file` is the content of plan.json.

    Raises
    ------
    KeyError, TypeError
        The plan is incomplete.
    ValueError
        The plan has more jobs than any run plans, so another person may have made it.
    """
    config = plan_file["config"]
    wanted, defoci = config["frozen_phonon"]["configurations"], config["probe"]["defoci_nm"] or ()
    configurations = max(plan_file["num_configurations"], wanted if isinstance(wanted, int) else 1)
    if configurations * max(len(defoci), config["probe"]["defocus_count"]) > MOST_JOBS:
        raise ValueError(f"more than {MOST_JOBS} jobs")
    files, edges = InputFiles(**plan_file["files"]), ScanEdges.of_plan(plan_file)
    planned = plan(plan_file["config"], files, plan_file["num_configurations"], edges)
    return replace(planned, symmetry=PlaneGroup.of_params(plan_file.get("scan_symmetry")))


def plan(
    config: Mapping[str, Any],
    files: InputFiles,
    configurations: int | None = None,
    edges: ScanEdges | None = None,
) -> Campaign:
    """Plan the campaign of a validated config.

    Parameters
    ----------
    config : mapping
        The config.
    files : InputFiles
        Content of the input files.
    configurations : int or None
        Total of the present round, if a goal decides it. The default is the first round.
    edges : ScanEdges or None
        How the scan goes on behind its edges; None for no margin.

    Returns
    -------
    Campaign
        Defoci with weights, configurations and notes.

    Raises
    ------
    ConfigError
        Defoci that contradict each other or share an id; more configurations than frames.
    """
    defoci, notes = _defoci(config["probe"])
    goal = _goal(config, files, notes)
    if goal is None:
        number = _configurations(config["frozen_phonon"], files)
    else:
        number = goal.fewest if configurations is None else configurations
    return Campaign(config, files, defoci, number, tuple(notes), goal, edges or ScanEdges())


def _goal(config: Mapping[str, Any], files: InputFiles, notes: list[str]) -> Goal | None:
    """The goal of `frozen_phonon.configurations`; None if this key is a number."""
    phonons = config["frozen_phonon"]
    where, wanted = "frozen_phonon.configurations", phonons["configurations"]
    if not (phonons["enabled"] and isinstance(wanted, Mapping)):
        return None
    known = detector_names(config["adf"])
    detectors = known if wanted["detectors"] is None else wanted["detectors"]
    if not known:
        raise ConfigError(where, "needs named detectors, whose errors decide; name them in adf.detectors.")
    if unknown := [name for name in detectors if name not in known]:
        raise ConfigError(f"{where}.detectors", f"got {', '.join(unknown)}; allowed: {', '.join(known)}.")
    goal = Goal.of({**wanted, "detectors": detectors})
    if goal.most < goal.fewest:
        raise ConfigError(
            f"{where}.max", f"got {goal.most}, less than min = {goal.fewest}; use at least {goal.fewest}."
        )
    if files.snapshots is None or goal.most <= files.snapshots:
        return goal
    if goal.fewest > files.snapshots:
        raise ConfigError(
            f"{where}.min",
            f"got {goal.fewest}, but the trajectory has {files.snapshots} frames; use at most {files.snapshots}.",
        )
    notes.append(f"{where}.max is {goal.most}; the trajectory has {files.snapshots} frames, so at most these are used.")
    return replace(goal, most=files.snapshots)


def _configurations(phonons: Mapping[str, Any], files: InputFiles) -> int:
    if not phonons["enabled"]:
        return 1
    wanted = phonons["configurations"]
    if files.snapshots is None:
        return int(wanted)
    if wanted is None:
        return files.snapshots
    if wanted > files.snapshots:
        raise ConfigError(
            "frozen_phonon.configurations",
            f"got {wanted}, but the trajectory has {files.snapshots} frames; use at most {files.snapshots}, "
            "or null for all.",
        )
    return int(wanted)


def _defoci(probe: Mapping[str, Any]) -> tuple[tuple[Defocus, ...], list[str]]:
    notes = []
    if probe["defoci_nm"] is not None:
        values = [float(value) for value in probe["defoci_nm"]]
        weights = probe["defocus_weights"] or [1.0] * len(values)
        if len(weights) != len(values) or sum(weights) <= 0:
            raise ConfigError(
                "probe.defocus_weights",
                f"got {len(weights)} weights with sum {sum(weights):g} for {len(values)} defoci; give one for each, "
                "not all zero.",
            )
        if probe["defocus_nm"] or focal_fwhm_nm(probe) or probe["defocus_count"] != 1:
            chromatic = "" if probe.get("chromatic") is None else "chromatic, "
            notes.append(
                f"probe.defoci_nm is given: defocus_nm, defocus_fwhm_nm, {chromatic}defocus_count and "
                "defocus_quadrature are ignored."
            )
    else:
        if probe["defocus_weights"] is not None:
            raise ConfigError(
                "probe.defocus_weights",
                "given without probe.defoci_nm, the defoci that they weigh; give both or neither.",
            )
        count, fwhm = probe["defocus_count"], focal_fwhm_nm(probe)
        if count > 1 and fwhm == 0:
            raise ConfigError(
                "probe.defocus_fwhm_nm",
                f"is 0 while defocus_count is {count}; give the focal spread, or a list in defoci_nm.",
            )
        if count == 1 and fwhm > 0:
            spread = f"probe.defocus_fwhm_nm = {fwhm:g}"
            if probe.get("chromatic") is not None:
                spread = f"probe.chromatic, a focal spread of {fwhm:.4g} nm,"
            notes.append(f"{spread} has no effect with defocus_count: 1; use a count of 3 or more to sample it.")
        values, weights = focal_spread(probe["defocus_nm"], fwhm, count, probe["defocus_quadrature"])
    total = math.fsum(weights)
    seen: dict[str, float] = {}
    defoci = []
    for index, (value, weight) in enumerate(zip(values, weights, strict=True)):
        identifier = paths.defocus_id(value)
        if identifier in seen:
            raise ConfigError(
                "probe.defoci_nm" if probe["defoci_nm"] else "probe.defocus_fwhm_nm",
                f"defoci {seen[identifier]:g} and {value:g} nm are the same to 0.001 nm; each may occur once.",
            )
        seen[identifier] = value
        defoci.append(Defocus(value + 0.0, identifier, index, weight / total))
    return tuple(defoci), notes


def focal_fwhm_nm(probe: Mapping[str, Any]) -> float:
    """Full width at half maximum of the focal spread [nm] of a validated block `probe`, Eqs. (P11) and (P27)."""
    chromatic = probe.get("chromatic")
    if chromatic is None:
        return float(probe["defocus_fwhm_nm"])
    width_nm = chromatic_focal_spread(
        chromatic["cc_mm"] * NM_PER_MM, chromatic["energy_spread_ev"], probe["energy_kev"] * 1e3
    )
    return width_nm * FWHM_OF_WIDTH[chromatic["width"]]


def focal_spread(mean_nm: float, fwhm_nm: float, count: int, quadrature: str) -> tuple[list[float], list[float]]:
    """Sample a Gaussian focal spread, Eq. (P11).

    Parameters
    ----------
    mean_nm, fwhm_nm : float
        Mean defocus and full width at half maximum of the focal spread [nm].
    count : int
        Number of defoci.
    quadrature : {'gauss_hermite', 'even_grid'}
        Gauss–Hermite has the exact standard deviation for any count of at least 2. The even grid spans ±3σ; its weights
        follow the density of the Gaussian.

    Returns
    -------
    defoci, weights : list of float
        Ascending defoci [nm], and weights that sum to 1.
    """
    if count == 1:
        return [mean_nm], [1.0]
    sigma = fwhm_nm / FWHM_PER_SIGMA
    if quadrature == "gauss_hermite":
        nodes, weights = np.polynomial.hermite.hermgauss(count)
        offsets = math.sqrt(2) * sigma * nodes
    else:
        offsets = np.linspace(-3 * sigma, 3 * sigma, count)
        weights = np.exp(-0.5 * (offsets / sigma) ** 2)
    # Defoci are rounded to 1e-9 nm. Otherwise another release of a library, with other last bits, would run jobs again.
    values = [round(mean_nm + float(offset), 9) for offset in offsets]
    return values, [round(float(weight / weights.sum()), 15) for weight in weights]
