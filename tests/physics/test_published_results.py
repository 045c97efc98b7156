"""Numbers from publications, or computed independently."""

from __future__ import annotations

import numpy as np
import pytest
from stemphony.physics.detectors import DetectorSet
from stemphony.physics.electron import interaction_parameter, wavelength
from stemphony.physics.grid import Grid, band_limit, band_limit_radius
from stemphony.physics.potential import SlicePotentials
from stemphony.physics.probe import Aberrations, aberration_phase, probe_spectrum, shift_factors
from stemphony.physics.propagator import fresnel_propagator
from stemphony.physics.slicing import equal_slices, number_of_slices

from physics.specimens import crystal
from physics.waves import propagate, transmission_function


def test_image_of_five_atoms_has_the_contrast_of_kirklands_figure(make_plan):
    # Kirkland, 2nd ed., Fig. 5.12: C, Si, Cu, Au, U, 200 kV, Cs 1.3 mm, defocus 700 Å, aperture 10.37 mrad.
    lam, sigma = wavelength(200e3), interaction_parameter(200e3)
    grid = Grid((512, 512), (50.0, 50.0))
    plan = make_plan(grid.gpts)
    positions = [[x, 25.0, 0.0] for x in (5.0, 15.0, 25.0, 35.0, 45.0)]
    for parametrization in ("kirkland", "lobato"):
        atoms = SlicePotentials(grid, positions, ["C", "Si", "Cu", "Au", "U"], [0] * 5, 1, parametrization)
        exit_wave = transmission_function(atoms.projected(0), sigma, band_limit(grid), plan)
        lens = np.exp(-1j * aberration_phase(Aberrations(C10=-700.0, C30=1.3e7), lam, grid.k, grid.azimuth))
        lens *= lam * grid.k <= 10.37e-3
        image = np.abs(np.fft.ifft2(np.fft.fft2(exit_wave) * lens)) ** 2
        # published with two digits
        assert image.min() == pytest.approx(0.72, abs=0.005)
        assert image.max() == pytest.approx(1.03, abs=0.005)
        minima = [image[round(x / 50 * 512), 256] for x in (5.0, 15.0, 25.0, 35.0, 45.0)]
        assert minima == sorted(minima, reverse=True)


# Fractions of the beam with the probe on Sr, on Ti–O, on O and between them.
STRONTIUM_TITANATE = {  # depth in slices of a/2
    26: {
        "haadf": (0.1401, 0.0387, 0.0044, 0.0007),
        "bf": (0.2324, 0.2934, 0.4789, 0.2350),
        "adf": (0.0210, 0.0207, 0.0061, 0.0034),
        "all": (0.9568, 0.9818, 0.9989, 0.9998),
    },
    52: {
        "haadf": (0.2441, 0.0739, 0.0060, 0.0032),
        "bf": (0.1375, 0.2258, 0.6450, 0.1770),
        "adf": (0.0337, 0.0373, 0.0045, 0.0078),
        "all": (0.9241, 0.9648, 0.9985, 0.9990),
    },
    104: {
        "haadf": (0.3751, 0.1331, 0.0110, 0.0063),
        "bf": (0.0976, 0.2229, 0.5035, 0.1375),
        "adf": (0.0253, 0.0373, 0.0075, 0.0043),
        "all": (0.8807, 0.9352, 0.9970, 0.9980),
    },
}


@pytest.mark.slow
def test_strontium_titanate_scatters_as_in_the_reference_table(make_plan):
    # SrTiO3 [001], static, 300 kV, 20 mrad in focus, 8 × 8 cells, 800² points, slices a/2, hard detector
    # edges, double precision; the table was computed independently, with the same exact potential.
    lam, sigma, a = wavelength(300e3), interaction_parameter(300e3), 3.905
    cell = crystal("SrTiO3", (8, 8, 1))
    grid = Grid((800, 800), cell.cell[:2])
    plan, limit = make_plan(grid.gpts), band_limit(grid)
    n = number_of_slices(a, a / 2)
    index = equal_slices(a, n).index(cell.positions[:, 2])
    potentials = SlicePotentials(grid, cell.positions, cell.symbols, index, n, "kirkland")
    period = [transmission_function(potentials.projected(i), sigma, limit, plan) for i in range(n)]
    propagator = fresnel_propagator(grid, lam, a / n, limit)
    rings = {"haadf": (0.060, 0.160), "bf": (0.0, 0.010), "adf": (0.030, 0.060), "all": (0.0, 0.165)}
    detectors = DetectorSet(grid, lam, None, rings, "hard", False, band_limit_radius(grid))
    probe = probe_spectrum(grid, lam, 0.020, 0.0, True, Aberrations())

    for position, (x, y) in enumerate([(0, 0), (a / 2, a / 2), (a / 2, 0), (a / 4, a / 4)]):
        ex, ey = shift_factors(grid, (4 * a + x, 4 * a + y))
        incident = probe * ex[:, None] * ey
        for passed, wave in propagate(plan, incident, period * 52, propagator, list(STRONTIUM_TITANATE)):
            measured = dict(zip(detectors.ring_names, detectors.measure(wave).rings, strict=True))
            for name, table in STRONTIUM_TITANATE[passed].items():
                # one unit of the last of four digits
                assert measured[name] == pytest.approx(table[position], abs=1e-4), (passed, name, position)
