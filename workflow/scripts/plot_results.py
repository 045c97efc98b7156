"""Rule plot_results: figures of a merged result.

    python plot_results.py RESULT FIGURE…

The name of a figure says what it shows: a detector (its image at the last depth), `thickness_curves`, or `cbed_mean`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

# PYTHONSAFEPATH keeps the working directory out of the path, and this folder with it.
sys.path.insert(0, str(Path(__file__).resolve().parent))

from stemphony.errors import DamagedResultError
from stemphony.orchestration import script

THICKNESS_CURVES, CBED_MEAN = "thickness_curves", "cbed_mean"
INCHES = 4.2
DOTS_PER_INCH = 160


def plot_results(result_file: Path, figures: Sequence[Path]) -> None:
    """Draw each of `figures` from the merged result.

    Raises
    ------
    DamagedResultError
        The merged result is truncated or damaged.
    """
    import matplotlib as mpl
    import netCDF4
    from stemphony.store.dates import date_not_ahead

    mpl.use("Agg")
    try:
        opened = netCDF4.Dataset(result_file)
    except OSError as error:
        raise DamagedResultError(
            f"{result_file} is truncated or damaged ({error.strerror or error}). Delete it and run again: it is merged "
            "again, and no configuration is computed again."
        ) from None
    date_not_ahead([result_file])
    with opened as root:
        weights = root["params"]["defocus_weights"][:]
        for figure in figures:
            if figure.stem == THICKNESS_CURVES:
                drawn = _thickness_curves(root, weights)
            elif figure.stem == CBED_MEAN:
                drawn = _cbed_mean(root, weights)
            else:
                drawn = _image(root, figure.stem, weights)
            figure.parent.mkdir(parents=True, exist_ok=True)
            drawn.savefig(figure, dpi=DOTS_PER_INCH, bbox_inches="tight")


def _figure() -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(INCHES, INCHES))
    return figure, figure.subplots()


def _mean(values: Any, weights: Any) -> Any:
    """Mean over configurations and over defoci with their weights, (defocus, configuration, …) to (…)."""
    import numpy as np

    values = np.asarray(values, dtype=float)
    over_defoci = weights if values.shape[0] == len(weights) else np.ones(1)
    return np.tensordot(np.asarray(over_defoci), values.mean(axis=1), axes=1)


def _edges(centres: Any, window: float) -> tuple[float, float]:
    """Outer edges of a row of pixels with these centres; a pixel is `window` / number of pixels wide."""
    pixel = window / len(centres)
    return float(centres[0] - pixel / 2), float(centres[-1] + pixel / 2)


def _image(root: Any, name: str, weights: Any) -> Any:
    figure, axes = _figure()
    images = root["images"]
    values = _mean(images[name][:, :, -1], weights)
    variable = images[name]
    depth = 10 * float(images["adf_slice"][-1])
    title = ""
    if "inner_mrad" in variable.ncattrs():
        title = f"{name}, {variable.inner_mrad:.4g}–{variable.outer_mrad:.4g} mrad, {depth:.5g} Å"
    axes.set_title(title + _what_is_cut(images), fontsize=10)
    if "adf_probe_x" in images.variables:
        _curve(axes, images, values)
        return figure
    x, y = 10 * images["adf_position_x"][:], 10 * images["adf_position_y"][:]
    extent = (*_edges(x, _width(root, "x", x)), *_edges(y, _width(root, "y", y)))
    # The arrays are (x, y), and the rows of a picture run along y.
    shown = axes.imshow(values.T, origin="lower", extent=extent, cmap="gray", interpolation="nearest")
    axes.set_xlabel("x / Å")
    axes.set_ylabel("y / Å")
    figure.colorbar(shown, ax=axes, shrink=0.8, label="fraction of the incident beam")
    return figure


def _what_is_cut(images: Any) -> str:
    """A line of the title: how many pixels the blur lacks positions for."""
    if "source_is_cut" not in images.variables:
        return ""
    cut = images["source_is_cut"][:]
    return f"\n{int(cut.sum())} of {cut.size} pixels are approximate: source over the edge" if cut.any() else ""


def _curve(axes: Any, images: Any, values: Any) -> None:
    """Draw the signal of a line or list."""
    along = images["adf_position_x"]
    is_line = along.units == "nm"
    axes.plot((10 if is_line else 1) * along[:], values[:, 0], marker="o", markersize=3, ls="-" if is_line else "")
    axes.set_xlabel("distance along the line / Å" if is_line else "number of the position")
    axes.set_ylabel("fraction of the incident beam")


def _width(root: Any, axis: str, centres: Any) -> float:
    """Width of the scan window [Å]."""
    import json

    if len(centres) > 1:
        return len(centres) * _step(centres)
    scan = root["params"]["scan"]
    begin, end = json.loads(scan.getncattr(axis))
    unit = getattr(scan, "unit", "cell")
    scale = 10 * float(root["AMBER"]["cell_lengths"][0]["xy".index(axis)])
    return float((end - begin) * {"angstrom": 1.0, "nm": 10.0}.get(unit, scale))


def _thickness_curves(root: Any, weights: Any) -> Any:
    figure, axes = _figure()
    images = root["images"]
    depths = 10 * images["adf_slice"][:]
    names = [name for name in images.variables if "inner_mrad" in images[name].ncattrs()]
    for name in names:
        values = _mean(images[name][:], weights)
        (line,) = axes.plot(depths, values.mean(axis=(1, 2)), marker="o", markersize=3, label=name)
        axes.fill_between(
            depths, values.min(axis=(1, 2)), values.max(axis=(1, 2)), alpha=0.15, color=line.get_color(), lw=0
        )
    axes.set_xlabel("depth / Å")
    axes.set_ylabel("fraction of the incident beam")
    axes.set_title("mean over the scan, band: smallest to largest", fontsize=10)
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False)
    return figure


def _cbed_mean(root: Any, weights: Any) -> Any:
    import numpy as np
    from matplotlib.colors import LogNorm

    figure, axes = _figure()
    cbed = root["cbed"]
    variable = cbed["cbed_intensities"]
    total = np.zeros(variable.shape[-2:])
    over_defoci = weights if variable.shape[0] == len(weights) else np.ones(1)
    # Row by row, because all patterns together may not fit into memory.
    for defocus, weight in enumerate(over_defoci):
        for x in range(variable.shape[1]):
            total += (
                weight
                * np.asarray(variable[defocus, x, :, :, -1, 0], dtype=float).mean(axis=(0, 1))
                / variable.shape[1]
            )
    kx, ky = cbed["cbed_k_x"][:], cbed["cbed_k_y"][:]
    extent = (*_edges(kx, kx[-1] - kx[0] + _step(kx)), *_edges(ky, ky[-1] - ky[0] + _step(ky)))
    floor = max(total.max() * 1e-6, np.finfo(float).tiny)
    scale = LogNorm(floor, max(total.max(), 2 * floor))
    shown = axes.imshow(np.maximum(total, floor).T, origin="lower", extent=extent, cmap="inferno", norm=scale)
    axes.set_title(f"mean CBED, {10 * float(cbed['cbed_slice'][-1]):.5g} Å", fontsize=10)
    axes.set_xlabel("kx / mrad")
    axes.set_ylabel("ky / mrad")
    figure.colorbar(shown, ax=axes, shrink=0.8, label="fraction of the incident beam per pixel")
    return figure


def _step(values: Any) -> float:
    return float(values[1] - values[0]) if len(values) > 1 else 1.0


def main(arguments: list[str]) -> None:
    """Run from a shell rule."""
    result_file, *figures = arguments
    plot_results(Path(result_file), [Path(figure) for figure in figures])


if __name__ == "__main__":
    script.run(main)
