"""Truths of the potential: published profiles, mean inner potentials, Debye-Waller factors, Coulomb's law."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.ndimage import map_coordinates
from stemphony.physics.constants import COULOMB_POTENTIAL, POTENTIAL_PREFACTOR
from stemphony.physics.grid import Grid
from stemphony.physics.phonons import displacements
from stemphony.physics.potential import SlicePotentials
from stemphony.physics.scattering import FactorChoice, scattering_factor
from stemphony.physics.slicing import equal_slices, number_of_slices

from physics.specimens import LATTICE, crystal

ELEMENTS = ["Si", "O", "Sr", "Au"]


def projected(grid: Grid, positions, symbols, parametrization="kirkland"):
    """Everything in one slice."""
    return SlicePotentials(grid, positions, symbols, [0] * len(symbols), 1, parametrization).projected(0)


def random_atoms(seed: int, count: int = 12):
    rng = np.random.default_rng(seed)
    return rng.uniform(-3, 9, (count, 3)), [ELEMENTS[i] for i in rng.integers(len(ELEMENTS), size=count)]


@given(nx=st.integers(4, 13), ny=st.integers(4, 13), seed=st.integers(0, 2**32 - 1))
@example(nx=150, ny=131, seed=0)  # more frequencies than share one coarse factor
@example(nx=131, ny=150, seed=1)
@settings(max_examples=60, deadline=None)
def test_potential_is_the_real_part_of_the_full_fourier_sum(nx, ny, seed):
    grid = Grid((nx, ny), (5.0, 6.5))
    positions, symbols = random_atoms(seed, 5)
    spectrum = np.zeros((nx, ny), dtype=complex)
    for (x, y, _), symbol in zip(positions, symbols, strict=True):
        wave = np.exp(-2j * np.pi * (grid.kx[:, None] * x + grid.ky[None, :] * y))
        spectrum += scattering_factor(symbol, grid.k_squared, "kirkland") * wave
    exact = np.fft.ifft2(spectrum, norm="forward").real * POTENTIAL_PREFACTOR / (5.0 * 6.5)
    # double precision rounding of the sums over frequencies and 5 atoms
    np.testing.assert_allclose(projected(grid, positions, symbols), exact, atol=1e-12 * np.abs(exact).max())


@pytest.mark.parametrize(
    ("symbol", "kirkland", "lobato"),
    [
        ("C", (215.3, 83.9, 6.09), (215.5, 83.8, 6.11)),
        ("Si", (413.5, 143.5, 19.65), (413.6, 143.6, 19.76)),
        ("Cu", (681.4, 172.3, 12.06), (682.7, 173.0, 12.24)),
        ("Au", (1452, 352.3, 18.52), (1452, 351.6, 18.38)),
        ("U", (1725, 484.3, 51.2), (1725, 485.9, 52.5)),
    ],
)
def test_single_atom_has_the_published_projected_potential(symbol, kirkland, lobato):
    # At 0.005 Å the sum reaches 100 Å⁻¹: what it cuts off the singular core rings with less than 0.06 % at
    # 0.1 Å, and the neighbours of the periodic image, 8 Å away, add less than 0.06 % at 1 Å. The values carry
    # three to four digits.
    grid = Grid((1600, 1600), (8.0, 8.0))
    at = [round(radius / grid.sampling[0]) for radius in (0.1, 0.3, 1.0)]
    for parametrization, published in (("kirkland", kirkland), ("lobato", lobato)):
        potential = projected(grid, [[2.0, 3.0, 0.0]], [symbol], parametrization)
        i, j = round(2.0 / grid.sampling[0]), round(3.0 / grid.sampling[1])
        np.testing.assert_allclose(potential[[i + n for n in at], j], published, rtol=2e-3)
        np.testing.assert_allclose(potential[i, [j - n for n in at]], published, rtol=2e-3)


@pytest.mark.parametrize(("name", "volts"), [("Si", 13.90), ("GaAs", 15.31), ("SrTiO3", 22.32), ("Au", 29.80)])
def test_mean_inner_potentials_are_those_of_the_scattering_factors(name, volts):
    specimen = crystal(name, (1, 1, 2))
    length = specimen.cell[2]
    n = number_of_slices(length, LATTICE[name] / 4)
    grid = Grid((32, 32), specimen.cell[:2])
    slices = equal_slices(length, n).index(specimen.positions[:, 2])
    potentials = SlicePotentials(grid, specimen.positions, specimen.symbols, slices, n, "kirkland")
    mean = sum(potentials.projected(i).mean() for i in range(n)) / length
    # half a unit of the last digit; that is 0.02 % of the lattice parameter cubed
    assert mean == pytest.approx(volts, abs=0.006)


def test_potential_moves_with_the_atoms_also_between_grid_points():
    grid = Grid((48, 45), (7.0, 6.0))
    positions, symbols = random_atoms(3)
    shift = np.array([0.0371, -0.0592, 0.0])
    before, after = (np.fft.fft2(projected(grid, positions + move, symbols)) for move in (0 * shift, shift))
    moved = before * np.exp(-2j * np.pi * (grid.kx[:, None] * shift[0] + grid.ky[None, :] * shift[1]))
    # At −nx/2 a real function has no sense of direction: that row is left out. Elsewhere rounding.
    rows = np.arange(48) != 24
    np.testing.assert_allclose(after[rows], moved[rows], atol=1e-12 * np.abs(before).max())


def test_shift_by_whole_pixels_rolls_the_potential():
    grid = Grid((48, 45), (7.0, 6.0))
    positions, symbols = random_atoms(4)
    move = np.array([5 * grid.sampling[0], -7 * grid.sampling[1], 0.3])
    expected = np.roll(projected(grid, positions, symbols), (5, -7), axis=(0, 1))
    # rounding of positions and sums
    np.testing.assert_allclose(projected(grid, positions + move, symbols), expected, atol=1e-11 * expected.max())


def test_potential_does_not_depend_on_the_order_of_atoms_or_on_the_cell_they_are_in():
    grid = Grid((40, 50), (7.0, 6.0))
    positions, symbols = random_atoms(5)
    expected = projected(grid, positions, symbols)
    order = np.random.default_rng(0).permutation(len(symbols))
    shuffled = projected(grid, positions[order], [symbols[i] for i in order])
    elsewhere = projected(grid, positions + np.array([14.0, -6.0, 99.0]), symbols)
    # rounding only
    np.testing.assert_allclose(shuffled, expected, atol=1e-12 * expected.max())
    np.testing.assert_allclose(elsewhere, expected, atol=1e-12 * expected.max())


def test_slices_add_up_to_the_whole_specimen():
    grid = Grid((40, 50), (7.0, 6.0))
    positions, symbols = random_atoms(6, 30)
    slices = np.random.default_rng(1).integers(0, 6, 30)
    slices[slices == 3] = 2  # one slice stays empty
    potentials = SlicePotentials(grid, positions, symbols, slices, 6, "lobato")
    assert not potentials.projected(3).any()
    total = sum(potentials.projected(i) for i in range(6))
    expected = projected(grid, positions, symbols, "lobato")
    # rounding only
    np.testing.assert_allclose(total, expected, atol=1e-12 * expected.max())


def test_thermal_motion_weakens_bragg_amplitudes_by_the_debye_waller_factor():
    # ⟨F(k)⟩ = F(k) exp(−2π² k² U)
    u = 0.0064
    specimen = crystal("Si", (4, 4, 1))
    grid = Grid((80, 80), specimen.cell[:2])
    configurations = 400
    mean = np.zeros(grid.gpts, dtype=complex)
    for configuration in range(configurations):
        moves = displacements(np.full(len(specimen.symbols), u), 7, configuration, None, True)
        mean += np.fft.fft2(projected(grid, specimen.positions + moves, specimen.symbols)) / configurations
    at_rest = np.fft.fft2(projected(grid, specimen.positions, specimen.symbols))

    for h, k in [(2, 2), (4, 0), (4, 4), (6, 2), (8, 0)]:
        i, j = 4 * h, 4 * k  # 4 cells
        factor = (mean[i, j] / at_rest[i, j]).real
        expected = np.exp(-2 * np.pi**2 * grid.k_squared[i, j] * u)
        # Per atom the real part of the phase factor scatters by less than √((1 − DW²)/2); 128 atoms × 400
        # draws, 5 sigma.
        scatter = np.sqrt((1 - expected**2) / 2 / (128 * configurations))
        assert factor == pytest.approx(expected, abs=5 * scatter)
        assert 1 - expected > 20 * scatter


def test_contradictory_arguments_are_refused():
    grid = Grid((8, 8), (4.0, 4.0))
    with pytest.raises(ValueError, match="equally many"):
        SlicePotentials(grid, [[0, 0, 0]], ["Si", "Si"], [0], 1, "kirkland")
    with pytest.raises(ValueError, match="slice indices"):
        SlicePotentials(grid, [[0, 0, 0]], ["Si"], [1], 1, "kirkland")
    with pytest.raises(ValueError, match="'Xx'"):
        SlicePotentials(grid, [[0, 0, 0]], ["Xx"], [0], 1, "kirkland")
    with pytest.raises(IndexError, match="slice 1"):
        SlicePotentials(grid, [[0, 0, 0]], ["Si"], [0], 1, "kirkland").projected(1)


def test_a_charge_has_the_projected_potential_of_coulombs_law():
    """−2q/(4πε₀) ln R. Charges outside a circle add a harmonic potential, whose mean over it is that in its middle."""
    length, points = 48.0, 480
    grid = Grid((points, points), (length, length))
    atoms = [[12.0, 12.0, 0.0], [36.0, 30.0, 0.0]]
    potential = SlicePotentials(grid, atoms, ["Sr2+", "O2-"], [0, 0], 1, "kirkland").projected(0)
    around = np.arange(64) * 2 * np.pi / 64

    def mean(radius: float) -> float:
        places = 12.0 + radius * np.array([np.cos(around), np.sin(around)])
        return float(map_coordinates(potential, places / length * points, order=3, mode="grid-wrap").mean())

    assert mean(4.0) - mean(8.0) == pytest.approx(2 * 2 * COULOMB_POTENTIAL * np.log(2), rel=1e-3)


def test_elements_of_other_tables_add_up_to_the_potential():
    grid, atoms = Grid((64, 64), (8.0, 8.0)), [[1.0, 2.0, 0.0], [4.0, 4.5, 0.0]]
    both = SlicePotentials(grid, atoms, ["Cr", "O"], [0, 0], 1, FactorChoice("peng", {"Cr": "lobato"})).projected(0)
    chromium = SlicePotentials(grid, atoms[:1], ["Cr"], [0], 1, "lobato").projected(0)
    oxygen = SlicePotentials(grid, atoms[1:], ["O"], [0], 1, "peng").projected(0)
    np.testing.assert_allclose(both, chromium + oxygen, atol=1e-10)
