"""CIF: symmetry from everything a file may give, what a file states of itself, sites, U and disorder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from stemphony.errors import SpecimenError
from stemphony.specimen import statements
from stemphony.specimen.cif import read_cif
from stemphony.specimen.displacements import B_PER_U
from stemphony.specimen.structure import Structure

A = 3.905


def cif(
    folder: Path,
    sites: str,
    *,
    symmetry: str = "",
    cell: tuple[float, ...] = (A, A, A, 90, 90, 90),
    columns: str = "label type_symbol fract_x fract_y fract_z",
    more: str = "",
    name: str = "a.cif",
    encoding: str = "utf-8",
) -> Path:
    """A CIF with one block."""
    edges = ("length_a", "length_b", "length_c", "angle_alpha", "angle_beta", "angle_gamma")
    lines = ["data_x", *(f"_cell_{edge} {value}" for edge, value in zip(edges, cell, strict=True)), symmetry, "loop_"]
    lines += [f"_atom_site_{column}" for column in columns.split()] + [sites, more]
    file = folder / name
    file.write_bytes(("\n".join(lines) + "\n").encode(encoding))
    return file


def counts(structure: Structure) -> dict[str, float]:
    return statements.counted(structure.symbols, structure.occupancy)


def density(structure: Structure) -> float:
    return statements.density(counts(structure), abs(float(np.linalg.det(structure.cell))))


def fractions(structure: Structure) -> np.ndarray:
    return structure.positions @ np.linalg.inv(structure.cell) % 1.0


def refusal(file: Path, *parts: str) -> str:
    with pytest.raises(SpecimenError) as caught:
        read_cif(file)
    for part in parts:
        assert part in str(caught.value), str(caught.value)
    return str(caught.value)


PEROVSKITE = "Sr1 Sr 0 0 0\nTi1 Ti 0.5 0.5 0.5\nO1 O 0.5 0.5 0"
PM3M = {
    "old symbol": "_symmetry_space_group_name_H-M 'P m -3 m'",
    "symbol without spaces": "_symmetry_space_group_name_H-M Pm-3m",
    "symbol without bar": "_symmetry_space_group_name_H-M 'P m 3 m'",
    "full symbol": "_space_group_name_H-M_full 'P 4/m -3 2/m'",
    "new symbol": "_space_group_name_H-M_alt 'P m -3 m'",
    "dotted symbol": "_space_group.name_H-M_alt 'P m -3 m'",
    "dotted full symbol": "_space_group.name_H-M_full 'P 4/m -3 2/m'",
    "Hall": "_space_group_name_Hall '-P 4 2 3'",
    "old Hall": "_symmetry_space_group_name_Hall '-P 4 2 3'",
    "dotted Hall": "_space_group.name_Hall '-P 4 2 3'",
    "number": "_space_group_IT_number 221",
    "old number": "_symmetry_Int_Tables_number 221",
    "dotted number": "_space_group.IT_number 221",
    "unknown symbol beside a number": "_symmetry_space_group_name_H-M ?\n_symmetry_Int_Tables_number 221",
}


@pytest.mark.parametrize("symmetry", PM3M.values(), ids=PM3M)
def test_every_way_to_name_a_group_gives_its_atoms(tmp_path, symmetry):
    structure = read_cif(cif(tmp_path, PEROVSKITE, symmetry=symmetry))
    assert counts(structure) == {"Sr": 1, "Ti": 1, "O": 3}
    assert density(structure) == pytest.approx(5.117, abs=0.005)


@pytest.mark.parametrize(
    "tag",
    [
        "_symmetry_equiv_pos_as_xyz",
        "_space_group_symop_operation_xyz",
        "_space_group_symop.operation_xyz",
        "_SPACE_GROUP_SYMOP_OPERATION_XYZ",
    ],
)
def test_operations_need_no_symbol(tmp_path, tag):
    listed = f"loop_\n{tag}\n'x, y, z'\n'x,1/2+Y,z+0.5'\n'1/2+x,y,1/2+z'\n'x+1/2,y+1/2,z'"
    structure = read_cif(cif(tmp_path, "Cu1 Cu 0 0 0", symmetry=listed, cell=(3.615, 3.615, 3.615, 90, 90, 90)))
    assert counts(structure) == {"Cu": 4}
    assert density(structure) == pytest.approx(8.93, abs=0.01)


def test_missing_products_of_listed_operations_are_added_and_named(tmp_path):
    listed = "loop_\n_symmetry_equiv_pos_as_xyz\nx,y,z\n-x,-y,z\n-x,y,-z\n-x,-y,-z"
    structure = read_cif(cif(tmp_path, "O1 O 0.1 0.2 0.3", symmetry=listed))
    assert len(structure.symbols) == 8
    assert any("4 symmetry operations" in note for note in structure.notes)


def test_magnetic_operations_and_their_centring_are_symmetry(tmp_path):
    listed = (
        "loop_\n_space_group_symop_magn_operation.id\n_space_group_symop_magn_operation.xyz\n1 x,y,z,+1\n"
        "2 -x,-y,-z,+1\n"
        "loop_\n_space_group_symop_magn_centering.id\n_space_group_symop_magn_centering.xyz\n1 x,y,z,+1\n"
        "2 x,y+1/2,z+1/2,+1\n3 x+1/2,y,z+1/2,-1\n4 x+1/2,y+1/2,z,-1"
    )
    file = cif(tmp_path, "Ni1 Ni 0 0 0\nO1 O 0.5 0.5 0.5", symmetry=listed, cell=(4.177, 4.177, 4.177, 90, 90, 90))
    structure = read_cif(file)
    assert counts(structure) == {"Ni": 4, "O": 4}
    assert density(structure) == pytest.approx(6.81, abs=0.01)


def test_magnetic_group_without_operations_is_refused(tmp_path):
    refusal(cif(tmp_path, "Ni1 Ni 0 0 0", symmetry="_space_group_magn.name_BNS C_c2/c"), "C_c2/c", "operations")


def test_modulated_structure_is_refused(tmp_path):
    listed = "loop_\n_space_group_symop_ssg_operation_algebraic\nx1,x2,x3,x4\n-x1,-x2,-x3,-x4"
    refusal(cif(tmp_path, "Ni1 Ni 0 0 0", symmetry=listed), "modulated", "supercell approximant")


def test_setting_of_a_symbol_is_kept(tmp_path):
    sites = "Fe1 Fe 0.5 0 0\nO1 O 0.085 0.018 0.243"
    cell = (5.412, 5.522, 7.7, 90, 90, 90)
    found = {}
    for name in ("P 1 21/n 1", "P 1 21/c 1", "P 21/n"):
        symmetry = f"_symmetry_space_group_name_H-M '{name}'\n_symmetry_Int_Tables_number 14"
        structure = read_cif(cif(tmp_path, sites, symmetry=symmetry, cell=cell))
        found[name] = {tuple(row) for row in np.round(fractions(structure)[structure.symbols == "O"], 3).tolist()}
    assert (0.415, 0.518, 0.257) in found["P 1 21/n 1"]  # 1/2 − x, 1/2 + y, 1/2 − z
    assert (0.915, 0.518, 0.257) in found["P 1 21/c 1"]  # −x, 1/2 + y, 1/2 − z
    assert found["P 21/n"] == found["P 1 21/n 1"]


@pytest.mark.parametrize(
    ("symbol", "cell"),
    [
        ("P 21/b", (5.0, 6.0, 7.0, 90, 90, 101)),
        ("B 2/b", (5.0, 6.0, 7.0, 90, 90, 101)),
        ("P 1 1 21/b", (5, 6, 7, 90, 90, 101)),
    ],
)
def test_short_monoclinic_symbol_takes_the_axis_that_its_cell_has(tmp_path, symbol, cell):
    file = cif(tmp_path, "C1 C 0.1 0.2 0.3", symmetry=f"_symmetry_space_group_name_H-M '{symbol}'", cell=cell)
    structure = read_cif(file)
    # An image under the twofold axis c: z moves by 0 or ½ and x, y change sign.
    assert any(abs(z - 0.3) < 1e-9 or abs(z - 0.8) < 1e-9 for x, y, z in fractions(structure) if abs(x - 0.9) < 1e-9)


def test_symmetry_that_its_cell_does_not_have_is_refused(tmp_path):
    symmetry = "_symmetry_space_group_name_H-M 'P m -3 m'"
    refusal(cif(tmp_path, PEROVSKITE, symmetry=symmetry, cell=(4, 5, 6, 90, 90, 90)), "does not fit the cell")


def test_symbol_that_contradicts_the_number_is_refused(tmp_path):
    symmetry = "_symmetry_space_group_name_H-M 'P m -3 m'\n_symmetry_Int_Tables_number 225"
    refusal(cif(tmp_path, PEROVSKITE, symmetry=symmetry), "221", "225", "contradicts")


def test_unknown_symbol_is_refused(tmp_path):
    symmetry = "_symmetry_space_group_name_H-M 'Q m m 7'"
    refusal(cif(tmp_path, PEROVSKITE, symmetry=symmetry), "Q m m 7", "_space_group_symop_operation_xyz")


def test_no_symmetry_is_one_cell_and_is_said(tmp_path):
    structure = read_cif(cif(tmp_path, PEROVSKITE))
    assert len(structure.symbols) == 3
    assert any("P 1" in note for note in structure.notes)


# Origins

SILICON = (5.4309, 5.4309, 5.4309, 90, 90, 90)
ANATASE = (3.785, 3.785, 9.514, 90, 90, 90)


@pytest.mark.parametrize(
    ("symbol", "site", "atoms"),
    [
        ("F d -3 m Z", 0.125, 8),
        ("F d -3 m S", 0.0, 8),
        ("F d -3 m:2", 0.125, 8),
        ("F d -3 m :1", 0.0, 8),
        ("F d -3 m (origin choice 2)", 0.125, 8),
        ("Fd-3m:2", 0.125, 8),
        ("F 41/d -3 2/m :2", 0.125, 8),
    ],
)
def test_origin_that_a_symbol_names_is_taken(tmp_path, symbol, site, atoms):
    symmetry = f"_symmetry_space_group_name_H-M '{symbol}'"
    structure = read_cif(cif(tmp_path, f"Si1 Si {site} {site} {site}", symmetry=symmetry, cell=SILICON))
    assert len(structure.symbols) == atoms
    assert density(structure) == pytest.approx(2.33, abs=0.01)


def test_coordinate_system_code_names_the_origin(tmp_path):
    symmetry = "_space_group.name_H-M_alt 'F d -3 m'\n_space_group.IT_coordinate_system_code 2"
    assert len(read_cif(cif(tmp_path, "Si1 Si 0.125 0.125 0.125", symmetry=symmetry, cell=SILICON)).symbols) == 8


@pytest.mark.parametrize(
    "statement",
    [
        "_chemical_formula_sum Si\n_cell_formula_units_Z 8",
        "_exptl_crystal_density_diffrn 2.33",
        "_exptl_crystal_density_diffrn 2.329(5)",
    ],
)
@pytest.mark.parametrize("site", [0.125, 0.0])
def test_open_origin_is_decided_by_what_the_file_states(tmp_path, statement, site):
    symmetry = f"_symmetry_space_group_name_H-M 'F d -3 m'\n{statement}"
    structure = read_cif(cif(tmp_path, f"Si1 Si {site} {site} {site}", symmetry=symmetry, cell=SILICON))
    assert len(structure.symbols) == 8
    assert density(structure) == pytest.approx(2.33, abs=0.01)
    assert any("origin" in note for note in structure.notes)


def test_open_origin_of_anatase_is_decided_by_its_formula_units(tmp_path):
    symmetry = "_symmetry_space_group_name_H-M 'I 41/a m d'\n_chemical_formula_sum 'O2 Ti'\n_cell_formula_units_Z 4"
    structure = read_cif(cif(tmp_path, "Ti1 Ti 0 0.75 0.125\nO1 O 0 0.75 0.3333", symmetry=symmetry, cell=ANATASE))
    assert counts(structure) == {"Ti": 4, "O": 8}


def test_open_origin_without_a_statement_is_refused(tmp_path):
    file = cif(tmp_path, "Si1 Si 0.125 0.125 0.125", symmetry="_symmetry_space_group_name_H-M 'F d -3 m'", cell=SILICON)
    refusal(file, "which origin", "16 atoms or 8 atoms", "_cell_formula_units_Z")


def test_open_origin_that_nothing_fits_is_refused(tmp_path):
    symmetry = "_symmetry_space_group_name_H-M 'F d -3 m'\n_exptl_crystal_density_diffrn 3.5"
    refusal(cif(tmp_path, "Si1 Si 0.1 0.2 0.3", symmetry=symmetry, cell=SILICON), "3.5 g/cm³")


@pytest.mark.parametrize(
    ("cell", "atoms"), [((4.76, 4.76, 12.99, 90, 90, 120), 12), ((5.13, 5.13, 5.13, 55.3, 55.3, 55.3), 4)]
)
def test_rhombohedral_axes_follow_from_the_cell(tmp_path, cell, atoms):
    site = "Al1 Al 0 0 0.352" if atoms == 12 else "Al1 Al 0.352 0.352 0.352"
    for symmetry in ("_symmetry_space_group_name_H-M 'R -3 c'", "_symmetry_Int_Tables_number 167"):
        assert len(read_cif(cif(tmp_path, site, symmetry=symmetry, cell=cell)).symbols) == atoms


def test_wrong_count_is_seen_by_the_stated_density(tmp_path):
    symmetry = "_symmetry_space_group_name_H-M 'P 1'\n_exptl_crystal_density_diffrn 5.12"
    refusal(cif(tmp_path, PEROVSKITE, symmetry=symmetry), "5.12 g/cm³", "symmetry operations")


@pytest.mark.parametrize("z", [1, 4])
def test_formula_of_the_cell_beside_z_agrees(tmp_path, z):
    symmetry = f"_symmetry_Int_Tables_number 225\n_chemical_formula_sum 'Na4 Cl4'\n_cell_formula_units_Z {z}"
    file = cif(tmp_path, "Na1 Na1+ 0 0 0\nCl1 Cl1- 0.5 0.5 0.5", symmetry=symmetry, cell=(5.64, 5.64, 5.64, 90, 90, 90))
    assert len(read_cif(file).symbols) == 8


def test_wrong_z_beside_a_right_density_is_a_note(tmp_path):
    symmetry = (
        "_symmetry_Int_Tables_number 221\n_chemical_formula_sum 'Sr Ti O3'\n_cell_formula_units_Z 3\n"
        "_exptl_crystal_density_diffrn 5.117"
    )
    assert any(
        "states 3 formula units" in note for note in read_cif(cif(tmp_path, PEROVSKITE, symmetry=symmetry)).notes
    )


def test_volume_that_contradicts_the_cell_is_refused(tmp_path):
    refusal(cif(tmp_path, PEROVSKITE, symmetry="_cell_volume 120.0"), "_cell_volume is 120", "59.55")


# Sites


def test_few_digits_make_one_atom_on_its_special_position(tmp_path):
    symmetry = "_symmetry_space_group_name_H-M 'P 63/m m c'"
    for x, y in (("0.333", "0.667"), ("0.33", "0.67"), ("1/3", "2/3")):
        file = cif(tmp_path, f"Ti1 Ti {x} {y} 0.25", symmetry=symmetry, cell=(2.95, 2.95, 4.68, 90, 90, 120))
        structure = read_cif(file)
        assert len(structure.symbols) == 2
        np.testing.assert_allclose(sorted(fractions(structure)[:, 0]), [1 / 3, 2 / 3], atol=1e-9)
        assert bool(structure.notes) == (x != "1/3")


def test_four_digits_stay_as_they_are(tmp_path):
    symmetry = "_symmetry_space_group_name_H-M 'P 63/m m c'"
    file = cif(tmp_path, "Ti1 Ti 0.3333 0.6667 0.25", symmetry=symmetry, cell=(2.95, 2.95, 4.68, 90, 90, 120))
    structure = read_cif(file)
    assert len(structure.symbols) == 2
    assert 0.3333 in np.round(fractions(structure)[:, 0], 9)
    assert structure.revision == 1


def test_split_site_of_a_partly_occupied_atom_stays_split(tmp_path):
    file = cif(
        tmp_path, "O1 O 0.0300 0 0 0.5", symmetry="_symmetry_space_group_name_H-M 'P -1'",
        columns="label type_symbol fract_x fract_y fract_z occupancy",
    )  # fmt: skip
    structure = read_cif(file)
    assert len(structure.symbols) == 2
    assert structure.occupancy is not None


@pytest.mark.parametrize("mark", [".", "0", "0.0", "0.000(2)"])
def test_point_is_a_coordinate_of_zero(tmp_path, mark):
    structure = read_cif(cif(tmp_path, f"Cs1 Cs {mark} {mark} {mark}\nCl1 Cl .5 .5 .5"))
    np.testing.assert_allclose(structure.positions[0], 0)


def test_unknown_coordinate_is_refused_with_its_site(tmp_path):
    refusal(cif(tmp_path, PEROVSKITE + "\nH1 H ? ? ?"), "site H1", "'?'", "delete the line")


def test_dummies_are_left_out_and_named(tmp_path):
    columns = "label type_symbol fract_x fract_y fract_z calc_flag"
    structure = read_cif(cif(tmp_path, "Sr1 Sr 0 0 0 d\nX1 X 0.5 0.5 0.5 dum", columns=columns))
    assert structure.symbols.tolist() == ["Sr"]
    assert any("X1" in note for note in structure.notes)


@pytest.mark.parametrize("name", ["D", "D1", "D+", "T"])
def test_isotopes_of_hydrogen_become_hydrogen(tmp_path, name):
    structure = read_cif(cif(tmp_path, f"O1 O 0 0 0\n{name} {name} 0.2 0.2 0.2"))
    assert structure.symbols.tolist() == ["O", "H"]
    assert any("hydrogen" in note for note in structure.notes)


def test_formula_counts_deuterium_as_hydrogen(tmp_path):
    file = cif(tmp_path, "O1 O 0 0 0\nD1 D 0.2 0.2 0.2\nD2 D 0.4 0.4 0.4", symmetry="_chemical_formula_sum 'D2 O'")
    assert counts(read_cif(file)) == {"O": 1, "H": 2}


@pytest.mark.parametrize(
    ("name", "symbol", "charge"),
    [
        ("Fe3+", "Fe", 3),
        ("O2-", "O", -2),
        ("Na1+", "Na", 1),
        ("Cl-", "Cl", -1),
        ("Fe+3", "Fe", 3),
        ("SR", "Sr", np.nan),
    ],
)
def test_types_give_element_and_charge(tmp_path, name, symbol, charge):
    structure = read_cif(cif(tmp_path, f"A1 {name} 0 0 0\nO9 O2- 0.5 0.5 0.5"))
    assert structure.symbols[0] == symbol
    assert structure.charge is not None
    np.testing.assert_equal(structure.charge[0], charge)


def test_oxidation_numbers_are_charges(tmp_path):
    more = "loop_\n_atom_type_symbol\n_atom_type_oxidation_number\nSr 2\nTi 4\nO -2"
    charge = read_cif(cif(tmp_path, PEROVSKITE, more=more)).charge
    assert charge is not None
    assert charge.tolist() == [2, 4, -2]


def test_types_of_another_loop_do_not_hide_those_of_the_sites(tmp_path):
    types = "loop_\n_atom_site_type_symbol\n_atom_type_oxidation_number\nTi 0\nSr 0\nO 0"
    assert counts(read_cif(cif(tmp_path, PEROVSKITE, symmetry=types))) == {"Sr": 1, "Ti": 1, "O": 1}


def test_occupancy_and_shared_sites_are_kept(tmp_path):
    columns = "label type_symbol fract_x fract_y fract_z occupancy"
    sites = "Sr1 Sr 0 0 0 0.6\nBa1 Ba 0 0 0 0.4(1)\nTi1 Ti 0.5 0.5 0.5 ?\nO1 O 0.5 0.5 0 ."
    structure = read_cif(cif(tmp_path, sites, symmetry="_symmetry_Int_Tables_number 221", columns=columns))
    assert structure.occupancy is not None
    assert structure.disorder is not None
    assert structure.occupancy.tolist() == [0.6, 0.4, 1, 1, 1, 1]
    assert structure.disorder[0] == structure.disorder[1] >= 0
    assert (structure.disorder[2:] == -1).all()
    assert any("Ti1" in note for note in structure.notes)


def test_occupancies_of_one_site_above_one_are_refused(tmp_path):
    columns = "label type_symbol fract_x fract_y fract_z occupancy"
    refusal(cif(tmp_path, "Sr1 Sr 0 0 0 0.7\nBa1 Ba 0 0 0 0.5", columns=columns), "Sr1", "Ba1", "1.200")


def test_empty_site_is_left_out_and_named(tmp_path):
    columns = "label type_symbol fract_x fract_y fract_z occupancy"
    structure = read_cif(cif(tmp_path, "Sr1 Sr 0 0 0 1\nBa1 Ba 0.5 0 0 0", columns=columns))
    assert structure.symbols.tolist() == ["Sr"]
    assert any("Ba1" in note for note in structure.notes)


def test_groups_of_one_assembly_exclude_each_other_in_every_image(tmp_path):
    columns = "label type_symbol fract_x fract_y fract_z occupancy disorder_assembly disorder_group"
    sites = "C1 C 0.1 0.1 0.1 0.5 A 1\nO1 O 0.12 0.2 0.1 0.5 A 1\nC2 C 0.15 0.1 0.1 0.5 A 2\nN1 N 0.4 0.4 0.3 1 . ."
    structure = read_cif(
        cif(
            tmp_path,
            sites,
            symmetry="_symmetry_space_group_name_H-M 'P -1'",
            columns=columns,
            cell=(9, 9, 9, 90, 90, 90),
        )
    )
    disorder, group = structure.disorder, structure.disorder_group
    assert disorder is not None
    assert group is not None
    # Each site has two images, x and −x. One image of the assembly is one draw.
    by_image = {number: sorted(structure.symbols[disorder == number]) for number in set(disorder.tolist()) - {-1}}
    assert sorted(by_image.values()) == [["C", "C", "O"], ["C", "C", "O"]]
    for number in by_image:
        members = np.flatnonzero(disorder == number)
        oxygen = next(i for i in members if structure.symbols[i] == "O")
        carbon = next(i for i in members if group[i] == group[oxygen] and i != oxygen)
        assert np.linalg.norm(structure.positions[oxygen] - structure.positions[carbon]) < 1.5
    assert (disorder[structure.symbols == "N"] == -1).all()


# Displacements


def test_b_and_u_are_the_same_quantity(tmp_path):
    columns = "label type_symbol fract_x fract_y fract_z {}_iso_or_equiv"
    b = read_cif(cif(tmp_path, "Sr1 Sr 0 0 0 0.62(3)\nO1 O 0.5 0 0 .", columns=columns.format("B")))
    u = read_cif(cif(tmp_path, f"Sr1 Sr 0 0 0 {0.62 / B_PER_U}\nO1 O 0.5 0 0 ?", columns=columns.format("U")))
    assert b.u_iso is not None
    assert u.u_iso is not None
    np.testing.assert_allclose(b.u_iso, u.u_iso)
    assert b.u_iso[0] == pytest.approx(0.00785, abs=1e-5)
    assert np.isnan(b.u_iso[1])
    assert b.revision == 2


ANISO = "loop_\n_atom_site_aniso_label\n" + "".join(
    f"_atom_site_aniso_{{0}}_{pair}\n" for pair in ("11", "22", "33", "12", "13", "23")
)


def test_anisotropic_u_of_a_right_angled_cell_is_cartesian_as_it_stands(tmp_path):
    more = ANISO.format("U") + "Sr1 0.01 0.02 0.03 0.001 0.002 0.003"
    u = read_cif(cif(tmp_path, "Sr1 Sr 0 0 0", more=more, cell=(4, 5, 6, 90, 90, 90))).u_aniso
    assert u is not None
    np.testing.assert_allclose(u[0], [[0.01, 0.001, 0.002], [0.001, 0.02, 0.003], [0.002, 0.003, 0.03]])


def test_isotropic_tensor_of_a_hexagonal_cell_has_half_of_u_off_its_diagonal(tmp_path):
    # U_ij = U a*_i · a*_j / (a*_i a*_j): cos γ* = ½ of a hexagonal cell.
    more = ANISO.format("U") + "Mg1 0.02 0.02 0.02 0.01 0 0"
    u = read_cif(cif(tmp_path, "Mg1 Mg 0 0 0", more=more, cell=(3.2, 3.2, 5.2, 90, 90, 120))).u_aniso
    assert u is not None
    np.testing.assert_allclose(u[0], 0.02 * np.eye(3), atol=1e-12)


@pytest.mark.parametrize("kind", ["B", "beta"])
def test_b_and_beta_tensors_are_those_of_u(tmp_path, kind):
    import gemmi

    parameters = (4.0, 5.0, 6.0, 80, 95, 105)
    six = np.array([0.010, 0.020, 0.015, 0.002, -0.001, 0.003])
    reciprocal = gemmi.UnitCell(*parameters).reciprocal()
    stars = np.array([reciprocal.a, reciprocal.b, reciprocal.c])
    factor = {
        "B": np.full(6, 8 * np.pi**2),
        "beta": 2 * np.pi**2 * stars[[0, 1, 2, 0, 0, 1]] * stars[[0, 1, 2, 1, 2, 2]],
    }
    expected = read_cif(
        cif(tmp_path, "C1 C 0 0 0", more=ANISO.format("U") + "C1 " + " ".join(map(repr, six.tolist())), cell=parameters)
    )
    text = " ".join(repr(value) for value in (six * factor[kind]).tolist())
    found = read_cif(cif(tmp_path, "C1 C 0 0 0", more=ANISO.format(kind) + "C1 " + text, cell=parameters))
    assert found.u_aniso is not None
    assert expected.u_aniso is not None
    np.testing.assert_allclose(found.u_aniso, expected.u_aniso, rtol=1e-12)
    # gemmi's own conversion is independent of ours.
    site = gemmi.make_small_structure_from_block(
        gemmi.cif.read_file(str(tmp_path / "a.cif"))[0]
    ).sites[0] if kind == "B" else None  # fmt: skip
    assert site is None or site.label == "C1"


def test_images_turn_their_tensors(tmp_path):
    more = ANISO.format("U") + "O1 0.01 0.02 0.03 0 0 0"
    symmetry = "_symmetry_space_group_name_H-M 'P 4'"
    structure = read_cif(cif(tmp_path, "O1 O 0.1 0.2 0", symmetry=symmetry, more=more))
    assert structure.u_aniso is not None
    assert len(structure.u_aniso) == 4
    diagonals = sorted(tuple(np.round(np.diag(u), 9)) for u in structure.u_aniso)
    assert diagonals == [(0.01, 0.02, 0.03)] * 2 + [(0.02, 0.01, 0.03)] * 2
    assert structure.u_iso is not None
    np.testing.assert_allclose(structure.u_iso, 0.02)


def test_tensors_of_a_cubic_orbit_follow_the_bond(tmp_path):
    # O of SrTiO3 moves least towards its two Ti neighbours, whichever edge they lie on.
    more = ANISO.format("U") + "O1 0.01 0.01 0.004 0 0 0"
    structure = read_cif(cif(tmp_path, PEROVSKITE, symmetry="_symmetry_Int_Tables_number 221", more=more))
    assert structure.u_aniso is not None
    for position, u in zip(structure.positions, structure.u_aniso, strict=True):
        if np.isfinite(u).all():
            bond = np.flatnonzero(np.abs(position) < 1e-9)
            assert len(bond) == 1
            assert u[bond[0], bond[0]] == pytest.approx(0.004)


# Files


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "latin-1"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_encodings_and_ends_of_lines(tmp_path, encoding, end):
    file = cif(tmp_path, PEROVSKITE, symmetry="_journal_name 'Zeitschrift für Kristallographie'", encoding="utf-8")
    text = file.read_text()
    file.write_bytes(text.replace("\n", end).encode(encoding))
    assert len(read_cif(file).symbols) == 3


def test_several_structures_are_refused_with_their_names(tmp_path):
    text = cif(tmp_path, PEROVSKITE).read_text()
    file = tmp_path / "two.cif"
    file.write_text(text + text.replace("data_x", "data_y").replace("Sr1 Sr", "Ba1 Ba"))
    refusal(file, "2 structures", "data_x", "data_y", "file of its own")


def test_blocks_without_a_structure_do_not_matter(tmp_path):
    text = cif(tmp_path, PEROVSKITE).read_text()
    file = tmp_path / "two.cif"
    file.write_text("data_global\n_journal_year 2001\n" + text + text.replace("data_x", "data_again"))
    assert len(read_cif(file).symbols) == 3


def test_macromolecular_names_are_read(tmp_path):
    file = tmp_path / "a.cif"
    file.write_text(
        "data_1\n" + "".join(f"_cell.length_{e} 10.0\n" for e in "abc")
        + "".join(f"_cell.angle_{e} 90.0\n" for e in ("alpha", "beta", "gamma"))
        + "_symmetry.space_group_name_H-M 'P 21 21 21'\nloop_\n_atom_site.id\n_atom_site.type_symbol\n"
        "_atom_site.label_atom_id\n_atom_site.label_alt_id\n_atom_site.Cartn_x\n_atom_site.Cartn_y\n"
        "_atom_site.Cartn_z\n_atom_site.occupancy\n_atom_site.B_iso_or_equiv\n_atom_site.pdbx_PDB_model_num\n"
        "1 C CA . 1.0 2.0 3.0 1.0 20.0 1\n2 O O A 3.0 2.0 3.0 0.5 30.0 1\n3 O O B 3.3 2.0 3.0 0.5 30.0 1\n"
        "4 C CA . 1.1 2.0 3.0 1.0 20.0 2\n"
    )  # fmt: skip
    structure = read_cif(file)
    assert len(structure.symbols) == 12
    assert structure.format == "mmcif"
    assert structure.u_iso is not None
    assert structure.u_iso[0] == pytest.approx(20 / B_PER_U)
    assert structure.disorder is not None
    assert any("2 models" in note for note in structure.notes)


@pytest.mark.parametrize("name", ["srtio3.cif", "examples/mos2.cif"])
def test_what_ase_reads_right_keeps_its_bits(name):
    import ase.io

    file = Path(__file__).parents[3] / "config" / name
    structure, atoms = read_cif(file), ase.io.read(file)
    assert structure.symbols.tolist() == atoms.get_chemical_symbols()
    np.testing.assert_array_equal(structure.positions, atoms.positions)
    np.testing.assert_array_equal(structure.cell, atoms.cell[:])
    assert structure.revision == 1


@pytest.mark.parametrize("number", [2, 14, 62, 139, 166, 186, 194, 216, 221, 225, 227])
def test_order_and_bits_of_a_group_by_number_are_those_of_ase(tmp_path, number):
    import ase.io

    cells = {
        2: (5, 6, 7, 80, 95, 105),
        14: (5, 6, 7, 90, 101, 90),
        62: (5, 6, 7, 90, 90, 90),
        139: (4, 4, 9, 90, 90, 90),
    }
    cell = cells.get(number, (4, 4, 9, 90, 90, 120) if number < 195 else (6, 6, 6, 90, 90, 90))
    name = {227: "_exptl_crystal_density_diffrn 0"}.get(number, "")
    symbol = "F d -3 m:1" if number == 227 else ""
    symmetry = f"_symmetry_Int_Tables_number {number}\n{name}"
    if symbol:
        symmetry += f"\n_symmetry_space_group_name_H-M '{symbol}'"
    file = cif(tmp_path, "Si1 Si 0.0723 0.1861 0.3456\nO1 O 0 0 0", symmetry=symmetry, cell=cell)
    structure, atoms = read_cif(file), ase.io.read(file)
    assert structure.symbols.tolist() == atoms.get_chemical_symbols()
    np.testing.assert_array_equal(structure.positions, atoms.positions)
    assert structure.revision == 1
