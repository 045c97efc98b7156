"""XYZ files of STEMsalabim: units, displacements and slices."""

from __future__ import annotations

import numpy as np
import pytest
from stemphony.errors import SpecimenError
from stemphony.specimen.formats import read_structure
from stemphony.specimen.structures import read_specimen
from support.structure_files import written


def test_the_example_of_stemsalabims_documentation_is_read_in_nm(tmp_path):
    file = written(
        tmp_path, "a.xyz",
        "5\n1.0 2.0 10.0\nGa  0.0  0.0   0.0   1e-5\nP   0.2  0.1   0.0   2e-5\nGa  0.0  0.0   1.0   1e-5\n"
        "P   1.2  0.1   0.0   2e-5\nO   1.0  2.0  10.0   0.0\n",
    )  # fmt: skip
    structure = read_structure(file)
    assert structure.format == "stemsalabim"
    np.testing.assert_allclose(np.diag(structure.cell), [10, 20, 100])
    assert structure.symbols.tolist() == ["Ga", "P", "Ga", "P", "O"]
    assert structure.u_iso is not None
    np.testing.assert_allclose(structure.u_iso, [1e-3, 2e-3, 1e-3, 2e-3, 0])
    assert "outside the cell" in "\n".join(structure.notes)
    # Its second P lies outside the cell, on the first one. The message has the line to use both, as STEMsalabim does.
    with pytest.raises(SpecimenError, match=r"\n  accept: \[distance\]$"):
        read_specimen(file)
    specimen = read_specimen(file, accept=["distance"])
    np.testing.assert_allclose(specimen.positions[3], [2.0, 1.0, 0.0], atol=1e-9)
    assert specimen.positions[4, 2] == 100.0


def test_sixth_column_is_the_slice(tmp_path):
    structure = read_structure(written(tmp_path, "a.xyz", "2\n0.4 0.4 0.4\nAu 0 0 0 8e-5 0\nAu 0.2 0.2 0.2 8e-5 1\n"))
    assert structure.slice_id is not None
    assert structure.slice_id.tolist() == [0, 1]


@pytest.mark.parametrize("word", ["0.5", "-1", "x"])
def test_a_slice_that_is_no_whole_number_is_refused(tmp_path, word):
    file = written(tmp_path, "a.xyz", f"2\n0.4 0.4 0.4\nAu 0 0 0 8e-5 0\nAu 0.2 0.2 0.2 8e-5 {word}\n")
    with pytest.raises(SpecimenError, match="line 4"):
        read_structure(file, "stemsalabim")
