"""Config units become internal units, and settings that do not fit the cell are refused."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import pytest
from stemphony.errors import ConfigError
from stemphony.experiment.model import Experiment, detector_names, rounded_down
from support.experiments import experiment, tiny

MRAD = 1e-3
WAVELENGTH = 0.0250793  # Å, at 200 keV


def resolved(cell: tuple[float, float, float], **blocks: Any) -> Experiment:
    """An experiment with the defaults of the contract instead of those of the tiny campaign."""
    free: dict[str, dict[str, Any]] = {
        "grating": {"gpts": None, "slice_thickness_angstrom": 2.0},
        "scan": {"points": [1, 1]},
        "depths": {"every_angstrom": None},
        "adf": {"bins": None, "max_mrad": None, "detectors": None},
    }
    for block, values in blocks.items():
        free[block] = {**free.get(block, {}), **values}
    if free["grating"]["gpts"] is not None:
        free["grating"].pop("sampling_angstrom", None)
    return experiment(cell, **free)


def refusal(cell: tuple[float, float, float], *parts: str, **blocks: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        resolved(cell, **blocks)
    for part in parts:
        assert part in str(caught.value), str(caught.value)
    return str(caught.value)


# --- units --------------------------------------------------------------------------------------------------------


def test_config_units_become_internal_units():
    made = resolved(
        (10.0, 10.0, 20.0),
        probe={
            "energy_kev": 300.0,
            "semiangle_mrad": 21.0,
            "semiangle_inner_mrad": 7.0,
            "aberrations": {"C30_nm": -40.0, "C12_nm": 2.5, "phi12_deg": 30.0, "C56_nm": 1e6, "phi56_deg": -180.0},
        },
        adf={"detectors": {"haadf": [60.0, 120.0]}},
        cbed={"enabled": True, "max_mrad": 45.0, "size": [9, 7]},
    )
    assert made.energy == 300e3
    assert (made.semiangle, made.semiangle_inner) == pytest.approx((0.021, 0.007))
    assert made.aberrations == pytest.approx(
        {"C30": -400.0, "C12": 25.0, "phi12": math.pi / 6, "C56": 1e7, "phi56": -math.pi}
    )
    assert made.rings["haadf"] == pytest.approx((0.060, 0.120))
    assert made.cbed_max == pytest.approx(0.045)
    assert made.cbed_size == (9, 7)
    # At 300 kV: λ = 1.96875 pm and σ = 0.65262·10⁻³ rad/(V·Å), as tabulated.
    assert made.wavelength == pytest.approx(0.0196875, rel=1e-5)
    assert made.interaction == pytest.approx(0.65262e-3, rel=1e-4)


@pytest.mark.parametrize(("precision", "bytes_per_number"), [("single", (4, 8)), ("double", (8, 16))])
def test_precision_decides_the_numbers(precision, bytes_per_number):
    made = experiment(simulation={"precision": precision})
    assert (made.real_dtype.itemsize, made.complex_dtype.itemsize) == bytes_per_number


def test_order_of_keys_changes_nothing():
    def reversed_keys(value: Any) -> Any:
        return {k: reversed_keys(v) for k, v in reversed(value.items())} if isinstance(value, dict) else value

    config = tiny(adf={"detectors": {"b": [0.0, 10.0], "a": [10.0, 20.0]}}, probe={"aberrations": {"C30_nm": 1.0}})
    one, other = (Experiment.of(keys, (8, 8, 8), None) for keys in (config, reversed_keys(config)))
    assert one == other
    assert list(one.rings) == list(other.rings)


# --- grid ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cell", "sampling", "gpts"),
    [
        ((39.05, 39.05, 10.0), 0.05, (784, 784)),  # 781 = 11·71; 784 = 2⁴·7²
        ((3.905, 7.81, 10.0), 0.05, (80, 160)),  # 78.1 and 156.2; 79 and 157 are prime, 158 = 2·79
        ((10.0, 20.0, 10.0), 0.1, (100, 200)),
        ((0.3 * 10, 10.0, 10.0), 0.1, (30, 100)),  # 0.3·10/0.1 is above 30 by rounding only
    ],
)
def test_sampling_becomes_the_next_size_with_fast_ffts(cell, sampling, gpts):
    made = resolved(cell, grating={"sampling_angstrom": sampling}, probe={"semiangle_mrad": 5.0})
    assert made.grid.gpts == gpts
    assert max(made.grid.sampling) <= sampling * (1 + 1e-9)


def test_given_points_are_kept_with_a_note_if_ffts_are_slow():
    made = resolved((10.0, 10.0, 10.0), grating={"gpts": [260, 256]})
    assert made.grid.gpts == (260, 256)
    (note,) = made.notes
    assert "260" in note
    assert "270" in note
    assert not resolved((10.0, 10.0, 10.0), grating={"gpts": [256, 252]}).notes


def test_band_limit_is_that_of_the_coarser_axis():
    made = resolved((10.0, 20.0, 10.0), grating={"gpts": [200, 200]})
    # d = 0.1 Å, so two thirds of 5 Å⁻¹.
    assert made.band_limit_angle == pytest.approx(0.6666666 * 5.0 * WAVELENGTH, rel=1e-5)


def test_a_sampling_too_fine_for_any_memory_is_refused():
    refusal((10.0, 10.0, 10.0), "sampling_angstrom", "65536", grating={"sampling_angstrom": 1e-6})


# --- slices and depths --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("length", "thickness", "slices"), [(101.53, 2.0, 51), (7.81, 1.9525, 4), (10.0, 10.0, 1), (10.0, 9.99, 2)]
)
def test_slices_are_equal_and_at_most_as_thick_as_asked(length, thickness, slices):
    made = resolved((10.0, 10.0, length), grating={"slice_thickness_angstrom": thickness})
    assert made.slices == slices
    assert made.slice_thickness == pytest.approx(length / slices)


def test_a_slice_thicker_than_the_cell_is_refused_with_a_thickness_that_is_not():
    length = 3.905678
    text = refusal((10.0, 10.0, length), "slice_thickness", grating={"slice_thickness_angstrom": 4.0})
    thickest = float(re.search(r"only ([\d.]+) Å thick", text)[1])  # type: ignore[index]
    assert resolved((10.0, 10.0, length), grating={"slice_thickness_angstrom": thickest}).slices == 1


@pytest.mark.parametrize(
    ("depths", "expected"),
    [
        ({}, [10]),
        ({"every_angstrom": 2.4}, [2, 5, 7, 10]),  # 2.4, 4.8, 7.2, 9.6
        ({"every_angstrom": 3.0}, [3, 6, 9, 10]),
        ({"every_angstrom": 5.0}, [5, 10]),
        ({"every_angstrom": 0.3}, list(range(1, 11))),
        ({"every_angstrom": 1e-9}, list(range(1, 11))),
        ({"every_angstrom": 99.0}, [10]),
        ({"at_angstrom": [9.6, 2.6]}, [3, 10]),
        ({"at_angstrom": [4.1, 3.9, 4.0]}, [4]),
        ({"at_angstrom": [10.0]}, [10]),
        ({"at_angstrom": [0.6, 1.4]}, [1]),
    ],
)
def test_depths_are_the_nearest_slice_boundaries(depths, expected):
    made = resolved(
        (10.0, 10.0, 10.0), grating={"slice_thickness_angstrom": 1.0}, depths={"every_angstrom": None, **depths}
    )
    assert list(made.depth_slices) == expected
    assert made.depths == pytest.approx([float(n) for n in expected])


@pytest.mark.parametrize("depth", [0.2, 10.2, 1000.0])
def test_a_depth_outside_the_specimen_is_refused(depth):
    refusal(
        (10.0, 10.0, 10.0), "depths.at_angstrom", f"{depth:g}", "10 Å",
        grating={"slice_thickness_angstrom": 1.0}, depths={"every_angstrom": None, "at_angstrom": [5.0, depth]},
    )  # fmt: skip


# --- scan ---------------------------------------------------------------------------------------------------------


def test_scan_covers_its_window_without_the_end():
    made = resolved((8.0, 20.0, 10.0), scan={"x": [0.25, 0.75], "y": [0.0, 1.0], "points": [4, 5]})
    assert made.scan_x == pytest.approx([2.0, 3.0, 4.0, 5.0])
    assert made.scan_y == pytest.approx([0.0, 4.0, 8.0, 12.0, 16.0])
    assert made.positions == 20


def test_a_step_that_divides_the_window_is_as_good_as_points():
    window = {"x": [0.0, 0.125], "y": [0.0, 0.125]}
    stepped = resolved((31.24, 31.24, 10.0), scan={**window, "points": None, "step_angstrom": 3.905 / 16})
    assert len(stepped.scan_x) == 16
    counted = resolved((31.24, 31.24, 10.0), scan={**window, "points": [16, 16]})
    assert stepped.scan_x == pytest.approx(counted.scan_x)


@pytest.mark.parametrize("step", [0.3, 0.7, 1.7, 3.3, 12.0, 0.0123, 3.90501, 3.9049])
def test_a_step_that_does_not_divide_is_refused_with_the_nearest_that_do(step):
    cell = (31.24, 31.24, 10.0)
    window = {"x": [0.0, 0.125], "y": [0.5, 0.625], "points": None}
    text = refusal(cell, "scan.step_angstrom", f"got {step:g}", scan={**window, "step_angstrom": step})
    steps = [float(number) for number in re.findall(r"([\d.]+) \(\d+ points\)", text)]
    assert len(steps) == 2
    for suggested in steps:
        made = resolved(cell, scan={**window, "step_angstrom": suggested})
        assert len(made.scan_x) * suggested == pytest.approx(3.905, rel=1e-6)
    # Nearest: no whole number of steps fits between the two, unless even one step is longer than the window.
    assert min(steps) < step < max(steps) or step > 3.905


@pytest.mark.parametrize(
    ("step", "shape"),
    [(0.3, (14, 27)), ([0.3, 1.0], (14, 8)), (3.905, (1, 2)), (5.0, (1, 2)), (3.905 / 7, (7, 14)), (0.2441, (16, 32))],
)
def test_a_step_that_is_a_limit_is_rounded_down_to_divide_each_axis(step, shape):
    cell = (31.24, 31.24, 10.0)
    window = {"x": [0.0, 0.125], "y": [0.5, 0.75], "points": None, "step": "at_most"}
    made = resolved(cell, scan={**window, "step_angstrom": step})
    assert (len(made.scan_x), len(made.scan_y)) == shape
    limits = step if isinstance(step, list) else [step, step]
    for width, count, limit in zip((3.905, 7.81), shape, limits, strict=True):
        assert width / count <= limit * (1 + 1e-4)
        assert count == 1 or width / (count - 1) > limit


def test_a_step_may_differ_along_the_axes():
    made = resolved((31.24, 31.24, 10.0), scan={"points": None, "step_angstrom": [3.905, 7.81]})
    assert (len(made.scan_x), len(made.scan_y)) == (8, 4)
    refusal((31.24, 31.24, 10.0), "scan.step_angstrom", "along y", scan={"points": None, "step_angstrom": [3.905, 7.0]})


def test_a_step_with_too_many_positions_is_refused():
    refusal((8.0, 8.0, 8.0), "scan.step_angstrom", "65536", scan={"points": None, "step_angstrom": 1e-9})


# --- detectors ----------------------------------------------------------------------------------------------------


def test_bins_are_one_mrad_wide_up_to_the_band_limit():
    made = resolved((10.0, 10.0, 10.0), grating={"gpts": [200, 200]})
    limit = made.band_limit_angle / MRAD
    edges = np.array(made.bins) / MRAD
    assert edges[0] == 0.0
    assert np.diff(edges) == pytest.approx(1.0)
    assert limit - 1 < edges[-1] <= limit


def test_bins_are_one_mrad_wide_from_wherever_they_begin():
    edges = np.array(resolved((10.0, 10.0, 10.0), grating={"gpts": [200, 200]}, adf={"min_mrad": 12.3}).bins) / MRAD
    assert edges[0] == pytest.approx(12.3)
    assert np.diff(edges) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("adf", "expected"),
    [
        ({"bins": 4, "max_mrad": 40.0}, [0, 10, 20, 30, 40]),
        ({"bins": 2, "min_mrad": 10.0, "max_mrad": 20.0}, [10, 15, 20]),
        ({"bins": 4, "max_mrad": 64.0, "interval_exponent": 2.0}, [0, 4, 16, 36, 64]),
        ({"max_mrad": 3.0}, [0, 1, 2, 3]),
    ],
)
def test_bins_follow_the_config(adf, expected):
    made = resolved((10.0, 10.0, 10.0), grating={"gpts": [200, 200]}, adf=adf)
    assert np.array(made.bins) / MRAD == pytest.approx(expected)


def test_given_bins_reach_the_band_limit():
    made = resolved((10.0, 10.0, 10.0), grating={"gpts": [200, 200]}, adf={"bins": 7})
    assert len(made.bins) == 8
    assert made.bins[-1] == pytest.approx(made.band_limit_angle)


def test_bins_that_coincide_are_refused():
    refusal((10.0, 10.0, 10.0), "interval_exponent", adf={"interval_exponent": 300.0})


def test_bins_that_begin_beyond_the_band_limit_are_refused():
    refusal((10.0, 10.0, 10.0), "adf.min_mrad", "band limit", adf={"min_mrad": 900.0})


@pytest.mark.parametrize(
    ("semiangle", "gpts", "expected"),
    [
        # HAADF from three times the semi-angle to ten times it, or to α before the band limit, 167.2 mrad with 200
        # points, or to the band limit, 108.7 mrad with 130 points.
        (10.0, 400, {"bf": (0, 5), "abf": (5, 10), "haadf": (30, 100)}),
        (25.0, 400, {"bf": (0, 12.5), "abf": (12.5, 25), "haadf": (75, 250)}),
        (25.0, 200, {"bf": (0, 12.5), "abf": (12.5, 25), "haadf": (75, 142.196)}),
        (25.0, 130, {"bf": (0, 12.5), "abf": (12.5, 25), "haadf": (75, 108.677)}),
    ],
)
def test_derived_detectors_follow_semiangle_and_band_limit(semiangle, gpts, expected):
    made = resolved((10.0, 10.0, 10.0), grating={"gpts": [gpts, gpts]}, probe={"semiangle_mrad": semiangle})
    assert {name: np.array(ring) / MRAD for name, ring in made.rings.items()} == {
        name: pytest.approx(np.array(ring), rel=1e-5) for name, ring in expected.items()
    }


@pytest.mark.parametrize("semiangle", [2.0, 10.0, 20.0, 30.0, 60.0, 80.0])
def test_derived_detectors_are_rings_on_the_grid(semiangle):
    made = resolved((10.0, 10.0, 10.0), grating={"gpts": [100, 100]}, probe={"semiangle_mrad": semiangle})
    assert tuple(made.rings) == detector_names({"enabled": True, "detectors": None}) == ("bf", "abf", "haadf")
    for inner, outer in made.rings.values():
        assert 0 <= inner < outer <= made.band_limit_angle * (1 + 1e-9)
    assert made.rings["haadf"][0] > made.semiangle


def test_switched_off_detectors_are_empty():
    made = experiment(adf={"enabled": False}, cbed={"enabled": True})
    assert not made.adf
    assert made.bins == ()
    assert made.rings == {}
    assert not made.center_of_mass
    assert detector_names({"enabled": False, "detectors": None}) == ()
    assert experiment().cbed_max is None


def test_an_angle_beyond_any_grid_is_refused_without_a_suggested_grid():
    text = refusal((10.0, 10.0, 10.0), "adf.max_mrad", "at most", adf={"max_mrad": 1e12})
    assert "gpts" not in text


def beyond(block: str, key: str, angle: float) -> dict[str, Any]:
    value = {"d": [10.0, angle]} if key == "detectors" else angle
    return {block: {"enabled": True, key: value} if block == "cbed" else {key: value}}


@pytest.mark.parametrize("cell", [(10.0, 10.0, 5.0), (11.715, 7.81, 5.0), (9.87, 23.1, 5.0)])
@pytest.mark.parametrize(
    ("block", "key"),
    [("probe", "semiangle_mrad"), ("adf", "detectors"), ("adf", "max_mrad"), ("cbed", "max_mrad")],
)
@pytest.mark.parametrize("angle", [120.0, 155.5, 211.0])
def test_an_angle_beyond_the_band_limit_is_refused_with_a_way_out(cell, block, key, angle):
    """The test tries each of the three ways out that the message names."""
    coarse = {"sampling_angstrom": 0.15}
    text = refusal(cell, f"{block}.{key}", f"got {angle:g} mrad", grating=coarse, **beyond(block, key, angle))
    points = [int(n) for n in re.search(r"grating\.gpts: \[(\d+), (\d+)\]", text).groups()]  # type: ignore[union-attr]
    sampling = float(re.search(r"sampling_angstrom: ([\d.]+)\)", text)[1])  # type: ignore[index]
    largest = float(re.search(r"angle of at most ([\d.]+) mrad", text)[1])  # type: ignore[index]

    finer = resolved(cell, grating={"gpts": points}, **beyond(block, key, angle))
    assert finer.band_limit_angle >= angle * MRAD * (1 - 1e-9)
    resolved(cell, grating={"sampling_angstrom": sampling}, **beyond(block, key, angle))
    resolved(cell, grating=coarse, **beyond(block, key, largest))
    # The suggested points are not more than rounding up to factors 2, 3, 5, 7 needs.
    assert finer.band_limit_angle < 1.25 * angle * MRAD


def test_with_windows_the_hint_names_points_of_the_whole_cell():
    cell, grating = (46.86, 46.86, 15.62), {"gpts": [384, 384], "window_angstrom": 24.0}
    rings = {"detectors": {"haadf": [60.0, 95.0]}, "max_mrad": None}
    text = refusal(cell, "adf.detectors.haadf", grating=grating, adf=rings)
    assert "grating.gpts: [540, 540] (or sampling_angstrom: 0.0879)" in text
    resolved(cell, grating={**grating, "gpts": [540, 540]}, adf=rings)


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [(150.0, 0, "150"), (200.4, 0, "200"), (10.0, 0, "10"), (0.6666, 2, "0.66"), (12.3, 2, "12.3"), (40.0, 1, "40")],
)
def test_a_largest_allowed_value_is_rounded_down_and_keeps_its_whole_digits(value, digits, text):
    assert rounded_down(value, digits) == text
