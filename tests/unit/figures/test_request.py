"""Figures show the values of the result, with the right orientation and scale."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import netCDF4
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.image import imread
from matplotlib.offsetbox import AnchoredOffsetbox
from matplotlib.text import Text
from stemphony.errors import ResultError
from stemphony.figures import deflections
from stemphony.figures.images import bar_length, bar_text
from stemphony.figures.pictures import Treatment
from stemphony.figures.request import KINDS, Drawn, FigureRequest, draw
from stemphony.figures.style import DOTS_PER_INCH, SIZES, Style, save
from stemphony.results.opened import OpenedResult
from support.arrays import differences
from support.experiments import FakeCampaign

WEIGHTS = np.array([0.25, 0.75])
STEP_X, STEP_Y = 0.781 / 3, 0.781 / 4
QUADRANTS = {"inner_mrad": 0.0, "outer_mrad": 30.0, "segments": 4, "rotation_deg": 45.0}
ARGUMENTS: dict[str, dict[str, Any]] = {"profile": {"begin_nm": (0.0, 0.0), "end_nm": (0.4, 0.4)},
                                        "waves": {"defocus_nm": 2.5}}  # fmt: skip


def merged(folder: Path, **blocks: Any) -> FakeCampaign:
    fake = FakeCampaign.of(
        folder,
        **{
            "probe": {"defoci_nm": [2.5, 0.0], "defocus_weights": [1.0, 3.0]},
            "frozen_phonon": {"configurations": 2},
            "cbed": {"enabled": True, "size": [4, 5], "max_mrad": 20.0},
            "adf": {"segmented": {"q": QUADRANTS}, "integrated": True},
            "waves": {"probe": True, "exit": [[0.0, 0.0], [0.5, 0.25]], "depth_profile": True},
            **blocks,
        },
    )
    fake.write_all()
    fake.merge()
    return fake


@pytest.fixture(scope="module")
def fake(tmp_path_factory) -> FakeCampaign:
    return merged(tmp_path_factory.mktemp("figures"))


@pytest.fixture
def result(fake) -> Iterator[OpenedResult]:
    return OpenedResult(fake.result.merged)


def mean(fake: FakeCampaign, of: Any) -> np.ndarray:
    stacks = [[of(fake.signals(d.id, c)) for c in range(2)] for d in fake.campaign.defoci]
    return np.tensordot(WEIGHTS, np.mean(stacks, axis=1), axes=1)


def drawn(result: OpenedResult, kind: str = "images", **request: Any) -> Drawn:
    return draw(result, FigureRequest(kind, **{**ARGUMENTS.get(kind, {}), **request}), Style("column"))


def images_of(figure: Any) -> list[Any]:
    return [axes.images[0] for axes in figure.axes if axes.images]


@pytest.mark.slow
def test_an_image_has_x_to_the_right_y_up_and_percent_of_the_beam(fake, result):
    (image,) = images_of(drawn(result, detectors=["haadf"]).figure)
    expected = mean(fake, lambda s: s.rings[:, :, -1, 1])
    assert np.asarray(image.get_array()) == pytest.approx(100 * expected.T, rel=1e-5)
    assert image.origin == "lower"
    left, right, bottom, top = image.get_extent()
    # Pixels are centred on positions.
    assert (left, right) == pytest.approx((-STEP_X / 2, 0.781 - STEP_X / 2), rel=1e-5)
    assert (bottom, top) == pytest.approx((-STEP_Y / 2, 0.781 - STEP_Y / 2), rel=1e-5)


def test_detectors_and_depths_stand_side_by_side(fake, result):
    found = drawn(result, depths_nm=[0.39, 0.78])
    assert [(panel["detector"], round(panel["depth_nm"], 2)) for panel in found.records] == [
        ("bf", 0.39), ("haadf", 0.39), ("bf", 0.78), ("haadf", 0.78),
    ]  # fmt: skip
    assert len(images_of(found.figure)) == 4
    titles = [axes.get_title() for axes in found.figure.axes if axes.images]
    assert titles[3] == "HAADF, 0.781 nm\n40–60 mrad"


def test_tiles_are_interpolated_through_the_positions(fake, result):
    (panel,) = drawn(result, detectors=["haadf"], treatment=Treatment((2, 3), 4)).records
    values = np.array(panel["values"]).T
    assert values.shape == (2 * 3 * 4, 3 * 4 * 4)
    expected = mean(fake, lambda s: s.rings[:, :, -1, 1])
    assert values[::4, ::4] == pytest.approx(np.tile(expected, (2, 3)), rel=1e-5)
    assert panel["x_nm"][4] == pytest.approx(STEP_X, rel=1e-5)


@pytest.mark.slow
def test_copies_without_a_period_are_refused_unless_the_user_knows_better(tmp_path):
    part = OpenedResult(merged(tmp_path, scan={"x": [0.0, 0.3]}).result.merged)
    with pytest.raises(ResultError, match=r"--tile: the scan window does not repeat along x.*--periodic"):
        drawn(part, treatment=Treatment((2, 1)))
    assert drawn(part, treatment=Treatment((2, 1), is_periodic=True)).records
    (panel, _) = drawn(part, treatment=Treatment((1, 2), 4)).records
    assert np.shape(panel["values"]) == (2 * 4 * 4, 4 * 2 + 1)
    assert panel["notes"] == ["spline along x, where the window does not repeat"]


@pytest.mark.slow
def test_a_source_at_plot_time_is_the_source_of_a_merge(tmp_path, result):
    blurred = merged(
        tmp_path,
        probe={"defoci_nm": [2.5, 0.0], "defocus_weights": [1.0, 3.0], "source_fwhm_nm": 0.2},
    )
    stored = OpenedResult(blurred.result.merged)
    (first, _), (second, _) = drawn(stored).records, drawn(result, treatment=Treatment(source_nm=0.2)).records
    assert np.array(first["values"]) == pytest.approx(np.array(second["values"]), rel=1e-5)
    # Squares of widths add, so a blurred result can be blurred further.
    (third, _), (fourth, _) = (drawn(one, treatment=Treatment(source_nm=0.3)).records for one in (stored, result))
    assert np.array(third["values"]) == pytest.approx(np.array(fourth["values"]), rel=1e-5)
    with pytest.raises(ResultError, match=r"--source: got 0\.1 nm; the result is blurred with 0\.2 nm already"):
        drawn(stored, treatment=Treatment(source_nm=0.1))


def test_a_source_of_another_shape_takes_no_further_source(tmp_path):
    probe = {"defoci_nm": [2.5, 0.0], "source_fwhm_nm": 0.2, "source_shape": "lorentzian"}
    stored = OpenedResult(merged(tmp_path, probe=probe).result.merged)
    assert drawn(stored).records
    with pytest.raises(ResultError, match="--source: the result is blurred with a source that is no round Gaussian"):
        drawn(stored, treatment=Treatment(source_nm=0.3))


def test_a_dose_counts_whole_electrons_in_each_scan_step(fake, result):
    dose = 20.0
    (panel,) = drawn(result, detectors=["haadf"], treatment=Treatment((4, 4), dose=dose, seed=2)).records
    counts = np.array(panel["values"]) * dose * STEP_X * STEP_Y * 100
    assert counts == pytest.approx(np.rint(counts), abs=1e-4)
    expected = mean(fake, lambda s: s.rings[:, :, -1, 1]).mean() * dose * STEP_X * STEP_Y * 100
    assert counts.mean() == pytest.approx(expected, abs=5 * np.sqrt(expected / counts.size))
    assert "20 electrons per Å²" in panel["notes"][0]


def test_standard_errors_are_drawn_on_request(result):
    (panel,) = drawn(result, detectors=["haadf"], treatment=Treatment(shows_errors=True)).records
    assert pytest.approx(result.signal("haadf").errors) == np.array(panel["values"]).T
    with pytest.raises(ResultError, match="cannot be combined"):
        drawn(result, treatment=Treatment(shows_errors=True, dose=5.0))


def test_atoms_lie_where_they_are(fake, result):
    figure = drawn(result, detectors=["haadf"], shows_atoms=True, treatment=Treatment(finer=16)).figure
    offsets = np.asarray(figure.axes[0].collections[0].get_offsets())
    columns = np.unique(np.round(np.mod(fake.specimen.positions[:, :2] / 10, 0.781), 3), axis=0)
    apart = offsets[:, None] - columns
    apart -= 0.781 * np.rint(apart / 0.781)
    assert np.hypot(*np.moveaxis(apart, -1, 0)).min(axis=1).max() < 2e-3
    # Also those on the far edges of the window, half a pixel beyond the last pixels.
    found = {(round(x, 2), round(y, 2)) for x, y in offsets}
    assert {(0.0, 0.0), (0.78, 0.0), (0.0, 0.78), (0.78, 0.78)} <= found
    # Rings: the image is seen through them.
    assert [ring for ring in figure.axes[0].collections if ring.get_facecolor().size != 0] == []
    (legend,) = figure.legends
    assert {text.get_text() for text in legend.get_texts()} == {"Sr", "Ti", "O"}


@pytest.mark.slow
@pytest.mark.parametrize(("copies", "is_thin"), [(1, False), (6, True)])
def test_small_rings_are_thin_so_that_the_image_is_seen_through_them(result, copies, is_thin):
    treatment = Treatment((copies, copies))
    figure = drawn(result, detectors=["haadf"], shows_atoms=True, treatment=treatment).figure
    axes = figure.axes[0]
    left, right = axes.get_xlim()
    points_per_nm = 72 * figure.get_figwidth() * axes.get_position().width / (right - left)
    for collection, factor in zip(axes.collections, (2, 1), strict=True):  # the dark line below, and the ring
        radii = np.asarray(collection.get_widths()) / 2 * points_per_nm
        expected = 0.4 * radii if is_thin else SIZES["column"][1] / 7
        assert np.asarray(collection.get_linewidths()) == pytest.approx(factor * expected)


@pytest.mark.slow
def test_the_name_of_a_colour_bar_does_not_reach_into_the_next_row(tmp_path):
    wide = OpenedResult(merged(tmp_path, scan={"y": [0.0, 0.25]}).result.merged)
    figure = drawn(
        wide, detectors=["haadf", "bf"], depths_nm=[0.39, 0.78], treatment=Treatment(shows_errors=True)
    ).figure
    figure.draw_without_rendering()
    names = [axes.yaxis.label for axes in figure.axes if axes.get_ylabel()]
    assert [name.get_text() for name in names] == ["error (% of the beam)"] * 4
    upper, lower = (names[index].get_window_extent() for index in (0, 2))
    assert lower.y1 <= upper.y0
    assert names[0].get_size() > 3.4  # small, but read


def test_curves_have_a_panel_for_each_detector_with_bands(fake, result):
    found = drawn(result, "curves")
    assert [axes.get_title() for axes in found.figure.axes] == ["BF, 0–10 mrad", "HAADF, 40–60 mrad"]
    for index, (axes, panel) in enumerate(zip(found.figure.axes, found.records, strict=True)):
        signals = mean(fake, lambda s, index=index: s.rings[..., index])
        (line,) = axes.get_lines()
        assert np.asarray(line.get_xdata()) == pytest.approx([0.3905, 0.781], rel=1e-5)
        assert np.asarray(line.get_ydata()) == pytest.approx(100 * signals.mean(axis=(0, 1)), rel=1e-5)
        assert panel["smallest"] == pytest.approx(signals.min(axis=(0, 1)), rel=1e-5)
        errors = [signal.errors.mean() for signal in result.signals(["bf", "haadf"][index])]
        assert panel["standard_errors"] == pytest.approx(errors)
        assert len(axes.collections) == 2


def test_a_curve_of_one_depth_has_bars_where_others_have_bands(tmp_path):
    result = OpenedResult(merged(tmp_path, depths={"every_angstrom": None}).result.merged)
    found = drawn(result, "curves", detectors=["haadf"])
    (panel,) = found.records
    (axes,) = found.figure.axes
    assert len(panel["x"]) == 1
    spread, error = (bar.get_segments()[0] for bar in axes.collections)
    assert spread[:, 1] == pytest.approx([100 * panel["smallest"][0], 100 * panel["largest"][0]])
    value, apart = 100 * panel["values"][0], 100 * panel["standard_errors"][0]
    assert error[:, 1] == pytest.approx([value - apart, value + apart])
    assert [text.get_text() for text in axes.get_xticklabels()] == ["0.781"]


def test_a_profile_has_its_error_band(result):
    found = drawn(result, "profile", detectors=["haadf"], begin_nm=(0.0, 0.0), end_nm=(0.0, 0.781))
    (panel,) = found.records
    image = result.signal("haadf")
    assert panel["values"][0] == pytest.approx(image.values[0, 0])
    assert panel["standard_errors"][0] == pytest.approx(image.errors[0, 0])
    assert panel["x"][-1] == pytest.approx(0.781)
    assert len(found.figure.axes[0].collections) == 1


def test_a_pattern_has_kx_to_the_right_in_mrad_and_a_scale_of_its_data(fake, result):
    found = drawn(result, "pattern")
    (image,) = images_of(found.figure)
    expected = 100 * mean(fake, lambda s: s.cbed[:, :, -1]).mean(axis=(0, 1)).T
    assert np.asarray(image.get_array()) == pytest.approx(expected, rel=1e-5)
    assert (image.norm.vmin, image.norm.vmax) == pytest.approx(
        (min(expected.min(), expected.max() / 2), expected.max())
    )
    left, right, bottom, top = image.get_extent()
    kx = found.records[0]["kx_mrad"]
    assert left < kx[0] < kx[-1] < right
    assert found.figure.axes[0].get_xlabel() == "kx (mrad)"
    # The ring of the bright-field detector, and none of the one beyond the pattern.
    radii = {round(float(np.hypot(*line.get_data()).max()), 6) for line in found.figure.axes[0].get_lines()}
    assert 10.0 in radii
    assert 40.0 not in radii
    assert bottom < top


def test_the_centre_of_mass_is_drawn_with_its_direction(fake, result):
    (panel,) = drawn(result, "com").records
    moments = mean(fake, lambda s: 1e3 * s.center_of_mass[:, :, -1] * s.total[:, :, -1, None])
    expected = moments / mean(fake, lambda s: s.total[:, :, -1, None])
    # The merge averages the centres of the patterns, weighted with their intensity.
    assert pytest.approx(expected[..., 0], rel=1e-4) == np.array(panel["x_mrad"]).T
    assert pytest.approx(expected[..., 1], rel=1e-4) == np.array(panel["y_mrad"]).T


def test_segments_show_the_deflection_by_their_own_name(fake, result):
    (panel,) = drawn(result, "dpc").records
    assert panel["what"] == "DPC"
    for axis in "xy":
        assert pytest.approx(result.signal(f"dpc_{axis}").values) == np.array(panel[f"{axis}_mrad"]).T
    # Differences of opposite quadrants, which look to +y, −x, −y and +x.
    quadrants = [result.signal(f"q_{i}").values for i in range(4)]
    factor = 20 * np.pi / (4 * np.sin(np.pi / 4))
    assert pytest.approx(factor * (quadrants[3] - quadrants[1]), abs=1e-4) == np.array(panel["x_mrad"]).T
    assert pytest.approx(factor * (quadrants[0] - quadrants[2]), abs=1e-4) == np.array(panel["y_mrad"]).T
    with pytest.raises(ResultError, match=r"dpc needs one segmented detector \(--detector\)"):
        drawn(result, "dpc", detectors=["haadf"])


def test_a_result_without_segments_has_no_dpc(tmp_path):
    plain = OpenedResult(merged(tmp_path, adf={}).result.merged)
    with pytest.raises(ResultError, match=r"has no DPC. Name a detector with three or more sectors"):
        drawn(plain, "dpc")


@pytest.mark.slow
def test_one_of_two_segmented_detectors_is_chosen(tmp_path):
    both = {"segmented": {"q": QUADRANTS, "r": {**QUADRANTS, "inner_mrad": 5.0}}}
    result = OpenedResult(merged(tmp_path, adf=both).result.merged)
    with pytest.raises(ResultError, match=r"has q, r\."):
        drawn(result, "dpc")
    (panel,) = drawn(result, "dpc", detectors=["r"]).records
    assert pytest.approx(result.signal("r_dpc_x").values) == np.array(panel["x_mrad"]).T


def test_phases_are_images_in_radian(result):
    found = drawn(result, detectors=["haadf", "idpc"])
    assert [panel["unit"] for panel in found.records] == ["fraction of the incident beam", "rad"]
    bars = [axes.get_ylabel() for axes in found.figure.axes if axes.get_ylabel()]
    assert bars == ["% of the beam", "rad"]
    values = np.asarray(images_of(found.figure)[1].get_array())
    assert values == pytest.approx(result.signal("idpc").values.T)
    with pytest.raises(ResultError, match="--source and --dose belong to intensities; idpc is in rad"):
        drawn(result, detectors=["idpc"], treatment=Treatment(dose=10.0))


def test_the_ring_of_a_shifted_detector_is_drawn_about_its_middle(tmp_path):
    shifted = {**QUADRANTS, "outer_mrad": 12.0, "offset_mrad": [5.0, -3.0]}
    fake = merged(tmp_path, adf={"segmented": {"q": shifted}, "detectors": {"bf": [0.0, 7.0]}})
    axes = drawn(OpenedResult(fake.result.merged), "pattern").figure.axes[0]
    # From the bright-field detector, the quadrants, and the edge of the disk.
    boxes = [(line.get_xdata().min(), line.get_xdata().max(), line.get_ydata().max()) for line in axes.lines]
    assert sorted(boxes) == [pytest.approx(box) for box in [(-20, 20, 20), (-7, 7, 7), (-7, 17, 9)]]


def test_segments_are_one_ring_over_a_pattern(result):
    (legend,) = drawn(result, "pattern").figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["BF", "q"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_figure_of_a_preview_says_so(fake, tmp_path, kind):
    copy = tmp_path / "preview.nc"
    copy.write_bytes(fake.result.merged.read_bytes())
    with netCDF4.Dataset(copy, "a") as root:
        root.setncatts({"partial": 1, "num_pairs_in": 3, "num_pairs_missing": 9})
    found = drawn(OpenedResult(copy), kind)
    assert found.remarks == ("PREVIEW of an unfinished run: 3 of 12 pairs",)
    written = [text.get_text().replace("\n", " ") for text in found.figure.findobj(Text)]
    assert any(text.startswith(found.remarks[0]) for text in written), written


def test_waves_are_drawn_with_x_to_the_right_and_depth_downwards(fake, result):
    of_defocus = [fake.signals(fake.campaign.defocus("p2d500").id, c).stored for c in range(2)]
    wave = 10 * np.mean([one.exit_wave[1] for one in of_defocus], axis=0)
    section = 100 * np.mean([one.section[1] for one in of_defocus], axis=0)
    found = drawn(result, "waves", at_nm=(0.3905, 0.19525))
    amplitude, phase, depth, probe = images_of(found.figure)
    assert np.asarray(amplitude.get_array()) == pytest.approx(np.abs(wave).T, rel=1e-5)
    shown = np.ma.masked_invalid(phase.get_array())
    assert np.ma.abs(shown - np.angle(wave).T).max() < 1e-5
    assert not differences(shown.mask, 0.01 * np.abs(wave).max() > np.abs(wave).T)
    assert np.asarray(depth.get_array()) == pytest.approx(np.sqrt(section).T, rel=1e-5)
    left, right, bottom, top = depth.get_extent()
    assert (left, right) == pytest.approx((-0.781 / 128, 0.781 * (1 - 1 / 128)), rel=1e-5)
    assert bottom > 0.781 > top
    assert depth.origin == "upper"
    assert [image.axes.get_ylabel() for image in (probe, depth)] == ["y (nm)", "depth (nm)"]
    assert np.unravel_index(probe.get_array().argmax(), (64, 64)) == (32, 32)
    assert sum(probe.get_extent()[:2]) == pytest.approx(-0.781 / 64, rel=1e-4)  # point 32 of 64 is at 0
    record = found.records[2]
    assert (record["what"], record["unit"]) == ("depth_section", "nm-2")
    assert record["at_nm"] == pytest.approx((0.3905, 0.19525), rel=1e-5)
    assert np.array(record["values"]).shape == (len(record["depth_nm"]), len(record["x_nm"]))
    for wrong, what in (({"defocus_nm": None}, "Choose one with --defocus"), ({"at_nm": (0.1, 0.1)}, r"at \(0, 0\)")):
        with pytest.raises(ResultError, match=what):
            drawn(result, "waves", **wrong)


def test_arrows_lie_at_the_same_places_of_each_copy(result):
    one = deflections.deflection(
        result.positions, np.ones((12, 12, 2)), 1.0, Treatment((3, 3), 8, is_periodic=True), "DPC", None
    )
    assert one.values_mrad.shape == (288, 288, 2)
    assert 96 % deflections.arrow_step(one, 20) == 0
    assert 288 / deflections.arrow_step(one, 20) <= 20


def test_each_direction_has_its_colour_and_zero_is_black():
    from stemphony.figures.deflections import colours

    vectors = np.array([[1.0, 0.0], [0.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    red, black, cyan, up, down = colours(vectors, 1.0)
    assert red == pytest.approx([1, 0, 0])
    assert black == pytest.approx([0, 0, 0])
    assert cyan == pytest.approx([0, 1, 1])
    assert up == pytest.approx([0.5, 1, 0])
    assert down == pytest.approx([0.5, 0, 1])


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("size", "background", "end"), [("slide", "light", "pdf"), ("column", "dark", "svg")])
def test_every_kind_is_written_in_every_format(result, tmp_path, kind, size, background, end):
    request = FigureRequest(kind, **ARGUMENTS.get(kind, {}))
    file = tmp_path / f"figure.{end}"
    figure = draw(result, request, Style(size, background)).figure
    save(figure, file)
    assert file.read_bytes()[:5] == {"pdf": b"%PDF-", "svg": b"<?xml"}[end]
    assert figure.get_figwidth() <= SIZES[size][0] / 2.54 * (1 + 1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_figure_for_a_column_is_no_wider_than_the_column(result, tmp_path, kind):
    treatment = Treatment((1, 1) if kind in ("curves", "profile", "pattern", "waves") else (2, 2))
    # The made-up pattern spans no power of ten, so its logarithmic bar would have other numbers than real ones.
    request = FigureRequest(kind, is_linear=kind == "pattern", treatment=treatment, **ARGUMENTS.get(kind, {}))
    save(draw(result, request, Style("column")).figure, tmp_path / "figure.png")
    dots = imread(tmp_path / "figure.png").shape[1]
    assert dots <= DOTS_PER_INCH * (8.6 / 2.54 + 2 * 0.04) + 1  # with the margins of the file


def test_a_style_file_comes_on_top(result, tmp_path):
    style = tmp_path / "mine.mplstyle"
    style.write_text("figure.facecolor: 00ff00\n")
    figure = draw(result, FigureRequest(), Style("column", "dark", style)).figure
    assert figure.get_facecolor() == (0.0, 1.0, 0.0, 1.0)


@pytest.mark.parametrize(
    ("kind", "request_", "option"),
    [
        ("curves", {"treatment": Treatment((2, 2))}, "--tile"),
        ("pattern", {"detectors": ["bf"]}, "--detector"),
        ("images", {"at_nm": (0.0, 0.0)}, "--at"),
        ("images", {"is_linear": True}, "--linear"),
        ("com", {"detectors": ["q"]}, "--detector"),
        ("profile", {"treatment": Treatment(dose=1.0)}, "--dose"),
    ],
)
def test_an_option_without_effect_is_refused(result, kind, request_, option):
    with pytest.raises(ResultError, match=f"{option} has no effect on {kind}"):
        drawn(result, kind, **request_)


@pytest.mark.parametrize(
    ("width", "length", "text"), [(0.39, 0.1, "1 Å"), (1.17, 0.5, "5 Å"), (2.3, 1.0, "1 nm"), (50.0, 20.0, "20 nm")]
)
def test_a_scale_bar_has_a_round_length(width, length, text):
    assert bar_length(width) == pytest.approx(length)
    assert bar_text(bar_length(width)) == text


def scale_bar_of(figure: Any) -> AnchoredOffsetbox:
    (bar,) = [one for axes in figure.axes for one in axes.artists if isinstance(one, AnchoredOffsetbox)]
    return bar


def test_the_scale_bar_is_as_long_as_it_says(result):
    bar, text = scale_bar_of(drawn(result, detectors=["haadf"]).figure).get_child().get_children()
    assert text.get_text() == "2 Å"
    assert bar.get_children()[0].get_width() == pytest.approx(0.2)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["images", "com"])
@pytest.mark.parametrize("background", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_the_scale_bar_hides_nothing_and_is_visible(result, kind, background, size):
    request = FigureRequest(kind, depths_nm=[0.39, 0.78], shows_atoms=True)
    figure = draw(result, request, Style(size, background)).figure
    figure.draw_without_rendering()
    shown = scale_bar_of(figure)
    place = shown.get_window_extent()
    (text, ground) = (to_rgb(one) for one in (shown.get_child().get_children()[1]._text.get_color(),
                                              figure.get_facecolor()))  # fmt: skip
    assert abs(np.mean(text) - np.mean(ground)) > 0.5
    others = [axes.get_window_extent() for axes in figure.axes]
    others += [one.get_window_extent() for one in (*figure.texts, *figure.legends) if one.get_visible()]
    others += [axes.title.get_window_extent() for axes in figure.axes if axes.get_title()]
    assert [other for other in others if place.overlaps(other)] == [], f"the scale bar at {place} lies on these"
    assert figure.bbox.x0 <= place.x0
    assert figure.bbox.y0 <= place.y0


def test_each_colour_bar_names_its_unit(result):
    for kind, names in (("images", ["% of the beam"] * 4), ("pattern", ["% per pixel"] * 2)):
        figure = drawn(result, kind, depths_nm=[0.39, 0.78]).figure
        bars = [one.colorbar.ax for axes in figure.axes for one in axes.images if one.colorbar]
        assert [axes.get_ylabel() for axes in bars] == names
        figure.draw_without_rendering()
        images = [axes.get_window_extent() for axes in figure.axes if axes.images]
        for axes in bars:
            label = axes.yaxis.label.get_window_extent()
            assert [image for image in images if label.overlaps(image)] == [], (
                f"the label of a colour bar at {label} lies on these"
            )
            assert label.x1 <= figure.bbox.x1
