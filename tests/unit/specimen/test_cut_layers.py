"""Layers that a face of the cell cuts: they are kept together or named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from stemphony.specimen.cut_layers import begun, cut
from stemphony.specimen.specimen import Specimen
from stemphony.specimen.structures import read_snapshots, read_specimen

HALF = 0.078 * 20.0  # Å between the planes of molybdenum and sulphur
HEXAGONAL = [3.16, 3.16, 20.0, 90, 90, 120]


def mos2(folder: Path, middle: float, name: str = "mos2.cif") -> Path:
    """One layer of MoS2 with its molybdenum at this fraction of c."""
    from ase import Atoms

    places = [(1 / 3, 2 / 3, middle), (2 / 3, 1 / 3, middle + 0.078), (2 / 3, 1 / 3, middle - 0.078)]
    file = folder / name
    Atoms("MoS2", scaled_positions=places, cell=HEXAGONAL, pbc=True).write(file)
    return file


def thickness(specimen: Specimen) -> float:
    return float(np.ptp(specimen.positions[:, 2]))


def notes(specimen: Specimen) -> str:
    return " | ".join(specimen.notes)


@pytest.mark.parametrize(
    "build",
    [{"zone_axis": [0, 0, 1]}, {"zone_axis": [0, 0, 1], "up": [1, 0, 0]}, {"zone_axis": [0, 0, -1]},
     {"supercell": [[1, 0, 0], [1, 2, 0], [0, 0, 1]]}, {"zone_axis": [0, 0, 1], "repeat": (1, 1, 3)}],
)  # fmt: skip
def test_a_layer_across_the_face_of_the_cell_stays_whole(tmp_path, build):
    specimen = read_specimen(mos2(tmp_path, 0.0), **build)
    repeat = build.get("repeat", (1, 1, 1))[2]
    assert thickness(specimen) == pytest.approx(2 * HALF + 20.0 * (repeat - 1))
    sulphur = np.unique(specimen.positions[specimen.symbols == "S", 2].round(9))
    assert sulphur[:2] == pytest.approx([0.0, 2 * HALF])
    assert specimen.positions[specimen.symbols == "Mo", 2].min() == pytest.approx(HALF)
    assert "the layer is kept together" in notes(specimen)
    assert specimen.revision == 2


def test_a_bilayer_whose_gap_lies_on_the_face_stays_whole(tmp_path):
    from ase import Atoms

    file = tmp_path / "bilayer.vasp"
    places = [(0, 0, 1.7), (0, 1.42, 1.7), (0, 0, 18.3), (0, 1.42, 18.3)]
    Atoms("C4", positions=places, cell=[2.46, 4.26, 20.0], pbc=True).write(file)
    assert thickness(read_specimen(file)) == pytest.approx(3.4)


@pytest.mark.parametrize("middle", [0.3, 0.5, 0.9])
def test_a_layer_inside_the_cell_keeps_its_place_and_its_digest(tmp_path, middle):
    specimen = read_specimen(mos2(tmp_path, middle), supercell=[[1, 0, 0], [1, 2, 0], [0, 0, 1]])
    assert sorted(set(specimen.positions[:, 2].round(6))) == pytest.approx(
        [20 * middle - HALF, 20 * middle, 20 * middle + HALF]
    )
    assert specimen.revision == 1
    assert "together" not in notes(specimen)


def test_a_termination_that_cuts_the_layer_is_obeyed(tmp_path):
    specimen = read_specimen(mos2(tmp_path, 0.0), zone_axis=[0, 0, 1], termination=0.0)
    assert thickness(specimen) == pytest.approx(20.0 - HALF)
    assert "together" not in notes(specimen)


@pytest.mark.parametrize("pbc", ["T T F", "T T T"])
def test_a_file_that_is_not_periodic_along_the_beam_is_left_and_named(tmp_path, pbc):
    file = tmp_path / "two.xyz"
    rows = ["C 0 0 1.0", "C 1.5 0 1.0", "C 0 0 19.0", "C 1.5 0 19.0"]
    file.write_text(
        f'4\nLattice="4 0 0 0 4 0 0 0 20" Properties=species:S:1:pos:R:3 pbc="{pbc}"\n' + "\n".join(rows) + "\n"
    )
    specimen = read_specimen(file)
    if pbc == "T T F":
        assert thickness(specimen) == pytest.approx(18.0)
        assert "`specimen.termination: 0.50` keeps it together" in notes(specimen)
        assert specimen.revision == 1
        assert thickness(read_specimen(file, termination=0.5)) == pytest.approx(2.0)
    else:
        assert thickness(specimen) == pytest.approx(2.0)


def test_files_of_simulations_keep_their_heights(tmp_path):
    file = tmp_path / "prismatic.xyz"
    file.write_text("two layers\n4 4 20\n6 0 0 1 1 0.1\n6 0 0 19 1 0.1\n-1\n")
    specimen = read_specimen(file)
    assert specimen.positions[:, 2] == pytest.approx([1.0, 19.0])
    assert "keeps it together" in notes(specimen)


@pytest.mark.parametrize(("third", "two_thirds"), [("0.333", "0.667"), ("0.3333", "0.6667"), ("0.333333", "0.666667")])
def test_rounded_fractions_do_not_split_the_first_plane(tmp_path, third, two_thirds):
    file = tmp_path / "mos2.cif"
    cell = zip(("length_a", "length_b", "length_c", "angle_alpha", "angle_beta", "angle_gamma"), HEXAGONAL, strict=True)
    loop = "loop_\n" + "\n".join(f"_atom_site_{name}" for name in ("label", "fract_x", "fract_y", "fract_z"))
    sites = f"Mo1 {third} {two_thirds} 0.5\nS1 {two_thirds} {third} 0.578\nS2 {two_thirds} {third} 0.422"
    file.write_text("data_a\n" + "\n".join(f"_cell_{name} {value}" for name, value in cell) + f"\n{loop}\n{sites}\n")
    for zone in ([1, 0, 0], [0, 1, 0], [1, 1, 0], [1, -1, 0]):
        specimen = read_specimen(file, zone_axis=zone)
        at_entrance = (specimen.positions[:, 2] < 0.05).any()
        assert not (at_entrance and (specimen.positions[:, 2] > specimen.cell[2] - 0.05).any())


def test_snapshots_follow_a_layer_that_was_kept_together(tmp_path):
    from ase import Atoms

    rest = Atoms("C2", positions=[(0, 0, 0.7), (0, 0, 19.4)], cell=[4.0, 4.0, 20.0], pbc=True)
    moved = rest.copy()
    moved.positions[:, 2] = [0.8, 0.1]  # the second atom has crossed the face
    file = tmp_path / "run.xyz"
    from ase.io import write

    write(file, [rest, moved], format="extxyz")
    specimen = read_specimen(file)
    assert specimen.positions[:, 2] == pytest.approx([1.3, 0.0])
    frames = read_snapshots(file, specimen)
    assert frames[0] == pytest.approx(specimen.positions)
    assert frames[1][:, 2] == pytest.approx([1.4, 0.7])


def test_vacuum_inside_a_particle_is_named(tmp_path):
    from ase import Atoms

    file = tmp_path / "pair.cif"
    Atoms("Au2", positions=[(0.5, 1, 1), (19.0, 1, 1)], cell=[20.0, 4.0, 4.0], pbc=True).write(file)
    torn = read_specimen(file, vacuum_angstrom=(10.0, 0.0, 0.0))
    assert "a particle or a layer may be torn" in notes(torn)
    whole = read_specimen(file, vacuum_angstrom=(10.0, 0.0, 0.0), origin=[0.5, 0.0, 0.0])
    assert "torn" not in notes(whole)
    assert np.ptp(whole.positions[:, 0]) == pytest.approx(1.5)
    assert "torn" not in notes(read_specimen(file))  # the cell is periodic: its neighbour lies beside it


def test_atoms_outside_beside_vacuum_are_named(tmp_path):
    file = tmp_path / "a.xyz"
    file.write_text('2\nLattice="8 0 0 0 8 0 0 0 8" Properties=species:S:1:pos:R:3\nC -0.5 1 1\nC 0.9 1 1\n')
    specimen = read_specimen(file, vacuum_angstrom=(6.0, 0.0, 0.0))
    assert "1 atom lies outside the cell along x: it stays beside its neighbours" in notes(specimen)
    assert specimen.positions[0, 0] == pytest.approx(13.5)


@pytest.mark.parametrize(
    ("heights", "start"),
    [([0.0, 1.0, 9.5], 9.5), ([1.9, 8.1], 8.1), ([0.0, 2.0, 4.0, 6.0, 8.0], None), ([5.0], None), ([1.0, 2.0], None),
     ([2.5, 7.4], None)],
)  # fmt: skip
def test_a_cut_is_between_near_atoms_beside_an_empty_part(heights, start):
    found = cut(np.array(heights), 10.0)
    assert (None if found is None else found.start) == start
    if found is not None:
        whole = begun(np.array(heights), 10.0, found.start)
        assert whole.min() == 0.0
        assert np.ptp(whole) == pytest.approx(10.0 - found.empty)
