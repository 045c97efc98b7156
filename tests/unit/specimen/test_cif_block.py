"""CIF files with errors of syntax are read if the atoms are certain, and refused otherwise."""

from __future__ import annotations

from pathlib import Path

import pytest
from stemphony.errors import SpecimenError
from stemphony.specimen.formats import read_structure
from stemphony.specimen.structure import Structure
from support.cif_files import cif_text

TEXT = cif_text("Al1 Al 0 0 0", symmetry="_space_group_name_H-M_alt 'F m -3 m'", cell=(4.05, 4.05, 4.05))
BODY = TEXT.removeprefix("data_x\n")


def read(folder: Path, text: str) -> Structure:
    file = folder / "a.cif"
    file.write_text(text, encoding="utf-8")
    return read_structure(file)


@pytest.mark.parametrize(
    "line",
    [
        "_citation_author_name 'A. Author, B. O’Author, and C. Author',",  # of a published set of 25 frameworks
        '_citation_title "The structure of aluminium",',
        "_publ_section_title 'The structure of aluminium",
        "_publ_section_title 'The structure of O'Author' in 3 dimensions",
        "_symmetry_cell_setting 'cubic',",
    ],
)
def test_open_quotes_of_titles_and_names_decide_nothing(tmp_path, line):
    assert len(read(tmp_path, f"data_a\n{line}\n{BODY}").symbols) == 4


@pytest.mark.parametrize("line", ["_chemical_formula_sum 'Al4", "_symmetry_space_group_name_Hall 'P 1"])
def test_open_quotes_of_what_is_read_are_refused(tmp_path, line):
    with pytest.raises(SpecimenError, match=r"line 2, column \d+: unterminated 'string'.*correct that line"):
        read(tmp_path, f"data_a\n{line}\n{BODY}")


@pytest.mark.parametrize("start", ["", "\n# a comment\n", "_publ_section_title 'Aluminium'\n"])
def test_a_block_without_its_heading_is_read(tmp_path, start):
    assert len(read(tmp_path, f"{start}{BODY}").symbols) == 4


def test_an_open_quote_inside_a_text_is_left_alone(tmp_path):
    text = ";\n_cell_length_a 'one',\n;"
    structure = read(tmp_path, f"data_a\n_publ_section_comment\n{text}\n_citation_title 'open\n{BODY}")
    assert structure.cell[0, 0] == 4.05
