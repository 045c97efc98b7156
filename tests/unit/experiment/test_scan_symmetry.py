"""When equivalent scan positions may share signals. tests/physics/test_scan_symmetry.py shows that they do."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from stemphony.experiment.campaign import InputFiles
from stemphony.experiment.scan_symmetry import hindrance, shared_operations, turned_images
from stemphony.physics.plane_symmetry import MATRICES, PlaneGroup
from support.experiments import FILES, WithSlit, experiment, tiny

GROUP = PlaneGroup.of({matrix: [(0, 0)] for matrix in MATRICES}, (64, 64))


@pytest.mark.parametrize(
    ("blocks", "files", "why"),
    [
        ({}, FILES, ""),
        ({"frozen_phonon": {"snapshots": "x"}}, InputFiles("5" * 64, "6" * 64, 4), "snapshots"),
        ({}, replace(FILES, occupancies_drawn=True), "occupancies"),
        ({"specimen": {"substitutions": [{"element": "Sr", "by": "La", "fraction": 0.1}]}}, FILES, "substituted"),
        (
            {"specimen": {"amorphous_layers": {"exit_nm": 1.0, "element": "C", "density_g_cm3": 2.0}}},
            FILES,
            "amorphous",
        ),
        ({"adf": {"average_configurations": False}}, FILES, "adf.average_configurations"),
        ({"cbed": {"average_configurations": False}}, FILES, ""),
        ({"cbed": {"enabled": True, "average_configurations": False}}, FILES, "cbed.average_configurations"),
        ({"adf": {"average_configurations": False}, "frozen_phonon": {"enabled": False}}, FILES, ""),
        ({"adf": {"average_defoci": False}}, FILES, ""),
    ],
)
def test_the_reason_that_equivalent_positions_differ_is_named(blocks, files, why):
    said = hindrance(tiny(**blocks), files)
    assert (why in said) if why else not said


def test_windows_that_are_no_squares_have_no_quarter_turn():
    of = experiment(scan={"points": [8, 8]})
    square = replace(of, grid=replace(of.grid, gpts=(32, 32), extent=(3.905, 3.905)), window=3.9)
    assert square.cell_gpts == (64, 64)
    assert len(shared_operations(GROUP, square).group.operations) == 8
    oblong = replace(of, grid=replace(of.grid, gpts=(32, 64), extent=(3.905, 7.81)), window=3.9)
    shared = shared_operations(GROUP, oblong)
    assert len(shared.group.operations) == 4
    assert shared.broken == ("the grid of a wave is not square",)


def test_lines_and_lists_are_reduced_too():
    no_window = {"points": None}
    along = experiment(scan={**no_window, "line": {"begin": [0.25, 0.0], "end": [0.75, 0.0], "points": 5}})
    group = shared_operations(GROUP, along).group
    line = replace(along, symmetry=group)
    assert line.orbit[:, 0].tolist() == [0, 1, 2, 1, 0]
    assert line.computed.probe_positions[:, 0] == pytest.approx(along.probe_positions[:3, 0])
    listed = experiment(scan={**no_window, "positions": [[0.1, 0.2], [0.3, 0.3], [0.8, 0.1], [0.5, 0.2]]})
    assert replace(listed, symmetry=GROUP).orbit[:, 0].tolist() == [0, 1, 0, 2]


def test_positions_that_are_computed_and_stored():
    of = replace(experiment(scan={"points": [6, 6]}), margin=(1, 2), symmetry=GROUP)
    assert (of.positions, of.computed.positions, of.stored.positions) == (36, 10, 8)
    assert of.orbit.shape == (4, 2)
    assert of.distinct == len(np.unique(of.orbit))
    assert of.stored.symmetry is None
    np.testing.assert_allclose(of.stored.probe_positions, of.probe_positions[1:-1, 2:-2])
    without = replace(of, symmetry=None)
    assert (without.orbit, without.computed, without.distinct) == (None, without, 8)


@pytest.mark.parametrize(
    ("segments", "edges", "operations"),
    [
        ({"segments": 4, "rotation_deg": 45.0}, "area", 8),
        # Pixels on the diagonals belong to one side of an edge, so reflections map quadrants on other pixels.
        ({"segments": 4, "rotation_deg": 45.0}, "hard", 4),
        ({"segments": 4, "rotation_deg": 20.0}, "hard", 4),
        ({"segments": 2}, "area", 4),
        ({"segments": 3}, "area", 2),
        ({"segments": 3, "rotation_deg": 10.0}, "hard", 1),
        ({"segments": 8, "radial": 2, "rotation_deg": 22.5}, "area", 8),
        ({"segments": 1, "offset_mrad": [4.0, 0.0]}, "area", 2),
    ],
)
def test_segments_keep_the_operations_that_map_them_on_each_other(segments, edges, operations):
    block = {"d": {"inner_mrad": 0.0, "outer_mrad": 30.0, **segments}}
    of = experiment(scan={"points": [4, 4]}, adf={"segmented": block, "edges": edges})
    shared = shared_operations(GROUP, of)
    assert len(shared.group.operations if shared.group else (1,)) == operations
    assert ("adf.segmented" in "\n".join(shared.broken)) == (operations < 8)


def test_segments_turn_with_the_operation():
    """Sector s of four from 45° on lies about 90°·(s + 1): a quarter turn moves it on, a mirror at x swaps ±y."""
    block = {"d": {"inner_mrad": 5.0, "outer_mrad": 30.0, "segments": 4, "rotation_deg": 45.0, "radial": 2}}
    of = experiment(adf={"segmented": block, "edges": "area"})
    rings = [0, 1]
    assert turned_images(of, ((0, -1), (1, 0))) == [*rings, 3, 4, 5, 2, 7, 8, 9, 6]
    assert turned_images(of, ((1, 0), (0, -1))) == [*rings, 4, 3, 2, 5, 8, 7, 6, 9]
    precessed = experiment(adf={"segmented": block}, probe={"precession": {"angle_mrad": 3.0, "steps": 4}})
    assert turned_images(precessed, ((-1, 0), (0, -1))) is None


def test_maps_of_detectors_keep_translations_only_and_profiles_keep_all():
    def shared(**entry):
        detectors = {"d": {"inner_mrad": 5, "outer_mrad": 50, "sensitivity": "file", **entry}}
        return shared_operations(GROUP, experiment(scan={"points": [4, 4]}, adf={"detectors": detectors}))

    with_profile, with_map = shared(), shared(pixel_mrad=2.0)
    assert "a map of adf.detectors" in with_map.broken
    assert with_map.group is None
    assert with_profile.broken == shared_operations(GROUP, experiment(scan={"points": [4, 4]})).broken
    assert with_profile.group is not None


def test_an_image_of_unknown_symmetry_is_never_copied():
    of = WithSlit.of_experiment(experiment(scan={"points": [4, 4]}))
    with pytest.raises(NotImplementedError, match="turn slit"):
        shared_operations(GROUP, of)
    assert turned_images(of, ((1, 0), (0, 1))) == [0, 1, 2]
