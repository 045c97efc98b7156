"""Write MRC: an image, or a stack of patterns, with the package mrcfile. MRC holds lengths in Å and ten text lines."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from stemphony.export.contents import Axis, Image, Patterns, facts_of

WIDTH = 80
"""Longest label."""


def write_image(path: Path, image: Image, facts: dict[str, Any]) -> None:
    """Write the `image` of a window to the new file `path` as an array (y, x) with the size of its pixels [Å].

    The first row has the smallest y, as MRC requires. `facts` about the whole result become text lines.
    """
    import mrcfile

    x, y = image.scan.axes
    with mrcfile.new(path) as file:
        file.set_data(np.ascontiguousarray(image.values.T, dtype=np.float32))
        file.voxel_size = (10 * (x.step or 0.0), 10 * (y.step or 0.0), 0.0)
        file.header.origin = (10 * float(x.values[0]), 10 * float(y.values[0]), 0.0)
        _label(file, image, facts, "rows along y, columns along x, pixel sizes in angstrom")


def write_patterns(path: Path, patterns: Patterns, facts: dict[str, Any]) -> None:
    """Write `patterns` to the new file `path` as a stack (position, ky, kx). x changes fastest.

    `facts` about the whole result become text lines. The function makes a sparse file and then writes it part by part.
    A memory map would fill the memory.
    """
    import mrcfile

    nx, ny, nkx, nky = patterns.shape
    with mrcfile.new_mmap(path, (nx * ny, nky, nkx), mrc_mode=2) as file:
        file.set_image_stack()
        begin = int(file.header.nbytes + file.header.nsymbt)
    least, most, total, squares = math.inf, -math.inf, 0.0, 0.0
    with path.open("r+b") as stream:
        stream.seek(begin)
        for _, _, part in patterns.blocks(y_outermost=True):
            stack = np.ascontiguousarray(part.transpose(1, 0, 3, 2), dtype=np.float32)
            stream.write(stack.tobytes())
            least, most = min(least, float(stack.min())), max(most, float(stack.max()))
            total, squares = total + float(stack.sum(dtype=float)), squares + float(np.square(stack, dtype=float).sum())
    number = nx * ny * nkx * nky
    with mrcfile.mmap(path, mode="r+") as file:  # only the header is changed, so the map takes no memory
        mean = total / number
        file.header.dmin, file.header.dmax, file.header.dmean = least, most, mean
        file.header.rms = math.sqrt(max(squares / number - mean**2, 0.0))
        _label(
            file,
            patterns,
            facts,
            f"{_steps(*patterns.scan.axes)}; x runs fastest" if ny > 1 else _steps(patterns.scan.first),
        )
        # MRC has no unit for angles, so the size of a pixel in the header stays 0, which means unknown.
        file.add_label(f"{_steps(patterns.kx, patterns.ky)}; zero at pixel {_zero(patterns.kx)}, {_zero(patterns.ky)}")


def _label(file: Any, one: Image | Patterns, facts: dict[str, Any], axes: str) -> None:
    known = facts_of(one)
    names = {"inner_mrad": "inner", "outer_mrad": "outer"}
    angles = ", ".join(f"{text} {known[key]:.6g} mrad" for key, text in names.items() if key in known)
    defocus = f", defocus {known['defocus_nm']:.6g} nm" if "defocus_nm" in known else ""
    beam = f"beam {facts['beam_energy_kev']:.6g} keV, semiangle {facts['semiangle_mrad']:.6g} mrad"
    noise = (
        f", {known['electrons_per_position']:.6g} electrons per position" if "electrons_per_position" in known else ""
    )
    for text in (
        f"{one.name} ({one.units}) {angles}".rstrip(), f"{beam}{defocus}", f"depth {known['depth_nm']:.6g} nm{noise}",
        axes, "x right and y up looks against the beam; kx, ky as x, y",
    ):  # fmt: skip
        file.add_label(text.encode("ascii", "replace").decode()[:WIDTH])


def _steps(*axes: Axis) -> str:
    return ", ".join(f"{axis.name} {len(axis.values)} * {axis.step or 0.0:.6g} {axis.units}" for axis in axes)


def _zero(axis: Axis) -> int:
    return int(np.abs(axis.values).argmin())
