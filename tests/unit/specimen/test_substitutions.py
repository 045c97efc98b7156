"""Dopants and vacancies: exact numbers if they are drawn once, probabilities if each configuration draws them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from stemphony.errors import SpecimenError
from stemphony.physics.occupancy import present_sites
from stemphony.specimen.structures import read_specimen

SRTIO3 = Path(__file__).parents[3] / "config/srtio3.cif"
ONCE = {"element": "Sr", "by": "La", "fraction": 0.1, "draw": "once", "seed": 1}


def doped(*items: dict, repeat=(6, 6, 6), **settings):
    complete = [{"draw": "once", "seed": 1, **item} for item in items]
    return read_specimen(SRTIO3, repeat=repeat, substitutions=complete, **settings)


def counts(specimen) -> dict[str, int]:
    names, numbers = np.unique(specimen.symbols, return_counts=True)
    return dict(zip(names.tolist(), numbers.tolist(), strict=True))


def test_a_fraction_that_is_drawn_once_is_an_exact_number():
    specimen = doped({"element": "Sr", "by": "La", "fraction": 0.1})
    assert counts(specimen) == {"Sr": 216 - 22, "La": 22, "Ti": 216, "O": 648}
    np.testing.assert_array_equal(specimen.positions, read_specimen(SRTIO3, repeat=(6, 6, 6)).positions)
    assert (
        "22 of 216 Sr (10.2 %, rounded from 10 %) are La, drawn once with seed 1"
        in dict(specimen.building.lines())["substitution"]
    )


def test_a_rounded_fraction_is_stated_beside_the_requested_one():
    line = dict(doped({"element": "Sr", "by": "La", "fraction": 0.2}, repeat=(2, 2, 2)).building.lines())
    assert line["substitution"].startswith("2 of 8 Sr (25 %, rounded from 20 %) are La")
    line = dict(doped({"element": "Sr", "by": "La", "fraction": 0.25}, repeat=(2, 2, 2)).building.lines())
    assert line["substitution"].startswith("2 of 8 Sr (25 %) are La")


def test_a_count_of_vacancies_takes_that_many_atoms_away():
    specimen = doped({"element": "O", "by": None, "count": 5})
    assert counts(specimen) == {"Sr": 216, "Ti": 216, "O": 643}
    assert len(specimen.positions) == len(specimen.symbols) == len(specimen.u_iso)


@pytest.mark.slow
def test_the_seed_decides_which_sites_and_nothing_else_does():
    first, again, other = (doped({**ONCE, "seed": seed}) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.symbols, again.symbols)
    assert (first.symbols != other.symbols).any()
    # Every site is as likely as any other: over many seeds, La is spread evenly.
    hits = np.zeros(27)
    for seed in range(300):
        hits += (
            (doped({**ONCE, "fraction": 1 / 3, "seed": seed}, repeat=(3, 3, 3)).symbols == "La").reshape(27, 5).any(1)
        )
    assert np.abs(hits / 300 - 1 / 3).max() < 5 * np.sqrt(2 / 9 / 300)


def test_a_region_limits_where_dopants_are():
    region = {"x_nm": [0.0, 1.0], "y_nm": None, "depth_nm": [0.7, 2.0]}
    specimen = doped({"element": "Ti", "by": "Nb", "fraction": 1.0, "region": region})
    dopants = specimen.positions[specimen.symbols == "Nb"]
    titanium = read_specimen(SRTIO3, repeat=(6, 6, 6))
    sites = titanium.positions[titanium.symbols == "Ti"]
    inside = (sites[:, 0] <= 10) & (sites[:, 2] >= 7) & (sites[:, 2] <= 20)
    assert len(dopants) == inside.sum() > 0
    assert (dopants[:, 2] >= 7).all()


def test_later_items_see_what_earlier_ones_made():
    specimen = doped({"element": "Sr", "by": "La", "count": 50}, {"element": "La", "by": None, "count": 50})
    assert counts(specimen) == {"Sr": 166, "Ti": 216, "O": 648}


def test_dopants_get_the_u_of_their_own_element(tmp_path):
    atoms = "\n".join(f"Sr 0 0 {z} 0.011" for z in (0, 4))
    file = tmp_path / "u.xyz"
    file.write_text(f'2\nLattice="4 0 0 0 4 0 0 0 8" Properties=species:S:1:pos:R:3:u_iso:R:1\n{atoms}\n')
    item = {**ONCE, "fraction": None, "count": 1}
    with_u = read_specimen(file, substitutions=[item], u_iso_angstrom2={"La": 0.004})
    assert sorted(zip(with_u.symbols.tolist(), with_u.u_iso.tolist(), strict=True)) == [("La", 0.004), ("Sr", 0.011)]
    without = read_specimen(file, substitutions=[item])
    assert np.isnan(without.u_iso[without.symbols == "La"]).all()


def test_each_configuration_draws_its_own_dopants_with_their_probability():
    specimen = doped({"element": "Sr", "by": "La", "fraction": 0.2, "draw": "configuration"}, repeat=(5, 5, 5))
    strontium, lanthanum = (np.flatnonzero(specimen.symbols == symbol) for symbol in ("Sr", "La"))
    np.testing.assert_allclose(specimen.positions[strontium], specimen.positions[lanthanum])
    assert set(specimen.occupancy[strontium]) == {0.8}
    assert set(specimen.occupancy[lanthanum]) == {0.2}
    numbers = []
    for configuration in range(400):
        present = present_sites(specimen.occupancy, specimen.disorder, specimen.disorder_group, 7, configuration, None)
        # Each site holds exactly one of the two.
        assert (present[strontium] ^ present[lanthanum]).all()
        numbers.append(present[lanthanum].sum())
    assert np.mean(numbers) == pytest.approx(25, abs=5 * np.sqrt(125 * 0.16 / 400))
    assert np.var(numbers) == pytest.approx(125 * 0.16, rel=0.35)


def test_vacancies_of_each_configuration_lower_the_occupancy_alone():
    specimen = doped({"element": "O", "by": None, "fraction": 0.03, "draw": "configuration"}, repeat=(2, 2, 2))
    assert len(specimen.symbols) == 40
    assert set(specimen.occupancy[specimen.symbols == "O"]) == {0.97}


@pytest.mark.parametrize(
    ("item", "parts"),
    [
        ({"element": "Au", "by": "Ag", "fraction": 0.5}, ("no Au", "Sr, Ti, O")),
        ({"element": "Sr", "by": "Xx", "fraction": 0.5}, ("Xx is no element",)),
        ({"element": "Sr", "by": "La", "count": 9}, ("count is 9", "8 Sr")),
        ({"element": "Sr", "by": "La", "fraction": 0.01}, ("rounds to 0", "draw: configuration")),
        ({"element": "Sr", "by": "La", "count": 1, "draw": "configuration"}, ("count is exact", "fraction")),
        (
            {"element": "Sr", "by": "La", "count": 1, "region": {"x_nm": [-0.3, 0.3]}},
            ("x from -0.3 to 0.3 nm", "from 0 to 0.7810 nm", "two items"),
        ),
        (
            {"element": "Sr", "by": "La", "count": 1, "region": {"y_nm": [0.3, 0.9]}},
            ("y from 0.3 to 0.9 nm", "Stay inside"),
        ),
        (
            {"element": "Sr", "by": "La", "count": 1, "region": {"depth_nm": [5.0, 6.0]}},
            ("no Sr at depth 5–6 nm", "no atom"),
        ),
    ],
)
def test_impossible_substitutions_are_refused_with_a_proposal(item, parts):
    with pytest.raises(SpecimenError) as caught:
        doped(item, repeat=(2, 2, 2))
    for part in ("specimen.substitutions[0]", *parts):
        assert part in str(caught.value)
