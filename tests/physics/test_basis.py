"""Probes as superpositions: the basis keeps the tolerance, and detectors measure the same."""

from __future__ import annotations

import numpy as np
import pytest
from stemphony.physics import basis
from stemphony.physics import basis as module
from stemphony.physics.basis import ApertureWaves, evaluate, probe_basis, signal_forms, summed_pixels
from stemphony.physics.detectors import DetectorSet, at_pixels
from stemphony.physics.electron import wavelength
from stemphony.physics.grid import Grid, band_limit, band_limit_radius
from stemphony.physics.probe import Aberrations, probe_spectrum, shift_factors

LAM = wavelength(200e3)
GRID = Grid((90, 100), (15.0, 16.0))
DEFOCI = (-60.0, 0.0, 45.0)
POSITIONS = [(x, y) for x in np.linspace(0.0, 3.0, 6) for y in np.linspace(1.0, 4.0, 5)]


def spectra(defoci=DEFOCI, semiangle=0.025):
    return np.stack([probe_spectrum(GRID, LAM, semiangle, 0.0, True, Aberrations(C10=-d, C30=1e4)) for d in defoci])


def probes(defoci=DEFOCI, positions=POSITIONS, semiangle=0.025):
    aperture = ApertureWaves(spectra(defoci, semiangle))
    return aperture, [aperture.probes(GRID.kx, GRID.ky, positions, i) for i in range(len(defoci))]


def error(basis, blocks):
    whole = np.hstack(blocks)
    missed = whole - basis @ (basis.conj().T @ whole)
    return np.linalg.norm(missed) / np.linalg.norm(whole)


def test_probes_are_those_of_eq_p9():
    aperture, (_, block, _) = probes()
    for column, position in ((0, POSITIONS[0]), (13, POSITIONS[13])):
        ex, ey = shift_factors(GRID, position)
        whole = np.zeros(GRID.gpts, complex)
        whole[aperture.rows, aperture.columns] = block[:, column]
        np.testing.assert_allclose(whole, spectra()[1] * ex[:, None] * ey, atol=1e-15)


@pytest.mark.parametrize("tolerance", [0.1, 1e-2, 1e-4, 1e-6, 1e-9])
def test_the_basis_is_orthonormal_holds_the_tolerance_and_is_the_smallest(tolerance):
    _, blocks = probes()
    basis = probe_basis(blocks, tolerance)
    rank = basis.shape[1]
    np.testing.assert_allclose(basis.conj().T @ basis, np.eye(rank), atol=1e-13)
    assert error(basis, blocks) <= tolerance * (1 + 1e-6)
    # Eckart & Young: no basis of one wave less reaches more than the singular values leave.
    singular = np.linalg.svd(np.hstack(blocks), compute_uv=False)
    left = np.sqrt(np.append(np.cumsum(singular[::-1] ** 2)[::-1], 0.0) / np.sum(singular**2))
    best = int(np.argmax(left <= tolerance)) if (left <= tolerance).any() else len(singular)
    assert best <= rank <= best + 1


def test_a_finer_scan_adds_next_to_nothing():
    coarse = [(x, y) for x in np.linspace(0, 3, 16) for y in np.linspace(0, 3, 16)]
    fine = [(x, y) for x in np.linspace(0, 3, 32) for y in np.linspace(0, 3, 32)]
    ranks = [probe_basis(probes((0.0,), positions)[1], 1e-4).shape[1] for positions in (coarse, fine)]
    assert ranks[0] <= ranks[1] <= ranks[0] + 3 < 130


def test_no_basis_is_larger_than_the_number_of_beams_in_the_aperture():
    positions = [(x, y) for x in np.arange(20) * 0.75 for y in np.arange(20) * 0.8]
    aperture, blocks = probes((0.0,), positions, semiangle=0.015)
    basis = probe_basis(blocks, 1e-10)
    assert basis.shape[1] <= len(aperture.rows) < len(positions)
    assert error(basis, blocks) < 1e-10


def test_blocks_and_order_of_the_probes_do_not_matter():
    _, blocks = probes()
    whole = np.hstack(blocks)
    other = [whole[:, 40:], whole[:, :40]]
    first, second = probe_basis(blocks, 1e-3), probe_basis(other, 1e-3)
    assert first.shape == second.shape
    # The same space: the best basis is unique up to phases where the singular values differ.
    assert error(first, other) <= 1e-3
    np.testing.assert_allclose(np.linalg.svd(first.conj().T @ second, compute_uv=False)[:-3], 1, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("tolerance", [1e-4, 1e-7, 1e-8, 1e-9, 1e-12, 1e-20])
@pytest.mark.parametrize("width", [0.003, 0.03, 0.3])
@pytest.mark.parametrize("room", [0.0, 1e9])
def test_probes_that_hardly_differ_keep_a_fine_tolerance(monkeypatch, tolerance, width, room):
    # After a few waves the residuals of such probes are mere rounding. The search must not find a wave twice in it.
    monkeypatch.setattr(module, "_KEPT_BYTES", room)
    positions = [(3 + x, 2 + y) for x in np.linspace(0, width, 6) for y in np.linspace(0, width, 10)]
    _, blocks = probes((-200.0, -8.0, 0.0, 300.0), positions)
    basis = probe_basis(blocks, tolerance)
    np.testing.assert_allclose(basis.conj().T @ basis, np.eye(basis.shape[1]), atol=1e-13)
    for block in blocks:
        assert error(basis, [block]) <= max(tolerance, 1e-13) * (1 + 1e-6)
    if tolerance >= 1e-7:
        singular = np.linalg.svd(np.hstack(blocks), compute_uv=False)
        left = np.sqrt(np.cumsum(singular[::-1] ** 2)[::-1] / np.sum(singular**2))
        # The tolerance for each block needs more waves than one for all blocks together.
        assert basis.shape[1] <= 1.2 * np.argmax(left <= tolerance / 2) + 2


@pytest.mark.slow
@pytest.mark.parametrize("tolerance", [1e-2, 1e-5])
def test_the_search_gives_up_a_basis_of_too_many_waves(monkeypatch, tolerance):
    positions = [(x, y) for x in np.linspace(0, 8, 12) for y in np.linspace(0, 8, 12)]
    _, blocks = probes((0.0, 50.0), positions)
    rank = probe_basis(blocks, tolerance).shape[1]
    assert rank > 100
    assert probe_basis(blocks, tolerance, most=rank).shape[1] == rank
    assert probe_basis(blocks, tolerance, most=rank - 1) is None
    # The search gives up long before it has found the basis.
    steps = []
    go_on = module._Search.go_on
    monkeypatch.setattr(module._Search, "go_on", lambda search: (steps.append(len(search.found)), go_on(search)))
    assert probe_basis(blocks, tolerance, most=3) is None
    assert steps[-1] <= 64


def test_residuals_that_do_not_fit_the_memory_give_the_same_basis(monkeypatch):
    _, blocks = probes()
    kept = probe_basis(blocks, 1e-8)
    monkeypatch.setattr(module, "_KEPT_BYTES", 0)
    monkeypatch.setattr(module, "FIRST_RANK", 16)
    made = probe_basis(blocks, 1e-8)
    assert made.shape == kept.shape
    np.testing.assert_allclose(made @ made.conj().T, kept @ kept.conj().T, atol=1e-6)


def test_the_same_probes_give_the_same_bits():
    _, blocks = probes()
    assert probe_basis(blocks, 1e-4).tobytes() == probe_basis(iterated(blocks), 1e-4).tobytes()


class iterated:
    """Blocks that each iteration makes again."""

    def __init__(self, blocks):
        self.blocks = blocks

    def __len__(self):
        return len(self.blocks)

    def __iter__(self):
        return (block.copy() for block in self.blocks)


def test_one_probe_is_its_own_basis():
    _, (block,) = probes((0.0,), [(1.0, 2.0)])
    basis = probe_basis([block], 1e-4)
    assert basis.shape[1] == 1
    assert abs(np.vdot(basis[:, 0], block[:, 0])) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize(("blocks", "tolerance"), [([], 1e-4), ([np.ones((3, 2), complex)], 0.0)])
def test_no_probes_or_no_tolerance_are_refused(blocks, tolerance):
    with pytest.raises(ValueError, match="both must be above 0"):
        probe_basis(blocks, tolerance)


# --- detectors ----------------------------------------------------------------------------------------------------

RADIUS = band_limit_radius(GRID)
BINS = np.linspace(0, 0.07, 15)
RINGS = {"bf": (0.0, 0.011), "ring": (0.03, 0.061), "overlapping": (0.02, 0.05)}


def random_waves(number, seed=0):
    rng = np.random.default_rng(seed)
    waves = rng.normal(size=(number, *GRID.gpts)) + 1j * rng.normal(size=(number, *GRID.gpts))
    return waves * band_limit(GRID) / np.sqrt(waves.size)


@pytest.mark.slow
@pytest.mark.parametrize("edges", ["hard", "area"])
@pytest.mark.parametrize("center_of_mass", [True, False])
@pytest.mark.parametrize("bins", [BINS, None, np.array([0.01, 0.02, 0.05])])
@pytest.mark.parametrize("shortest_run", [0, 1e9], ids=["moments with sums", "moments alone"])
@pytest.mark.parametrize("chunk_bytes", [2e3, 1e9])
def test_superposed_waves_give_the_signals_of_detectors(
    edges, center_of_mass, bins, shortest_run, chunk_bytes, monkeypatch
):
    monkeypatch.setattr(basis, "_SHORTEST_RUN", shortest_run)
    monkeypatch.setattr(basis, "_CHUNK_BYTES", chunk_bytes)
    detectors = DetectorSet(GRID, LAM, bins, RINGS, edges, center_of_mass, RADIUS)
    waves = random_waves(4)
    a = np.random.default_rng(1).normal(size=(4, 3)) * np.exp(1j * np.arange(12).reshape(4, 3))
    regions, combination = detectors.regions()
    forms = signal_forms(np.stack([at_pixels(wave, detectors.pixels) for wave in waves]), regions)
    seen = detectors.signals(combination @ evaluate(forms, a))
    for probe in range(3):
        alone = detectors.measure(np.tensordot(a[:, probe], waves, 1))
        np.testing.assert_allclose(seen.bins[probe], alone.bins, rtol=1e-11)
        np.testing.assert_allclose(seen.rings[probe], alone.rings, rtol=1e-11)
        assert seen.total[probe] == pytest.approx(float(alone.total), rel=1e-12)
        np.testing.assert_allclose(seen.center_of_mass[probe], alone.center_of_mass, rtol=1e-9, atol=1e-12)
    # To the last bit: a checkpoint keeps half of each matrix.
    np.testing.assert_array_equal(forms, np.conj(np.swapaxes(forms, 1, 2)))


def test_a_moment_along_columns_takes_no_products_of_its_own(monkeypatch):
    detectors = DetectorSet(GRID, LAM, None, RINGS, "hard", True, RADIUS)
    regions, _ = detectors.regions()
    waves = np.stack([at_pixels(wave, detectors.pixels) for wave in random_waves(4)])
    taken = []
    real_parts = basis._real_parts
    monkeypatch.setattr(basis, "_SHORTEST_RUN", 8)
    monkeypatch.setattr(
        basis, "_real_parts", lambda w, pixels, *f: taken.append(pixels.size) or real_parts(w, pixels, *f)
    )
    forms = signal_forms(waves, regions)
    at_zero = np.count_nonzero(regions[-2].weights == 0)
    assert sum(taken) == summed_pixels(waves, regions) == 2 * detectors.pixels.size - at_zero
    # Both moments are as certain as a sum in double precision is.
    for form, region in zip(forms[-2:], regions[-2:], strict=True):
        direct = (waves[:, region.pixels].conj() * region.weights) @ waves[:, region.pixels].T
        np.testing.assert_allclose(form, direct, rtol=0, atol=1e-13 * abs(direct).max())


@pytest.mark.parametrize("edges", ["hard", "area"])
@pytest.mark.parametrize("center_of_mass", [True, False])
@pytest.mark.parametrize("shortest_run", [8, 1e9], ids=["moments with sums", "moments alone"])
def test_the_pixels_that_are_counted_are_those_that_are_multiplied(edges, center_of_mass, shortest_run, monkeypatch):
    monkeypatch.setattr(basis, "_SHORTEST_RUN", shortest_run)
    regions, _ = DetectorSet(GRID, LAM, BINS, RINGS, edges, center_of_mass, RADIUS).regions()
    waves = np.stack([at_pixels(wave, DetectorSet(GRID, LAM, None, RINGS, "hard", True, RADIUS).pixels)
                      for wave in random_waves(4)])  # fmt: skip
    taken = []
    real_parts = basis._real_parts
    monkeypatch.setattr(
        basis, "_real_parts", lambda w, pixels, *f: taken.append(pixels.size) or real_parts(w, pixels, *f)
    )
    signal_forms(waves, regions)
    assert sum(taken) == summed_pixels(waves, regions)


def test_hard_edges_make_one_region_per_piece():
    detectors = DetectorSet(GRID, LAM, np.linspace(0, 0.045, 10), {"a": (0.01, 0.02)}, "hard", True, RADIUS)
    regions, combination = detectors.regions()
    # 9 bins that the ring does not cut, what lies beyond them, and two moments.
    assert len(regions) == 9 + 1 + 2
    assert sum(region.pixels.size for region in regions[:-2]) == detectors.pixels.size
    assert combination.shape == (9 + 1 + 1 + 2, 12)


def test_zero_intensity_has_no_center_of_mass():
    detectors = DetectorSet(GRID, LAM, None, RINGS, "hard", True, RADIUS)
    seen = detectors.signals(detectors.values(np.zeros((detectors.pixels.size, 2))))
    assert np.isnan(seen.center_of_mass).all()
    assert (seen.total == 0).all()
