"""The picture of a specimen: cell, scan, probe, films and atoms."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from stemphony.specimen.drawing import ALIKE, Scene, draw, element_colours
from stemphony.specimen.structures import read_specimen

SRTIO3 = Path(__file__).parents[3] / "config/srtio3.cif"
CARBON = {
    "entrance_nm": 0.5, "exit_nm": 0.5, "element": "C", "formula": None, "density_g_cm3": 2.0,
    "minimum_distance_angstrom": None, "draw": "once", "seed": 1,
}  # fmt: skip
SCENE = Scene("title", ((0.0, 7.8), (3.9, 7.8)), 0.02, 0.0251, 20.0)


def test_the_probe_is_a_diffraction_disk_in_focus_and_a_cone_beyond():
    """Airy radius 0.61 λ/α at the crossover; far from it the geometric cone α·|z − Δf|."""
    assert SCENE.probe_radius(20.0) == pytest.approx(0.61 * 0.0251 / 0.02)
    assert SCENE.probe_radius(2020.0) == pytest.approx(40.0, rel=2e-3)
    assert SCENE.probe_radius(0.0) == SCENE.probe_radius(40.0)


def test_the_picture_has_the_cell_the_scan_the_probe_and_the_films():
    from matplotlib.patches import Circle, Rectangle

    specimen = read_specimen(
        SRTIO3, zone_axis=[1, 0, 0], repeat=(4, 4, 3), vacuum_angstrom=(0, 0, 5.0), amorphous_layers=CARBON
    )
    figure = draw(specimen, SCENE)
    top, side = figure.axes
    boxes = {
        tuple(np.round([*r.get_xy(), r.get_width(), r.get_height()], 6))
        for r in top.patches
        if isinstance(r, Rectangle)
    }
    assert {(0, 0, 15.62, 15.62), (0, 0, 3.905, 3.905), (0, 3.9, 7.8, 3.9)} <= boxes
    circles = sorted(c.radius for c in top.patches if isinstance(c, Circle))
    assert circles == pytest.approx(sorted(SCENE.probe_radius(depth) for depth in (0.0, specimen.cell[2])))
    # Beam downwards: depth grows towards the bottom.
    assert side.get_ylim()[0] > side.get_ylim()[1]
    assert "beam downwards" in side.get_title()
    assert "along [-1 0 0]" in side.get_ylabel()
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert {"Sr", "Ti", "O", "C", "amorphous layer", "vacuum"} <= set(labels)


@pytest.mark.slow
@pytest.mark.parametrize("repeat", [(4, 4, 3), (4, 6, 10), (8, 4, 20), (6, 2, 2)])
def test_both_panels_have_one_scale(repeat):
    figure = draw(read_specimen(SRTIO3, repeat=repeat), SCENE)
    figure.draw_without_rendering()
    scales = [axes.get_window_extent().width / np.ptp(axes.get_xlim()) for axes in figure.axes]
    heights = [axes.get_window_extent().height / abs(np.ptp(axes.get_ylim())) for axes in figure.axes]
    assert scales[0] == pytest.approx(scales[1], rel=0.01)
    assert heights == pytest.approx(scales, rel=0.01)


def test_atoms_that_coincide_in_a_projection_are_drawn_once():
    specimen = read_specimen(SRTIO3, repeat=(1, 1, 50))
    top = draw(specimen, SCENE).axes[0]
    inside = top.collections[-1].get_offsets()
    assert len(inside) == 5  # Sr, Ti, O on Ti, and two O beside it
    assert math.isclose(float(np.ptp(inside, axis=0).max()), 3.905 / 2, rel_tol=1e-6)


def test_elements_never_look_alike():
    colours = element_colours(np.array(["Ga", "In", "N", "C", "Ti"]))
    distance = np.linalg.norm(colours[:, None, :3] - colours[None, :, :3], axis=2)
    assert distance[np.triu_indices(5, 1)].min() >= ALIKE - 1e-9
