"""POSCAR files: what each line means, and the line that a refusal names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from stemphony.specimen.formats import read_frames, read_structure
from support.structure_files import refusal, written

A = 3.905
"""Lattice parameter of strontium titanate [Å]."""


def poscar(folder: Path, **lines: str) -> Path:
    parts = {
        "title": "STO", "scale": "1.0", "cell": f"{A} 0 0\n0 {A} 0\n0 0 {A}", "names": "Sr Ti O", "counts": "1 1 3",
        "mode": "Direct", "rows": "0 0 0\n.5 .5 .5\n.5 .5 0\n.5 0 .5\n0 .5 .5",
    }  # fmt: skip
    parts.update(lines)
    return written(folder, "POSCAR", "\n".join(part for part in parts.values() if part) + "\n")


@pytest.mark.parametrize(
    "names", ["Sr Ti O", "Sr_sv Ti_pv O", "Sr/3ba5b3e8 Ti/1234abcd O/deadbeef", "Sr_sv/3ba5 Ti_sv_GW O_s_GW", "SR TI O",
              "Sr:PAW_PBE:07Sep2000 Ti O", "Sr  Ti\tO  "],
)  # fmt: skip
def test_names_of_potentials_give_their_elements(tmp_path, names):
    assert read_structure(poscar(tmp_path, names=names)).symbols.tolist() == ["Sr", "Ti", "O", "O", "O"]


@pytest.mark.parametrize("title", ["Sr Ti O", "Sr1 Ti1 O3", "SrTiO3", "Sr_sv Ti_pv O", "Sr  Ti  O"])
def test_title_names_the_elements_of_vasp_4(tmp_path, title):
    structure = read_structure(poscar(tmp_path, title=title, names=""))
    assert structure.symbols.tolist() == ["Sr", "Ti", "O", "O", "O"]
    assert "title" in "\n".join(structure.notes)


@pytest.mark.parametrize("title", ["strontium titanate", "unknown", "Sr Ti", "POSCAR file", "In Ga As P"])
def test_title_that_names_no_elements_is_refused(tmp_path, title):
    refusal(poscar(tmp_path, title=title, names=""), "VASP 4", "Add a line with the elements")


@pytest.mark.parametrize("mode", ["Direct", "direct", "D", "Selective dynamics\nDirect", "s\nd"])
def test_direct_coordinates_are_fractions_of_the_cell(tmp_path, mode):
    rows = "0 0 0 T T F\n.5 .5 .5 F F F\n.5 .5 0 T T T\n.5 0 .5 T T T\n0 .5 .5 T T T"
    structure = read_structure(poscar(tmp_path, mode=mode, rows=rows))
    np.testing.assert_allclose(structure.positions[1], A / 2)


@pytest.mark.parametrize("mode", ["Cartesian", "K", "cart", "Selective\nCartesian"])
def test_cartesian_coordinates_are_scaled(tmp_path, mode):
    cell = "1 0 0\n0 1 0\n0 0 1"
    structure = read_structure(poscar(tmp_path, mode=mode, scale=str(A), cell=cell))
    np.testing.assert_allclose(structure.positions[1], A / 2)
    np.testing.assert_allclose(structure.cell, A * np.eye(3))


def test_negative_scale_is_the_volume(tmp_path):
    structure = read_structure(poscar(tmp_path, scale=str(-(A**3)), cell="2 0 0\n0 2 0\n0 0 2"))
    np.testing.assert_allclose(structure.cell, A * np.eye(3))


def test_exponents_of_fortran_are_read_and_comments_are_skipped(tmp_path):
    plain = read_structure(poscar(tmp_path))
    cell = f"{A}D0 0 0\n0 {A}D+00 0\n0 0 {A / 10!r}d1"
    rows = "0 0 0\n5.0D-1 5.0d-01 .5\n.5 .5 0\n.5 0 .5\n0 .5 .5"
    parts = {"scale": "1.0D0 ! a", "names": "Sr Ti O ! b", "counts": "1 1 3 # c", "mode": "Direct ! d"}
    other = read_structure(poscar(tmp_path, cell=cell, rows=rows, **parts))
    np.testing.assert_allclose(other.positions, plain.positions, atol=1e-12)
    assert other.symbols.tolist() == plain.symbols.tolist()


def test_charged_names_are_elements_and_superscripts_are_no_counts(tmp_path):
    assert read_structure(poscar(tmp_path, names="Sr2+ Ti4+ O2-")).symbols.tolist() == ["Sr", "Ti", "O", "O", "O"]
    refusal(poscar(tmp_path, counts="1 1 \u00b2"), "line 7", "whole numbers")
    refusal(poscar(tmp_path, scale="-1 -1 -1"), "line 2", "positive")


def test_trajectory_of_vasp_is_not_taken_for_its_first_frame(tmp_path):
    frame = "Direct configuration= {}\n0 0 0\n.5 .5 .5\n"
    text = f"CsCl\n1\n4 0 0\n0 4 0\n0 0 4\nCs Cl\n1 1\n{frame.format(1)}{frame.format(2)}"
    file = written(tmp_path, "XDATCAR", text)
    assert "several frames" in "\n".join(read_structure(file).notes)
    assert len(list(read_frames(file))) == 2
    refusal(written(tmp_path, "md.vasp", text), "line 8", "XDATCAR")


def test_three_scales_multiply_the_axes(tmp_path):
    structure = read_structure(poscar(tmp_path, scale=f"{A} {A} {2 * A}", cell="1 0 0\n0 1 0\n0 0 1"))
    np.testing.assert_allclose(np.diag(structure.cell), [A, A, 2 * A])


def test_velocities_behind_the_atoms_do_not_matter(tmp_path):
    rows = "0 0 0\n.5 .5 .5\n.5 .5 0\n.5 0 .5\n0 .5 .5\n\n0 0 0\n0 0 0\n0 0 0\n0 0 0\n0 0 0"
    assert len(read_structure(poscar(tmp_path, rows=rows)).symbols) == 5


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ({"rows": "0 0 0\n.5 .5 .5"}, ("ends after line 10", "truncated")),
        ({"names": "Sr Qq O"}, ("'Qq'", "periodic table")),
        ({"scale": "one"}, ("line 2", "scale")),
        ({"scale": "0"}, ("line 2", "scale")),
        ({"counts": "1 1"}, ("line", "numbers")),
        ({"mode": "Fractional?"}, ("Direct or Cartesian",)),
        ({"rows": "0 0 zero\n0 0 0\n0 0 0\n0 0 0\n0 0 0"}, ("line 9", "coordinates of atom 0")),
    ],
)
def test_damaged_poscar_names_its_line(tmp_path, change, parts):
    refusal(poscar(tmp_path, **change), *parts)
