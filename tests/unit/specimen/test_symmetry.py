"""Symmetry operations of specimens as slabs: they keep the depth of each atom."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from stemphony.physics.plane_symmetry import UNITY
from stemphony.specimen import symmetry
from stemphony.specimen.specimen import Specimen
from stemphony.specimen.structures import read_specimen
from stemphony.specimen.symmetry import slab_operations
from support.specimens import A, aluminium, srtio3

EXAMPLES = Path(__file__).parents[3] / "config"


def found(specimen: Specimen, gpts: tuple[int, int], dz: float = A / 2, is_displaced: bool = True) -> symmetry.Found:
    slices = np.floor(specimen.positions[:, 2] / dz + 0.5).astype(int)
    return slab_operations(specimen, slices, gpts, is_displaced)


def count(specimen: Specimen, gpts: tuple[int, int], points: tuple[int, int], cells: tuple[int, int]) -> int:
    """Distinct positions of a window that starts at the corner and is one of so many cells."""
    steps = [np.arange(n) / n * g / c for n, g, c in zip(points, gpts, cells, strict=True)]
    places = np.stack(np.meshgrid(*steps, indexing="ij"), axis=-1).reshape(-1, 2)
    return len(found(specimen, gpts).group.orbits(places).computed)


def silicon(file: Path) -> Specimen:
    file.write_text(
        "Si\n5.431\n1 0 0\n0 1 0\n0 0 1\nSi\n8\nDirect\n0 0 0\n.5 .5 0\n.5 0 .5\n0 .5 .5\n"
        ".25 .25 .25\n.75 .75 .25\n.75 .25 .75\n.25 .75 .75\n"
    )
    return read_specimen(file, zone_axis=[1, 1, 0], up=[0, 0, 1], repeat=[3, 2, 1], u_iso_angstrom2={"Si": 0.006})


def test_distinct_positions_of_strontium_titanate_are_an_eighth_of_a_cell_with_its_edges():
    assert count(srtio3((3, 3, 1)), (192, 192), (16, 16), (3, 3)) == 45
    assert count(srtio3((3, 3, 1)), (192, 192), (48, 48), (1, 1)) == 45


def test_distinct_positions_of_silicon_along_110_are_counted(tmp_path):
    specimen = silicon(tmp_path / "POSCAR")
    assert count(specimen, (192, 160), (16, 24), (3, 2)) == 109


def test_distinct_positions_of_molybdenite_are_counted():
    specimen = read_specimen(
        EXAMPLES / "examples/mos2.cif", supercell=[[1, 0, 0], [1, 2, 0], [0, 0, 1]], repeat=[4, 2, 1],
        u_iso_angstrom2={"Mo": 0.004, "S": 0.006},
    )  # fmt: skip
    assert count(specimen, (128, 112), (16, 28), (4, 2)) == 126


def test_operations_that_reverse_or_move_z_are_left_out():
    """The fourfold axis of aluminium through an atom needs no z; the body diagonal of the cell does."""
    group = found(aluminium(), (64, 64), dz=2.025).group
    assert group.lattice == ((16, 16), (0, 32))  # (½, ½, 0), not (½, 0, ½)
    assert len(group.operations) == 8


def test_a_slice_that_parts_equal_planes_breaks_nothing_but_one_that_parts_equal_atoms_does():
    specimen = srtio3((2, 2, 2))
    slices = np.floor(specimen.positions[:, 2] / (A / 2) + 0.5).astype(int)
    whole = slab_operations(specimen, slices, (64, 64), True).group
    slices[0] += 1
    parted = slab_operations(specimen, slices, (64, 64), True).group
    assert whole.lattice == ((32, 0), (0, 32))
    assert parted.lattice == ((64, 0), (0, 64))


@pytest.mark.parametrize("change", ["element", "place", "u", "tensor"])
def test_one_different_atom_is_enough(change):
    specimen = srtio3((2, 2, 2))
    symbols, positions, u = specimen.symbols.copy(), specimen.positions.copy(), specimen.u_iso.copy()
    tensor = np.full((len(u), 3, 3), np.nan)
    # On a general position, so that only the identity keeps it.
    number = int(np.flatnonzero(specimen.symbols == "O")[0])
    symbols[number] = "S" if change == "element" else "O"
    positions[number, 0] += 0.05 if change == "place" else 0.0
    u[number] += 0.002 if change == "u" else 0.0
    if change == "tensor":
        tensor[number] = [[0.02, 0.003, 0.0], [0.003, 0.01, 0.0], [0.0, 0.0, 0.01]]
    other = replace(specimen, symbols=symbols, positions=positions, u_iso=u, u_aniso=tensor)
    group = found(other, (64, 64)).group
    assert group.lattice == ((64, 0), (0, 64))
    # The oxygen lies on a fourfold axis; its move, and the axes of its tensor, leave one mirror and a twofold axis.
    operations = {"element": 8, "u": 8, "place": 2, "tensor": 2}[change]
    assert len(group.operations) == operations
    if change in ("u", "tensor"):
        at_rest = found(other, (64, 64), is_displaced=False).group
        assert at_rest.lattice == ((32, 0), (0, 32))


def test_tensors_of_displacement_turn_with_the_operation():
    """O on the faces of the cell moves most within its face; the tensors of two faces differ by a quarter turn."""
    specimen = srtio3((2, 2, 1))
    place = np.mod(specimen.positions / A + 1e-9, 1.0)
    tensor = np.full((len(place), 3, 3), np.nan)
    for number, (x, y, _) in enumerate(place):
        if specimen.symbols[number] == "O" and x < 0.1:
            tensor[number] = np.diag([0.004, 0.012, 0.012])
        elif specimen.symbols[number] == "O" and y < 0.1:
            tensor[number] = np.diag([0.012, 0.004, 0.012])
    whole = found(replace(specimen, u_aniso=tensor), (64, 64)).group
    assert len(whole.operations) == 8
    alike = np.where(np.isnan(tensor), tensor, np.diag([0.004, 0.012, 0.012]))
    assert len(found(replace(specimen, u_aniso=alike), (64, 64)).group.operations) == 4


def test_a_file_of_four_digits_has_the_symmetry_of_the_crystal():
    specimen = srtio3((2, 2, 1))
    rounded = replace(specimen, positions=np.round(specimen.positions + 0.00003, 4))
    assert found(rounded, (64, 64)).group == found(specimen, (64, 64)).group


@pytest.mark.parametrize("shift", [(0.3, 0.0), (A / 64, 5 * A / 64), (-1e-12, 2 * A - 1e-12)])
def test_the_corner_of_the_cell_is_arbitrary_on_grid_points(shift):
    specimen = srtio3((2, 2, 1))
    moved = replace(specimen, positions=specimen.positions + np.array([*shift, 0.0]))
    group = found(moved, (128, 128)).group
    assert group.lattice == ((64, 0), (0, 64))
    assert len(group.operations) == (2 if shift[0] == 0.3 else 8)


def test_operations_that_miss_grid_points_are_left_out_and_named():
    specimen = srtio3((3, 3, 1))
    whole, odd = found(specimen, (192, 192)), found(specimen, (128, 128))
    assert (whole.note, whole.group.lattice) == ("", ((64, 0), (0, 64)))
    assert odd.group.lattice == ((128, 0), (0, 128))
    assert odd.note == "64 operations of the crystal miss the points of the grid"
    assert len(found(specimen, (192, 180)).group.operations) == 4


def test_a_cell_that_is_no_square_has_no_quarter_turn():
    group = found(srtio3((2, 3, 1)), (64, 96)).group
    assert group.lattice == ((32, 0), (0, 32))
    assert len(group.operations) == 4


def test_vacuum_beside_the_crystal_leaves_no_translation_but_its_axes():
    specimen = srtio3((2, 2, 1))
    positions = specimen.positions + np.array([A, A, 0.0])
    island = replace(specimen, positions=positions, cell=(4 * A, 4 * A, A))
    group = found(island, (128, 128)).group
    assert group.lattice == ((128, 0), (0, 128))
    # The island of 2 × 2 cells begins with Sr and ends with O, so that only the diagonal is left.
    assert [one.matrix for one in group.operations] == [UNITY, ((0, 1), (1, 0))]


def test_a_large_cell_keeps_its_translations_and_says_what_was_not_searched(monkeypatch):
    monkeypatch.setattr(symmetry, "MOST_SITES", 4)
    made = found(srtio3((2, 2, 1)), (64, 64))
    assert made.note == "the cell that repeats has 5 atoms; only translations were searched"
    assert made.group.lattice == ((32, 0), (0, 32))
    assert len(made.group.operations) == 1


def test_atoms_on_each_other_and_no_atoms_have_no_symmetry_found():
    specimen = srtio3((1, 1, 1))
    double = replace(
        specimen,
        symbols=np.concatenate([specimen.symbols, specimen.symbols[:1]]),
        positions=np.concatenate([specimen.positions, specimen.positions[:1] + 1e-5]),
        u_iso=np.concatenate([specimen.u_iso, specimen.u_iso[:1]]),
    )
    assert found(double, (32, 32)).group.lattice == ((32, 0), (0, 32))
    empty = Specimen(np.array([], dtype=str), np.empty((0, 3)), (4.0, 4.0, 4.0), np.empty(0), None, "ase")
    assert len(slab_operations(empty, np.empty(0, dtype=int), (32, 32), True).group.operations) == 1
