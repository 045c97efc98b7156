"""Draw the picture of docs/how-to/dpc.md from the result of config/examples/srtio3_dpc.yaml.

Usage: `python docs/figures/dpc.py STEM_NC`, the result of one unit cell.
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib as mpl
import netCDF4
import numpy as np

mpl.use("Agg")
from matplotlib.figure import Figure

IMAGES = {
    "quadrants_0": "quadrant 0 (+y)", "dpc_x": "DPC x", "dpc_y": "DPC y", "com": "centre of mass x", "idpc": "iDPC",
    "icom": "iCoM",
}  # fmt: skip


def main(result: Path) -> None:
    """Draw the images, 2 × 2 unit cells each, with their units."""
    figure = Figure(figsize=(7.2, 4.9))
    axes = figure.subplots(2, 3)
    with netCDF4.Dataset(result) as root:
        for axis, (name, title) in zip(axes.flat, IMAGES.items(), strict=True):
            if name == "com":
                values, units = root["adf/center_of_mass"][0, :, :, 0, -1, 0, 0], "mrad"
            else:
                values, units = root["images"][name][0, 0, -1], root["images"][name].units
            image = np.tile(np.asarray(values), (2, 2))
            shown = axis.imshow(image.T, origin="lower", cmap="gray", interpolation="bicubic")
            axis.set_title(f"{title}{'' if units == '1' else f' / {units}'}", fontsize=9)
            axis.set_axis_off()
            figure.colorbar(shown, ax=axis, shrink=0.8).ax.tick_params(labelsize=7)
    figure.tight_layout(pad=0.4, h_pad=1.2)
    figure.savefig(Path(__file__).with_name("dpc.png"), dpi=110, bbox_inches="tight", pad_inches=0.03)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
