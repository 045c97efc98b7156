"""Labelled arrays of xarray from the numbers of a result: axes in nm or mrad, with names and units."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from stemphony.errors import ResultError
from stemphony.results.opened import Floats, Positions, Signal
from stemphony.results.patterns import Pattern
from stemphony.results.region_mean import RegionMean

if TYPE_CHECKING:
    from xarray import DataArray, DataTree

DEPTH = "depth below the entrance surface"
"""Long name of every coordinate `depth_nm`."""


def image(positions: Positions, signal: Signal, values: Floats, name: str, what: str) -> DataArray:
    """Image as an array (y, x); of a line scan (distance), of a list of positions (position).

    `values` (nx, ny) are what the array `name` holds: those of `signal`, its errors, or one component. `what` names
    them in the long name. `signal` gives depth, defocus, unit, ring and source, and `positions` the axes.
    """
    dims: tuple[str, ...]
    if positions.kind == "positions":
        number = {"long_name": "number of the position", "units": "1"}
        axes, dims, values = {"position": ("position", positions.x_nm, number)}, ("position",), values[:, 0]
    elif positions.kind == "line":
        attributes = {"long_name": "distance along the line", "units": "nm"}
        axes, dims, values = {"distance": ("distance", positions.x_nm, attributes)}, ("distance",), values[:, 0]
    else:
        axes = {
            axis: (axis, along, {"long_name": f"probe position along {axis}", "units": "nm"})
            for axis, along in (("x", positions.x_nm), ("y", positions.y_nm))
        }
        dims, values = ("y", "x"), values.T
    return package().DataArray(
        values, dims=dims, name=name, coords={**axes, **_scalars(signal)}, attrs=_attributes(signal, what)
    )


def line(signal: Signal, dimension: str, along: Any, long_name: str, values: Any, errors: Any) -> DataArray:
    """Curve as an array with one dimension, and with the coordinate `standard_error` if there are `errors`.

    `along`, `values` and `errors` (P,) belong to each other; `along` [nm] becomes the coordinate `dimension` with this
    `long_name`. `signal` gives name, depth, defocus, unit, ring and source.
    """
    coords = {**_scalars(signal), dimension: (dimension, along, {"long_name": long_name, "units": "nm"})}
    if errors is not None:
        coords["standard_error"] = (dimension, errors, _attributes(signal, "standard error"))
    return package().DataArray(
        values, dims=(dimension,), name=signal.name, coords=coords, attrs=_attributes(signal, "signal")
    )


def region(means: Sequence[RegionMean]) -> DataArray:
    """Means over a region against the depth, from `means` with one item for each depth, the last depth last."""
    last, errors = means[-1], [mean.error for mean in means]
    curve = line(
        last.signal, "depth_nm", [mean.signal.depth_nm for mean in means], DEPTH, [mean.value for mean in means],
        None if None in errors else errors,
    )  # fmt: skip
    counts = {"positions": last.positions, "distinct_positions": last.distinct}
    largest = [mean.largest_error for mean in means]
    return curve.assign_coords(
        counts if None in largest else {**counts, "largest_error": ("depth_nm", largest, curve["standard_error"].attrs)}
    )


def pattern(found: Pattern) -> DataArray:
    """The pattern `found` as an array (ky, kx) with angles in mrad."""
    place: dict[str, Any] = {}
    if found.at_nm is not None:
        place = {axis: _nm(f"probe position along {axis}", at) for axis, at in zip("xy", found.at_nm, strict=True)}
    if found.errors is not None:
        about = {"long_name": "standard error over frozen-phonon configurations", "units": "1"}
        place["standard_error"] = (("ky", "kx"), found.errors.T, about)
    angles = {
        f"k{axis}": (f"k{axis}", values, {"units": "mrad", "long_name": f"scattering angle along {axis}"})
        for axis, values in (("x", found.kx_mrad), ("y", found.ky_mrad))
    }
    return package().DataArray(
        found.values.T, dims=("ky", "kx"), name="pacbed" if found.at_nm is None else "cbed",
        coords={**angles, **place, "depth_nm": _nm(DEPTH, found.depth_nm)},
        attrs={"long_name": "fraction of the incident intensity per pixel", "units": "1"},
    )  # fmt: skip


def center_of_mass(positions: Positions, signal: Signal) -> DataArray:
    """Centre of mass as an array (component, y, x) [mrad].

    The values of `signal` (nx, ny, 2) are the components x and y of each position [mrad]. `positions` gives the axes.
    """
    parts = [image(positions, signal, signal.values[..., axis], signal.name, "") for axis in (0, 1)]
    both: DataArray = package().concat(parts, "component").assign_coords(component=["x", "y"])
    both.attrs = {"long_name": "centre of mass of the diffraction pattern", "units": "mrad"}
    return both


def with_complex_waves(tree: DataTree) -> DataTree:
    """The `tree` with complex numbers in place of the dimension `part` of its group `waves`."""
    if "waves" not in tree.children:
        return tree
    waves: Any = tree["waves"].to_dataset()
    for name in [name for name, values in waves.data_vars.items() if "part" in values.dims]:
        parts = waves[name].to_numpy()
        dims = waves[name].dims[:-1]
        waves[name] = package().DataArray(parts[..., 0] + 1j * parts[..., 1], dims=dims, attrs=waves[name].attrs)
    tree["waves"] = package().DataTree(waves.drop_vars("part"))
    return tree


def package() -> Any:
    """The package xarray, which only notebooks and scripts need.

    Raises
    ------
    ResultError
        The package is not installed.
    """
    try:
        import xarray
    except ImportError:
        raise ResultError(
            "labelled arrays need the package xarray, which this environment does not have. Install it there: "
            "python -m pip install xarray"
        ) from None
    return xarray


def _scalars(signal: Signal) -> dict[str, Any]:
    found = {"depth_nm": _nm(DEPTH, signal.depth_nm)}
    if signal.defocus_nm is not None:
        found["defocus_nm"] = _nm("defocus, positive is underfocus", signal.defocus_nm)
    return found


def _nm(long_name: str, value: float) -> tuple[tuple[()], float, dict[str, str]]:
    return (), value, {"long_name": long_name, "units": "nm"}


def _attributes(signal: Signal, what: str) -> dict[str, Any]:
    quantity = "fraction of the incident intensity" if signal.unit == "1" else "deflection or phase"
    found: dict[str, Any] = {"long_name": f"{signal.name}, {what}, {quantity}", "units": signal.unit}
    if signal.ring_mrad is not None:
        found["inner_mrad"], found["outer_mrad"] = signal.ring_mrad
    if signal.source_nm:
        found |= {"source_fwhm_nm": signal.source_nm, **signal.source_shape}
    return found
