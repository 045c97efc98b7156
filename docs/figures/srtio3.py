"""Draw the README's picture from the result of config/examples/srtio3_image.yaml.

Usage: `python docs/figures/srtio3.py RESULT`.
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib as mpl
import netCDF4
import numpy as np

mpl.use("Agg")
from matplotlib.figure import Figure

NAMES = {"bf": "BF 0–10 mrad", "abf": "ABF 10–20 mrad", "haadf": "HAADF 60–130 mrad"}
CELLS = 3
FINER = 8


def finer(image: np.ndarray) -> np.ndarray:
    """Fourier interpolation of one unit cell: exact for an image without frequencies beyond the scan's."""
    n = image.shape[0]
    spectrum = np.fft.fftshift(np.fft.fft2(image))
    pad = (FINER - 1) * n // 2
    padded = np.pad(spectrum, ((pad, pad), (pad, pad)))
    return np.fft.ifft2(np.fft.ifftshift(padded)).real * FINER**2


def main(result: Path) -> None:
    """Draw the three images side by side."""
    figure = Figure(figsize=(9, 3.3))
    axes = figure.subplots(1, len(NAMES))
    with netCDF4.Dataset(result) as root:
        images = root["images"]
        cell = 10 * float(images["adf_position_x"][1] - images["adf_position_x"][0]) * len(images["adf_position_x"])
        for axis, (name, title) in zip(axes, NAMES.items(), strict=True):
            image = np.tile(finer(np.asarray(images[name][0, 0, -1])), (CELLS, CELLS))
            axis.imshow(image.T, origin="lower", cmap="gray", extent=(0, CELLS * cell, 0, CELLS * cell))
            axis.set_title(title, fontsize=10)
            axis.set_axis_off()
        axes[0].plot([0.7, 5.7], [0.7, 0.7], color="white", lw=3, solid_capstyle="butt")
        axes[0].text(3.2, 1.0, "5 Å", color="white", ha="center", va="bottom", fontsize=9)
    figure.tight_layout(pad=0.4)
    figure.savefig(Path(__file__).with_suffix(".png"), dpi=110)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
