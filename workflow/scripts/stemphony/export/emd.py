"""Write EMD 1.0, the HDF5 format of py4DSTEM, with the package emdfile."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from stemphony.export.contents import Axis, Image, Patterns, facts_of

SQUARE = 1e-4
"""Two pixel sizes with a smaller relative difference count as equal."""

CHUNK = (1, 1)
"""Positions in a chunk of the file. py4DSTEM reads single patterns, so a chunk has one position."""


def write_image(path: Path, image: Image, facts: dict[str, Any]) -> None:
    """Write `image` to the new file `path` as an array (x, y), the order of py4DSTEM's scan axes.

    `facts` about the whole result, see `contents.facts`, become metadata.
    """
    import emdfile

    axes = image.scan.axes
    array = emdfile.Array(
        data=image.values.reshape([len(axis.values) for axis in axes]), name=image.name, units=image.units,
        dims=[axis.values for axis in axes], dim_units=[axis.units for axis in axes],
        dim_names=[axis.name for axis in axes],
    )  # fmt: skip
    _save(emdfile, path, array, [_metadata(emdfile, image, facts)])


def write_patterns(path: Path, patterns: Patterns, facts: dict[str, Any]) -> str:
    """Write `patterns` to the new file `path` as a data cube (x, y, kx, ky) with the calibration that py4DSTEM uses.

    `facts` about the whole result, see `contents.facts`, become metadata.

    Returns
    -------
    str
        Note on what the calibration cannot express. Empty if it expresses everything.
    """
    import emdfile

    class DataCube(emdfile.Array):
        """An array that py4DSTEM opens as its own class of this name. It is written part by part."""

        def to_h5(self, group: Any) -> Any:
            made = emdfile.Node.to_h5(self, group)
            nkx, nky = patterns.shape[2:]
            data = made.create_dataset(
                "data", patterns.shape, patterns.dtype, chunks=(*CHUNK, nkx, nky), compression="gzip",
                compression_opts=1, shuffle=True,
            )  # fmt: skip
            data.attrs["units"] = self.units
            for x, y, part in patterns.blocks():
                data[x, y] = part
            for number, axis in enumerate(self.dims):
                values = made.create_dataset(f"dim{number}", data=axis)
                values.attrs["name"], values.attrs["units"] = self.dim_names[number], str(self.dim_units[number])
            return made

    class Calibration(emdfile.Metadata):
        """Metadata that py4DSTEM opens as an object of its own class of this name."""

    rx = patterns.scan.first
    ry = patterns.scan.second or Axis("y", np.zeros(1), rx.units, "not used")
    axes = (rx, ry, patterns.kx, patterns.ky)
    cube = DataCube(
        data=np.broadcast_to(np.zeros(1, patterns.dtype), patterns.shape), name=patterns.name,
        units=patterns.long_name, dims=[axis.values for axis in axes], dim_units=[axis.units for axis in axes],
        dim_names=["Rx", "Ry", "Qx", "Qy"],
    )  # fmt: skip
    calibration = Calibration(name="calibration")
    values, notes = _calibration(patterns, facts)
    for key, value in values.items():
        calibration[key] = value
    # When the calibration changes, py4DSTEM updates the axes of the nodes that these two entries name.
    calibration["_root_treepath"], calibration["_target_paths"] = "", [f"/{cube.name}"]
    _save(emdfile, path, cube, [calibration, _metadata(emdfile, patterns, facts)])
    return notes


def _calibration(patterns: Patterns, facts: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """Values with py4DSTEM's names and units, Å and mrad, and a note on what these values cannot express."""
    scan, kx, ky = patterns.scan, patterns.kx, patterns.ky
    found: dict[str, Any] = {
        "QR_flip": False, "QR_rotation": 0.0, "QR_rotation_degrees": 0.0, "Q_pixel_size": 1.0,
        "Q_pixel_units": "pixels", "R_pixel_size": 1.0, "R_pixel_units": "pixels",
    }  # fmt: skip
    notes = []
    for name, axis in (("qx0", kx), ("qy0", ky)):
        zero = float(np.abs(axis.values).argmin())
        found |= {name: zero, f"{name}_mean": zero, f"{name}_shift": 0.0}
    pixel = _common_step(kx, ky)
    if pixel is None:
        notes.append(f"pixels of the patterns are not square ({kx.step:.4g} × {ky.step:.4g} mrad)")
    else:
        found |= {"Q_pixel_size": pixel, "Q_pixel_units": "mrad", "probe_semiangle": facts["semiangle_mrad"] / pixel}
        found |= {"convergence_semiangle_mrad": facts["semiangle_mrad"]}
    if scan.first.units == "nm":
        pixel = _common_step(*scan.axes)
        if pixel is None:
            steps = " × ".join(f"{10 * (axis.step or 0):.4g}" for axis in scan.axes)
            notes.append(f"steps of the scan differ ({steps} Å)")
        else:
            found |= {"R_pixel_size": 10 * pixel, "R_pixel_units": "A"}
    if not notes:
        return found, ""
    return found, (
        f"{' and '.join(notes)}, but py4DSTEM knows only one size for both axes, so it counts in pixels. The axes in "
        "the file have the true values."
    )


def _common_step(*axes: Axis) -> float | None:
    """The common step of the axes. None if their steps differ, or if an axis has only one value."""
    steps = [axis.step for axis in axes if axis.step]
    if not steps or max(steps) - min(steps) > SQUARE * max(steps):
        return None
    return float(np.mean(steps))


def _metadata(emdfile: Any, one: Image | Patterns, facts: dict[str, Any]) -> Any:
    made = emdfile.Metadata(name="stemphony")
    for key, value in {**facts, **facts_of(one), "long_name": one.long_name}.items():
        made[key] = value
    return made


def _save(emdfile: Any, path: Path, node: Any, metadata: list[Any]) -> None:
    """Write one node below a root of the same name. The metadata belongs to the whole file."""
    root = emdfile.Root(name=f"{node.name}_root")
    root.tree(node)
    for one in metadata:
        root.metadata = one
    emdfile.save(str(path), root, mode="w")
