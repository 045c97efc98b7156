"""Exit waves, plane waves, and the intensity along the depth, Eqs. (P30) and (P31)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.special import j0, j1
from stemphony.compute.atoms import Atoms, draw_atoms
from stemphony.compute.recorder import Recorder, StoredWaves
from stemphony.compute.simulation import simulate
from stemphony.compute.stored_waves import incident_wave, stored_waves, wave_bytes
from stemphony.experiment.model import Experiment
from stemphony.experiment.wave_request import WaveRequest
from stemphony.physics.fields import circle, in_real_space
from stemphony.physics.grid import Grid, band_limit
from stemphony.physics.potential import SlicePotentials
from stemphony.physics.probe import Aberrations, probe_spectrum, shift_factors
from support.experiments import tiny
from support.specimens import srtio3

PLACES = ((1.3, 2.1), (6.0, 0.4))
NO_ATOMS = Atoms(np.empty(0, dtype="<U2"), np.empty((0, 3)), np.empty(0, dtype=int))


def experiment(cell=(9.0, 8.0, 40.0), request: WaveRequest | None = None, **blocks: Any) -> Experiment:
    given: dict[str, Any] = {"simulation": {"precision": "double"}, "grating": {"gpts": [96, 80]}, **blocks}
    return replace(Experiment.of(tiny(**given), cell, None), waves=request)


def waves_of(
    of: Experiment, atoms: Atoms = NO_ATOMS, defocus_nm: float = 0.0, budget_mb: float = 1000.0
) -> StoredWaves:
    return stored_waves(of, atoms, defocus_nm, threads=1, flag="FFTW_ESTIMATE", budget_mb=budget_mb)


def intensity(grid: Grid, wave: np.ndarray) -> float:
    return float((np.abs(wave) ** 2).sum() * grid.sampling[0] * grid.sampling[1])


# --- the probe ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", ["single", "double"])
@pytest.mark.parametrize("defocus_nm", [0.0, 7.0])
def test_the_incident_probe_has_the_intensity_of_one_electron(precision, defocus_nm):
    of = experiment(simulation={"precision": precision})
    assert intensity(of.grid, incident_wave(of, defocus_nm)) == pytest.approx(1.0, rel=1e-12)


def test_the_incident_probe_is_brightest_in_the_middle():
    of = experiment()
    wave = np.abs(incident_wave(of, 0.0))
    assert np.unravel_index(wave.argmax(), wave.shape) == (48, 40)


# --- vacuum -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("blocks", [
    {}, {"probe": {"tilt_mrad": [4.0, -3.0]}},
    {"probe": {"aberrations": {"C30_nm": 2e3, "C12_nm": 1.5, "phi12_deg": 20}}},
])  # fmt: skip
def test_behind_vacuum_the_exit_wave_is_the_probe_of_another_focus(blocks):
    """Free flight over z is a defocus of −z, which the aberration function knows by itself."""
    of = experiment(request=WaveRequest(PLACES), **blocks)
    found = waves_of(of, defocus_nm=3.0).exit_wave
    kx, ky = of.grid.kx[:, None] - of.beam[0], of.grid.ky[None, :] - of.beam[1]
    for place, wave in zip(PLACES, found, strict=True):
        flown = Aberrations(C10=-30.0 + of.cell[2], **of.aberrations)
        spectrum = probe_spectrum(
            of.grid, of.wavelength, of.semiangle, of.semiangle_inner, of.soft_aperture, flown, of.beam
        )
        ex, ey = shift_factors(of.grid, place)
        spectrum = spectrum * ex[:, None] * ey[None, :]
        # A tilted beam moves sideways, and its phase on the axis runs on (P21).
        drift = 2 * (kx * of.beam[0] + ky * of.beam[1]) + of.beam[0] ** 2 + of.beam[1] ** 2
        spectrum = spectrum * np.exp(-1j * np.pi * of.wavelength * of.cell[2] * drift)
        expected = in_real_space(of.grid, spectrum)
        assert np.abs(wave - expected).max() < 1e-10 * np.abs(expected).max()
        assert intensity(of.grid, wave) == pytest.approx(1.0, rel=1e-12)


def test_in_vacuum_all_intensity_stays_at_each_depth_and_in_a_wide_circle():
    of = experiment(request=WaveRequest(PLACES, False, True, ((1.0, 1.0),), 50.0))
    found = waves_of(of, defocus_nm=5.0)
    assert found.profile is not None
    assert found.columns is not None
    np.testing.assert_allclose(found.profile.sum(axis=1) * of.grid.sampling[0], 1.0, rtol=1e-12)
    np.testing.assert_allclose(found.columns, 1.0, rtol=1e-12)


def test_the_intensity_in_a_column_is_that_of_the_airy_disk():
    """1 − J₀² − J₁² of a focused probe lie inside a radius (Born & Wolf, 8.5.2); the cell adds λ/(3Lα₀), see P9."""
    radius, place = 1.2, (9.0, 9.0)
    request = WaveRequest((place,), False, True, (place,), radius)
    of = experiment((30.0, 30.0, 4.0), request, grating={"gpts": [360, 360]})
    found = waves_of(of).columns
    assert found is not None
    v = 2 * np.pi * of.semiangle / of.wavelength * radius
    assert found[0, 0, 0] == pytest.approx(
        (1 - j0(v) ** 2 - j1(v) ** 2) * (1 + of.wavelength / (3 * 30.0 * of.semiangle)), abs=1e-3
    )


def test_the_section_goes_through_the_position():
    grid_y = 3 * 8.0 / 80
    of = experiment(request=WaveRequest(((4.0, grid_y),), False, True, ((4.0, grid_y),), 1.0))
    found = waves_of(of)
    assert found.section is not None
    last = np.abs(found.exit_wave[0, :, 3]) ** 2
    np.testing.assert_allclose(found.section[0, :, -1], last, rtol=1e-9, atol=1e-14)


# --- specimens ----------------------------------------------------------------------------------------------------

SPECIMEN = srtio3((2, 2, 2))


def crystal(request: WaveRequest, **blocks: Any) -> tuple[Experiment, Atoms]:
    given: dict[str, Any] = {"simulation": {"precision": "double"}, **blocks}
    of = replace(Experiment.of(tiny(**given), SPECIMEN.cell, SPECIMEN.layers), waves=request)
    atoms = draw_atoms(
        of, SPECIMEN.symbols, SPECIMEN.positions, SPECIMEN.u_iso, frame=None, displaced=True, random_seed=1,
        configuration=0, defocus_nm=None, displace_z=True, fixed_slicing=True,
    )  # fmt: skip
    return of, atoms


def test_the_exit_wave_has_the_signals_of_its_position():
    of, atoms = crystal(WaveRequest(((0.0, 0.0),)))
    job = simulate(of, atoms, 2.0, threads=1, flag="FFTW_ESTIMATE", on_progress=lambda done, total: None)
    (wave,) = waves_of(of, atoms, 2.0).exit_wave
    scale = np.sqrt(of.grid.extent[0] * of.grid.extent[1]) / wave.size
    seen = Recorder(of).detectors.measure(np.asfortranarray(np.fft.fft2(wave) * scale))
    np.testing.assert_allclose(seen.rings, job.rings[0, 0, -1], rtol=1e-10)
    assert intensity(of.grid, wave) == pytest.approx(job.total[0, 0, -1], rel=1e-10)


def test_a_specimen_that_scatters_within_the_band_keeps_all_intensity_at_each_depth():
    request = WaveRequest(((0.0, 0.0), (1.0, 0.5)), False, True, ((0.0, 0.0),), 0.7)
    of, atoms = crystal(request, grating={"gpts": [240, 240]})
    light = replace(atoms, symbols=np.full(len(atoms.symbols), "H"))
    found = waves_of(of, light)
    assert found.profile is not None
    np.testing.assert_allclose(found.profile.sum(axis=1) * of.grid.sampling[0], 1.0, atol=2e-6)


def test_blocks_of_slices_precision_and_threads_change_nothing_else():
    request = WaveRequest(PLACES, False, True, PLACES, 0.7)
    of, atoms = crystal(request)
    found, tight = waves_of(of, atoms), waves_of(of, atoms, budget_mb=0.01)
    single = waves_of(replace(of, precision="single"), atoms)
    threads = stored_waves(of, atoms, 0.0, threads=3, flag="FFTW_ESTIMATE", budget_mb=100.0)
    for name in ("exit_wave", "profile", "section", "columns"):
        one = getattr(found, name)
        np.testing.assert_array_equal(getattr(tight, name), one)
        np.testing.assert_array_equal(getattr(threads, name), one)
        assert np.abs(getattr(single, name) - one).max() < 1e-5 * np.abs(one).max()
    assert single.exit_wave.dtype == np.complex64


def test_a_window_shows_the_wave_of_its_part_of_the_specimen():
    request = WaveRequest(((3.0, 4.0), (7.5, 0.2)), False, True, ((3.0, 4.0),), 0.7)
    whole, atoms = crystal(request)
    # A window of the whole cell is the whole cell.
    windowed = Experiment.of(
        tiny(simulation={"precision": "double"}, grating={"window_angstrom": 7.8}), SPECIMEN.cell, SPECIMEN.layers
    )
    found = waves_of(replace(windowed, waves=request), atoms)
    exact = waves_of(whole, atoms)
    for number in (0, 1):
        # the window begins elsewhere: compare at the probe
        np.testing.assert_allclose(
            np.sort(np.abs(found.exit_wave[number]).ravel()),
            np.sort(np.abs(exact.exit_wave[number]).ravel()),
            rtol=1e-7,
        )


# --- plane waves --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("points", "share"), [((160, 180), 0.08), ((320, 360), 0.04)])
def test_a_plane_wave_behind_a_thin_phase_object_is_its_phase(points, share):
    """ψ = exp(iσV): exactly inside the band limit, with the flight over the slice, and as a whole on finer grids."""
    cell, thickness = (8.0, 9.0, 0.01), 0.01
    of = Experiment.of(
        tiny(simulation={"precision": "double"}, grating={"gpts": points, "slice_thickness_angstrom": thickness},
             depths={"every_angstrom": None}), cell, None,
    )  # fmt: skip
    of = replace(of, waves=WaveRequest(((0.0, 0.0),), plane=True))
    positions = np.array([[2.0, 3.0, 0.0], [5.5, 6.0, 0.005]])
    atoms = Atoms(np.array(["C", "O"]), positions, np.zeros(2, dtype=int))
    (wave,) = waves_of(of, atoms).exit_wave
    potential = SlicePotentials(of.grid, positions, ["C", "O"], np.zeros(2, dtype=int), 1, "kirkland").projected(0)
    phase = np.exp(1j * of.interaction * potential)
    limit = band_limit(of.grid, of.bandlimit, of.bandlimit_taper)
    flight = np.exp(-1j * np.pi * of.wavelength * thickness * of.grid.k_squared)
    exact = np.fft.ifft2(limit**2 * flight * np.fft.fft2(phase))
    assert np.abs(wave - exact).max() < 1e-12
    assert np.linalg.norm(wave - phase) < share * np.linalg.norm(phase - 1)


def test_a_plane_wave_in_vacuum_stays_one():
    of = experiment(request=WaveRequest(((0.0, 0.0),), plane=True))
    np.testing.assert_allclose(waves_of(of, defocus_nm=50.0).exit_wave, 1.0, atol=1e-12)


# --- geometry -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("middle", [(0.0, 0.0), (3.3, 7.9), (8.99, 4.0)])
def test_a_circle_has_its_area(middle):
    grid = Grid((180, 144), (9.0, 8.0))
    for radius in (0.5, 1.0, 2.5):
        area = circle(grid, middle, radius).sum() * grid.sampling[0] * grid.sampling[1]
        assert area == pytest.approx(np.pi * radius**2, rel=3e-3)


def test_the_size_of_the_waves_is_known_before():
    request = WaveRequest(PLACES, False, True, PLACES, 0.7)
    of, atoms = crystal(request, simulation={"precision": "single"})
    found = waves_of(of, atoms)
    assert found.profile is not None
    assert found.section is not None
    assert found.columns is not None
    numbers = 2 * found.exit_wave.size + found.profile.size + found.section.size + found.columns.size
    assert wave_bytes(of) == 4 * numbers
    assert wave_bytes(replace(of, waves=None)) == 0
