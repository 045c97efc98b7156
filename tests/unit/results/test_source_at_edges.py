"""A finite source at the edges of a scan, from the waves to the merged result."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import netCDF4
import numpy as np
import pytest
from stemphony.compute.atoms import draw_atoms
from stemphony.compute.recorder import JobSignals
from stemphony.compute.simulation import simulate
from stemphony.experiment.blurring import Blurring
from stemphony.experiment.campaign import plan
from stemphony.experiment.model import Experiment
from stemphony.experiment.scan_edges import ScanEdges
from stemphony.orchestration.preview_image import previews_of
from stemphony.physics.source_size import SourceShape
from stemphony.specimen.specimen import Specimen
from stemphony.specimen.translations import Translations
from support.experiments import FILES, FakeCampaign, tiny
from support.specimens import aluminium, srtio3

EXACT: dict[str, Any] = {
    "simulation": {"precision": "double"},
    "adf": {"bins": 2, "max_mrad": 60.0, "detectors": {"haadf": [40.0, 60.0], "bf": [0.0, 15.0]}},
    "frozen_phonon": {"enabled": False},
}


def made(
    specimen: Specimen, source_nm: float = 0.0, margin_nm: float = 0.0, **blocks: Any
) -> tuple[Experiment, ScanEdges]:
    """An experiment on a specimen, with the edges that a first run would choose."""
    scan = {"points": None, **blocks.pop("scan")} if "points" not in blocks["scan"] else blocks.pop("scan")
    config = tiny(**{**EXACT, **blocks, "scan": scan})
    lattice = Translations(specimen)
    edges = ScanEdges.of(config["scan"], specimen.cell[:2], source_nm, margin_nm, lambda: lattice)
    return Experiment.of(plan(config, FILES, edges=edges).common_params, specimen.cell, specimen.layers), edges


def computed(of: Experiment, specimen: Specimen) -> JobSignals:
    atoms = draw_atoms(
        of, specimen.symbols, specimen.positions, specimen.u_iso, frame=None, displaced=False, random_seed=None,
        configuration=0, defocus_nm=None, displace_z=True, fixed_slicing=True,
    )  # fmt: skip
    return simulate(of, atoms, 0.0, threads=1, flag="FFTW_ESTIMATE", on_progress=lambda done, total: None)


def image(specimen: Specimen, source_nm: float = 0.0, margin_nm: float = 0.0, **blocks: Any) -> np.ndarray:
    """Blurred images of both detectors at the exit, (x, y, detector)."""
    of, edges = made(specimen, source_nm, margin_nm, **blocks)
    return Blurring(10 * source_nm, edges.repeats or (None, None)).applied(of, computed(of, specimen).rings[:, :, -1])


def test_one_unit_cell_has_the_value_of_the_whole_scan():
    """SrTiO3, 9.4 × 9.4 … 31 Å: with mirrored edges the Sr column in the corner had 0.00528."""
    blocks: dict[str, Any] = {
        "simulation": {"precision": "single"},
        "grating": {"gpts": [144, 144], "slice_thickness_angstrom": 2.0},
        "scan": {"x": [0.0, 1 / 3], "y": [0.0, 1 / 3], "points": [12, 12]},
        "depths": {"every_angstrom": None},
        "adf": {"detectors": {"haadf": [60.0, 95.0]}, "max_mrad": 95.0, "bins": 1},
    }
    cell = image(srtio3((3, 3, 8)), 0.1, **blocks)
    assert cell[0, 0, 0] == pytest.approx(0.00349, abs=5e-6)
    assert cell[..., 0].mean() == pytest.approx(0.00074, abs=5e-6)


@pytest.mark.parametrize(
    ("specimen", "part", "points"),
    [
        (srtio3((2, 2, 1)), (0.5, 0.5), (5, 5)),
        (aluminium(), (0.25, 0.5), (3, 6)),  # half a centred cell
        (aluminium(), (0.5, 0.25), (4, 2)),
    ],
)
def test_a_period_is_the_cut_of_the_whole_blurred_scan(specimen, part, points):
    scan = {"x": [0.0, part[0]], "y": [0.0, part[1]], "points": list(points)}
    whole = {"points": [round(n / share) for n, share in zip(points, part, strict=True)]}
    expected = image(specimen, 0.08, scan=whole)[: points[0], : points[1]]
    assert np.ptp(expected[..., 0]) > 0.01 * expected[..., 0].mean()
    assert image(specimen, 0.08, scan=scan) == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_a_widened_scan_is_the_cut_of_a_wider_one():
    specimen, source = srtio3((2, 2, 1)), 0.08
    wide = {"x": [0.0, 1.0], "y": [0.0, 1.0], "points": [20, 20]}
    window = {"x": [0.3, 0.6], "y": [0.25, 0.75], "points": [6, 10]}
    of, edges = made(specimen, source, 0.103, scan=window)
    assert (edges.repeats, edges.margin, of.positions) == ((None, 0), (3, 0), 120)
    found = computed(of, specimen).rings[:, :, -1]
    assert found == pytest.approx(image(specimen, scan=wide)[3:15, 5:15], rel=1e-9, abs=1e-13)
    blurred = image(specimen, source, 0.103, scan=window)
    expected = image(specimen, source, scan=wide)[6:12, 5:15]
    assert blurred.shape == (6, 10, 2)
    assert np.abs(blurred - expected).max() < 3e-3 * np.ptp(expected[..., 0])
    without = image(specimen, source, 0.0, scan=window)
    assert np.abs(without - expected).max() > 10 * np.abs(blurred - expected).max()


def test_a_window_over_the_edge_of_the_cell_is_a_part_of_the_whole_scan():
    specimen = srtio3((2, 2, 1))
    whole = image(specimen, scan={"points": [10, 5]})
    across = image(specimen, scan={"x": [0.8, 1.2], "y": [-0.2, 0.4], "points": [4, 3]})
    expected = np.roll(whole, (2, 1), axis=(0, 1))[:4, :3]
    assert across == pytest.approx(expected, rel=1e-9, abs=1e-13)


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ["multislice", "probe_basis"])
@pytest.mark.parametrize("window", [None, 7.0])
def test_lines_and_lists_are_positions_of_an_image_scan(algorithm, window):
    specimen = srtio3((3, 3, 1))
    blocks: dict[str, Any] = {
        "simulation": {"precision": "double", "algorithm": algorithm, "basis_tolerance": 1e-6},
        "grating": {"gpts": [96, 96], "window_angstrom": window},
    }
    whole = image(specimen, scan={"points": [6, 6]}, **blocks)
    diagonal = {"begin": [0.0, 0.0], "end": [2.5 / 3, 2.5 / 3], "points": 6}
    line = image(specimen, scan={"line": diagonal}, **blocks)
    few = image(specimen, scan={"positions": [[0.5, 1 / 6], [0.0, 0.5], [5 / 6, 5 / 6]]}, **blocks)
    # Windows lie differently around the positions of a line than around those of an image.
    near = {"rel": 2e-3, "abs": 2e-4} if window else {"rel": 1e-4, "abs": 1e-9}
    assert line[:, 0] == pytest.approx(whole[range(6), range(6)], **near)
    assert few[:, 0] == pytest.approx(whole[[3, 0, 5], [1, 3, 5]], **near)


def test_a_line_is_blurred_along_and_across():
    specimen, source = srtio3((2, 2, 1)), 0.08
    whole = image(specimen, source, scan={"points": [20, 20]})
    line = {"begin": [0.0, 0.3], "end": [0.95, 0.3], "points": 20}
    blurred = image(specimen, source, 0.103, scan={"line": line})
    assert blurred.shape == (20, 1, 2)
    assert np.abs(blurred[:, 0] - whole[:, 6]).max() < 3e-3 * np.ptp(whole[..., 0])


# --- files --------------------------------------------------------------------------------------------------------


@pytest.fixture
def widened(tmp_path):
    fake = FakeCampaign.of(
        tmp_path, ScanEdges((None, 0), (2, 0), 0.2),
        simulation={"name": "tiny", "precision": "double"}, scan={"x": [0.25, 0.75], "points": [3, 4]},
        cbed={"enabled": True, "size": [4, 5]}, frozen_phonon={"configurations": 2},
    )  # fmt: skip
    fake.write_all()
    return fake


def test_job_files_hold_the_margin_and_the_result_does_not(widened):
    with netCDF4.Dataset(widened.result.job("p0d000", 0)) as job:
        assert job["images"]["haadf"].shape[-2:] == (7, 4)
        assert job["params/scan"].margin_positions == "[2, 0]"
    with netCDF4.Dataset(widened.merge()) as root:
        images = root["images"]
        assert images["haadf"].shape[-2:] == images["haadf_standard_error"].shape[-2:] == (3, 4)
        step = 0.05 * 7.81 / 3
        assert np.asarray(images["adf_position_x"][:]) == pytest.approx(0.25 * 0.781 + step * np.arange(3))
        expected = np.mean([widened.signals("p0d000", c).rings[2:5, :, -1, 1] for c in (0, 1)], axis=0)
        assert np.asarray(images["haadf"][0, 0, -1]) == pytest.approx(expected, rel=1e-12)
        patterns = np.mean([widened.signals("p0d000", c).cbed[2:5, :, -1] for c in (0, 1)], axis=0)
        found = np.asarray(root["cbed"]["cbed_intensities"][0, :, :, 0, -1, 0])
        assert found == pytest.approx(patterns, rel=1e-12)
        assert "source_is_cut" not in images.variables


@pytest.mark.parametrize(("source", "marked"), [(0.1, 0), (0.25, 8), (0.6, 12)])
def test_pixels_are_marked_where_the_source_exceeds_the_margin(tmp_path, source, marked):
    """Steps of 1.3 Å and 2 positions of margin: 2.6 Å are known beyond the first pixel, 3.9 Å beyond the second."""
    fake = FakeCampaign.of(
        tmp_path, ScanEdges((None, 0), (2, 0), 0.2), probe={"source_fwhm_nm": source},
        scan={"x": [0.25, 0.75], "points": [3, 4]}, frozen_phonon={"configurations": 2},
    )  # fmt: skip
    fake.write_all()
    warnings: list[str] = []
    with netCDF4.Dataset(fake.merge(warnings)) as root:
        marks = root["images"]["source_is_cut"][:]
        assert int(marks.sum()) == marked
        assert marks.shape == (3, 4)
        if marked == 8:
            assert marks[:, 0].tolist() == [1, 0, 1]
    assert ("source_is_cut" in "\n".join(warnings)) is (marked > 0)


def test_a_preview_shows_no_margin(widened):
    of = widened.experiment
    scan = widened.campaign.common_params["scan"]
    found = previews_of(of, widened.signals("p0d000", 0), srtio3(), scan)
    assert [keys["preview_width"] for keys in found] == [3] * len(of.images)


@pytest.mark.parametrize("kind", ["line", "positions"])
def test_results_hold_the_places_of_lines_and_lists(tmp_path, kind):
    line = {"begin": [0.0, 0.0], "end": [0.3, 0.4], "points": 3}
    scan = {"line": line} if kind == "line" else {"positions": [[0.0, 0.0], [0.15, 0.2], [0.3, 0.4]]}
    fake = FakeCampaign.of(
        tmp_path, simulation={"precision": "double"}, scan={"points": None, **scan}, frozen_phonon={"configurations": 2}
    )
    fake.write_all()
    with netCDF4.Dataset(fake.merge()) as root:
        for group in ("images", "adf"):
            x, y = (root[group][f"adf_probe_{axis}"] for axis in "xy")
            assert (x.shape, x.units) == ((3, 1), "nm")
            assert np.asarray(x[:, 0]) == pytest.approx([0.0, 0.15 * 0.781, 0.3 * 0.781])
            assert np.asarray(y[:, 0]) == pytest.approx([0.0, 0.2 * 0.781, 0.4 * 0.781])
        along = root["images"]["adf_position_x"]
        assert along.units == ("nm" if kind == "line" else "1")
        assert np.asarray(along[:]) == pytest.approx(np.arange(3) * (0.25 * 0.781 if kind == "line" else 1.0))


def test_an_elliptical_source_keeps_its_direction_along_a_slanted_line():
    """A line along 45° in the middle of a window is blurred like the window's positions on it."""
    specimen = aluminium()
    lx, ly = specimen.cell[:2]
    shape = SourceShape(ratio=0.25, rotation=math.radians(45))
    of, _ = made(specimen, scan={"line": {"begin": [0.25, 0.25], "end": [0.75, 0.75], "points": 9}})
    assert lx == ly
    turned = Blurring(2.0, (None, None), shape)
    across = Blurring(2.0, (None, None), replace(shape, rotation=math.radians(135)))
    images = np.zeros((9, 1))
    images[4] = 1.0
    # Along its axis the source is wide on this line, across it narrow.
    assert turned.applied(of, images)[4, 0] < 0.5 * across.applied(of, images)[4, 0]
    straight = Blurring(2.0, (None, None), SourceShape())
    assert turned.applied(of, images) == pytest.approx(straight.applied(of, images), rel=1e-6)
