"""The comparison of `docs/comparison/structures.md`, on files made here after the patterns of published ones."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[3]
sys.path.insert(0, str(ROOT / "docs/comparison"))

import structures as comparison  # noqa: E402

CELL = "".join(f"_cell_length_{e} {{0}}\n" for e in "abc") + "".join(
    f"_cell_angle_{e} 90\n" for e in ("alpha", "beta", "gamma")
)
SITES = "loop_\n" + "".join(f"_atom_site_{c}\n" for c in ("label", "type_symbol", "fract_x", "fract_y", "fract_z"))
ROCK_SALT = [(0, 0, 0), (0, 0.5, 0.5), (0.5, 0, 0.5), (0.5, 0.5, 0)]


def rock_salt(a: float) -> tuple[list[str], np.ndarray]:
    corner = np.array(ROCK_SALT)
    return ["Na"] * 4 + ["Cl"] * 4, a * np.concatenate([corner, (corner + 0.5) % 1.0])


def made(folder: Path) -> dict[str, str]:
    """Files by name, with what their result must be."""
    a = 5.6402
    symbols, positions = rock_salt(a)
    rows = list(zip(symbols, positions.tolist(), strict=True))
    numbers = {"Na": 11, "Cl": 17}
    texts = {
        "number.cif": f"data_a\n{CELL.format(a)}_space_group_IT_number 225\n_chemical_formula_sum 'Na Cl'\n"
        f"_cell_formula_units_Z 4\n{SITES}Na1 Na1+ 0 0 0\nCl1 Cl1- 0.5 0.5 0.5\n",
        "anisotropic.cif": f"data_a\n{CELL.format(3.905)}_symmetry_space_group_name_H-M 'P m -3 m'\n"
        f"_exptl_crystal_density_diffrn 5.118\n{SITES}Sr1 Sr 0 0 0\nTi1 Ti 0.5 0.5 0.5\nO1 O 0.5 0.5 0\n"
        + "loop_\n_atom_site_aniso_label\n"
        + "".join(f"_atom_site_aniso_U_{p}\n" for p in ("11", "22", "33", "12", "13", "23"))
        + "Sr1 0.008 0.008 0.008 0 0 0\nTi1 0.005 0.005 0.005 0 0 0\nO1 0.012 0.012 0.005 0 0 0\n",
        "mixed.cif": f"data_a\n{CELL.format(4.0)}_space_group_name_Hall '-P 4 2 3'\n"
        f"{SITES}_atom_site_occupancy\nBa1 Ba 0 0 0 0.7\nSr1 Sr 0 0 0 0.3\nTi1 Ti 0.5 0.5 0.5 1\nO1 O 0.5 0.5 0 0.98\n",
        "protein.pdb": "CRYST1   30.000   40.000   50.000  90.00  90.00  90.00 P 21 21 21\n"
        "ATOM      1  CA  GLY A   1       3.000   4.000   5.000  1.00 20.00           C\n"
        "ATOM      2  OXT GLY A   1       5.000   4.000   5.000  0.50 25.00           O\nEND\n",
        "POSCAR": f"NaCl\n{a}\n1 0 0\n0 1 0\n0 0 1\nNa_pv Cl\n4 4\nCartesian\n"
        + "".join(" ".join(f"{v / a:.6f}" for v in p) + "\n" for _, p in rows),
        "box.data": "LAMMPS data file\n\n8 atoms\n2 atom types\n"
        + "".join(f"-1.0 {a - 1.0} {x}lo {x}hi\n" for x in "xyz")
        + "\nMasses\n\n1 22.99\n2 35.45\n\nAtoms # charge\n\n"
        + "".join(
            f"{i} {1 if s == 'Na' else 2} {1 if s == 'Na' else -1} " + " ".join(f"{v - 1:.6f}" for v in p) + " 0 0 1\n"
            for i, (s, p) in enumerate(rows, 1)
        ),
        "run.lammpstrj": "ITEM: TIMESTEP\n0\nITEM: NUMBER OF ATOMS\n8\nITEM: BOX BOUNDS pp pp pp\n"
        + f"-1.0 {a - 1.0}\n" * 3
        + "ITEM: ATOMS id element x y z\n"
        + "".join(f"{i} {s} " + " ".join(f"{v - 1:.6f}" for v in p) + "\n" for i, (s, p) in enumerate(rows, 1)),
        "qstem.cfg": "Number of particles = 8\nA = 1.0 Angstrom\n"
        + "".join(f"H0({i},{j}) = {a if i == j else 0} A\n" for i in (1, 2, 3) for j in (1, 2, 3))
        + ".NO_VELOCITY.\nentry_count = 6\n"
        + "".join(f"23\n{s}\n" + " ".join(f"{v / a:.6f}" for v in p) + " 1.5 1.0 0\n" for s, p in rows),
        "mustem.xtl": f"NaCl\n{a} {a} {a} 90 90 90\n200\n2\nNa\n4 11 1.0 0.019\n"
        + "".join(" ".join(f"{v / a:.6f}" for v in p) + "\n" for s, p in rows if s == "Na")
        + "Cl\n4 17 1.0 0.016\n"
        + "".join(" ".join(f"{v / a:.6f}" for v in p) + "\n" for s, p in rows if s == "Cl"),
        "drprobe.cel": f"# NaCl\n0 {a / 10} {a / 10} {a / 10} 90 90 90\n"
        + "".join(f"{s} " + " ".join(f"{v / a:.6f}" for v in p) + " 1.0 0.015 0 0 0\n" for s, p in rows)
        + "*\n",
        "prismatic.xyz": f"NaCl\n{a} {a} {a}\n"
        + "".join(f"{numbers[s]} " + " ".join(f"{v:.6f}" for v in p) + " 1.0 0.14\n" for s, p in rows)
        + "-1\n",
        "extended.xyz": f'8\nLattice="{a} 0 0 0 {a} 0 0 0 {a}" Properties=species:S:1:pos:R:3\n'
        + "".join(f"{s} " + " ".join(f"{v:.6f}" for v in p) + "\n" for s, p in rows),
        "stemsalabim.xyz": f"8\n{a / 10} {a / 10} {a / 10}\n"
        + "".join(f"{s} " + " ".join(f"{v / 10:.7f}" for v in p) + " 1.9e-4\n" for s, p in rows),
        "keyword.xtl": f"TITLE NaCl\nDIMENSION 3\nCELL\n{a} {a} {a} 90 90 90\nSYMMETRY  NUMBER 1  LABEL P1\n\nATOMS\n"
        "NAME X Y Z CHARGE TEMP OCCUP SCAT\n"
        + "".join(f"{s} " + " ".join(f"{v / a:.6f}" for v in p) + f" 0.0 0.0 1.0 {s.upper()} 0+\n" for s, p in rows)
        + "EOF\n",
        "types.dump": "ITEM: TIMESTEP\n0\nITEM: NUMBER OF ATOMS\n1\nITEM: BOX BOUNDS pp pp pp\n0 5\n0 5\n0 5\n"
        "ITEM: ATOMS id type x y z\n1 1 0 1 2\n",
    }
    for name, text in texts.items():
        (folder / name).write_text(text)
    return texts


@pytest.fixture
def rows(tmp_path):
    made(tmp_path)
    return {row.file: row for row in comparison.rows_of(tmp_path)}


def test_files_of_every_format_agree_with_independent_readers(rows):
    for name, row in rows.items():
        if name != "types.dump":
            assert not row.refused, (name, row.refused)
            assert not row.differences, (name, row.differences)
            assert row.compared, name


def test_rock_salt_has_one_density_in_every_format(rows):
    names = [name for name, row in rows.items() if row.formula in ("Na4 Cl4", "Cl4 Na4")]
    assert len(names) == 11
    for name in names:
        assert rows[name].density == pytest.approx(2.163, abs=0.002), name


def test_file_that_lacks_information_is_refused_with_its_reason(rows):
    assert "which element" in rows["types.dump"].refused


def test_partial_occupancy_and_displacements_are_in_the_table(rows):
    assert rows["mixed.cif"].formula == "Ba0.7 Sr0.3 Ti1 O2.94"
    assert rows["mixed.cif"].occupancy == "5 partial"
    assert float(rows["qstem.cfg"].u) == pytest.approx(1.5 / (8 * np.pi**2), abs=1e-5)
    assert float(rows["drprobe.cel"].u) == pytest.approx(1.5 / (8 * np.pi**2), abs=1e-5)


def test_wrong_reading_would_be_seen(tmp_path, monkeypatch):
    """The comparison fails if the reader loses half of the atoms."""
    made(tmp_path)
    read = comparison.read_structure

    def half(file: Path):
        from dataclasses import replace

        whole = read(file)
        return replace(whole, symbols=whole.symbols[::2], positions=whole.positions[::2], u_iso=None, occupancy=None)

    monkeypatch.setattr(comparison, "read_structure", half)
    assert comparison.compared(tmp_path / "number.cif", "number.cif").differences
    assert comparison.compared(tmp_path / "POSCAR", "POSCAR").differences
    assert comparison.main([str(tmp_path)]) == 1


def test_the_numbers_of_files_on_the_page_are_those_of_its_table():
    page = (ROOT / "docs/comparison/structures.md").read_text(encoding="utf-8")
    table = page.split(comparison.HEADER)[1]
    results = [row.rsplit("|", 2)[1].strip() for row in table.splitlines() if row.startswith("| `")]
    agree, alone = results.count("agrees"), results.count("read, nothing to compare with")
    refused = sum(result.startswith("refused: ") for result in results)
    differ = len(results) - agree - alone - refused
    assert (
        f"Of {len(results)} files, {agree} agree with every reference, {differ} differ from one, {refused} are "
        f"refused, and {alone} has no reference."
    ) in page
