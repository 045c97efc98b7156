"""Draw the picture of docs/how-to/plasmons.md from a result of config/examples/silicon_plasmons.yaml.

    python docs/figures/plasmons.py results/silicon_plasmons/stem.nc

It also prints how much plasmons change the intensity at low angles.
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import netCDF4
import numpy as np

PICTURE = Path(__file__).with_name("plasmons.png")


def profiles(file: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Middles of the radial bins [mrad], and the mean signal per solid angle without and with losses, each in total."""
    with netCDF4.Dataset(file) as root:
        adf = root["adf"]
        lower, upper = np.asarray(adf["adf_detector_angle"][:]), np.asarray(adf["adf_detector_upper_edge"][:])
        signal = np.asarray(adf["adf_intensities"][0, :, :, 0, -1], dtype=float).mean(axis=(0, 1))
    area = np.pi * (upper**2 - lower**2)
    return 0.5 * (lower + upper), signal[0] / area, signal[1:].sum(axis=0) / area


def main(file: Path) -> None:
    """Draw the angular distributions, and print the change at low angles."""
    angle, zero_loss, loss = profiles(file)
    with netCDF4.Dataset(file) as root:
        spectrum = np.asarray(root["adf/energy_loss_spectrum"][0, :, :, 0, -1], dtype=float).mean(axis=(0, 1))
        energies = np.asarray(root["adf/adf_plasmon_energies"][:])
    elastic = zero_loss * spectrum.sum() / spectrum[0]  # an elastic simulation: all electrons without a loss
    ratio = (zero_loss + loss) / elastic
    figure, axes = plt.subplots(1, 3, figsize=(10, 3.2), layout="constrained")
    axes[0].semilogy(angle, elastic, label="elastic simulation")
    axes[0].semilogy(angle, zero_loss + loss, label="with plasmons")
    axes[0].semilogy(angle, loss, ":", label="losses only")
    axes[0].set(xlabel="angle (mrad)", ylabel="intensity per mrad²")
    axes[0].legend(fontsize=8)
    axes[1].plot(angle, ratio)
    axes[1].axhline(1.0, color="0.6", lw=0.8)
    axes[1].set(xlabel="angle (mrad)", ylabel="with plasmons / elastic")
    axes[2].semilogy(energies, spectrum)
    axes[2].set(xlabel="energy loss (eV)", ylabel="share of the electrons")
    figure.savefig(PICTURE, dpi=110)
    for inner, outer in ((0, 9), (10, 20), (20, 35), (10, 35)):
        inside = (angle > inner) & (angle < outer)
        weight = angle[inside]
        change = (weight * (zero_loss + loss)[inside]).sum() / (weight * elastic[inside]).sum() - 1
        print(f"{inner}–{outer} mrad: {100 * change:+.1f} % by plasmons")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
