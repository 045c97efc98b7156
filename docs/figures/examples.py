"""Draw the pictures of docs/how-to from the results of config/examples/gan_1120.yaml and srtio3_doped.yaml.

Usage: `python docs/figures/examples.py RESULT NAME TIMES_X TIMES_Y`, with RESULT a stem.nc, NAME of the picture, and
how often the scan window is repeated along x and y (1 where it is not a period of the specimen).
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib as mpl
import netCDF4
import numpy as np

mpl.use("Agg")
from matplotlib.figure import Figure

NAMES = {"abf": "ABF", "haadf": "HAADF"}
BAR = 5.0  # Å


def main(result: Path, name: str, times: tuple[int, int]) -> None:
    """Draw the images side by side, with a bar of 5 Å."""
    figure = Figure(figsize=(7.0, 3.9))
    axes = figure.subplots(1, len(NAMES))
    with netCDF4.Dataset(result) as root:
        images = root["images"]
        steps = [10 * float(np.diff(images[f"adf_position_{axis}"][:2])[0]) for axis in "xy"]
        for axis, (key, title) in zip(axes, NAMES.items(), strict=True):
            image = np.tile(np.asarray(images[key][0, 0, -1]), times)
            extent = (0.0, steps[0] * image.shape[0], 0.0, steps[1] * image.shape[1])
            axis.imshow(image.T, origin="lower", cmap="gray", extent=extent, interpolation="bicubic")
            axis.set_title(title, fontsize=11)
            axis.set_axis_off()
        x, y = 0.05 * extent[1], 0.05 * extent[3]
        axes[1].plot([x, x + BAR], [y, y], color="white", lw=3, solid_capstyle="butt")
        axes[1].text(x + BAR / 2, y + 0.02 * extent[3], "5 Å", color="white", ha="center", va="bottom", fontsize=9)
    figure.tight_layout(pad=0.4)
    figure.savefig(Path(__file__).with_name(f"{name}.png"), dpi=110, bbox_inches="tight", pad_inches=0.03)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], (int(sys.argv[3]), int(sys.argv[4])))
