"""Truths of thermal displacements: variances, independence, seeds, Debye-Waller factors."""

from __future__ import annotations

import numpy as np
import pytest
from stemphony.physics.constants import DEBYE_PREFACTOR
from stemphony.physics.phonons import cholesky, debye_u_iso, displacements, not_positive

U = 0.01
FIXED = (
    [-0.01079742917876347, -0.030853843697884548, 0.060828531112133405],
    [-0.0801844910564769, 0.2132781387910858, -0.16809260012117044],
)


def draw(configuration=0, seed=1, defocus_pm=None, displace_z=True, atoms=20_000):
    return displacements(np.full(atoms, U), seed, configuration, defocus_pm, displace_z)


def test_variance_along_each_axis_is_u():
    moves = draw(atoms=100_000)
    # A sample variance of N normal numbers scatters by √(2/N), the mean by √(U/N); 4.5 sigma.
    np.testing.assert_allclose(moves.var(axis=0), U, rtol=4.5 * np.sqrt(2 / 100_000))
    np.testing.assert_allclose(moves.mean(axis=0), 0, atol=4.5 * np.sqrt(U / 100_000))


def test_thousand_configurations_of_one_atom_have_its_amplitude():
    # As other programs test it: 0.1 Å rms measured within 0.001 Å. Of 1000 × 24 numbers the rms scatters by
    # 0.0005 Å.
    moves = np.array([displacements(np.full(8, U), 3, c, None, True) for c in range(1000)])
    assert moves.std() == pytest.approx(0.1, abs=0.001)


def test_axes_atoms_and_configurations_are_independent():
    first, second = draw(0), draw(1)
    columns = np.column_stack([first, second, np.roll(first, 1, axis=0)])
    correlation = np.corrcoef(columns.T) - np.eye(9)
    # correlation of N independent pairs scatters by 1/√N; 36 pairs, 5 sigma
    assert np.abs(correlation).max() < 5 / np.sqrt(20_000)


def test_each_atom_has_its_own_u():
    moves = displacements(np.repeat([0.0, 0.04], 10_000), 1, 0, None, True)
    assert not moves[:10_000].any()
    assert moves[10_000:].var() == pytest.approx(0.04, rel=4.5 * np.sqrt(2 / 30_000))


def test_configurations_do_not_depend_on_the_order_they_are_drawn_in():
    forwards = [draw(c, atoms=5) for c in range(4)]
    backwards = [draw(c, atoms=5) for c in reversed(range(4))][::-1]
    np.testing.assert_array_equal(forwards, backwards)


def test_atoms_along_x_and_y_do_not_notice_whether_z_moves():
    free, flat = draw(displace_z=True), draw(displace_z=False)
    np.testing.assert_array_equal(flat[:, :2], free[:, :2])
    assert not flat[:, 2].any()
    assert free[:, 2].any()


def test_every_seed_configuration_and_defocus_draws_its_own():
    draws = {
        (seed, configuration, defocus): draw(configuration, seed, defocus, atoms=1).tobytes()
        for seed in (0, 1, 2, 2**32, 2**32 + 1, 2**63)
        for configuration in (0, 1, 2, 1000)
        for defocus in (None, 0, 1, -1, 2, -2, 2500, -2500)
    }
    assert len(set(draws.values())) == len(draws)


def test_draws_are_those_of_earlier_runs():
    # Seeds in published results must keep their meaning; these numbers were drawn with the first version.
    np.testing.assert_allclose(draw(3, 12, None, atoms=1)[0], FIXED[0], rtol=1e-12)
    np.testing.assert_allclose(draw(3, 12, -2500, atoms=1)[0], FIXED[1], rtol=1e-12)


def test_impossible_arguments_are_refused():
    with pytest.raises(ValueError, match="atom 1"):
        displacements([0.01, -0.01], 1, 0, None, True)
    with pytest.raises(ValueError, match="atom 0"):
        displacements([np.nan], 1, 0, None, True)
    with pytest.raises(ValueError, match="negative"):
        displacements([0.01], -1, 0, None, True)
    with pytest.raises(ValueError, match="negative"):
        displacements([0.01], 1, -1, None, True)


# --- anisotropic -------------------------------------------------------------------------------------------------

TENSOR = np.array([[0.03, 0.012, -0.004], [0.012, 0.02, 0.006], [-0.004, 0.006, 0.01]])


def turn(degrees, axis):
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    i, j = [n for n in range(3) if n != axis]
    matrix = np.eye(3)
    matrix[[i, i, j, j], [i, j, i, j]] = c, -s, s, c
    return matrix


def test_covariance_of_the_displacements_is_the_tensor():
    moves = displacements(np.full(100_000, np.nan), 1, 0, None, True, np.broadcast_to(TENSOR, (100_000, 3, 3)))
    # A sample covariance scatters by √((U_xx U_yy + U_xy²)/N); 4.5 sigma.
    scatter = np.sqrt((np.outer(np.diag(TENSOR), np.diag(TENSOR)) + TENSOR**2) / 100_000)
    assert (np.abs(np.cov(moves.T) - TENSOR) < 4.5 * scatter).all()


def test_mean_phase_factor_is_the_anisotropic_debye_waller_factor():
    # ⟨exp(2πi g·u)⟩ = exp(−2π² gᵀU g): a crystal that is turned with its tensor scatters as before.
    g, rotation = np.array([0.8, -0.3, 0.5]), turn(35, 0) @ turn(-70, 2)
    expected = np.exp(-2 * np.pi**2 * g @ TENSOR @ g)
    for vector, tensor in ((g, TENSOR), (rotation @ g, rotation @ TENSOR @ rotation.T)):
        moves = displacements(np.zeros(200_000), 3, 0, None, True, np.broadcast_to(tensor, (200_000, 3, 3)))
        assert np.exp(2j * np.pi * moves @ vector).mean() == pytest.approx(expected, abs=5 / np.sqrt(200_000))


def test_an_isotropic_tensor_moves_atoms_exactly_as_u_iso_does():
    tensors = np.broadcast_to(U * np.eye(3), (500, 3, 3))
    np.testing.assert_array_equal(
        displacements(np.full(500, np.nan), 4, 2, 100, True, tensors), draw(2, 4, 100, atoms=500)
    )


def test_atoms_without_a_tensor_move_as_if_there_were_none():
    tensors = np.full((500, 3, 3), np.nan)
    tensors[::2] = TENSOR
    mixed = displacements(np.full(500, U), 4, 2, None, True, tensors)
    np.testing.assert_array_equal(mixed[1::2], draw(2, 4, atoms=500)[1::2])
    assert not np.allclose(mixed[::2], draw(2, 4, atoms=500)[::2])
    np.testing.assert_array_equal(
        displacements(np.full(500, U), 4, 2, None, True, np.full_like(tensors, np.nan)), draw(2, 4, atoms=500)
    )


@pytest.mark.parametrize(
    "tensor",
    [
        TENSOR,
        np.zeros((3, 3)),
        np.diag([0.0, 0.01, 0.02]),
        np.diag([0.01, 0.0, 0.02]),
        0.01 * np.outer([1, -2, 3], [1, -2, 3]),
        0.01 * np.outer([0, 1, 2], [0, 1, 2]),
        turn(20, 2) @ np.diag([0.02, 0.0, 0.01]) @ turn(20, 2).T,
    ],
)
def test_factor_of_a_semidefinite_tensor_gives_it_back(tensor):
    factor = cholesky(tensor[None])[0]
    np.testing.assert_allclose(factor @ factor.T, tensor, atol=1e-12)
    assert not np.triu(factor, 1).any()


def test_tensors_that_are_not_positive_are_named():
    tensors = np.array(
        [
            TENSOR,
            np.diag([0.01, -0.001, 0.01]),
            np.full((3, 3), np.nan),
            [[0.01, 0.02, 0], [0.02, 0.01, 0], [0, 0, 0.01]],
        ]
    )
    assert not_positive(tensors).tolist() == [1, 3]
    with pytest.raises(ValueError, match=r"tensor 1: .*positive"):
        cholesky(tensors)
    with pytest.raises(ValueError, match="positive"):
        displacements(np.zeros(4), 1, 0, None, True, tensors)


# --- Debye model -------------------------------------------------------------------------------------------------


def b_factor(mass, debye_temperature, temperature):
    return 8 * np.pi**2 * debye_u_iso(mass, debye_temperature, temperature)


def test_zero_point_motion_and_classical_limit_of_the_debye_model():
    assert debye_u_iso(50.0, 300.0, 0.0) == pytest.approx(DEBYE_PREFACTOR / (4 * 50.0 * 300.0), rel=1e-12)
    # ⟨u_x²⟩ = 3ħ²T/(m k_B Θ²) · (1 + x²/36 − …) with x = Θ/T
    x = 0.05
    classical = DEBYE_PREFACTOR / (50.0 * 300.0) / x
    assert debye_u_iso(50.0, 300.0, 300.0 / x) == pytest.approx(classical * (1 + x**2 / 36), rel=1e-7)
    # The integral up to infinity is π²/6, so ⟨u_x²⟩ grows with T² above the zero-point motion.
    assert debye_u_iso(50.0, 300.0, 3.0) == pytest.approx(
        DEBYE_PREFACTOR / (50.0 * 300.0) * (0.25 + np.pi**2 / 6 * 1e-4), rel=1e-9
    )


def test_factors_of_the_formula_for_b_are_the_published_ones():
    # International Tables and textbooks write B = 11 490 T φ(x)/(A Θ²) + 2 873/(A Θ), in Å², K and u.
    assert 8 * np.pi**2 * DEBYE_PREFACTOR == pytest.approx(11_490, rel=1e-4)
    assert b_factor(1.0, 1.0, 0.0) == pytest.approx(2_873, rel=2e-4)


@pytest.mark.parametrize(
    ("mass", "debye_temperature", "published"),
    [
        (26.982, 390, 0.81),
        (63.546, 310, 0.56),
        (107.868, 221, 0.73),
        (195.084, 225, 0.37),
        (207.2, 87, 2.11),
    ],
    ids=["Al", "Cu", "Ag", "Pt", "Pb"],
)
def test_debye_model_gives_tabulated_b_of_five_elements_at_room_temperature(mass, debye_temperature, published):
    # B: Sears & Shelley, Acta Cryst. A 47 (1991) 441. Θ from heat capacities at 298 K: Gschneidner, Solid State
    # Physics 16 (1964) 275. Heat capacity and diffraction weigh the phonons differently, hence 12 %.
    assert b_factor(mass, debye_temperature, 293) == pytest.approx(published, rel=0.12)


@pytest.mark.parametrize(("temperature", "published"), [(85, 0.3301), (90, 0.3374), (280, 0.7460)])
def test_debye_model_follows_aluminium_from_85_to_280_kelvin(temperature, published):
    # Peng et al., Acta Cryst. A 52 (1996) 456, table 1. One Θ fits all temperatures.
    assert b_factor(26.982, 411, temperature) == pytest.approx(published, rel=0.005)


@pytest.mark.parametrize("arguments", [(0, 300, 300), (50, 0, 300), (50, 300, -1)])
def test_impossible_debye_parameters_are_refused(arguments):
    with pytest.raises(ValueError, match="above 0"):
        debye_u_iso(*arguments)
