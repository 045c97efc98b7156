"""Draw the picture of docs/how-to/patterns.md from the result of config/examples/srtio3_patterns.yaml.

Usage: `python docs/figures/patterns.py STEM_NC`.
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib as mpl
import netCDF4
import numpy as np

mpl.use("Agg")
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure


def panels(root: netCDF4.Dataset) -> dict[str, np.ndarray]:
    """Panels (kx, ky): the disk in vacuum, PACBED at each depth, and two single patterns at the exit surface."""
    cbed = root["cbed"]
    depths = np.asarray(cbed["cbed_slice"][:])
    found = {"probe in vacuum": np.asarray(cbed["vacuum_disk"][:])}
    for index, depth in enumerate(depths):
        found[f"PACBED, {depth:.1f} nm"] = np.asarray(cbed["pacbed"][0, 0, index, 0])
    patterns = cbed["cbed_intensities"]
    nx, ny = patterns.shape[1:3]
    for name, (i, j) in {"Sr column": (0, 0), "Ti–O column": (nx // 2, ny // 2)}.items():
        found[f"{name}, {depths[-1]:.1f} nm"] = np.asarray(patterns[0, i, j, 0, -1, 0])
    return found


def main(result: Path, output: Path) -> None:
    """Draw all panels with one logarithmic scale."""
    with netCDF4.Dataset(result) as root:
        root.set_auto_mask(False)
        shown = panels(root)
        kx, ky = (np.asarray(root["cbed"][f"cbed_k_{axis}"][:]) for axis in "xy")
    step = float(kx[1] - kx[0])
    extent = (kx[0] - step / 2, kx[-1] + step / 2, ky[0] - step / 2, ky[-1] + step / 2)
    largest = max(float(values.max()) for values in shown.values())
    figure = Figure(figsize=(7.2, 4.6), layout="constrained")
    panels_axes = figure.subplots(2, 3, sharex=True, sharey=True)
    for axes, (name, values) in zip(panels_axes.ravel(), shown.items(), strict=True):
        drawn = axes.imshow(
            np.maximum(values.T, 1e-12), origin="lower", extent=extent, cmap="inferno", interpolation="nearest",
            norm=LogNorm(largest * 3e-5, largest, clip=True),
        )  # fmt: skip
        axes.set_title(name, fontsize=8)
        axes.tick_params(labelsize=6)
    for axes in panels_axes[-1]:
        axes.set_xlabel("kx [mrad]", fontsize=7)
    for axes in panels_axes[:, 0]:
        axes.set_ylabel("ky [mrad]", fontsize=7)
    bar = figure.colorbar(drawn, ax=figure.axes, shrink=0.8, pad=0.02)
    bar.set_label("fraction of the beam per pixel", fontsize=7)
    bar.ax.tick_params(labelsize=6)
    figure.savefig(output, dpi=110, bbox_inches="tight", pad_inches=0.03)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(__file__).with_name("patterns.png"))
