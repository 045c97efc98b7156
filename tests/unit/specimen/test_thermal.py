"""The source of each atom's U, and notes about values that are not used."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stemphony.errors import ConfigError, SpecimenError
from stemphony.physics.phonons import debye_u_iso
from stemphony.specimen.structure import Structure
from stemphony.specimen.structures import read_specimen
from stemphony.specimen.thermal import Thermal, ThermalSettings, with_displacements

FILE = Path("crystal.cif")
NAN = float("nan")
TENSOR = np.array([[0.03, 0.01, 0.0], [0.01, 0.02, 0.0], [0.0, 0.0, 0.01]])


def structure(u_iso: Any = None, u_aniso: Any = None) -> Structure:
    """Strontium titanate with the given U of Sr, Ti and three O."""
    half = 1.9525
    positions = np.array([[0, 0, 0], [half, half, half], [half, half, 0], [half, 0, half], [0, half, half]])
    return Structure(
        np.array(["Sr", "Ti", "O", "O", "O"]), positions, 3.905 * np.eye(3),
        None if u_iso is None else np.array(u_iso), None if u_aniso is None else np.array(u_aniso),
    )  # fmt: skip


def resolved(u_iso: Any = None, u_aniso: Any = None, **settings: Any) -> Thermal:
    return with_displacements(FILE, structure(u_iso, u_aniso), ThermalSettings(**settings))


def u(found: Thermal) -> list[float]:
    assert found.structure.u_iso is not None
    return found.structure.u_iso.tolist()


def test_a_value_of_the_file_wins_and_the_config_fills_what_is_missing():
    found = resolved([0.01, NAN, 0.02, NAN, 0.02], u_iso_angstrom2={"Ti": 0.005, "O": 0.5})
    assert u(found) == [0.01, 0.005, 0.02, 0.5, 0.02]
    assert found.source == "the file: Sr 0.01, O 0.02 Å²; specimen.u_iso_angstrom2: Ti 0.005, O 0.5 Å²"
    (note,) = found.notes
    assert "an effect on a part of the sites alone for O" in note
    assert "specimen.u_source: config" in note


def test_config_wins_where_it_is_asked_for_and_the_file_fills_what_is_missing():
    found = resolved([0.01] * 5, u_iso_angstrom2={"Sr": 0.5}, u_source="config")
    assert u(found) == [0.5, 0.01, 0.01, 0.01, 0.01]
    assert found.notes == ("the structure file's U of Sr is not used, as specimen.u_source is config.",)


def test_an_entry_of_the_config_that_has_no_effect_is_named():
    (note,) = resolved([0.01] * 5, u_iso_angstrom2={"Sr": 0.5, "Ti": 0.5, "O": 0.5}).notes
    assert "specimen.u_iso_angstrom2 has no effect for Sr, Ti, O" in note
    assert "the structure file gives their U, which wins" in note


def test_tensors_win_over_isotropic_values_and_are_kept_apart():
    tensors = np.full((5, 3, 3), NAN)
    tensors[2] = TENSOR
    found = resolved([0.01, 0.02, 0.03, 0.04, 0.05], tensors)
    assert u(found) == pytest.approx([0.01, 0.02, 0.02, 0.04, 0.05])
    np.testing.assert_array_equal(found.structure.u_aniso, tensors)
    assert found.source == "the file, anisotropic: O 0.02 Å²; the file: Sr 0.01, Ti 0.02, O 0.04–0.05 Å²"


def test_a_tensor_that_the_config_replaces_is_neither_used_nor_checked():
    tensors = np.full((5, 3, 3), NAN)
    tensors[0] = -TENSOR
    found = resolved([0.01] * 5, tensors, u_iso_angstrom2={"Sr": 0.5}, u_source="config")
    assert found.structure.u_aniso is None
    assert u(found)[0] == 0.5
    with pytest.raises(SpecimenError, match=r"atom 0 \(counted from 0, Sr.*along one direction.*u_source: config"):
        resolved([0.01] * 5, tensors, u_iso_angstrom2={"Sr": 0.5})


@pytest.mark.parametrize("value", [-0.01, np.inf])
def test_a_negative_or_infinite_u_names_its_atom(value):
    with pytest.raises(SpecimenError, match=r"atom 3 \(counted from 0, O at 1\.9525, 0\.0000, 1\.9525 Å\): its U is"):
        resolved([0.01, 0.01, 0.01, value, 0.01])


def test_debye_model_gives_what_neither_file_nor_map_gives():
    found = resolved(
        [0.01, NAN, NAN, NAN, NAN], u_iso_angstrom2={"O": 0.02}, temperature_k=300.0, debye_temperature_k={"Ti": 420.0}
    )
    assert u(found) == pytest.approx([0.01, debye_u_iso(47.867, 420.0, 300.0), 0.02, 0.02, 0.02])
    assert "Debye model at 300 K: Ti 0.00" in found.source
    assert not found.notes


def test_one_debye_temperature_serves_all_elements_with_their_own_masses():
    found = resolved(temperature_k=0.0, debye_temperature_k=500.0)
    sr, ti = u(found)[:2]
    assert sr / ti == pytest.approx(47.867 / 87.62, rel=1e-6)


def test_debye_temperatures_without_effect_are_named():
    notes = resolved(
        [0.01, NAN, NAN, NAN, NAN], u_iso_angstrom2={"Ti": 0.005, "O": 0.01}, temperature_k=300.0,
        debye_temperature_k={"Sr": 300.0, "Ti": 400.0, "W": 310.0},
    ).notes  # fmt: skip
    assert "debye_temperature_k has no effect for Sr: the structure file" in "\n".join(notes)
    assert "debye_temperature_k has no effect for Ti: specimen.u_iso_angstrom2" in "\n".join(notes)
    assert "debye_temperature_k: there is no W" in "\n".join(notes)


@pytest.mark.parametrize(
    ("settings", "where"),
    [({"temperature_k": 300.0}, "temperature_k"), ({"debye_temperature_k": 300.0}, "debye_temperature_k")],
)
def test_a_single_one_of_the_two_debye_temperatures_is_refused(settings, where):
    with pytest.raises(ConfigError, match=rf"specimen\.{where}.*needs both"):
        resolved(**settings)


def test_an_element_without_any_u_stays_unknown():
    found = resolved(u_iso_angstrom2={"O": 0.01})
    assert np.isnan(u(found)[:2]).all()
    assert found.source == "specimen.u_iso_angstrom2: O 0.01 Å²; not known: Sr, Ti"


def test_unused_charges_of_the_file_earn_a_note(tmp_path):
    header = 'Lattice="4 0 0 0 4 0 0 0 4" Properties=species:S:1:pos:R:3:initial_charges:R:1'
    notes = {}
    for charge in (0.0, 0.5):
        file = tmp_path / f"{charge}.xyz"
        file.write_text(f"1\n{header}\nC 1 1 1 {charge}\n")
        notes[charge] = [note for note in read_specimen(file).notes if "charges" in note]
    assert notes[0.0] == []
    assert notes[0.5] == ["the charges of the structure file are not used: every atom scatters as a neutral one."]


def test_map_beside_the_column_of_stemsalabim_is_named(tmp_path):
    file = tmp_path / "cell.xyz"
    file.write_text(
        "5\n0.3905 0.3905 0.3905\nSr 0 0 0 7.87e-05\nTi 0.19525 0.19525 0.19525 5.57e-05\n"
        "O 0.19525 0.19525 0 9.275e-05\nO 0 0.19525 0.19525 9.275e-05\nO 0.19525 0 0.19525 9.275e-05\n"
    )
    specimen = read_specimen(file, repeat=(3, 3, 2), u_iso_angstrom2={"Sr": 0.5, "Ti": 0.5, "O": 0.5})
    assert "u_iso_angstrom2 has no effect for Sr, Ti, O" in "\n".join(specimen.notes)
    assert specimen.u_iso[0] == pytest.approx(0.00787)
    reversed_ = read_specimen(file, u_iso_angstrom2={"Sr": 0.5, "Ti": 0.5, "O": 0.5}, u_source="config")
    assert set(reversed_.u_iso.tolist()) == {0.5}
