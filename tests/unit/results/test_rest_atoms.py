"""The periods of a result's window follow from the atoms in the result."""

from __future__ import annotations

import netCDF4
import pytest
from stemphony.results.opened import OpenedResult
from support.experiments import FakeCampaign


def merged(folder, **blocks) -> FakeCampaign:
    fake = FakeCampaign.of(folder, **{"frozen_phonon": {"configurations": 1}, **blocks})
    fake.write_all()
    fake.merge()
    return fake


@pytest.mark.slow
@pytest.mark.parametrize(
    ("scan", "expected"),
    [
        ({}, (0, 0)),
        ({"x": [0.0, 0.5], "y": [0.5, 1.0]}, (0, 0)),
        ({"x": [0.0, 0.3]}, (None, 0)),
        ({"x": [0.0, 0.5], "y": [0.0, 0.4]}, (0, None)),
        ({"x": [0.0, 3.905], "y": [0.0, 3.905], "unit": "angstrom"}, (0, 0)),
        ({"points": [1, 4]}, (None, 0)),
    ],
)
def test_a_window_of_whole_unit_cells_repeats(tmp_path, scan, expected):
    fake = merged(tmp_path, scan=scan)
    assert OpenedResult(fake.result.merged).positions.repeats == expected


def test_atoms_at_rest_are_those_of_the_specimen(tmp_path):
    fake = merged(tmp_path)
    atoms = OpenedResult(fake.result.merged).atoms
    assert atoms.symbols.tolist() == fake.specimen.symbols.tolist()
    assert atoms.cell_nm == pytest.approx([0.781, 0.781, 0.781], rel=1e-6)


def test_with_snapshots_or_films_only_the_whole_cell_repeats(tmp_path):
    half = merged(tmp_path, scan={"x": [0.0, 0.5]})
    for group, key in (("frozen_phonon", "snapshots"), ("specimen", "amorphous_layers")):
        with netCDF4.Dataset(half.result.merged, "a") as root:
            root["params"][group].setncattr(key, "given")
        assert OpenedResult(half.result.merged).positions.repeats == (None, 0)
        with netCDF4.Dataset(half.result.merged, "a") as root:
            root["params"][group].delncattr(key)
    assert OpenedResult(half.result.merged).positions.repeats == (0, 0)


def test_atoms_that_move_in_other_directions_are_not_the_same(tmp_path):
    """Columns whose tensors are turned do not give the same image, although their mean displacement is the same."""
    half = merged(tmp_path, scan={"x": [0.0, 0.5]})
    with netCDF4.Dataset(half.result.merged, "a") as root:
        amber = root["AMBER"]
        amber.createDimension("tensor", 6)
        tensors = amber.createVariable("msd_tensor", "f4", ("atom", "tensor"))
        tensors[:] = [1e-4, 1e-4, 1e-4, 0, 0, 0]
        assert OpenedResult(half.result.merged).positions.repeats == (0, 0)
        left = amber["lattice_coordinates" if "lattice_coordinates" in amber.variables else "coordinates"][0, :, 0]
        tensors[:] = [[1e-4, 1e-4, 1e-4, 0, 0, 4e-5 if x < 0.39 else -4e-5] for x in left]
    assert OpenedResult(half.result.merged).positions.repeats == (None, 0)
