"""Write HSPY, the HDF5 format of HyperSpy, with the package RosettaSciIO."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stemphony.export.contents import Axis, Image, Patterns, facts_of
from stemphony.export.lazy import PatternRows, lazy, one_after_the_other, pattern_axes


def write_image(path: Path, image: Image, facts: dict[str, Any]) -> None:
    """Write `image` to the new file `path` as a signal (y, x), or a line or a list as a signal of one dimension.

    `facts` about the whole result, see `contents.facts`, become metadata.
    """
    axes = image.scan.axes[::-1]
    values = np.ascontiguousarray(image.values.T.reshape([len(axis.values) for axis in axes]))
    _write(path, image, values, axes, 0, facts)


def write_patterns(path: Path, patterns: Patterns, facts: dict[str, Any]) -> None:
    """Write `patterns` to the new file `path` as a signal with the navigation axes y, x and the signal axes ky, kx.

    A line or a list has one navigation axis. `facts` about the whole result, see `contents.facts`, become metadata.
    """
    with one_after_the_other():
        axes = pattern_axes(patterns)
        _write(path, patterns, lazy(patterns), axes, len(axes) - 2, facts, PatternRows(patterns).chunks)


def _write(
    path: Path, one: Image | Patterns, values: Any, axes: Sequence[Axis], navigation: int, facts: dict[str, Any],
    chunks: tuple[int, ...] | None = None,
) -> None:  # fmt: skip
    from rsciio.hspy import file_writer

    signal = {
        "data": values,
        "axes": [_axis(axis, number, number < navigation) for number, axis in enumerate(axes)],
        "metadata": {
            "General": {"title": one.name},
            "Signal": {"signal_type": "", "quantity": f"{one.long_name} ({one.units})"},
            "Acquisition_instrument": {"TEM": _microscope(facts)},
        },
        "original_metadata": {"stemphony": {**facts, **facts_of(one), "units": one.units, "long_name": one.long_name}},
        "package_info": {},
        "learning_results": {},
        "attributes": {"_lazy": False, "ragged": False},
        "models": {},
        "tmp_parameters": {},
    }
    file_writer(path, signal, chunks=chunks, compression="gzip", compression_opts=1, show_progressbar=False)


def _axis(axis: Axis, number: int, is_navigation: bool) -> dict[str, Any]:
    return {
        "_type": "UniformDataAxis", "name": axis.name, "units": "" if axis.units == "1" else axis.units,
        "size": len(axis.values), "scale": axis.step or 1.0, "offset": float(axis.values[0]),
        "navigate": is_navigation, "index_in_array": number, "is_binned": False,
    }  # fmt: skip


def _microscope(facts: dict[str, Any]) -> dict[str, Any]:
    """Names and units of HyperSpy's metadata: keV and mrad."""
    known = {"beam_energy": "beam_energy_kev", "convergence_angle": "semiangle_mrad"}
    return {"acquisition_mode": "STEM", **{name: facts[key] for name, key in known.items() if key in facts}}
