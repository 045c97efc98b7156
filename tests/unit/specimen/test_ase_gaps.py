"""Files whose symmetry, occupancies or elements ASE's readers ignore or guess, and files that they cannot read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from stemphony.errors import SpecimenError
from stemphony.specimen.formats import read_frames, read_structure

SHELX = "TITL x -1 2 0\nCELL 0.71 4 4 4 90 90 90\n{latt}SFAC Cs Cl\nCs 1 0 0 0 {occ}\nCl 2 0.5 0.5 0.5 1.0\nEND\n"
GRO = "t\n2\n    1RES  {:>5}    1   0.000   0.000   0.000\n    1RES  {:>5}    2   0.200   0.200   0.200\n 0.4 0.4 0.4\n"
EXTENDED = '2\nLattice="4 0 0 0 4 0 0 0 4" Properties=species:S:1:pos:R:3\nCs 0 0 0\nCl 2.0 2.0 2.0\n'
XSD = (
    '<XSD><AtomisticTreeRoot><SymmetrySystem><MappingSet><MappingFamily><IdentityMapping><Atom3d Components="Cs" '
    'XYZ="0,0,0"/><SpaceGroup GroupName="{}" AVector="4,0,0" BVector="0,4,0" CVector="0,0,4"/></IdentityMapping>'
    "</MappingFamily></MappingSet></SymmetrySystem></AtomisticTreeRoot></XSD>"
)
CAR = (
    "!BIOSYM archive 3\nPBC=ON\ntitle\n!DATE\nPBC 4.0 4.0 4.0 90.0 90.0 90.0 ({})\n"
    "Cs1 0.0 0.0 0.0 XXXX 1 xx Cs 0.000\nend\nend\n"
)


def written(folder: Path, name: str, text: str, encoding: str = "utf-8") -> Path:
    file = folder / name
    file.write_bytes(text.encode(encoding))
    return file


def refusal(file: Path, *parts: str) -> None:
    with pytest.raises(SpecimenError) as caught:
        read_structure(file)
    for part in parts:
        assert part in str(caught.value), str(caught.value)


def test_shelx_file_of_all_atoms_is_read(tmp_path):
    structure = read_structure(written(tmp_path, "a.res", SHELX.format(latt="LATT -1\n", occ="1.0")))
    assert structure.symbols.tolist() == ["Cs", "Cl"]


@pytest.mark.parametrize(
    "latt", ["", "LATT 1\n", "LATT 4\nSYMM -x,-y,z\n", "LATT -1\nSYMM -x,-y,z\n", "LATT -1\nFVAR 1.0\n"]
)
def test_shelx_file_with_symmetry_is_refused(tmp_path, latt):
    refusal(written(tmp_path, "a.res", SHELX.format(latt=latt, occ="1.0")), "SHELXL", "CIF")


@pytest.mark.parametrize(
    ("old", "new"), [("0 0 0 1.0", "0 0 0 0.5"), ("0.5 0.5 0.5", "0.5 0.5 5.0E-01"), (" 1.0\nCl", "\nCl")]
)
def test_line_of_a_shelx_file_that_would_be_lost_is_refused(tmp_path, old, new):
    text = SHELX.format(latt="LATT -1\n", occ="1.0")
    assert old in text
    refusal(written(tmp_path, "a.res", text.replace(old, new)), "line ")


@pytest.mark.parametrize("names", [("CS", "CL"), ("CA", "HG"), ("NA", "O"), ("CO", "O")])
def test_names_of_gromacs_that_may_be_two_elements_are_refused(tmp_path, names):
    refusal(written(tmp_path, "a.gro", GRO.format(*names)), "has no elements", " may be ", "77 and 78")


def test_names_of_gromacs_without_doubt_are_noted(tmp_path):
    structure = read_structure(written(tmp_path, "a.gro", GRO.format("OW", "HW1")))
    assert structure.symbols.tolist() == ["O", "H"]
    assert "OW is O, HW1 is H" in "\n".join(structure.notes)


def test_several_frames_of_gromacs_are_refused(tmp_path):
    refusal(written(tmp_path, "a.gro", 2 * GRO.format("OW", "HW1")), "announces 2 atoms", "several frames")


@pytest.mark.parametrize("group", ["P1", "P 1"])
def test_archives_of_all_atoms_are_read(tmp_path, group):
    assert read_structure(written(tmp_path, "a.xsd", XSD.format(group))).symbols.tolist() == ["Cs"]
    assert read_structure(written(tmp_path, "a.car", CAR.format(group))).symbols.tolist() == ["Cs"]


def test_archives_with_a_space_group_are_refused(tmp_path):
    refusal(written(tmp_path, "a.xsd", XSD.format("FM-3M")), "space group FM-3M", "P1")
    refusal(written(tmp_path, "a.car", CAR.format("FM-3M")), "space group FM-3M", "P1")


def test_corner_of_a_cube_file_is_subtracted(tmp_path):
    """A slab in a cell from -10 to 10 bohr keeps its height above the lower face."""
    text = "t\nc\n1 -10 -10 -10\n1 20 0 0\n1 0 20 0\n1 0 0 20\n55 0 0.0 0.0 1.0\n1.0\n"
    structure = read_structure(written(tmp_path, "a.cube", text))
    np.testing.assert_allclose(structure.positions[0] / 0.529177210544, [10, 10, 11], rtol=1e-6)
    assert "corner" in "\n".join(structure.notes)


@pytest.mark.parametrize("columns", ["species:S:1:frac:R:3", "species:S:1:pos_frac:R:3"])
def test_extended_xyz_without_positions_is_refused(tmp_path, columns):
    text = EXTENDED.replace("species:S:1:pos:R:3", columns)
    refusal(written(tmp_path, "a.xyz", text), "no column pos", "pos:R:3")


@pytest.mark.parametrize("columns", ["type:I:1:pos:R:3", "type:S:1:pos:R:3", "id:I:1:pos:R:3"])
def test_a_file_of_atom_types_learns_which_column_is_missing(tmp_path, columns):
    text = f'1\nLattice="4 0 0 0 4 0 0 0 4" Properties={columns}\n1 0 0 0\n'
    refusal(written(tmp_path, "a.xyz", text), "no column species", "species:S:1")


def test_numbers_of_atom_types_in_the_column_of_species_are_named(tmp_path):
    text = '1\nLattice="4 0 0 0 4 0 0 0 4" Properties=species:S:1:pos:R:3\n1 0 0 0\n'
    refusal(written(tmp_path, "a.xyz", text), "unknown element symbol '1'", "write symbols")


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("\ufeff" + EXTENDED, "utf-8"), (EXTENDED, "utf-16"), (EXTENDED.replace("2.0", "0.2D+01"), "utf-8"),
        (EXTENDED.replace("2.0", "2.d0"), "utf-8"), (EXTENDED.replace("\n", "\r\n"), "utf-8"),
        (EXTENDED.replace("2.0 2.0", "2.0\t2.0"), "utf-8"),
    ],
)  # fmt: skip
def test_extended_xyz_of_windows_and_fortran_is_read(tmp_path, text, encoding):
    file = written(tmp_path, "a.xyz", text, encoding)
    for structure in (read_structure(file), next(read_frames(file))):
        assert structure.symbols.tolist() == ["Cs", "Cl"]
        np.testing.assert_array_equal(structure.positions[1], [2, 2, 2])


def test_castep_mixture_and_wien2k_in_angstrom_are_refused(tmp_path):
    cell = (
        "%BLOCK LATTICE_CART\n4 0 0\n0 4 0\n0 0 4\n%ENDBLOCK LATTICE_CART\n"
        "%BLOCK POSITIONS_FRAC\n{}%ENDBLOCK POSITIONS_FRAC\n"
    )
    assert len(read_structure(written(tmp_path, "a.cell", cell.format("Cs 0 0 0\n"))).symbols) == 1
    refusal(written(tmp_path, "b.cell", cell.format("Cs 0 0 0 MIXTURE:(1 0.5)\n")), "line 7", "mixture")
    struct = (
        "t\nP   LATTICE,NONEQUIV.ATOMS:  1\nMODE OF CALC=RELA unit={}\n"
        "  7.558900  7.558900  7.558900 90.000000 90.000000 90.000000\n"
        "ATOM   1: X=0.00000000 Y=0.00000000 Z=0.00000000\n          MULT= 1          ISPLIT= 2\n"
        "Cs         NPT=  781  R0=0.00001000 RMT=    2.5000   Z: 55.0\n"
    )
    bohr = read_structure(written(tmp_path, "a.struct", struct.format("bohr")))
    assert bohr.cell[0, 0] == pytest.approx(4.0, abs=1e-4)
    refusal(written(tmp_path, "b.struct", struct.format("ang")), "unit=ang")
