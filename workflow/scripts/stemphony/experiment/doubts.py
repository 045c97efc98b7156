"""Notes on settings that are possible but probably a mistake. Each note gives a number and a better value."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemphony.errors import ConfigError
from stemphony.experiment.campaign import Campaign
from stemphony.experiment.model import HAADF_SHARE, Experiment, haadf_fits, rounded_down
from stemphony.experiment.scan import LINE, LIST
from stemphony.physics.constants import COULOMB_POTENTIAL, MRAD, NM
from stemphony.physics.grid import fft_friendly_size
from stemphony.physics.probe import Aberrations, probe_tail_fraction
from stemphony.physics.scattering import ATOMIC_NUMBERS, scattering_factor

SINGLE_PRECISION = 5e-5
"""Relative error of the faintest signals that single precision causes.

Usual images change by about 2e-6. A detector in the hole of an annular aperture receives little of the wave. Its signal
changes by 3e-5 with multislice alone, and differs by up to 5e-5 between multislice and probe_basis.
"""

LARGEST_TAIL = 0.02
"""Largest share of the probe's intensity outside the cell without a note. Signals are then wrong by about 2 %."""

LARGEST_TAIL_ERROR = 0.05
"""Largest relative deviation of a scattering factor from Lobato's, at the outer edge of a detector, without a note. The
intensity that atoms scatter there deviates by twice as much."""

LARGEST_U = 0.05
"""Largest U [Å²] without a note. Metals and oxides have a U of 0.003 to 0.02 Å² at room temperature. Their B = 8π²U is
above 0.2 Å², so the limit detects a B that is given as U."""

LARGEST_DRIFT = 0.02
"""Largest share of a window by which a tilted beam may move sideways without a note. A window extends beyond its
outermost probes by three eighths of its size."""

FEWEST_OF_AN_IMAGE = 5
"""Smallest number of positions along one axis that make an image. Fewer positions are single places that the user
chose, so their distance is no mistake."""

THICKEST_SLICE = 2.0
"""Largest slice thickness [Å] without a note, whatever the slice holds. The default, `auto`, makes no
thicker slices."""

ONE_LAYER = 1.0
"""Largest extent of one layer along the beam [Å]. Atoms of one slice within this distance are one layer, for example of
GaN [0001] (0.6 Å)."""

ALIAS_FREE = 2 / 3
"""Largest band limit, as a share of Nyquist, at which a product of two waves aliases only outside the band."""


LARGEST_CUT = 0.02
"""Largest relative error of a dark-field signal, caused by the sampling of the potential, without a note."""

SMALLEST_CUT = 0.01
"""Largest relative error that remains with the value that the note suggests. It is below LARGEST_CUT, so that this
value causes no note."""


@dataclass(frozen=True)
class AtomsAtRest:
    """The properties of the specimen at rest that doubts need.

    Attributes
    ----------
    symbols : (N,) ndarray of str
    z : (N,) ndarray
        Coordinates along the beam [Å].
    u_iso : (N,) ndarray or None
        Mean square displacements [Å²]; None if no displacements are drawn.
    species : (N,) ndarray of str or None
        Name of the atom or ion whose scattering factor each atom has; None if all are neutral.
    """

    symbols: NDArray[np.str_]
    z: NDArray[np.float64]
    u_iso: NDArray[np.float64] | None
    species: NDArray[np.str_] | None = None


def doubts(planned: Campaign, experiment: Experiment, atoms: AtomsAtRest, tail: float) -> list[str]:
    """Notes on settings that are probably a mistake, each one a text for the user.

    Parameters
    ----------
    planned : Campaign
        All jobs.
    experiment : Experiment
        The experiment of these jobs.
    atoms : AtomsAtRest
        The specimen.
    tail : float
        Share of the probe's intensity outside the cell at the worst defocus, see `probe_outside`.

    Returns
    -------
    list of str
        Empty if no setting is doubtful.
    """
    if not experiment.detects:
        return [*_large_u(atoms), *_thick_slices(planned, experiment, atoms), *_wide_band(experiment)]
    return [
        *_large_u(atoms),
        *_thick_slices(planned, experiment, atoms),
        *_wide_band(experiment),
        *_near_band_limit(experiment),
        *_cut_peaks(experiment, atoms),
        *_weak_tails(experiment, atoms),
        *_long_propagation(experiment),
        *_coarse_scan(experiment),
        *_far_focus(planned, experiment, atoms),
        *_wide_probe(planned, experiment, tail),
        *_drifting(planned, experiment),
        *_too_few_of_them(planned, experiment),
    ]


def _weak_tails(e: Experiment, atoms: AtomsAtRest) -> list[str]:
    """Note on scattering factors that are sums of Gaussians and vanish at the outer edge of a detector."""
    if not e.rings:
        return []
    outer = max(edge for _, edge in e.rings.values())
    found = []
    species = atoms.symbols if atoms.species is None else atoms.species
    for name, element in sorted(set(zip(species.tolist(), atoms.symbols.tolist(), strict=True))):
        if name == element and e.factors[element] != "peng":
            continue
        factor, known = (
            float(scattering_factor(who, (outer / e.wavelength) ** 2, table))
            for who, table in ((name, e.factors[element]), (element, "lobato"))
        )
        if abs(factor / known - 1) > LARGEST_TAIL_ERROR:
            found.append(f"{name} {100 * factor / known:.0f} %")
    if not found:
        return []
    return [
        f"at {outer / MRAD:.4g} mrad, the outer edge of a detector, Peng's scattering factors are {', '.join(found)} "
        "of Lobato's, because sums of Gaussians end early. Signals there change by the square of this ratio. Use "
        "detectors with smaller angles, or grating.parametrization: lobato with specimen.charges: neutral."
    ]


def refuse_false_haadf(adf: Mapping[str, Any], experiment: Experiment) -> None:
    """Refuse default detectors on a grid whose band limit leaves no room for a HAADF detector.

    `adf` is the validated block of the config, and `experiment` has the grid and the probe.

    Raises
    ------
    ConfigError
        `adf.detectors` is not given, and the largest angle is hardly above three times the semi-angle.
    """
    e = experiment
    if not e.adf or adf["detectors"] is not None or haadf_fits(e.semiangle, e.detected_angle):
        return
    wanted = 3 * e.semiangle / HAADF_SHARE + (e.band_limit_angle - e.detected_angle)
    # The spacing is a thousandth finer, because the limit itself is not allowed.
    spacing = e.bandlimit * e.wavelength / (2 * wanted) * 0.999
    nx, ny = (fft_friendly_size(math.ceil(length / spacing)) for length in e.cell[:2])
    alpha, largest = e.semiangle / MRAD, rounded_down(e.detected_angle / MRAD, 1)
    rings = {"bf": (0.0, alpha / 2), "abf": (alpha / 2, alpha)}
    if (middle := math.ceil((alpha + float(largest)) / 2)) < float(largest):
        rings["adf"] = (float(middle), float(largest))
    named = ", ".join(f"{name}: [{inner:g}, {outer:g}]" for name, (inner, outer) in rings.items())
    raise ConfigError(
        "adf.detectors",
        f"not given, and HAADF begins at three times the semi-angle, {3 * alpha:g} mrad; this grid carries scattering "
        f"only to {largest} mrad, which leaves no room for it. Use grating.gpts: [{nx}, {ny}] (or sampling_angstrom: "
        f"{rounded_down(spacing, 4)}), or name the detectors: adf.detectors: {{{named}}}.",
    )


def probe_outside(planned: Campaign, experiment: Experiment, scale: float = 1.0) -> float:
    """Share of the probe's intensity outside the cell or window at the worst defocus, 0 to 1; 0 for a plane wave.

    Parameters
    ----------
    planned : Campaign
        It has the defoci.
    experiment : Experiment
        It has the probe, and the cell or window.
    scale : float
        Factor by which the cell or window is wider than that of `experiment`.

    Returns
    -------
    float
        Share of the intensity, 0 to 1.
    """
    e = experiment
    if e.waves is not None and e.waves.plane:
        return 0.0  # a plane wave fills the cell
    worst = {max(planned.defoci, key=lambda d: d.value_nm), min(planned.defoci, key=lambda d: d.value_nm)}
    room = (e.room[0] * scale, e.room[1] * scale)
    return max(
        probe_tail_fraction(
            e.wavelength, e.semiangle, e.semiangle_inner, Aberrations(C10=-defocus.value_nm * NM, **e.aberrations), room
        )
        for defocus in worst
    )


def _large_u(atoms: AtomsAtRest) -> Iterator[str]:
    if atoms.u_iso is None:
        return
    large = atoms.u_iso > LARGEST_U
    if not large.any():
        return
    symbols, values = atoms.symbols[large], atoms.u_iso[large]
    largest = {str(symbol): float(values[symbols == symbol].max()) for symbol in np.unique(symbols)}
    given = ", ".join(f"{symbol} {u:.3g}" for symbol, u in largest.items())
    as_b = ", ".join(f"{symbol} {u / (8 * math.pi**2):.4f}" for symbol, u in largest.items())
    yield (
        f"U of {given} Å² is above {LARGEST_U:g} Å²: atoms would move by {math.sqrt(max(largest.values())):.2f} Å (RMS "
        f"along each axis). If these are values of B = 8π²U, give U: {as_b} Å²."
    )


def _thick_slices(planned: Campaign, experiment: Experiment, atoms: AtomsAtRest) -> Iterator[str]:
    e = experiment
    if max(e.slicing.thicknesses) <= THICKEST_SLICE * (1 + 1e-6) or not len(atoms.z):
        return
    index = e.slicing.index(atoms.z)
    first, last = np.full(e.slices, np.inf), np.full(e.slices, -np.inf)
    np.minimum.at(first, index, atoms.z)
    np.maximum.at(last, index, atoms.z)
    spreads = last - first
    worst = int(np.argmax(spreads))
    if spreads[worst] > ONE_LAYER:
        by_hand = planned.config["grating"]["slice_boundaries_angstrom"] is not None
        instead = " instead of slice_boundaries_angstrom, or boundaries between the layers" if by_hand else " or less"
        yield (
            f"slices of {e.slicing.thicknesses[worst]:.4g} Å hold atoms up to {spreads[worst]:.2f} Å apart along the "
            f"beam and project them on one plane; use grating.slice_thickness_angstrom: {THICKEST_SLICE:g}{instead}, "
            "so that each layer has its own."
        )


def _wide_band(experiment: Experiment) -> Iterator[str]:
    e = experiment
    if e.bandlimit <= ALIAS_FREE * (1 + 1e-6):
        return
    nyquist = e.grid.nyquist * e.wavelength
    clean = max(0.0, 2 * (1 - e.bandlimit)) * nyquist / MRAD
    factor = e.bandlimit / ALIAS_FREE
    nx, ny = (fft_friendly_size(math.ceil(factor * n - 1e-6)) for n in _points(e))
    yield (
        f"grating.bandlimit {e.bandlimit:g} is above 2/3: products of wave and potential alias into all angles above "
        f"{clean:.4g} mrad. Use 0.6666666, which carries {ALIAS_FREE * nyquist / MRAD:.4g} mrad on this grid and "
        f"{e.band_limit_angle / MRAD:.4g} mrad with grating.gpts: [{nx}, {ny}]."
    )


def _near_band_limit(experiment: Experiment) -> Iterator[str]:
    """Note on rings that end within a semi-angle of the band limit."""
    e = experiment
    allowed = e.detected_angle - e.semiangle
    near = {name: outer for name, outer in _outer_edges(e).items() if outer > allowed * (1 + 1e-6)}
    if not near:
        return
    room = e.detected_angle - 2 * e.semiangle
    fitting = e.wavelength * e.bandlimit / (2 * (max(near.values()) + 2 * e.semiangle + _lost(e)))
    named = ", ".join(f"{name} {outer / MRAD:.4g}" for name, outer in near.items())
    earlier = f", or an outer edge of at most {rounded_down(room / MRAD, 0)} mrad" if room > 3 * e.semiangle else ""
    yield (
        f"detectors end within the semi-angle of the band limit, {e.detected_angle / MRAD:.4g} mrad: {named} mrad. "
        "Electrons that are scattered beyond it are lost and not scattered back, so HAADF is too small; "
        "docs/explanation/accuracy.md has measured examples. "
        f"Use grating.sampling_angstrom: {rounded_down(fitting, 4)} without gpts{earlier}."
    )


def _outer_edges(e: Experiment) -> dict[str, float]:
    """Outer edges of rings and segments [rad], by name."""
    segmented = {name: detector.reach for name, detector in e.segmented.items()}
    return {**{name: outer for name, (_, outer) in e.rings.items()}, **segmented}


def _lost(e: Experiment) -> float:
    """Angle by which detectors end before the band limit, because they follow a tilted beam [rad]."""
    return e.band_limit_angle - e.detected_angle


def _cut_peaks(experiment: Experiment, atoms: AtomsAtRest) -> Iterator[str]:
    """Note on dark-field rings, if the potential of heavy atoms lacks high frequencies, see Eq. (P3)."""
    e = experiment
    dark = {name: ring for name, ring in e.rings.items() if ring[0] >= 2 * e.semiangle > 0}
    if not dark or not len(atoms.symbols):
        return
    heaviest = max((str(symbol) for symbol in np.unique(atoms.symbols)), key=lambda s: ATOMIC_NUMBERS[s])
    errors = {name: cut_peak_error(e, ATOMIC_NUMBERS[heaviest], ring) for name, ring in dark.items()}
    name, error = max(errors.items(), key=lambda item: item[1])
    if error <= LARGEST_CUT:
        return
    factor = math.ceil(e.potential_oversampling * math.sqrt(error / SMALLEST_CUT))
    spacing = max(e.grid.sampling) / e.potential_oversampling
    yield (
        f"points of {spacing:.3g} Å cut off the peaks of the potential at heavy nuclei: {name} on {heaviest} columns "
        f"is about {100 * error:.2g} % too large. Use grating.potential_oversampling: {factor}."
    )


def cut_peak_error(e: Experiment, atomic_number: int, ring: tuple[float, float]) -> float:
    """Estimate by how much an atom scatters too much into a ring, because of the sampling of its potential, Eq. (P3).

    The estimate is 0.6 (2Zα/β)² ⟨θ²⟩/θ_N² with Zα/β = Zσe/4πε₀. The weights of the mean are Rutherford's θ⁻³. θ_N is
    the Nyquist frequency of the potential as an angle. The factor 0.6 fits single atoms from C to La at 200 and 300
    keV, within a third.

    Parameters
    ----------
    e : Experiment
        It has the beam and the grid.
    atomic_number : int
        Z of the atom.
    ring : (float, float)
        Inner and outer angle [rad]; the inner angle is above 0.

    Returns
    -------
    float
        Relative error of the signal.
    """
    inner, outer = ring
    mean_square = 2 * math.log(outer / inner) / (inner**-2 - outer**-2)
    nyquist = e.potential_oversampling * e.grid.nyquist * e.wavelength
    strength = 2 * atomic_number * e.interaction * COULOMB_POTENTIAL
    return 0.6 * strength**2 * mean_square / nyquist**2


def _points(e: Experiment) -> tuple[int, int]:
    """Points of the whole cell at the sampling of the grid. The grid itself may belong to a window."""
    return (round(e.cell[0] / e.grid.sampling[0]), round(e.cell[1] / e.grid.sampling[1]))


def _long_propagation(experiment: Experiment) -> Iterator[str]:
    """Note on slices too thick for the grid.

    The phase of the propagator, Eq. (P4), then changes by more than π between neighbouring frequencies at the band
    limit.
    """
    e = experiment
    longest = min(e.grid.extent) / (2 * e.band_limit_angle)
    thickest = max(e.slicing.thicknesses)
    if thickest > longest:
        yield (
            f"over one slice of {thickest:.4g} Å waves at the band limit, {e.band_limit_angle / MRAD:.4g} "
            f"mrad, run farther than half of the {'cell' if e.window is None else 'window'} and come back on its other "
            f"side; the grid propagates them over at most {longest:.4g} Å. Use thinner slices, less empty space along "
            "the beam, or a wider cell."
        )


def _coarse_scan(experiment: Experiment) -> Iterator[str]:
    e = experiment.stored
    if e.scan_kind == LIST:
        return  # a list of positions has no steps
    limit = e.wavelength / (4 * e.semiangle)
    axes = (e.scan_x, e.scan_y)
    steps = [axis[1] - axis[0] if len(axis) > 1 else 0.0 for axis in axes]
    if not any(
        step > limit * (1 + 1e-6) and len(axis) >= FEWEST_OF_AN_IMAGE for axis, step in zip(axes, steps, strict=True)
    ):
        return
    points = [max(len(axis), math.ceil(len(axis) * step / limit)) for axis, step in zip(axes, steps, strict=True)]
    finer = f"scan.line.points: {points[0]}" if e.scan_kind == LINE else f"scan.points: [{points[0]}, {points[1]}]"
    yield (
        f"scan steps of {' × '.join(f'{step:.4g}' for step in steps if step)} Å are coarser than λ/(4α) = {limit:.4g} "
        f"Å: images hold finer detail, which these steps alias. Use {finer} or a "
        "smaller scan."
    )


def _far_focus(planned: Campaign, experiment: Experiment, atoms: AtomsAtRest) -> Iterator[str]:
    """Note on defoci at which no ray of the aperture crosses the axis near the specimen."""
    e, probe = experiment, planned.config["probe"]
    entrance, leaving = float(atoms.z.min()), float(atoms.z.max())
    # Within λ/α² on both sides of its focus, a probe is hardly wider than at the focus.
    allowed = max(leaving - entrance, 2 * e.wavelength / e.semiangle**2)
    # A ray of angle α crosses the axis at the depth defocus − C30 α² − C50 α⁴.
    angles = np.linspace(e.semiangle_inner, e.semiangle, 33)
    moved = -e.aberrations.get("C30", 0.0) * angles**2 - e.aberrations.get("C50", 0.0) * angles**4
    # Only the mean of a focal spread counts, because its outermost nodes have little weight.
    chosen = [d.value_nm for d in planned.defoci] if probe["defoci_nm"] is not None else [probe["defocus_nm"]]

    def outside(defocus_nm: float) -> float:
        low, high = defocus_nm * NM + float(moved.min()), defocus_nm * NM + float(moved.max())
        return max(entrance - high, low - leaving, 0.0)

    far = [value for value in chosen if outside(value) > allowed]
    if far:
        distance = max(outside(value) for value in far) / NM
        best = (entrance - float(moved.mean())) / NM, (leaving - float(moved.mean())) / NM
        key = "defoci_nm" if probe["defoci_nm"] is not None else "defocus_nm"
        yield (
            f"probe.{key}: the focus at {_few(far)} nm lies up to {distance:.3g} nm outside the specimen, which is "
            f"{(leaving - entrance) / NM:.3g} nm thick; {best[0]:.3g} nm focuses on its entrance, {best[1]:.3g} nm on "
            "its exit (positive is underfocus)."
        )


def _few(values: list[float]) -> str:
    return ", ".join(f"{value:g}" for value in values[:3]) + (" …" if len(values) > 3 else "")


def _wide_probe(planned: Campaign, experiment: Experiment, tail: float) -> Iterator[str]:
    e = experiment
    if tail <= LARGEST_TAIL:
        return
    whole = e.window is None
    place = "cell" if whole else "window"
    needed = _width(planned, e, tail)
    width = "" if needed is None else f", about {needed[0]:.3g} × {needed[1]:.3g} Å"
    advice = f"{'specimen.repeat or size_nm' if whole else 'grating.window_angstrom'}{width}"
    yield (
        f"{100 * tail:.1f} % of the probe's intensity lies outside the {place} at the worst defocus and is wrapped "
        f"into it. Signals may be wrong by {'as much' if whole else 'several times as much'}. For smaller errors, use "
        f"a wider {place} ({advice})." + ("" if whole else " The log of each job says its error.")
    )


def _drifting(planned: Campaign, experiment: Experiment) -> Iterator[str]:
    """Notes on a tilted beam that leaves the atoms of its window, and on `descan` without a tilt."""
    e = experiment
    sideways = max(
        math.hypot(*(beam - math.tan(lean) for beam, lean in zip(tilt, e.specimen_tilt, strict=True)))
        for tilt in e.tilts
    )
    drift = e.depths[-1] * sideways
    if e.window is not None and drift > LARGEST_DRIFT * min(e.grid.extent):
        yield (
            f"the tilted beam moves {drift:.3g} Å sideways through the specimen, but windows of "
            f"{e.grid.extent[0]:.4g} × {e.grid.extent[1]:.4g} Å hold only atoms around the place where it enters. The "
            f"log of each job says its error. Use grating.window_angstrom: null, or windows wider by {2 * drift:.3g} Å."
        )
    if planned.config["probe"]["descan"] and not any(any(tilt) for tilt in e.tilts):
        yield "probe.descan has no effect: the beam is not tilted."


def _width(planned: Campaign, e: Experiment, tail: float) -> tuple[float, float] | None:
    """Size of the cell or window [Å] at which the tail is small enough; None if eight times the size is too small."""
    # For a narrow probe, the share outside falls as 1/width.
    scale = tail / LARGEST_TAIL
    while scale < 8:
        if probe_outside(planned, e, scale) <= LARGEST_TAIL:
            return e.grid.extent[0] * scale, e.grid.extent[1] * scale
        scale *= 1.25
    return None


def _too_few_of_them(planned: Campaign, experiment: Experiment) -> Iterator[str]:
    """Notes on two numbers that are too small: configurations, and the tolerance of probe_basis."""
    e = experiment
    if planned.config["frozen_phonon"]["enabled"] and planned.configurations == 1:
        yield (
            "with one configuration, HAADF on a column is wrong by about 10 %; use several for an average and its "
            "standard error."
        )
    exact = e.algorithm == "multislice" or e.precision == "double"
    if not exact and e.basis_tolerance < SINGLE_PRECISION:
        yield (
            f"simulation.basis_tolerance {e.basis_tolerance:g} is finer than single precision, which changes faint "
            f"signals by up to {SINGLE_PRECISION:g}. Use simulation.precision: double to keep this tolerance."
        )
