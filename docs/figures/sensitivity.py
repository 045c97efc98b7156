"""Draw the picture of docs/how-to/sensitivity.md from the result of config/examples/srtio3_sensitivity.yaml.

Usage: `python docs/figures/sensitivity.py STEM_NC`. STEM_NC is the result of one unit cell.
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib as mpl
import netCDF4
import numpy as np

mpl.use("Agg")
from matplotlib.figure import Figure

PROFILE = Path(__file__).resolve().parents[2] / "config/examples/haadf_profile.csv"
TITLES = {"ring": "ring, 60–150 mrad", "haadf": "with the sensitivity"}


def main(result: Path) -> None:
    """Draw the profile, and the images of ring and detector in % of the beam, 2 × 2 unit cells each."""
    figure = Figure(figsize=(7.4, 2.4))
    axes = figure.subplots(1, 3, gridspec_kw={"width_ratios": [1.1, 1, 1]})
    profile = np.loadtxt(PROFILE, delimiter=",", skiprows=2)
    axes[0].plot(profile[:, 0], profile[:, 1], color="tab:blue")
    axes[0].step([0, 60, 150, 160], [0, 1, 0, 0], where="post", color="gray", ls="--", lw=0.8)
    axes[0].set_xlabel("scattering angle / mrad", fontsize=8)
    axes[0].set_ylabel("sensitivity", fontsize=8)
    axes[0].tick_params(labelsize=7)
    with netCDF4.Dataset(result) as root:
        for axis, (name, title) in zip(axes[1:], TITLES.items(), strict=True):
            image = 100 * np.tile(np.asarray(root["images"][name][0, 0, -1]), (2, 2))
            shown = axis.imshow(image.T, origin="lower", cmap="gray", interpolation="bicubic")
            axis.set_title(f"{title} / %", fontsize=9)
            axis.set_axis_off()
            figure.colorbar(shown, ax=axis, shrink=0.8).ax.tick_params(labelsize=7)
    figure.tight_layout(pad=0.4)
    figure.savefig(Path(__file__).with_name("sensitivity.png"), dpi=110, bbox_inches="tight", pad_inches=0.03)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
