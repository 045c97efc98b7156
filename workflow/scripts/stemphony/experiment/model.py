"""The experiment in internal units, on the cell of its specimen.

Only this module converts the units of the config (keV, mrad, nm) to internal units (eV, rad, Å). It also checks optics,
grid, slices, scan and detectors against each other.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np

from stemphony.errors import ConfigError
from stemphony.experiment.grid_choice import MAX_POINTS, chosen_gpts, points_at
from stemphony.experiment.losses import plan_note, plasmons_of
from stemphony.experiment.optics import Optics, Precession
from stemphony.experiment.scan import Scan
from stemphony.experiment.slice_choice import chosen_slices, stored_depths
from stemphony.experiment.stored_patterns import StoredPatterns, own_scan_and_depths, positions_of
from stemphony.experiment.wave_request import WaveRequest
from stemphony.physics.constants import MRAD, NM
from stemphony.physics.detectors import bin_edges, image_names
from stemphony.physics.grid import Grid, band_limit_radius, fft_friendly_size
from stemphony.physics.periods import Layers, Periods
from stemphony.physics.plane_symmetry import PlaneGroup
from stemphony.physics.plasmons import Events, Plasmons, Trajectory, deflection
from stemphony.physics.scattering import FactorChoice
from stemphony.physics.segments import SegmentedDetector
from stemphony.physics.sensitivity import SensitiveDetector
from stemphony.physics.slicing import Slices

TILE_SHARE = 0.25
"""Width of the part of the scan that one window serves, as a share of the window. With a larger share there are fewer
windows, but less room around the outermost probes."""

HAADF_SHARE = 0.9
"""Largest inner angle of the default HAADF detector, as a share of its outer angle. With a larger inner angle, the
ring would be too narrow to be called HAADF."""


USUAL_RINGS = 2
"""Version of the default detectors. If it changes, results with other default rings are computed again."""

JOB_KEYS: dict[str, tuple[str, ...]] = {
    "simulation": ("random_seed", "precision", "algorithm"),
    "probe": ("energy_kev", "semiangle_mrad", "semiangle_inner_mrad", "soft_aperture", "aberrations", "tilt_mrad"),
    "grating": (
        "gpts", "sampling_angstrom", "slice_thickness_angstrom", "parametrization", "bandlimit", "bandlimit_taper",
    ),
    "scan": ("x", "y", "points", "step_angstrom"),
    "depths": ("every_angstrom", "at_angstrom"),
    "adf": ("enabled", "min_mrad", "max_mrad", "bins", "interval_exponent", "detectors", "edges", "segmented",
            "center_of_mass"),
    "cbed": ("enabled", "max_mrad", "size"),
    "frozen_phonon": ("enabled", "independent_defoci", "fixed_slicing", "displace_z"),
}  # fmt: skip
"""Blocks and keys of the config that the numbers of one job depend on. Other keys belong to the specimen, to the merge,
or change no number."""


@dataclass(frozen=True, kw_only=True)
class Experiment(Optics, StoredPatterns):
    """Optics, numerics, scan and detectors of one simulation; lengths are in Å, angles in rad, energies in eV.

    Attributes
    ----------
    energy, semiangle, aberrations, tilt, …
        See `Optics`.
    grid, scan_x, scan_y, margin, symmetry, …
        See `ProbePositions`.
    depth_slices, adf, cbed_max, cbed_size, …
        See `StoredPatterns`.
    cell : (float, float, float)
        Lengths of the specimen [Å].
    window : float or None
        Smallest size of the windows in which waves are computed [Å], see `compute.windows`; None for the whole cell.
    bandlimit, bandlimit_taper : float
        Radius and edge width of the band limit as shares of the Nyquist frequency, Eq. (P5).
    parametrization : str
        Scattering factors: kirkland | lobato | peng.
    potential_oversampling : int
        Points of the potential for each point of the waves, along x and along y, Eq. (P3).
    precision : str
        single | double.
    algorithm : str
        multislice | probe_basis | auto.
    basis_tolerance : float
        Largest relative RMS error of probe_basis.
    slicing : Slices
        The slices of the cell.
    slices_of_file : bool
        Whether the structure file names the slice of each atom.
    bins : tuple of float
        Edges of the radial bins [rad], empty without adf, Eq. (P16).
    rings : mapping
        Named annular detectors, (inner, outer) [rad].
    edges : str
        Edges of bins and rings: hard | area, Eq. (P10).
    center_of_mass : bool
        Whether the centre of mass is measured, Eq. (P14).
    notes : tuple of str
        Notes for the user that need no action.
    segmented : mapping
        Named segmented detectors, Eq. (P17).
    sensitive : mapping
        Named rings with a sensitivity, Eq. (P29).
    waves : WaveRequest or None
        Exit waves that jobs store, Eq. (P30).
    specimen_tilt : (float, float)
        Tilt of the specimen [rad], Eq. (P22).
    plasmons : Plasmons or None
        Plasmon scattering, Eqs. (P33) to (P36); None without it.
    trajectories : tuple of Trajectory
        Trajectories that the configuration of a job has drawn.
    deflections : tuple of (float, float, float)
        Depth [Å] and change of the wave vector (x, y) [Å⁻¹] of the events of all waves, Eq. (P36).
    """

    cell: tuple[float, float, float]
    window: float | None
    bandlimit: float
    bandlimit_taper: float
    parametrization: str
    precision: str
    algorithm: str
    basis_tolerance: float
    slicing: Slices
    slices_of_file: bool
    bins: tuple[float, ...]
    rings: Mapping[str, tuple[float, float]]
    edges: str
    center_of_mass: bool
    notes: tuple[str, ...] = field(default=())
    segmented: Mapping[str, SegmentedDetector] = field(default_factory=dict)
    sensitive: Mapping[str, SensitiveDetector] = field(default_factory=dict)
    waves: WaveRequest | None = None
    specimen_tilt: tuple[float, float] = (0.0, 0.0)
    plasmons: Plasmons | None = None
    trajectories: tuple[Trajectory, ...] = ()
    deflections: Events = ()
    potential_oversampling: int = 1
    parametrization_of: Mapping[str, str] = field(default_factory=dict)

    @property
    def images(self) -> tuple[str, ...]:
        """Names of the images that jobs record, in the order of `JobSignals.rings`."""
        return image_names(self.rings, self.sensitive, self.segmented)

    @property
    def is_tilted(self) -> bool:
        """Whether beam or specimen is tilted."""
        return any(any(tilt) for tilt in (*self.tilts, self.specimen_tilt))

    @property
    def energies(self) -> tuple[float, ...]:
        """Energy axis of the signals [eV]; only 0 without plasmons."""
        return (0.0,) if self.plasmons is None else self.plasmons.energies

    def detector_center_at(self, depth: int) -> tuple[float, float]:
        """Frequency from which angles count at a depth [Å⁻¹], Eqs. (P21) and (P36).

        `depth` is the index of the depth in `wave_depths`.
        """
        passed = self.slicing.depths[self.wave_depths[depth] - 1]
        qx, qy = deflection(self.deflections, passed, passed)
        return self.detector_center[0] - qx, self.detector_center[1] - qy

    @property
    def factors(self) -> FactorChoice:
        """Parametrization of each element."""
        return FactorChoice(self.parametrization, self.parametrization_of)

    @property
    def slices(self) -> int:
        """Number of slices."""
        return len(self.slicing)

    @property
    def slice_thickness(self) -> float:
        """Thickness of most slices [Å]; films, vacuum and slices that the user chose may have others."""
        return self.slicing.usual_thickness

    @property
    def depths(self) -> tuple[float, ...]:
        """Stored depths below the entrance surface [Å]."""
        return tuple(self.slicing.depths[n - 1] for n in self.depth_slices)

    @property
    def band_limit_angle(self) -> float:
        """Largest scattering angle that the grid carries, k_c·λ [rad]."""
        return band_limit_radius(self.grid, self.bandlimit) * self.wavelength

    @property
    def detected_angle(self) -> float:
        """Largest angle that detectors may reach [rad]. If a beam is descanned, they are nearer to the band limit."""
        return self.band_limit_angle - _reach(self.tilts, self.descan)

    @property
    def room(self) -> tuple[float, float]:
        """Size (x, y) [Å] of the largest rectangle around a probe inside the cell or window, for any probe."""
        lx, ly = self.grid.extent
        if self.window is None:
            return lx, ly
        return tuple(
            length if length == whole else (1 - TILE_SHARE) * length
            for length, whole in zip((lx, ly), self.cell[:2], strict=True)
        )  # type: ignore[return-value]

    @property
    def cell_gpts(self) -> tuple[int, int]:
        """Points of the grid over the whole cell, also with windows."""
        nx, ny = (round(length / step) for length, step in zip(self.cell[:2], self.grid.sampling, strict=True))
        return nx, ny

    @property
    def real_dtype(self) -> np.dtype[Any]:
        """Type of the floats in result files, and of the real and imaginary part of a wave."""
        return np.dtype(np.float32 if self.precision == "single" else np.float64)

    @property
    def complex_dtype(self) -> np.dtype[Any]:
        """Type of the waves."""
        return np.dtype(np.complex64 if self.precision == "single" else np.complex128)

    @classmethod
    def of(
        cls,
        blocks: Mapping[str, Any],
        cell: Sequence[float],
        layers: Layers | None,
        sensitivities: Mapping[str, np.ndarray] | None = None,
    ) -> Experiment:
        """Make the experiment from validated blocks of the config and a cell.

        Parameters
        ----------
        blocks : mapping
            The blocks of `JOB_KEYS`, in config units, complete.
        cell : (3,)
            Lengths of the orthogonal cell, vacuum included [Å].
        layers : Layers or None
            The undisplaced atoms, on which slices and grid depend; None for an empty cell.
        sensitivities : mapping or None
            Content of the files that detectors name, see `sensitivity_files.read`. None if no wave is measured.

        Raises
        ------
        ConfigError
            A detector, pattern or aperture exceeds the band limit; a scan step does not divide its window; a depth
            lies outside the specimen; a slice is thicker than the cell; or windows are used without adf.
        """
        probe, grating, adf, cbed = blocks["probe"], blocks["grating"], blocks["adf"], blocks["cbed"]
        lx, ly, lz = (float(length) for length in cell)
        notes: list[str] = []
        layers = layers or Layers()
        window = grating.get("window_angstrom")
        grid = Grid(chosen_gpts(grating, lx, ly, layers.periods, notes), (lx, ly))
        if window is not None:
            grid = _window_grid(grid, window, adf["enabled"])
        optics = _optics(probe)
        limits = _BandLimit(grid, (lx, ly), grating["bandlimit"], optics.wavelength, layers.periods)
        limits.require("probe.semiangle_mrad", optics.semiangle)
        farthest = _reach(optics.tilts, True)
        limits.require("probe.tilt_mrad" if any(optics.tilt) else "probe.precession", optics.semiangle, farthest)
        limits = replace(limits, shift=_reach(optics.tilts, optics.descan))
        choice = chosen_slices(grating, layers, lz, optics.wavelength)
        notes += choice.notes
        plasmons = plasmons_of(blocks.get("plasmon_scattering", {}), optics.energy, layers, choice.slices)
        notes += [] if plasmons is None else [plan_note(plasmons)]
        return cls(
            **{part.name: getattr(optics, part.name) for part in fields(optics)},
            cell=(lx, ly, lz),
            window=window,
            grid=grid,
            bandlimit=grating["bandlimit"],
            bandlimit_taper=grating["bandlimit_taper"],
            parametrization=grating["parametrization"],
            precision=blocks["simulation"]["precision"],
            algorithm=blocks["simulation"]["algorithm"],
            basis_tolerance=blocks["simulation"].get("basis_tolerance", 0.0),
            slicing=choice.slices,
            slices_of_file=choice.of_file,
            depth_slices=stored_depths(blocks["depths"], choice.slices),
            **positions_of(Scan.of(blocks["scan"], (lx, ly))),
            **_detectors(adf, optics.semiangle, limits, sensitivities or {}),
            **(_patterns(cbed, (lx, ly), choice.slices, limits) if cbed["enabled"] else NO_PATTERNS),
            notes=tuple(notes),
            waves=WaveRequest.of(blocks, (lx, ly)),
            specimen_tilt=_pair(blocks.get("specimen", {}).get("tilt_mrad", (0.0, 0.0))),
            symmetry=PlaneGroup.of_params(blocks["scan"].get("symmetry_group")),
            plasmons=plasmons,
            potential_oversampling=grating.get("potential_oversampling", 1),
            parametrization_of=grating.get("parametrization_of", {}),
        )


def _optics(probe: Mapping[str, Any]) -> Optics:
    """Convert the block `probe` of the config."""
    cone = probe.get("precession")
    return Optics(
        energy=probe["energy_kev"] * 1e3,
        semiangle=probe["semiangle_mrad"] * MRAD,
        semiangle_inner=probe["semiangle_inner_mrad"] * MRAD,
        soft_aperture=probe["soft_aperture"],
        aberrations=_aberrations(probe["aberrations"]),
        tilt=_pair(probe.get("tilt_mrad", (0.0, 0.0))),
        precession=None if cone is None else Precession(cone["angle_mrad"] * MRAD, cone["steps"]),
        descan=bool(probe.get("descan")),
    )


def _detectors(
    adf: Mapping[str, Any],
    semiangle: float,
    limits: _BandLimit,
    sensitivities: Mapping[str, np.ndarray],
) -> dict[str, Any]:
    """Convert the block `adf` of the config to attributes of `Experiment`. Refuse angles beyond the band limit."""
    measured = adf["enabled"]
    return {
        "adf": measured,
        "bins": _bins(adf, limits) if measured else (),
        "rings": _rings(adf, semiangle, limits) if measured else {},
        "edges": adf["edges"],
        "center_of_mass": measured and adf["center_of_mass"],
        "segmented": _segmented(adf, limits) if measured else {},
        "sensitive": _sensitive(adf, limits, sensitivities) if measured else {},
    }


def _pair(mrad: Sequence[float]) -> tuple[float, float]:
    return float(mrad[0]) * MRAD, float(mrad[1]) * MRAD


def _reach(tilts: Sequence[tuple[float, float]], descan: bool) -> float:
    """Largest angle between the optic axis and the zero angle of the detectors [rad]."""
    return max(math.hypot(*tilt) for tilt in tilts) if descan else 0.0


@dataclass(frozen=True)
class _BandLimit:
    """The largest scattering angle of a grid. `require` refuses keys that exceed it.

    The band limit is centred on the optic axis. `shift` is the angle between this axis and the zero angle of the
    detectors [rad].
    """

    grid: Grid
    cell: tuple[float, float]
    bandlimit: float
    wavelength: float
    periods: Periods
    shift: float = 0.0

    @property
    def angle(self) -> float:
        return band_limit_radius(self.grid, self.bandlimit) * self.wavelength - self.shift

    def require(self, where: str, angle: float, tilt: float | None = None) -> None:
        """Refuse an angle [rad] beyond the band limit. The angle counts from an axis with the given tilt [rad].

        Without a tilt, the angle counts from the zero angle of the detectors.
        """
        if tilt is not None:
            angle += tilt
        if angle <= self.angle * (1 + 1e-9):
            return
        spacing = self.bandlimit * self.wavelength / (2 * (angle + self.shift))
        largest = rounded_down(self.angle / MRAD, 2)
        finer = ""
        # `grating.gpts` are the points of the whole cell, even with windows.
        if max(self.cell) / spacing <= MAX_POINTS:
            nx, ny = points_at(spacing, self.cell, self.periods)
            finer = f"grating.gpts: [{nx}, {ny}] (or sampling_angstrom: {rounded_down(spacing, 4)}), or "
        raise ConfigError(
            where,
            f"got {angle / MRAD:g} mrad{' with the semi-angle' if tilt else ''}; this grid carries scattering only to "
            f"{largest} mrad {'about the tilted beam ' if self.shift else ''}"
            f"({self.grid.gpts[0]} × {self.grid.gpts[1]} points of {max(self.grid.sampling):.4f} Å, band limit "
            f"{self.bandlimit:.4g} of Nyquist). Use {finer}an angle of at most {largest} mrad.",
        )


def rounded_down(value: float, digits: int) -> str:
    """Write a largest allowed `value` as text, rounded down so that the value in the text is allowed too.

    `digits` is the number of decimal places. Decimal places that are zero at the end are left out.
    """
    text = f"{math.floor(value * 10**digits + 1e-6) / 10**digits:.{digits}f}"
    return text.rstrip("0").rstrip(".") if digits else text


def _window_grid(whole: Grid, window: float, with_adf: bool) -> Grid:
    """Grid of windows of at least the given size [Å], at the sampling of the whole cell.

    If the cell is not longer than a window along an axis, the whole length is kept.
    """
    if not with_adf:
        raise ConfigError(
            "grating.window_angstrom",
            f"got {window:g} while adf.enabled is false; the error of windows is measured on its signals. "
            "Enable adf, or use null.",
        )
    chosen = []
    for points, length, step in zip(whole.gpts, whole.extent, whole.sampling, strict=True):
        few = fft_friendly_size(max(8, math.ceil(window / step - 1e-9)))
        chosen.append((few, few * step) if few < points else (points, length))
    return Grid((chosen[0][0], chosen[1][0]), (chosen[0][1], chosen[1][1]))


def _bins(adf: Mapping[str, Any], limits: _BandLimit) -> tuple[float, ...]:
    lowest = adf["min_mrad"]
    highest = adf["max_mrad"]
    if highest is None:
        highest = limits.angle / MRAD
        if adf["bins"] is None:
            highest = lowest + math.floor(highest - lowest + 1e-9)
        if highest <= lowest:
            raise ConfigError(
                "adf.min_mrad",
                f"got {lowest:g}; it must be below the band limit, {limits.angle / MRAD:.2f} mrad, of this grid.",
            )
    else:
        limits.require("adf.max_mrad", highest * MRAD)
    number = adf["bins"] if adf["bins"] is not None else max(1, round(highest - lowest))
    edges = bin_edges(lowest * MRAD, highest * MRAD, number, adf["interval_exponent"])
    if not (np.diff(edges) > 0).all():
        raise ConfigError(
            "adf.interval_exponent",
            f"got {adf['interval_exponent']:g}; {number} bins from {lowest:g} to {highest:g} mrad would have edges "
            "that coincide. Use an exponent nearer to 1, or fewer bins.",
        )
    return tuple(float(edge) for edge in edges)


def _rings(adf: Mapping[str, Any], semiangle: float, limits: _BandLimit) -> dict[str, tuple[float, float]]:
    if adf["detectors"] is None:
        return _usual_rings(semiangle, limits)
    rings = {}
    for name, entry in sorted(adf["detectors"].items()):
        inner, outer = ring_mrad(entry)
        limits.require(f"adf.detectors.{name}", outer * MRAD)
        if sensitivity_of(entry) is None:
            rings[name] = (inner * MRAD, outer * MRAD)
    return rings


def ring_mrad(entry: Any) -> tuple[float, float]:
    """Return inner and outer angle [mrad] of `entry`, an entry of `adf.detectors`: a list or a map."""
    inner, outer = (entry["inner_mrad"], entry["outer_mrad"]) if isinstance(entry, Mapping) else entry
    return float(inner), float(outer)


def sensitivity_of(entry: Any) -> str | None:
    """Return the sensitivity file that `entry`, an entry of `adf.detectors`, names; None if it names none.

    If the entry is in params, this is the SHA-256 of the file instead of its path.
    """
    return entry.get("sensitivity") if isinstance(entry, Mapping) else None


def _sensitive(
    adf: Mapping[str, Any], limits: _BandLimit, sensitivities: Mapping[str, np.ndarray]
) -> dict[str, SensitiveDetector]:
    made = {}
    for name, entry in sorted((adf["detectors"] or {}).items()):
        if (digest := sensitivity_of(entry)) is None:
            continue
        inner, outer = ring_mrad(entry)
        pixel, values = entry.get("pixel_mrad"), sensitivities.get(name)
        if values is not None and pixel is None:
            values = values * [MRAD, 1.0]
        made[name] = SensitiveDetector(
            inner * MRAD, outer * MRAD, digest, None if pixel is None else pixel * MRAD, values
        )
        limits.require(f"adf.detectors.{name}", outer * MRAD)
        _require_known(name, made[name])
    return made


def _require_known(name: str, detector: SensitiveDetector) -> None:
    """Refuse a ring that reaches beyond the angles at which its sensitivity is known."""
    if detector.values is None:
        return
    if detector.begin <= detector.inner * (1 + 1e-9) and detector.outer <= detector.reach * (1 + 1e-9):
        return
    raise ConfigError(
        f"adf.detectors.{name}",
        f"got a ring from {detector.inner / MRAD:g} to {detector.outer / MRAD:g} mrad, but its sensitivity is known "
        f"from {detector.begin / MRAD:g} to {detector.reach / MRAD:g} mrad only. Use a ring inside, or a file that "
        "covers the ring (with zeros where nothing is detected).",
    )


def _segmented(adf: Mapping[str, Any], limits: _BandLimit) -> dict[str, SegmentedDetector]:
    made = {}
    for name, block in sorted(adf.get("segmented", {}).items()):
        detector = SegmentedDetector(
            inner=block["inner_mrad"] * MRAD, outer=block["outer_mrad"] * MRAD, segments=block["segments"],
            rotation=math.radians(block["rotation_deg"]), radial=block["radial"], offset=_pair(block["offset_mrad"]),
        )  # fmt: skip
        limits.require(f"adf.segmented.{name}", detector.reach)
        made[name] = detector
    return made


def _usual_rings(semiangle: float, limits: _BandLimit) -> dict[str, tuple[float, float]]:
    """Default detectors: BF to α/2, ABF from α/2 to α, HAADF from 3α to 10α.

    HAADF ends at least α before the band limit, because signals nearer to it are too small. If this leaves less than
    3α to 4α, HAADF ends at the band limit.
    """
    before = limits.angle - semiangle
    outer = min(10 * semiangle, before if before >= 4 * semiangle else limits.angle)
    # If HAADF does not fit, a new run is refused. Older results that have this ring can still be merged.
    inner = 3 * semiangle if haadf_fits(semiangle, limits.angle) else 0.5 * (semiangle + outer)
    return {"bf": (0.0, semiangle / 2), "abf": (semiangle / 2, semiangle), "haadf": (inner, outer)}


def haadf_fits(semiangle: float, largest_angle: float) -> bool:
    """Whether the ring from 3α to 10α, or to the largest angle of the grid, is wide enough to be called HAADF.

    `semiangle` is α [rad], and `largest_angle` that of the grid [rad].
    """
    return 3 * semiangle < HAADF_SHARE * min(10 * semiangle, largest_angle)


def detector_names(adf: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of the annular detectors of the validated block `adf`, in the order of the result file.

    Detectors with a sensitivity come last.
    """
    if not adf["enabled"]:
        return ()
    if adf["detectors"] is None:
        return ("bf", "abf", "haadf")
    return tuple(sorted(adf["detectors"], key=lambda name: (sensitivity_of(adf["detectors"][name]) is not None, name)))


NO_PATTERNS: dict[str, Any] = {"cbed_max": None, "cbed_size": None}
"""Attributes of an experiment without diffraction patterns."""


def _patterns(cbed: Mapping[str, Any], lengths: Sequence[float], slices: Slices, limits: _BandLimit) -> dict[str, Any]:
    """Convert the block `cbed` of the config to attributes of `StoredPatterns`."""
    pixel, size, largest = cbed.get("pixel_mrad"), cbed["size"], limits.angle
    if cbed["max_mrad"] is not None:
        limits.require("cbed.max_mrad", cbed["max_mrad"] * MRAD)
        largest = float(cbed["max_mrad"] * MRAD)
    elif pixel is not None and size is not None:
        # Centre of the outermost pixel. If the number is even, the negative side has one more pixel.
        largest = max(size) // 2 * pixel * MRAD
        limits.require("cbed.size", largest)
    return {
        "cbed_max": largest,
        "cbed_size": tuple(size) if size else None,
        "cbed_pixel": None if pixel is None else pixel * MRAD,
        **own_scan_and_depths(cbed, lengths, slices),
    }


def _aberrations(coefficients: Mapping[str, float]) -> dict[str, float]:
    converted = {}
    for key, value in coefficients.items():
        symbol, unit = key.rsplit("_", 1)
        converted[symbol] = value * NM if unit == "nm" else math.radians(value)
    return converted
