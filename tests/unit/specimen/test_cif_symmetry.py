"""A CIF in P 1 is read without the parts of ASE that take long to import, and exactly as with them."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from stemphony.specimen import cif_symmetry
from stemphony.specimen.cif_block import read_blocks
from support.campaign import REPOSITORY
from support.cif_files import cif_text

SYMBOLS = (
    "", "_space_group_name_H-M_alt 'P 1'", "_symmetry_space_group_name_H-M P1", "_space_group.name_H-M_alt 'P 1'",
    "_space_group_name_H-M_full 'P 1'", "_symmetry_space_group_name_H-M 'P -1'",
    "_symmetry_space_group_name_H-M 'P 1'\n_space_group_name_H-M_alt 'P m -3 m'",
)  # fmt: skip
NUMBERS = ("", "_space_group_IT_number 1", "_symmetry_Int_Tables_number '1'", "_space_group_IT_number 2")
SETTINGS = ("", "_symmetry_space_group_setting 2", "_symmetry_cell_setting triclinic")
OPERATIONS = (
    "", "_symmetry_equiv_pos_as_xyz 'x, y, z'", "loop_\n_space_group_symop_operation_xyz\nX,Y,Z",
    "loop_\n_symmetry_equiv_pos_as_xyz\nx,y,z\n-x,-y,-z",
)  # fmt: skip


@pytest.mark.parametrize("said", list(itertools.product(SYMBOLS, NUMBERS, SETTINGS)))
def test_operations_of_p1_are_those_of_ase(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: tuple[str, ...]):
    for listed in OPERATIONS:
        file = tmp_path / "a.cif"
        file.write_text(cif_text("Sr1 Sr 0 0 0", symmetry="\n".join(text for text in (*said, listed) if text)))
        (block,) = read_blocks(file)
        found = cif_symmetry.ase_operations(block)
        with monkeypatch.context() as patch:
            patch.setattr(cif_symmetry, "_states_p1", lambda block: False)
            expected = cif_symmetry.ase_operations(block)
        assert (found is None) == (expected is None), file.read_text()
        if found is not None and expected is not None:
            for ours, theirs in zip(found, expected, strict=True):
                assert ours.dtype == theirs.dtype
                assert np.array_equal(ours, theirs), file.read_text()


@pytest.mark.slow
def test_the_crystal_of_the_demo_needs_no_slow_import():
    read = (
        "from pathlib import Path; from stemphony.specimen.cif import read_cif; import sys; read_cif(Path(sys.argv[1]))"
    )
    names = "print(*[name for name in ('ase.io', 'ase.spacegroup', 'scipy.integrate') if name in sys.modules])"
    command = [sys.executable, "-c", f"{read}; {names}", REPOSITORY / "config" / "srtio3.cif"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [], f"reading srtio3.cif imported {done.stdout}"
