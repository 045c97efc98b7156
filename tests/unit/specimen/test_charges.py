"""Charges of a structure file: ions scatter as ions, and impossible charges are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from stemphony.errors import SpecimenError
from stemphony.physics.scattering import FactorChoice
from stemphony.specimen.specimen_file import read_specimen_file, write_specimen
from stemphony.specimen.structures import read_specimen, require_elements
from stemphony.specimen.translations import Translations
from support.cif_files import SITE, cif_text

ROWS = """Sr1 {sr} 0 0 0 1
Ti1 {ti} 0.5 0.5 0.5 1
O1 {o} 0.5 0.5 0 1
O2 {o} 0.5 0 0.5 1
O3 {o} 0 0.5 0.5 {share}"""
PEROVSKITE = cif_text(ROWS, symmetry="_space_group_name_H-M_alt 'P 1'", columns=f"{SITE} occupancy")
USUAL = {"sr": "Sr2+", "ti": "Ti4+", "o": "O2-", "share": "1"}


def perovskite(folder: Path, **types: str) -> Path:
    file = folder / "x.cif"
    file.write_text(PEROVSKITE.format(**{**USUAL, **types}))
    return file


def test_ions_of_a_cif_have_their_names_in_every_cell(tmp_path):
    made = read_specimen(perovskite(tmp_path), charges="file", repeat=[2, 1, 3])
    counts = dict(zip(*np.unique(made.species, return_counts=True), strict=True))
    assert counts == {"O2-": 18, "Sr2+": 6, "Ti4+": 6}
    assert set(made.symbols.tolist()) == {"O", "Sr", "Ti"}
    (note,) = [note for note in made.notes if "charges" in note]
    assert "6 Sr2+, 6 Ti4+, 18 O2-" in note


def test_without_the_key_atoms_are_neutral_and_a_note_says_so(tmp_path):
    made = read_specimen(perovskite(tmp_path))
    assert made.charge is None
    assert made.species is made.symbols
    assert "every atom scatters as a neutral one" in "\n".join(made.notes)


def test_the_specimen_file_keeps_charges(tmp_path):
    made = read_specimen(perovskite(tmp_path), charges="file")
    write_specimen(tmp_path / "specimen.nc", made, {})
    again = read_specimen_file(tmp_path / "specimen.nc")
    assert again.species.tolist() == made.species.tolist()
    neutral = read_specimen(perovskite(tmp_path))
    write_specimen(tmp_path / "neutral.nc", neutral, {})
    assert read_specimen_file(tmp_path / "neutral.nc").charge is None


@pytest.mark.parametrize(
    ("types", "words"),
    [
        ({"sr": "Sr", "ti": "Ti", "o": "O"}, r"no charge is read from it, but specimen\.charges is file"),
        ({"ti": "Ti3+"}, r"net charge of -1 e in the cell"),
        ({"sr": "Sr"}, r"1 Sr, 1 Ti4\+, 3 O2-, which make a net charge of -2 e"),
        ({"share": "0.9"}, r"net charge of \+0\.2 e"),
        ({"ti": "Ti5+", "sr": "Sr1+"}, r"Sr1\+ has no scattering factor\. Of Sr there are Sr2\+"),
        ({"sr": "He2+"}, r"He2\+ has no scattering factor\. Of He there is no ion"),
    ],
)
def test_charges_that_make_no_crystal_of_ions_are_refused(tmp_path, types, words):
    with pytest.raises(SpecimenError, match=words):
        read_specimen(perovskite(tmp_path, **types), charges="file")


def test_atoms_of_one_element_and_two_charges_are_two_kinds(tmp_path):
    """Ti2+ and Ti4+ along x: the crystal repeats after both, not after one."""
    head = PEROVSKITE.split("loop_")[0].replace("_cell_length_a 3.905", "_cell_length_a 7.81")
    sites = ["Ti1 Ti2+ 0 0 0", "Ti2 Ti4+ 0.5 0 0", "O1 O2- 0.25 0.5 0.5", "O2 O2- 0.75 0.5 0.5"]
    sites += ["O3 O1- 0 0.5 0.5", "O4 O1- 0.5 0.5 0.5"]
    keys = ("label", "type_symbol", "fract_x", "fract_y", "fract_z")
    loop = "loop_\n" + "\n".join(f"_atom_site_{key}" for key in keys)
    file = tmp_path / "x.cif"
    file.write_text("\n".join([head + loop, *sites, ""]))
    made = read_specimen(file, charges="file", accept=["distance", "density"])
    assert not Translations(made).repeat(3.905, 0.0)
    assert Translations(read_specimen(file, accept=["distance", "density"])).repeat(3.905, 0.0)


def test_an_imprecise_ion_earns_a_note(tmp_path):
    made = read_specimen(perovskite(tmp_path, sr="Ba2+"), charges="file")
    assert "factor of Ba2+ is precise to 5 % only" in "\n".join(made.notes)
    assert "precise" not in "\n".join(read_specimen(perovskite(tmp_path), charges="file").notes)


def test_ions_need_no_table_of_neutral_atoms(tmp_path):
    made = read_specimen(perovskite(tmp_path), charges="file")
    require_elements(made, FactorChoice("peng"))
