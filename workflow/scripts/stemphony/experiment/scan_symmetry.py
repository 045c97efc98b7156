"""The symmetry operations that a specimen and its experiment share. They make signals of scan positions equal.

Only this module names what can break the symmetry.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from stemphony.experiment.campaign import InputFiles
from stemphony.experiment.model import Experiment
from stemphony.physics.detectors import CbedGeometry
from stemphony.physics.grid import band_limit_radius, pixels_inside
from stemphony.physics.plane_symmetry import (
    UNITY,
    Matrix,
    Operation,
    PlaneGroup,
    keeps_aberrations,
    keeps_points,
    maps_axes,
)
from stemphony.physics.segments import segment_names, turned_segments

AUTO = "auto"
"""Value of `scan.symmetry` with which the plan looks for equal positions."""


def hindrance(config: Mapping[str, Any], files: InputFiles) -> str:
    """Return why this config must compute equivalent positions separately; empty if it need not.

    Their signals differ, or each single configuration is stored.

    Parameters
    ----------
    config : mapping
        A validated config.
    files : InputFiles

    Returns
    -------
    str
        One reason, or an empty text.
    """
    specimen, phonons = config["specimen"], config["frozen_phonon"]
    if files.snapshots_sha256 is not None:
        return "snapshots are not symmetric"
    if specimen["amorphous_layers"] is not None:
        return "amorphous layers are not symmetric"
    if specimen["substitutions"]:
        return "substituted atoms are drawn, so the specimen is not symmetric"
    if files.occupancies_drawn:
        return "drawn occupancies are not symmetric"
    single = [
        name for name in ("adf", "cbed") if config[name]["enabled"] and not config[name]["average_configurations"]
    ]
    if phonons["enabled"] and single:
        return f"{single[0]}.average_configurations is false, and one configuration is not symmetric"
    return ""


@dataclass(frozen=True)
class Shared:
    """The operations that a specimen and its experiment share.

    Attributes
    ----------
    group : PlaneGroup or None
        None if no two positions of the scan are equivalent.
    broken : tuple of str
        Reasons why operations of the specimen are left out.
    """

    group: PlaneGroup | None
    broken: tuple[str, ...] = ()


def shared_operations(group: PlaneGroup, experiment: Experiment) -> Shared:
    """Keep the operations under which grid, probe and detectors are symmetric, if they make scan positions equivalent.

    Parameters
    ----------
    group : PlaneGroup
        Operations that map atoms, slices and grid points on themselves.
    experiment : Experiment
        The experiment without symmetry.

    Returns
    -------
    Shared
        The kept operations, and the reasons why others are left out.
    """
    broken = []
    for what, complies in _conditions(experiment):
        kept = group.only(complies)
        if len(kept.operations) < len(group.operations):
            broken.append(what)
        group = kept
    orbits = group.orbits(experiment.probe_positions.reshape(-1, 2) / experiment.grid.sampling)
    return Shared(group if len(orbits.computed) < experiment.positions else None, tuple(broken))


def turned_images(experiment: Experiment, matrix: Matrix) -> list[int] | None:
    """Find on which image of `Experiment.images` R maps each image: rings on themselves, segments on segments.

    Parameters
    ----------
    experiment : Experiment
        Grid, beam and detectors.
    matrix : ((int, int), (int, int))
        R. Grid, beam and maps of detectors are symmetric under it.

    Returns
    -------
    list of int or None
        None if R maps a segment on no segment.

    Raises
    ------
    NotImplementedError
        This function does not know how R turns an image. Copies of its signal could be wrong.
    """
    e = experiment
    if matrix == UNITY:
        return list(range(len(e.images)))
    if e.segmented and e.precession is not None:
        return None  # each tilt of the cone has pixels of its own
    pixels = pixels_inside(e.grid, band_limit_radius(e.grid, e.bandlimit))
    turned = {name: name for name in (*e.rings, *e.sensitive)}
    for name, detector in e.segmented.items():
        segments = turned_segments(e.grid, e.wavelength, detector, e.detector_center, pixels, e.edges == "area", matrix)
        if segments is None:
            return None
        names = segment_names({name: detector})
        turned |= {here: names[there] for here, there in zip(names, segments, strict=True)}
    if unknown := [name for name in e.images if name not in turned]:
        raise NotImplementedError(f"onto which image does a symmetry operation turn {', '.join(unknown)}?")
    return [e.images.index(turned[name]) for name in e.images]


def _conditions(e: Experiment) -> list[tuple[str, Callable[[Operation], bool]]]:
    """Conditions on an operation, by name. Rings, radial profiles and bins are symmetric under every operation."""
    (nx, ny), (lx, ly) = e.grid.gpts, e.grid.extent
    is_square = nx == ny and abs(lx - ly) < 1e-9 * lx
    conditions: list[tuple[str, Callable[[Operation], bool]]] = [
        ("the grid of a wave is not square", lambda one: is_square or not one.swaps),
        ("probe.aberrations", lambda one: keeps_aberrations(one.matrix, e.aberrations)),
        (
            "probe.tilt_mrad" if e.precession is None else "probe.precession",
            lambda one: keeps_points(one.matrix, e.tilts),
        ),
        ("specimen.tilt_mrad", lambda one: keeps_points(one.matrix, [e.specimen_tilt])),
    ]
    if set(e.images) != {*e.rings, *e.sensitive}:
        hard = " (edges: area may keep more)" if e.edges == "hard" else ""
        conditions.append((f"adf.segmented{hard}", lambda one: turned_images(e, one.matrix) is not None))
    if any(detector.pixel is not None for detector in e.sensitive.values()):
        conditions.append(("a map of adf.detectors", lambda one: one.matrix == UNITY))
    if e.cbed_max is not None and e.cbed_scan is None:
        pixels = CbedGeometry(e.grid, e.wavelength, e.cbed_max, e.cbed_size, pixel=e.cbed_pixel)
        axes = pixels.angles_x.astype(float), pixels.angles_y.astype(float)
        conditions.append(("the pixels of cbed (an even size)", lambda one: maps_axes(one.matrix, axes[0], axes[1])))
    return conditions
