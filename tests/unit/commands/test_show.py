"""`stemphony show`: the files that it writes, and those that it refuses to write."""

from __future__ import annotations

from pathlib import Path

import ase.io
import numpy as np
import pytest
import yaml
from stemphony.commands.show import show
from stemphony.errors import StorageError
from stemphony.specimen.structures import read_specimen

SRTIO3 = Path(__file__).parents[3] / "config/srtio3.cif"
BUILD = {
    "zone_axis": [1, 1, 0],
    "up": [0, 0, 1],
    "repeat": [2, 2, 2],
    "origin": "Ti",
    "u_iso_angstrom2": {"Sr": 0.008, "Ti": 0.006, "O": 0.01},
}


def shown(file: Path, picture: Path, xyz: bool) -> None:
    """Show a config that lies beside the picture."""
    config = {"simulation": {"name": "shown"}, "specimen": {"file": str(file), **BUILD}}
    written = picture.parent / "shown.yaml"
    written.write_text(yaml.safe_dump(config))
    show(config, written, picture, xyz, lambda line: None)


def test_ase_reads_the_written_atoms_as_those_of_the_specimen(tmp_path):
    shown(SRTIO3, tmp_path / "picture.png", True)
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")
    atoms, specimen = ase.io.read(tmp_path / "picture.xyz"), read_specimen(SRTIO3, **BUILD)
    assert atoms.get_chemical_symbols() == specimen.symbols.tolist()
    np.testing.assert_allclose(atoms.positions, specimen.positions, atol=1e-9)
    np.testing.assert_allclose(atoms.cell.lengths(), specimen.cell, atol=1e-9)
    np.testing.assert_allclose(atoms.arrays["u_iso"], specimen.u_iso, atol=1e-9)


@pytest.mark.parametrize("name", ["picture.foo", "picture"])
def test_a_picture_that_is_no_png_is_refused(tmp_path, name):
    with pytest.raises(StorageError, match=rf"PNG file. Name it {name}.png"):
        shown(SRTIO3, tmp_path / name, False)


def test_the_structure_file_is_never_overwritten(tmp_path):
    file = tmp_path / "crystal.xyz"
    ase.io.write(file, ase.io.read(SRTIO3), format="extxyz")
    before = file.read_bytes()
    with pytest.raises(StorageError, match="would overwrite the structure file"):
        shown(file, tmp_path / "crystal.png", True)
    assert file.read_bytes() == before
    assert not (tmp_path / "crystal.png").exists()
