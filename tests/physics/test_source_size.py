"""Partial spatial coherence, Eqs. (P13) and (P28), against analytic results."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from stemphony.physics.source_size import GAUSSIAN, LORENTZIAN, SourceShape, blur, is_cut, reach
from support.arrays import differences

PERIODIC, OPEN = (0, 0), (None, None)
FWHM_OF_SIGMA = 2.354820045


@pytest.fixture
def image():
    return np.random.default_rng(2).random((12, 15))


@pytest.mark.parametrize("repeats", [PERIODIC, (0, 4), (5, 0)])
@pytest.mark.parametrize("fwhm", [0.01, 0.3, 2.0, 50.0])
def test_the_mean_of_a_window_that_repeats_is_conserved(image, repeats, fwhm):
    blurred = blur(image, fwhm, (0.2, 0.3), repeats)
    assert blurred.mean() == pytest.approx(image.mean(), rel=1e-12)
    assert blurred.std() < image.std()


@pytest.mark.parametrize("repeats", [PERIODIC, OPEN, (3, 0)])
def test_a_point_source_does_nothing(image, repeats):
    assert not differences(blur(image, 0.0, (0.2, 0.3), repeats), image)


def test_a_point_becomes_a_gaussian_of_the_given_fwhm():
    points, step, fwhm = 64, 0.1, 1.0
    image = np.zeros((points, points))
    image[32, 32] = 1.0
    blurred = blur(image, fwhm, (step, step), PERIODIC)
    r = (np.arange(points) - 32) * step
    profile = blurred[:, 32] / blurred[32, 32]
    assert profile == pytest.approx(0.5 ** ((2 * r / fwhm) ** 2), abs=1e-9)
    assert profile[32 + 5] == pytest.approx(0.5)  # half the maximum at half the FWHM
    assert blurred[32, 32] == pytest.approx(step**2 * 4 * math.log(2) / (math.pi * fwhm**2))
    assert pytest.approx(blurred) == blurred.T


def test_blurring_wraps_around_a_periodic_image():
    image = np.zeros((16, 16))
    image[0, 0] = 1.0
    blurred = blur(image, 0.3, (0.1, 0.1), PERIODIC)
    assert blurred[-1, 0] == pytest.approx(blurred[1, 0])
    assert blurred[0, -3] == pytest.approx(blurred[0, 3])


@pytest.mark.parametrize("fwhm", [0.01, 0.05, 0.4, 1.0])
@pytest.mark.parametrize(("wave_x", "wave_y"), [(1, 0), (0, 2), (3, 1)])
def test_a_cosine_keeps_its_shape_and_loses_amplitude_exactly(fwhm, wave_x, wave_y):
    """This also holds for a source much narrower than the scan step of 0.25."""
    step, nx, ny = 0.25, 10, 12
    x, y = np.meshgrid(np.arange(nx) * step, np.arange(ny) * step, indexing="ij")
    qx, qy = wave_x / (nx * step), wave_y / (ny * step)
    image = 2.0 + np.cos(2 * np.pi * (qx * x + qy * y) + 0.3)
    sigma = fwhm / FWHM_OF_SIGMA
    kept = math.exp(-2 * math.pi**2 * sigma**2 * (qx**2 + qy**2))
    assert blur(image, fwhm, (step, step), PERIODIC) == pytest.approx(2.0 + (image - 2.0) * kept, abs=1e-10)


@pytest.mark.parametrize("copies", [(3, 1), (1, 2), (4, 5)])
@pytest.mark.parametrize("fwhm", [0.05, 0.4, 1.5])
def test_a_period_is_the_cut_of_the_whole_blurred_scan(image, copies, fwhm):
    whole = blur(np.tile(image, copies), fwhm, (0.2, 0.3), PERIODIC)
    assert blur(image, fwhm, (0.2, 0.3), PERIODIC) == pytest.approx(whole[:12, :15], abs=1e-13)


@pytest.mark.parametrize("fwhm", [0.05, 0.4, 1.5])
@pytest.mark.parametrize("shift", [5, 1, 10, 14])
def test_half_a_centred_cell_is_the_cut_of_the_whole_blurred_scan(image, shift, fwhm):
    """The next copy along one axis is moved along the other one: f(x + w, y + s) = f(x, y)."""
    copies = 15
    whole = np.concatenate([np.roll(image, copy * shift, axis=1) for copy in range(copies)], axis=0)
    expected = blur(whole, fwhm, (0.2, 0.3), PERIODIC)[:12]
    assert blur(image, fwhm, (0.2, 0.3), (shift, 0)) == pytest.approx(expected, abs=1e-13)
    turned = blur(image.T, fwhm, (0.3, 0.2), (0, shift))
    assert turned == pytest.approx(expected.T, abs=1e-13)


@pytest.mark.parametrize("fwhm", [0.1, 0.5, 1.0])
def test_inside_the_reach_of_the_source_an_open_scan_is_the_cut_of_a_larger_one(fwhm):
    large = gaussian_filter(np.random.default_rng(3).random((120, 120)), 2.0, mode="wrap")
    margin = math.ceil(reach(fwhm) / 0.1)
    expected = blur(large, fwhm, (0.1, 0.1), PERIODIC)[40:80, 40:80]
    wider = slice(40 - margin, 80 + margin)
    inner = slice(margin, margin + 40)
    got = blur(large[wider, wider], fwhm, (0.1, 0.1), OPEN)[inner, inner]
    assert np.abs(got - expected).max() < 3e-3 * np.ptp(large)


def test_open_edges_keep_a_constant_and_the_symmetry(image):
    assert blur(np.full((5, 6), 3.0), 0.7, (0.2, 0.3), OPEN) == pytest.approx(3.0)
    blurred = blur(image, 0.7, (0.2, 0.3), OPEN)
    assert blur(image[::-1, ::-1], 0.7, (0.2, 0.3), OPEN) == pytest.approx(blurred[::-1, ::-1])


def test_open_edges_see_neither_the_other_side_nor_a_mirror_image():
    step, fwhm = 0.1, 0.6
    image = np.zeros((20, 1))
    image[1] = 1.0
    blurred = blur(image, fwhm, (step, 1.0), (None, 0))
    assert abs(blurred[-1, 0]) < 1e-6
    # At a distance of one step from both, the Gaussian alone gives equal values; a mirror image would add to pixel 0.
    weights = 0.5 ** ((2 * np.arange(-40, 41) * step / fwhm) ** 2)
    for pixel in (0, 2):
        seen = weights[40 - pixel : 60 - pixel].sum()
        assert blurred[pixel, 0] == pytest.approx(weights[41] / seen, rel=1e-3)


@pytest.mark.parametrize(("repeats", "mode"), [(PERIODIC, "wrap"), (OPEN, "constant")])
def test_a_wide_source_blurs_as_scipy_does(repeats, mode):
    smooth = gaussian_filter(np.random.default_rng(1).random((40, 50)), 2.0, mode="wrap")
    steps, fwhm = (0.1, 0.2), 0.9
    sigmas = tuple(fwhm / FWHM_OF_SIGMA / step for step in steps)
    expected, weights = (gaussian_filter(one, sigmas, mode=mode, truncate=10.0) for one in (smooth, np.ones((40, 50))))
    assert blur(smooth, fwhm, steps, repeats) == pytest.approx(expected / weights, abs=1e-4)


def test_further_axes_are_independent(image):
    stack = np.stack([image, image[::-1], 2 * image], axis=-1)
    for repeats in ((0, None), (4, 0)):
        blurred = blur(stack, 0.4, (0.2, 0.3), repeats)
        for index in range(3):
            assert blurred[..., index] == pytest.approx(blur(stack[..., index], 0.4, (0.2, 0.3), repeats))


def test_one_line_of_positions_is_blurred_along_itself(image):
    line = image[:, :1]
    blurred = blur(line, 0.4, (0.2, 1.0), PERIODIC)
    assert blurred.std() < line.std()
    assert blurred == pytest.approx(blur(np.repeat(line, 7, axis=1), 0.4, (0.2, 1.0), PERIODIC)[:, :1])
    assert blur(image[:1, :1], 0.4, (1.0, 1.0), OPEN) == pytest.approx(image[:1, :1])


def test_the_argument_is_not_changed(image):
    before = image.copy()
    for repeats in (PERIODIC, OPEN, (3, 0)):
        blur(image, 0.5, (0.2, 0.3), repeats)
    assert not differences(image, before)


def test_pixels_are_marked_up_to_the_reach_of_the_source():
    fwhm = FWHM_OF_SIGMA  # a standard deviation of 1, a reach of 3
    assert reach(fwhm) == pytest.approx(3.0)
    marks = is_cut((12, 9), fwhm, (1.0, 0.5), (None, 0))
    assert marks[:, 0].tolist() == [True] * 3 + [False] * 6 + [True] * 3
    assert not differences(marks, np.broadcast_to(marks[:, :1], marks.shape))
    assert is_cut((12, 9), fwhm, (1.0, 0.5), (0, None)).all()
    assert not is_cut((12, 9), fwhm, (1.0, 0.5), PERIODIC).any()
    assert not is_cut((12, 9), 0.0, (1.0, 0.5), OPEN).any()


# --- shapes -------------------------------------------------------------------------------------------------------

ELLIPSE = SourceShape(ratio=0.5, rotation=math.radians(30))
CAUCHY = SourceShape(LORENTZIAN, ratio=1.6, rotation=math.radians(-50))


def density(shape: SourceShape, fwhm: float, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Source in the plane, with integral 1, in coordinates along and across its axis."""
    along = math.cos(shape.rotation) * x + math.sin(shape.rotation) * y
    across = (math.cos(shape.rotation) * y - math.sin(shape.rotation) * x) / shape.ratio
    r2 = along**2 + across**2
    if shape.profile == GAUSSIAN:
        sigma = fwhm / FWHM_OF_SIGMA
        return np.exp(-r2 / (2 * sigma**2)) / (2 * math.pi * sigma**2 * shape.ratio)
    a = fwhm / 2 / math.sqrt(2 ** (2 / 3) - 1)
    return a / (2 * math.pi * (a**2 + r2) ** 1.5) / shape.ratio


@pytest.mark.slow
@pytest.mark.parametrize(("shape", "accuracy"), [(ELLIPSE, 1e-9), (CAUCHY, 2e-3)])
def test_a_point_becomes_the_source(shape, accuracy):
    """The window of 400 steps wraps the tails of a Lorentzian; the density adds its nearest copies."""
    points, step, fwhm = 400, 0.1, 1.2
    image = np.zeros((points, points))
    image[0, 0] = 1.0
    blurred = blur(image, fwhm, (step, step), PERIODIC, shape)
    axis = np.fft.fftfreq(points) * points * step
    x, y, width = axis[:, None], axis[None, :], points * step
    copies = range(-3, 4) if shape.profile == LORENTZIAN else (0,)
    expected = sum(density(shape, fwhm, x + i * width, y + j * width) for i in copies for j in copies)
    assert np.asarray(expected) * step**2 == pytest.approx(blurred, abs=accuracy * blurred.max())


@pytest.mark.parametrize("profile", [GAUSSIAN, LORENTZIAN])
def test_the_widths_of_an_ellipse_are_the_given_ones(profile):
    """Half the maximum is at half the width along the axis, which points to +y here, and across it."""
    points, step, fwhm, ratio = 600, 0.1, 4.0, 0.5
    image = np.zeros((points, points))
    image[300, 300] = 1.0
    blurred = blur(image, fwhm, (step, step), PERIODIC, SourceShape(profile, ratio, math.pi / 2)) / 1.0
    assert blurred[300, 300 + 20] / blurred[300, 300] == pytest.approx(0.5, abs=2e-3)
    assert blurred[300 + 10, 300] / blurred[300, 300] == pytest.approx(0.5, abs=2e-3)


@pytest.mark.parametrize("shape", [ELLIPSE, CAUCHY])
@pytest.mark.parametrize("repeats", [PERIODIC, (0, 4), (5, 0)])
def test_a_shape_conserves_the_mean_of_a_window_that_repeats(image, shape, repeats):
    assert blur(image, 0.4, (0.2, 0.3), repeats, shape).mean() == pytest.approx(image.mean(), rel=1e-12)


@pytest.mark.parametrize("shape", [ELLIPSE, CAUCHY])
@pytest.mark.parametrize("shift", [0, 4, 7])
def test_a_period_is_the_cut_of_the_whole_blurred_scan_for_any_shape(image, shape, shift):
    whole = np.concatenate([np.roll(image, i * shift, axis=1) for i in range(15)])
    expected = blur(whole, 0.6, (0.2, 0.3), PERIODIC, shape)[:12]
    assert blur(image, 0.6, (0.2, 0.3), (shift, 0), shape) == pytest.approx(expected, abs=1e-13)
    turned = SourceShape(shape.profile, shape.ratio, math.pi / 2 - shape.rotation)
    swapped = blur(image.T, 0.6, (0.3, 0.2), (0, shift), turned)
    assert pytest.approx(expected, abs=1e-13) == swapped.T


@pytest.mark.parametrize("repeats", [PERIODIC, OPEN, (None, 0), (0, None)])
def test_an_ellipse_that_is_round_is_the_round_source(image, repeats):
    almost = SourceShape(ratio=1 + 1e-13, rotation=1.0)
    expected = blur(image, 0.5, (0.2, 0.3), repeats)
    assert blur(image, 0.5, (0.2, 0.3), repeats, almost) == pytest.approx(expected, abs=1e-9)


def test_far_from_the_edge_an_ellipse_needs_no_period():
    large = np.random.default_rng(5).random((120, 120))
    expected = blur(large, 0.8, (0.1, 0.1), PERIODIC, ELLIPSE)[40:80, 40:80]
    cut = blur(large[20:100, 20:100], 0.8, (0.1, 0.1), OPEN, ELLIPSE)[20:60, 20:60]
    assert cut == pytest.approx(expected, abs=1e-7)


def test_trailing_axes_and_single_rows_have_the_shape_too(image):
    stack = np.stack([image, 2 * image], axis=-1)
    blurred = blur(stack, 0.4, (0.2, 0.3), (None, 0), ELLIPSE)
    assert blurred[..., 1] == pytest.approx(blur(2 * image, 0.4, (0.2, 0.3), (None, 0), ELLIPSE))
    row = blur(image[:, :1], 0.4, (0.2, 1.0), (0, None), ELLIPSE)
    assert row == pytest.approx(blur(np.repeat(image[:, :1], 9, axis=1), 0.4, (0.2, 0.3), PERIODIC, ELLIPSE)[:, :1])
