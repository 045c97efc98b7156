"""Draw the picture of docs/how-to/waves.md from the result of config/examples/srtio3_waves.yaml.

Usage: `python docs/figures/waves.py STEM_NC`.
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib as mpl
import netCDF4
import numpy as np

mpl.use("Agg")
from matplotlib.figure import Figure

COLUMNS = ("Sr", "Ti–O")
HALF_NM = 0.6


def main(result: Path) -> None:
    """For each column, draw the exit intensity, the section, and the intensity that stays in the column."""
    figure = Figure(figsize=(8.0, 4.2))
    axes = figure.subplots(2, 3, gridspec_kw={"width_ratios": [1, 1.7, 1.9]})
    with netCDF4.Dataset(result) as root:
        waves = root["waves"]
        x, y, depth = (np.asarray(waves[name][:]) for name in ("waves_x", "waves_y", "waves_slice"))
        for number, (name, row) in enumerate(zip(COLUMNS, axes, strict=True)):
            near = [
                np.flatnonzero(np.abs(axis - waves[f"waves_probe_{letter}"][number]) < HALF_NM)
                for axis, letter in ((x, "x"), (y, "y"))
            ]
            exit_intensity = np.asarray(waves["exit_intensity"][0, 0, number])[np.ix_(*near)]
            row[0].imshow(np.sqrt(exit_intensity).T, origin="lower", cmap="inferno")
            row[0].set_title(f"probe on {name}: exit, √|ψ|²", fontsize=8)
            row[0].set_axis_off()
            section = np.asarray(waves["depth_section"][0, 0, number])[near[0]]
            extent = (float(depth[0]), float(depth[-1]), -HALF_NM, HALF_NM)
            row[1].imshow(np.sqrt(section), origin="lower", aspect="auto", cmap="inferno", extent=extent)
            row[1].set_ylabel("x / nm", fontsize=8)
            share, error = (
                100 * np.asarray(waves[f"column_intensity{end}"][0, 0, number]) for end in ("", "_standard_error")
            )
            for column, label in enumerate(COLUMNS):
                row[2].plot(depth, share[column], label=f"in the {label} column")
                row[2].fill_between(depth, share[column] - error[column], share[column] + error[column], alpha=0.3)
            row[2].set_ylabel("intensity / %", fontsize=8)
            row[2].legend(fontsize=7)
    for axis in axes[1, 1:]:
        axis.set_xlabel("depth / nm", fontsize=8)
    for axis in axes[:, 1:].flat:
        axis.tick_params(labelsize=7)
    figure.tight_layout(pad=0.5)
    figure.savefig(Path(__file__).with_name("waves.png"), dpi=110, bbox_inches="tight", pad_inches=0.03)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
