"""Write Zarr with the package xarray: groups `images` and `cbed` with labelled axes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from stemphony.export.contents import Axis, ExportedScan, Image, Patterns, facts_of
from stemphony.export.lazy import lazy, one_after_the_other, pattern_axes


def write(path: Path, images: Iterable[Sequence[Image]], patterns: Sequence[Patterns], facts: dict[str, Any]) -> None:
    """Write a store.

    Parameters
    ----------
    path : Path
        Folder that does not exist yet.
    images : iterable of sequences of Image
        The images of each depth. Each depth has the same names.
    patterns : sequence of Patterns
        One item for each depth.
    facts : dict
        Attributes of the whole store.
    """
    import xarray
    import zarr

    # Format 2, because every version of Zarr can read it.
    settings: dict[str, Any] = {"zarr_format": 2, "consolidated": False}
    with one_after_the_other():
        xarray.Dataset(attrs=facts).to_zarr(path, mode="w", **settings)
        for number, one in enumerate(images):
            depths = {"append_dim": "depth"} if number else {}
            _of_images(xarray, one).to_zarr(path, group="images", mode="a", **depths, **settings)
        if patterns:
            _of_patterns(xarray, patterns).to_zarr(path, group="cbed", mode="a", **settings)
    zarr.consolidate_metadata(str(path), zarr_format=2)


def _of_images(xarray: Any, images: Sequence[Image]) -> Any:
    """The images of one depth, (depth, y, x)."""
    first = images[0]
    axes = first.scan.axes[::-1]
    shape = (1, *(len(axis.values) for axis in axes))
    made = {}
    for image in images:
        for end, values in (("", image.values), ("_standard_error", image.errors)):
            if values is not None:
                attributes = {"long_name": image.long_name + end.replace("_", " "), "units": image.units}
                dims = ("depth", *(axis.name for axis in axes))
                made[image.name + end] = (dims, values.T.reshape(shape), {**attributes, **image.attributes})
    return xarray.Dataset(made, coords=_coordinates(axes, first.scan, [first.depth_nm]), attrs=_defocus(first))


def _of_patterns(xarray: Any, patterns: Sequence[Patterns]) -> Any:
    import dask.array

    first = patterns[0]
    axes = pattern_axes(first)
    stack = dask.array.stack([lazy(one) for one in patterns])
    values = (("depth", *(axis.name for axis in axes)), stack,
              {"long_name": first.long_name, "units": first.units, **first.attributes})  # fmt: skip
    return xarray.Dataset(
        {first.name: values}, coords=_coordinates(axes, first.scan, [one.depth_nm for one in patterns]),
        attrs=_defocus(first),
    )  # fmt: skip


def _coordinates(axes: Sequence[Axis], scan: ExportedScan, depths_nm: Sequence[float]) -> dict[str, Any]:
    found: dict[str, Any] = {
        axis.name: (axis.name, axis.values, {"units": axis.units, "long_name": axis.long_name}) for axis in axes
    }
    found["depth"] = ("depth", list(depths_nm), {"units": "nm", "long_name": "depth below the entrance surface"})
    if scan.places_nm is not None:
        for i, axis in enumerate("xy"):
            attributes = {"units": "nm", "long_name": f"probe position along {axis}"}
            found[axis] = (scan.first.name, scan.places_nm[:, i], attributes)
    return found


def _defocus(one: Image | Patterns) -> dict[str, Any]:
    return {key: value for key, value in facts_of(one).items() if key == "defocus_nm"}
