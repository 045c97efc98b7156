"""Describe what a figure shows, and draw it. The command, Python and the rule plot_results all use this module."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from stemphony.errors import ResultError
from stemphony.experiment.scan import LIST
from stemphony.figures import deflections, diffraction, images, lines, waves
from stemphony.figures.pictures import Treatment, picture
from stemphony.figures.style import Style
from stemphony.results.line_profile import Place, profile
from stemphony.results.opened import Detector, OpenedResult
from stemphony.results.patterns import pattern
from stemphony.results.rest_atoms import RestAtoms
from stemphony.results.segment_deflection import dpc
from stemphony.results.thickness_curve import thickness_curve
from stemphony.results.wave_pictures import wave_pictures

IMAGES, CURVES, PROFILE, PATTERN, DEFLECTION, SEGMENTS, WAVES = (
    "images", "curves", "profile", "pattern", "com", "dpc", "waves",
)  # fmt: skip
KINDS = (IMAGES, CURVES, PROFILE, PATTERN, DEFLECTION, SEGMENTS, WAVES)


@dataclass(frozen=True)
class FigureRequest:
    """What a figure shows.

    Attributes
    ----------
    kind : str
        One of `KINDS`.
    detectors : sequence of Detector
        Names of detectors, of images in mrad or rad, or rings. Empty: all rings but no segments. For `dpc`, empty means
        the only segmented detector.
    depths_nm : sequence of float
        Empty: the exit surface.
    defocus_nm : float or None
        None: the mean over the defoci. For waves, None means the only defocus.
    at_nm : (float, float) or None
        Position of a curve, pattern or wave. None: the mean over the scan. For waves, None means the first position.
    begin_nm, end_nm : (float, float) or None
        Where a profile begins and ends.
    shows_atoms : bool
    is_linear : bool
        Draw a pattern with a linear scale.
    treatment : Treatment
        How images are changed before they are drawn.
    """

    kind: str = IMAGES
    detectors: Sequence[Detector] = ()
    depths_nm: Sequence[float] = ()
    defocus_nm: float | None = None
    at_nm: Place | None = None
    begin_nm: Place | None = None
    end_nm: Place | None = None
    shows_atoms: bool = False
    is_linear: bool = False
    treatment: Treatment = field(default_factory=Treatment)


@dataclass(frozen=True)
class Drawn:
    """A `figure`, `records` with one JSON object for each panel, and `remarks` on the pairs that a preview lacks."""

    figure: Any
    records: list[dict[str, Any]]
    remarks: tuple[str, ...] = ()


def draw(result: OpenedResult, request: FigureRequest, style: Style) -> Drawn:
    """Draw the figure that `request` asks of `result`, in this `style`.

    Raises
    ------
    ResultError
        The result lacks the data, or an option does not belong to this kind of figure.
    StorageError
        The style file cannot be read.
    """
    if request.kind not in _DRAW:
        raise ResultError(f"got {request.kind!r}; a figure shows one of {', '.join(KINDS)}.")
    _refuse_unused(request)
    return replace(_DRAW[request.kind](result, request, style), remarks=_remarks(result))


def _refuse_unused(request: FigureRequest) -> None:
    """Refuse options that would have no effect."""
    neutral, treatment, kind = Treatment(), request.treatment, request.kind
    given = {
        "--detector": (request.detectors, (IMAGES, CURVES, PROFILE, SEGMENTS)),
        "--depth": (request.depths_nm, (IMAGES, PROFILE, PATTERN, DEFLECTION, SEGMENTS)),
        "--at": (request.at_nm, (CURVES, PATTERN, WAVES)),
        "--from and --to": (request.begin_nm or request.end_nm, (PROFILE,)),
        "--atoms": (request.shows_atoms, (IMAGES, DEFLECTION, SEGMENTS)),
        "--linear": (request.is_linear, (PATTERN,)),
        "--tile": (treatment.tile != neutral.tile, (IMAGES, DEFLECTION, SEGMENTS)),
        "--interpolate": (treatment.finer != neutral.finer, (IMAGES, DEFLECTION, SEGMENTS)),
        "--periodic": (treatment.is_periodic, (IMAGES, DEFLECTION, SEGMENTS)),
        "--source": (treatment.source_nm is not None, (IMAGES,)),
        "--dose": (treatment.dose is not None, (IMAGES,)),
        "--standard-error": (treatment.shows_errors, (IMAGES,)),
    }
    for option, (is_given, kinds) in given.items():
        if is_given and kind not in kinds:
            raise ResultError(
                f"{option} has no effect on {kind}; it belongs to {' and '.join(kinds)}. Remove it, or draw "
                "one of these."
            )


def _detectors(result: OpenedResult, request: FigureRequest) -> Sequence[Detector]:
    named: list[Detector] = [name for name, _ in sorted(result.detectors.items(), key=lambda entry: entry[1])]
    rings = [name for name in named if name not in result.segments]
    found = request.detectors or rings or named
    if not found:
        raise ResultError(f"{result.file} has no named detectors. Give two angles in mrad, for example 60-120.")
    return found


def _remarks(result: OpenedResult) -> tuple[str, ...]:
    """Remarks that a figure of an unfinished run must show."""
    return (result.preview,) if result.preview else ()


def _rings(result: OpenedResult) -> dict[str, diffraction.Ring]:
    """Rings to draw over patterns. Segments with the same angles are one ring."""
    found, seen = {}, set()
    for name, angles in result.detectors.items():
        ring = diffraction.Ring(*angles, result.offsets_mrad.get(name, (0.0, 0.0)))
        group = name.rsplit("_", 1)[0] if name in result.segments else name
        if (group, ring) not in seen:
            seen.add((group, ring))
            found[group if group not in found else name] = ring
    return found


def _depths(request: FigureRequest) -> Sequence[float | None]:
    return request.depths_nm or (None,)


def _atoms(result: OpenedResult, request: FigureRequest) -> RestAtoms | None:
    if request.shows_atoms and result.atoms is None:
        raise ResultError(
            f"{result.file} does not hold the atoms at rest, so they cannot be drawn. Leave out the atoms."
        )
    return result.atoms if request.shows_atoms else None


def _images(result: OpenedResult, request: FigureRequest, style: Style) -> Drawn:
    pictures = [
        picture(result.positions, result.signal(detector, depth, request.defocus_nm), request.treatment)
        for depth in _depths(request)
        for detector in _detectors(result, request)
    ]
    figure = images.draw(pictures, style, _atoms(result, request), _remarks(result))
    return Drawn(figure, [each.record() for each in pictures])


def _curves(result: OpenedResult, request: FigureRequest, style: Style) -> Drawn:
    curves = [
        thickness_curve(result, detector, request.at_nm, request.defocus_nm) for detector in _detectors(result, request)
    ]
    found = [lines.of_curve(curve, request.at_nm) for curve in curves]
    return Drawn(lines.draw(found, style, _remarks(result)), [each.record() for each in found])


def _profiles(result: OpenedResult, request: FigureRequest, style: Style) -> Drawn:
    found = []
    for depth in _depths(request):
        for detector in _detectors(result, request):
            signal = result.signal(detector, depth, request.defocus_nm)
            if result.positions.kind == LIST:
                found.append(lines.of_list(signal))
                continue
            along = profile(result.positions, signal, request.begin_nm, request.end_nm, None)
            found.append(lines.of_profile(signal, along, request.begin_nm, request.end_nm))
    return Drawn(lines.draw(found, style, _remarks(result)), [each.record() for each in found])


def _patterns(result: OpenedResult, request: FigureRequest, style: Style) -> Drawn:
    patterns = [pattern(result, request.at_nm, depth, request.defocus_nm) for depth in _depths(request)]
    figure = diffraction.draw(
        patterns, style, _rings(result), result.semiangle_mrad, request.is_linear, _remarks(result)
    )
    return Drawn(figure, [diffraction.record(each) for each in patterns])


def _deflections(result: OpenedResult, request: FigureRequest, style: Style) -> Drawn:
    fields = []
    for depth in _depths(request):
        if request.kind == SEGMENTS:
            (values, depth_nm), what = dpc(result, request.detectors, depth, request.defocus_nm), deflections.DPC
        else:
            (values, depth_nm), what = result.center_of_mass(depth, request.defocus_nm), deflections.CENTER_OF_MASS
        defocus_nm = result.mean.defocus(request.defocus_nm)
        fields.append(deflections.deflection(result.positions, values, depth_nm, request.treatment, what, defocus_nm))
    figure = deflections.draw(fields, style, _atoms(result, request), _remarks(result))
    return Drawn(figure, [each.record() for each in fields])


def _waves(result: OpenedResult, request: FigureRequest, style: Style) -> Drawn:
    pictures = wave_pictures(result, request.at_nm, request.defocus_nm)
    return Drawn(waves.draw(pictures, style, _remarks(result)), [waves.record(each) for each in pictures])


_DRAW: dict[str, Callable[[OpenedResult, FigureRequest, Style], Drawn]] = {
    IMAGES: _images, CURVES: _curves, PROFILE: _profiles, PATTERN: _patterns, DEFLECTION: _deflections,
    SEGMENTS: _deflections, WAVES: _waves,
}  # fmt: skip
