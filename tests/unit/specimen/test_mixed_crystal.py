"""A CIF with mixed sites and anisotropic motion, from the file to the atoms of a configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stemphony.errors import SpecimenError
from stemphony.physics.occupancy import present_sites
from stemphony.physics.phonons import displacements
from stemphony.specimen.crystal import Crystal
from stemphony.specimen.specimen import Specimen
from stemphony.specimen.specimen_file import read_specimen_file, write_specimen
from stemphony.specimen.structures import read_specimen
from support.cif_files import SITE, cif_text

SITES = """Ga1 Ga 0.33333 0.66667 0.0 0.7
Al1 Al 0.33333 0.66667 0.0 0.3
N1 N 0.33333 0.66667 0.377 1"""
TENSORS = """loop_
_atom_site_aniso_label
_atom_site_aniso_U_11
_atom_site_aniso_U_22
_atom_site_aniso_U_33
_atom_site_aniso_U_12
_atom_site_aniso_U_13
_atom_site_aniso_U_23
Ga1 0.004 0.004 0.009 0.002 0 0
Al1 0.004 0.004 0.009 0.002 0 0
N1 0.006 0.006 0.008 0.003 0 0"""
CIF = cif_text(
    SITES, symmetry="_space_group_name_H-M_alt 'P 63 m c'\n_space_group_IT_number 186",
    cell=(3.189, 3.189, 5.186, 90, 90, 120), columns=f"{SITE} occupancy", more=TENSORS,
)  # fmt: skip


@pytest.fixture
def cif(tmp_path) -> Path:
    file = tmp_path / "algan.cif"
    file.write_text(CIF)
    return file


def read(file: Path, **settings: Any) -> Specimen:
    specimen = read_specimen(file, **settings)
    assert specimen.occupancy is not None
    assert specimen.u_aniso is not None
    return specimen


@pytest.mark.parametrize(("zone_axis", "along_c"), [([1, 1, -2, 0], 1), ([0, 0, 0, 1], 2)])
def test_the_larger_motion_along_c_turns_with_the_crystal(cif, zone_axis, along_c):
    specimen = read(cif, zone_axis=zone_axis, repeat=(3, 3, 3))
    assert specimen.u_aniso is not None
    expected = np.diag([0.009 if axis == along_c else 0.004 for axis in range(3)])
    np.testing.assert_allclose(
        specimen.u_aniso[specimen.symbols == "Ga"], np.broadcast_to(expected, (108, 3, 3)), atol=1e-12
    )
    many = np.tile(specimen.u_aniso[specimen.symbols == "Ga"], (300, 1, 1))
    moves = displacements(np.zeros(len(many)), 1, 0, None, True, many)
    np.testing.assert_allclose(np.cov(moves.T), expected, atol=4.5 * 0.009 * np.sqrt(2 / len(many)))


def test_every_mixed_site_holds_one_atom_and_the_mean_is_the_composition(cif):
    specimen = read(cif, zone_axis=[1, 1, -2, 0], repeat=(3, 3, 3))
    assert specimen.occupancy is not None
    numbers = []
    for configuration in range(100):
        there = present_sites(specimen.occupancy, specimen.disorder, specimen.disorder_group, 1, configuration, None)
        elements, count = np.unique(specimen.symbols[there], return_counts=True)
        found = dict(zip(elements.tolist(), count.tolist(), strict=True))
        assert found["Ga"] + found["Al"] == found["N"] == 108
        numbers.append(found["Ga"])
    # Copies of the cell are drawn by themselves: 108 sites scatter as independent ones.
    assert np.mean(numbers) == pytest.approx(0.7 * 108, abs=4.5 * np.sqrt(108 * 0.21 / 100))
    assert np.std(numbers) == pytest.approx(np.sqrt(108 * 0.21), rel=0.35)


def test_density_and_formula_count_the_occupancies(cif):
    # 4 (Ga0.7 Al0.3) N in the orthogonal cell of two: 141.8 u in 45.67 Å³.
    specimen = read(cif, zone_axis=[0, 0, 0, 1])
    crystal = Crystal.of(specimen)
    assert specimen.formula == "Ga1.4 Al0.6 N2"
    assert crystal.density == pytest.approx(1.66054 * (1.4 * 69.723 + 0.6 * 26.982 + 2 * 14.007) / 45.675, rel=1e-3)
    assert crystal.shortest == pytest.approx(1.949, abs=0.002)


def test_the_file_of_the_specimen_keeps_it_bit_for_bit(cif, tmp_path):
    specimen = read(cif, zone_axis=[1, 1, -2, 0], repeat=(2, 1, 2))
    write_specimen(tmp_path / "specimen.nc", specimen, {})
    found = read_specimen_file(tmp_path / "specimen.nc")
    for name in ("u_aniso", "occupancy", "disorder", "disorder_group", "u_iso", "positions"):
        np.testing.assert_array_equal(getattr(found, name), getattr(specimen, name), err_msg=name)


def test_a_tensor_of_the_file_that_is_not_positive_is_refused_with_a_way_out(cif):
    cif.write_text(CIF.replace("Ga1 0.004 0.004 0.009 0.002", "Ga1 0.004 0.004 -0.009 0.002"))
    with pytest.raises(SpecimenError, match=r"Ga.*-0\.009 Å² along one direction.*u_source: config"):
        read_specimen(cif, zone_axis=[0, 0, 0, 1])
