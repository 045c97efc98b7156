"""Draw the picture and write the table of docs/how-to/plasmons.md, from config/examples/silicon_plasmons.yaml.

    python docs/figures/plasmons.py results/silicon_plasmons/stem.nc

The table shows how much plasmons change the intensity at low angles. It also shows how much the losses differ from the
convolution of the zero-loss pattern with the angular distribution (Beyer et al. 2020, Fig. 6). Each job file in the
folder of the result gives one ratio. The standard error of the difference comes from the spread of these ratios.
"""

from __future__ import annotations

import json
import math
import sys
from dataclasses import dataclass, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))

import matplotlib.pyplot as plt
import netCDF4
import numpy as np
import page

COMMAND = "python docs/figures/plasmons.py"
PAGE = Path(__file__).resolve().parents[1] / "how-to" / "plasmons.md"
PICTURE = Path(__file__).with_name("plasmons.png")
REST_KEV = 510.99895
PIXEL, HALF = 0.25, 320
"""Pixel [mrad] and half width [pixels] of the map on which the convolution is made."""

RINGS = ((0, 9), (10, 15), (15, 20), (20, 35), (10, 35))
"""Inner and outer angle of the rings that are compared [mrad]."""


@dataclass
class Profiles:
    """Angular distributions, per mrad² [1/mrad²], at the middles of the radial bins [mrad]."""

    edges: np.ndarray
    zero_loss: np.ndarray
    loss: np.ndarray
    energies: np.ndarray
    spectrum: np.ndarray
    mean: float
    characteristic: float
    cutoff: float

    @property
    def angle(self) -> np.ndarray:
        """Middles of the bins [mrad]."""
        return 0.5 * (self.edges[1:] + self.edges[:-1])

    @property
    def elastic(self) -> np.ndarray:
        """The distribution of an elastic simulation, in which no electron has a loss."""
        return self.zero_loss * math.exp(self.mean)


def read(file: Path) -> Profiles:
    """Read the means over the scan at the exit surface."""
    with netCDF4.Dataset(file) as root:
        adf, block = root["adf"], root["params/plasmon_scattering"]
        lower, upper = np.asarray(adf["adf_detector_angle"][:]), np.asarray(adf["adf_detector_upper_edge"][:])
        signal = np.asarray(adf["adf_intensities"][0, :, :, 0, -1], dtype=float).mean(axis=(0, 1))
        spectrum = np.asarray(adf["energy_loss_spectrum"][0, :, :, 0, -1], dtype=float).mean(axis=(0, 1))
        energies, depth = np.asarray(adf["adf_plasmon_energies"][:]), float(adf["adf_slice"][-1])
        beam, loss = float(root["params/probe"].energy_kev), float(block.plasmon_energy_ev)
        free_path, cutoff = float(block.mean_free_path_nm), float(json.loads(str(block.cutoff_mrad)))
    area = np.pi * (upper**2 - lower**2)
    characteristic = loss * (beam + REST_KEV) / (beam * (beam + 2 * REST_KEV))  # eV/keV: mrad
    return Profiles(
        np.append(lower, upper[-1]), signal[0] / area, signal[1:].sum(axis=0) / area, energies, spectrum,
        depth / free_path, characteristic, cutoff,
    )  # fmt: skip


def convolved(p: Profiles) -> np.ndarray:
    """The losses from the convolution, per mrad²: F⁻¹[F[I]·(exp(t/Λ·(F[L] − 1)) − exp(−t/Λ))]."""
    axis = (np.arange(2 * HALF) - HALF) * PIXEL
    radius = np.hypot(axis[:, None], axis)
    kernel = PIXEL**2 / (np.pi * math.log1p((p.cutoff / p.characteristic) ** 2) * (radius**2 + p.characteristic**2))
    kernel[radius > p.cutoff] = 0.0
    kernel[HALF, HALF] = 0.0
    kernel[HALF, HALF] = 1.0 - kernel.sum()  # most of the peak lies inside the central pixel
    of_kernel = np.fft.fft2(np.fft.ifftshift(kernel))
    elastic = np.interp(radius, p.angle, p.elastic, right=0.0)
    plural = np.exp(p.mean * (of_kernel - 1)) - math.exp(-p.mean)
    losses = np.fft.ifft2(np.fft.fft2(elastic) * plural).real
    number = np.digitize(radius.ravel(), p.edges) - 1
    inside = (number >= 0) & (number < len(p.angle))
    count = np.bincount(number[inside], minlength=len(p.angle))
    return np.bincount(number[inside], losses.ravel()[inside], len(p.angle)) / count


def of_configurations(file: Path, merged: Profiles) -> list[Profiles]:
    """Read the same means as `read`, from the job file of each configuration."""
    with netCDF4.Dataset(file) as root:
        orbit = root["images"].variables.get("orbit")
        copies = None if orbit is None else np.bincount(np.asarray(orbit[:]).ravel())
    made = []
    for job in sorted(file.parent.glob("jobs/*/configuration_*.nc")):
        with netCDF4.Dataset(job) as root:
            computed = np.asarray(root["adf/adf_intensities"][0, :, :, 0, -1], dtype=float)
        signal = np.average(computed.reshape(-1, *computed.shape[2:]), axis=0, weights=copies) / (
            np.pi * np.diff(merged.edges**2)
        )
        made.append(replace(merged, zero_loss=signal[0], loss=signal[1:].sum(axis=0)))
    together = np.mean([one.zero_loss + one.loss for one in made], axis=0)
    assert np.allclose(together, merged.zero_loss + merged.loss, rtol=1e-5), "the job files are not those of the result"
    return made


def in_ring(p: Profiles, values: np.ndarray, ring: tuple[float, float]) -> float:
    """Integral of a distribution over a ring, except for a constant factor."""
    inside = (p.angle > ring[0]) & (p.angle < ring[1])
    return float((p.angle * values)[inside].sum())


HEAD = ["ring", "change by plasmons", "losses against the convolution", "standard error of the losses"]


def rows(p: Profiles, model: np.ndarray, single: list[Profiles]) -> list[list[str]]:
    """Rows of the table: the change of each ring, and the deviation from the convolution with its standard error."""
    made = []
    for ring in RINGS:
        change = in_ring(p, p.zero_loss + p.loss, ring) / in_ring(p, p.elastic, ring) - 1
        ratio = in_ring(p, p.loss, ring) / in_ring(p, model, ring) - 1
        ratios = [in_ring(one, one.loss, ring) / in_ring(one, convolved(one), ring) for one in single]
        error = np.std(ratios, ddof=1) / math.sqrt(len(ratios))
        signed = (f"{100 * one:+.1f} %".replace("-", "−") for one in (change, ratio))
        made.append([f"{ring[0]}–{ring[1]} mrad", *signed, f"{100 * error:.1f} %"])
    return made


def main(file: Path, picture: Path = PICTURE) -> list[str]:
    """Draw the angular distributions and the loss spectrum, and return the table."""
    p = read(file)
    model = convolved(p)
    lines = page.table(HEAD, rows(p, model, of_configurations(file, p)))
    figure, axes = plt.subplots(1, 3, figsize=(10.5, 3.3), layout="constrained")
    axes[0].semilogy(p.angle, p.elastic, label="elastic simulation")
    axes[0].semilogy(p.angle, p.zero_loss + p.loss, label="with plasmons")
    axes[0].semilogy(p.angle, p.loss, ":", label="losses")
    axes[0].semilogy(p.angle, model, "k--", lw=0.8, label="losses, convolution")
    axes[0].set(xlabel="angle (mrad)", ylabel="intensity per mrad²")
    axes[0].legend(fontsize=7)
    axes[1].plot(p.angle, (p.zero_loss + p.loss) / p.elastic)
    axes[1].axhline(1.0, color="0.6", lw=0.8)
    axes[1].set(xlabel="angle (mrad)", ylabel="with plasmons / elastic", xlim=(0, 50))
    axes[2].semilogy(p.energies, p.spectrum)
    axes[2].set(xlabel="energy loss (eV)", ylabel="share of the electrons per eV")
    figure.savefig(picture, dpi=100)
    return lines


if __name__ == "__main__":
    page.rewrite(COMMAND, main(Path(sys.argv[1])), PAGE)
