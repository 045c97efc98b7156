"""A tilted beam and a tilted specimen, Eqs. (P21) to (P23)."""

from __future__ import annotations

from dataclasses import replace
from math import cos, hypot, sin, tan

import numpy as np
import pytest
from numpy.typing import NDArray
from stemphony.compute.atoms import Atoms
from stemphony.compute.recorder import JobSignals
from stemphony.compute.simulation import simulate
from stemphony.experiment.configuration import validate
from stemphony.experiment.model import Experiment, Precession
from stemphony.physics.detectors import CbedGeometry, DetectorSet
from stemphony.physics.electron import wavelength
from stemphony.physics.grid import Grid
from stemphony.physics.periods import Layers
from stemphony.physics.probe import Aberrations, probe_spectrum, shift_factors
from stemphony.physics.propagator import fresnel_propagator
from support.arrays import differences

from physics.specimens import crystal

LAM = wavelength(200e3)
GRID = Grid((384, 360), (40.0, 38.0))
MRAD = 1e-3
ON_GRID = (7 / 40.0, -5 / 38.0)
BETWEEN = (7.4 / 40.0, -5.3 / 38.0)
EMPTY = np.ones(GRID.gpts)
A = 3.905


def probe(center=(0.0, 0.0), defocus=0.0, grid=GRID, soft=True):
    return probe_spectrum(grid, LAM, 20 * MRAD, 0.0, soft, Aberrations(C10=-defocus, C30=4e3), center)


def intensity(spectrum):
    return np.abs(np.fft.ifft2(spectrum)) ** 2


def distance(one, other):
    return np.abs(one - other).max() / other.max()


# --- the beam -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("depth", [0.0, 35.0, 120.0])
def test_a_tilted_beam_in_vacuum_is_the_straight_one_moved_by_d_lambda_k0(depth):
    propagator = fresnel_propagator(GRID, LAM, depth, EMPTY)
    ex, ey = shift_factors(GRID, (depth * LAM * ON_GRID[0], depth * LAM * ON_GRID[1]))
    straight = np.fft.fft2(intensity(probe(defocus=50.0) * propagator))
    moved = np.fft.ifft2(straight * ex[:, None] * ey).real
    # Galilean invariance of the Fresnel propagator: exact for frequencies of the grid
    assert distance(intensity(probe(ON_GRID, defocus=50.0) * propagator), moved) < 1e-12


def test_the_move_differs_from_the_tangent_by_a_third_of_the_angle_squared():
    for angle in (10 * MRAD, 50 * MRAD):
        # the program's angle is λk; a ray of this angle moves by d·tan θ
        assert tan(angle) / angle - 1 == pytest.approx(angle**2 / 3, rel=1e-2)
    assert (50 * MRAD) ** 2 / 3 < 1e-3


def test_a_tilt_between_grid_frequencies_moves_the_beam_by_the_same_law():
    depth, found = 120.0, []
    for center in (ON_GRID, BETWEEN):
        behind = intensity(probe(center, defocus=50.0) * fresnel_propagator(GRID, LAM, depth, EMPTY))
        phase = np.angle(np.fft.fft2(behind)[[3, 0], [0, 3]])
        found.append(-phase / (2 * np.pi * 3) * np.array(GRID.extent))
        # the phase of a low Fourier coefficient says where the beam is; the tails, which the cell wraps, move it
        assert found[-1] == pytest.approx(depth * LAM * np.array(center), abs=0.005)


def test_a_tilt_between_grid_frequencies_makes_no_jump_at_the_edge_of_the_cell():
    tilted, straight = probe(BETWEEN), probe()
    x, y = GRID.x[:, None], GRID.y[None, :]
    ramp = np.exp(2j * np.pi * (BETWEEN[0] * x + BETWEEN[1] * y))
    naive = np.fft.fft2(np.fft.ifft2(straight) * ramp)
    naive /= np.linalg.norm(naive)
    radius = 20 * MRAD / LAM + hypot(1, 1) / 38.0  # a pixel beyond the aperture
    outside = np.hypot(GRID.kx[:, None] - BETWEEN[0], GRID.ky - BETWEEN[1]) > radius
    assert not tilted[outside].any()
    # a ramp that is no frequency of the grid jumps at the edge and scatters into all angles
    assert np.sum(np.abs(naive[outside]) ** 2) > 1e-3
    # the intensity is that of the straight probe but for the tails that the cell wraps
    assert distance(intensity(tilted), intensity(straight)) < 0.02


def test_no_tilt_is_the_straight_probe_to_the_last_bit():
    assert not differences(
        probe((0.0, 0.0)), probe_spectrum(GRID, LAM, 20 * MRAD, 0.0, True, Aberrations(C10=0, C30=4e3))
    )
    plain = fresnel_propagator(GRID, LAM, 2.0, EMPTY)
    assert not differences(plain, fresnel_propagator(GRID, LAM, 2.0, EMPTY, tilt=(0.0, 0.0)))


def test_a_tilt_beyond_the_grid_is_refused():
    with pytest.raises(ValueError, match="largest angle"):
        probe((5.0, 0.0))


# --- descan -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("edges", ["hard", "area"])
@pytest.mark.parametrize("center", [ON_GRID, BETWEEN])
def test_descanned_detectors_see_the_tilted_beam_as_plain_ones_see_the_straight_beam(edges, center):
    rings = {"inside": (0.0, 15 * MRAD), "edge": (15 * MRAD, 25 * MRAD)}
    plain = DetectorSet(GRID, LAM, None, rings, edges, True)
    descanned = DetectorSet(GRID, LAM, None, rings, edges, True, center=center)
    straight, tilted = plain.measure(probe()), descanned.measure(probe(center))
    # between frequencies other pixels lie inside the circle: per cent with hard edges, less with area edges
    close = 1e-12 if center == ON_GRID else 0.02 if edges == "hard" else 3e-3
    assert tilted.rings == pytest.approx(straight.rings, abs=close)
    assert tilted.center_of_mass == pytest.approx([0, 0], abs=1e-6 if center == ON_GRID else 0.02 * MRAD)
    from_axis = plain.measure(probe(center))
    assert from_axis.center_of_mass == pytest.approx(LAM * np.array(center), abs=0.02 * MRAD)


@pytest.mark.parametrize("center", [ON_GRID, BETWEEN])
@pytest.mark.parametrize("size", [None, (21, 17)])
def test_descanned_patterns_have_the_beam_in_their_middle_and_keep_their_sum(center, size):
    plain = CbedGeometry(GRID, LAM, 30 * MRAD, size)
    descanned = CbedGeometry(GRID, LAM, 30 * MRAD, size, center)
    straight, tilted = plain.pattern(probe()), descanned.pattern(probe(center))
    assert not differences(descanned.angles_x, plain.angles_x)
    assert 0.0 in descanned.angles_x
    assert tilted.sum() == pytest.approx(1, abs=1e-12)
    for angles, axis in ((descanned.angles_x, 1), (descanned.angles_y, 0)):
        assert tilted.sum(axis=axis) @ angles == pytest.approx(0, abs=1e-8 if center == ON_GRID else 0.02 * MRAD)
    if center == ON_GRID:
        assert tilted == pytest.approx(straight, abs=1e-15)


# --- the specimen -------------------------------------------------------------------------------------------------


def experiment(cell, tilt=(0.0, 0.0), beam=(0.0, 0.0), descan=False, crystalline=True, **grating):
    config = validate(
        {
            "simulation": {"name": "tilt", "precision": "double"},
            "probe": {"tilt_mrad": list(beam), "descan": descan},
            "specimen": {"file": "none", "tilt_mrad": list(tilt)},
            "grating": {"gpts": [160, 160], "slice_thickness_angstrom": A / 2, **grating},
            "scan": {"x": [0.0, A / cell[0]], "y": [0.0, A / cell[1]], "points": [4, 4]},
            "adf": {"bins": 4, "max_mrad": 60, "edges": "area", "detectors": {"bf": [0, 15], "haadf": [40, 70]}},
            "cbed": {"enabled": True, "max_mrad": 30.0},
        }
    )
    planes = A / 2 * np.arange(2 * round(cell[2] / A))
    return Experiment.of(config, cell, Layers(planes) if crystalline else None)


def computed(of: Experiment, symbols, positions) -> JobSignals:
    atoms = Atoms(np.asarray(symbols), positions, of.slicing.index(positions[:, 2]))
    return simulate(of, atoms, 0.0, threads=1, flag="FFTW_ESTIMATE", on_progress=lambda done, total: None)


def srtio3(repeat):
    made = crystal("SrTiO3", repeat)
    return np.array(made.symbols), made.positions, made.cell


def sheared(positions: NDArray[np.float64], tilt, cell) -> NDArray[np.float64]:
    """Positions moved sideways by z·tan θ."""
    moved = positions.copy()
    for axis in (0, 1):
        moved[:, axis] = np.mod(moved[:, axis] + moved[:, 2] * tan(tilt[axis] * MRAD), cell[axis])
    return moved


def all_of(signals: JobSignals) -> NDArray[np.float64]:
    values = [signals.rings.ravel(), signals.total.ravel(), signals.bins.ravel(), 1e2 * signals.center_of_mass.ravel()]
    return np.concatenate(values)


@pytest.mark.slow
@pytest.mark.parametrize("axis", [0, 1])
def test_a_tilted_specimen_is_a_sheared_crystal(axis):
    symbols, positions, cell = srtio3((4, 4, 8))
    # Planes lie on the faces of their slices, and each is one grid point further: no aliasing differs.
    tilt = [0.0, 0.0]
    tilt[axis] = float(np.arctan(cell[axis] / 160 / (A / 2))) / MRAD
    assert tilt[axis] == pytest.approx(49.96, abs=0.01)
    tilted = computed(experiment(cell, tilt), symbols, positions)
    moved = computed(experiment(cell), symbols, sheared(positions, tilt, cell))
    assert all_of(tilted) == pytest.approx(all_of(moved), abs=1e-10)
    straight = computed(experiment(cell), symbols, positions)
    assert np.abs(all_of(straight) - all_of(tilted)).max() > 0.02


@pytest.mark.parametrize(("points", "close"), [(160, 4e-3), (240, 2e-3)])
def test_any_tilt_shears_the_crystal_as_well_as_the_grid_samples_it(points, close):
    symbols, positions, cell = srtio3((4, 4, 8))
    tilt = (21.0, -13.0)
    of = experiment(cell, tilt, gpts=[points, points])
    of = replace(of, scan_x=of.scan_x[:2], scan_y=of.scan_y[:1], cbed_max=None)
    tilted = computed(of, symbols, positions)
    moved = computed(replace(of, specimen_tilt=(0.0, 0.0)), symbols, sheared(positions, tilt, cell))
    straight = computed(replace(of, specimen_tilt=(0.0, 0.0)), symbols, positions)
    # the aliasing of exp(iσV) depends on where a column lies between grid points
    assert tilted.rings == pytest.approx(moved.rings, abs=close)
    assert np.abs(straight.rings - moved.rings).max() > 0.02


@pytest.mark.parametrize("symmetric", ["beam", "specimen"])
def test_opposite_tilts_of_srtio3_are_mirror_images(symmetric):
    symbols, positions, cell = srtio3((4, 4, 6))
    # not a frequency of the grid
    plus, minus = ((7.3, 2.1), (-7.3, 2.1))
    one, other = (
        computed(experiment(cell, **({"tilt": t} if symmetric == "specimen" else {"beam": t})), symbols, positions)
        for t in (plus, minus)
    )
    mirrored = [-i % 4 for i in range(4)]
    for name in ("bins", "rings", "total"):
        assert getattr(other, name)[mirrored] == pytest.approx(getattr(one, name), abs=1e-12)
    assert other.center_of_mass[mirrored] * [-1, 1] == pytest.approx(one.center_of_mass, abs=1e-12)
    assert other.cbed[mirrored][..., ::-1, :] == pytest.approx(one.cbed, abs=1e-12)
    assert np.abs(one.rings - one.rings[mirrored]).max() > 1e-3


def test_a_tilted_beam_with_descan_is_a_specimen_tilted_the_other_way():
    symbols, positions, cell = srtio3((4, 4, 6))
    step = LAM / cell[0] / MRAD
    beam = experiment(cell, beam=(2 * step, -step), descan=True)
    # the tangent of the specimen's tilt stands for the angle λk of the beam
    lean = tuple(float(np.arctan(-angle)) for angle in beam.tilt)
    specimen = replace(experiment(cell), specimen_tilt=lean)
    one, other = computed(beam, symbols, positions), computed(specimen, symbols, positions)
    # the band limit stays about the optic axis: it cuts other high angles
    assert one.rings[..., 0] == pytest.approx(other.rings[..., 0], abs=3e-4)
    straight = computed(experiment(cell), symbols, positions)
    assert np.abs(straight.cbed - one.cbed).max() > 1e-4


def turned(tilt: float, size: tuple[int, int, int], cell, middle: float):
    """A block of SrTiO3 turned by `tilt` [rad] about y through the middle of its entrance face."""
    symbols, positions, (lx, _, _) = srtio3(size)
    x, z = positions[:, 0] - lx / 2, positions[:, 2]
    made = positions.copy()
    made[:, 0] = np.mod(x * cos(tilt) + z * sin(tilt) + middle, cell[0])
    made[:, 2] = -x * sin(tilt) + z * cos(tilt)
    return symbols, made


@pytest.mark.slow
@pytest.mark.parametrize("tilt", [5.0, 20.0])
def test_a_tilted_specimen_is_a_really_turned_block(tilt):
    size, cells = (12, 6, 8), (14, 6)
    # thin slices resolve the heights of a turned plane; an empty layer in front holds the corner that turns up
    thickness, front = A / 16, 2 * A + A / 32
    cell = (cells[0] * A, cells[1] * A, 12 * A)
    of = experiment(cell, gpts=[480, 216], slice_thickness_angstrom=thickness, crystalline=False)
    places = tuple((6 * A + dx, 3 * A + dy) for dx, dy in ((0.0, 0.0), (A / 2, A / 2), (A / 4, 0.0)))
    of = replace(of, scan_x=(0.0, 1.0, 2.0), scan_y=(0.0,), places=places, cbed_max=None)
    found = {}
    for name, angle in (("straight", 0.0), ("turned", tilt * MRAD)):
        symbols, positions = turned(angle, size, cell, 6 * A)
        positions[:, 2] += front
        found[name] = computed(of, symbols, positions)
    symbols, positions = turned(0.0, size, cell, 6 * A)
    positions[:, 2] += front
    # the block is turned about its entrance; a tilted specimen leans from the top of the cell on
    leaning = tuple((x + front * tan(tilt * MRAD), y) for x, y in places)
    moved = replace(of, specimen_tilt=(tilt * MRAD, 0.0), places=leaning)
    found["tilted"] = computed(moved, symbols, positions)
    # at 20 mrad the tilt changes these fractions of the beam by up to 0.1
    assert found["tilted"].rings == pytest.approx(found["turned"].rings, abs=2e-3)
    change = np.abs(all_of(found["turned"]) - all_of(found["straight"])).max()
    assert np.abs(all_of(found["turned"]) - all_of(found["tilted"])).max() < 0.02 * change


# --- precession ---------------------------------------------------------------------------------------------------


def test_precession_is_the_mean_over_its_tilts():
    symbols, positions, cell = srtio3((4, 4, 2))
    of = experiment(cell, beam=(1.0, 2.0), descan=True)
    precessed = replace(of, precession=Precession(6 * MRAD, 5))
    mean = computed(precessed, symbols, positions)
    each = [computed(replace(of, tilt=tilt), symbols, positions) for tilt in precessed.tilts]
    for name in ("bins", "rings", "total", "cbed"):
        assert getattr(mean, name) == pytest.approx(np.mean([getattr(one, name) for one in each], axis=0), abs=1e-15)
    moments = np.mean([one.center_of_mass * one.total[..., None] for one in each], axis=0)
    assert mean.center_of_mass == pytest.approx(moments / mean.total[..., None], abs=1e-15)
    assert mean.waves == 5 * 16
