"""Draw the picture of docs/how-to/tilt.md from three results of config/examples/srtio3_tilt.yaml.

Usage: `python docs/figures/tilt.py STRAIGHT TILTED PRECESSED`. Each argument is a stem.nc of one unit cell.
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib as mpl
import netCDF4
import numpy as np

mpl.use("Agg")
from matplotlib.figure import Figure

ROWS = {"abf": "ABF", "haadf": "HAADF"}
COLUMNS = ("straight", "specimen tilted by 8 mrad along +x", "beam precessed by 8 mrad")


def image(result: Path, detector: str) -> np.ndarray:
    """One image at the last depth, with 2 × 2 copies."""
    with netCDF4.Dataset(result) as root:
        return np.tile(np.asarray(root["images"][detector][0, 0, -1]), (2, 2))


def main(results: list[Path]) -> None:
    """Draw detectors in rows and results in columns."""
    figure = Figure(figsize=(7.2, 5.0))
    axes = figure.subplots(len(ROWS), len(COLUMNS))
    for row, (detector, name) in zip(axes, ROWS.items(), strict=True):
        images = [image(result, detector) for result in results]
        low, high = min(i.min() for i in images), max(i.max() for i in images)
        for axis, values, title in zip(row, images, COLUMNS, strict=True):
            axis.imshow(values.T, origin="lower", cmap="gray", vmin=low, vmax=high, interpolation="bicubic")
            axis.set_title(f"{name}, {title}", fontsize=7.5)
            axis.set_axis_off()
    figure.tight_layout(pad=0.4, h_pad=1.4)
    figure.savefig(Path(__file__).with_name("tilt.png"), dpi=110, bbox_inches="tight", pad_inches=0.03)


if __name__ == "__main__":
    main([Path(name) for name in sys.argv[1:4]])
