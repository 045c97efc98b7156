"""Partial spatial coherence, Eq. (P13), against analytic results for a Gaussian."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from stemphony.physics.source_size import blur

PERIODIC, REFLECTED = (True, True), (False, False)
FWHM_OF_SIGMA = 2.354820045


@pytest.fixture
def image():
    return np.random.default_rng(2).random((12, 15))


@pytest.mark.parametrize("periodic", [PERIODIC, REFLECTED, (True, False)])
@pytest.mark.parametrize("fwhm", [0.01, 0.3, 2.0, 50.0])
def test_the_mean_is_conserved(image, periodic, fwhm):
    blurred = blur(image, fwhm, (0.2, 0.3), periodic)
    assert blurred.mean() == pytest.approx(image.mean(), rel=1e-12)
    assert blurred.std() < image.std()


@pytest.mark.parametrize("periodic", [PERIODIC, REFLECTED])
def test_a_point_source_does_nothing(image, periodic):
    assert (blur(image, 0.0, (0.2, 0.3), periodic) == image).all()


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


def test_periodic_images_wrap():
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


def test_reflected_edges_are_symmetric_and_keep_a_constant(image):
    blurred = blur(image, 0.7, (0.2, 0.3), REFLECTED)
    assert blur(image[::-1, ::-1], 0.7, (0.2, 0.3), REFLECTED) == pytest.approx(blurred[::-1, ::-1])
    assert blur(np.full((5, 6), 3.0), 0.7, (0.2, 0.3), REFLECTED) == pytest.approx(3.0)


def test_reflected_edges_do_not_see_the_other_side():
    image = np.zeros((20, 1))
    image[0] = 1.0
    blurred = blur(image, 0.5, (0.2, 1.0), REFLECTED)
    assert abs(blurred[-1, 0]) < 1e-6
    # Intensity that leaves over one edge enters over the other: the sum of the two halves of the Gaussian.
    assert blurred[0, 0] > blur(image, 0.5, (0.2, 1.0), PERIODIC)[0, 0]


@pytest.mark.parametrize(("periodic", "mode"), [(PERIODIC, "wrap"), (REFLECTED, "reflect")])
def test_a_wide_source_blurs_as_scipy_does(periodic, mode):
    smooth = gaussian_filter(np.random.default_rng(1).random((40, 50)), 2.0, mode=mode)
    steps, fwhm = (0.1, 0.2), 0.9
    sigmas = tuple(fwhm / FWHM_OF_SIGMA / step for step in steps)
    expected = gaussian_filter(smooth, sigmas, mode=mode, truncate=10.0)
    assert blur(smooth, fwhm, steps, periodic) == pytest.approx(expected, abs=1e-6)


def test_further_axes_are_independent(image):
    stack = np.stack([image, image[::-1], 2 * image], axis=-1)
    blurred = blur(stack, 0.4, (0.2, 0.3), (True, False))
    for index in range(3):
        assert blurred[..., index] == pytest.approx(blur(stack[..., index], 0.4, (0.2, 0.3), (True, False)))


def test_one_line_of_positions_is_blurred_along_itself(image):
    line = image[:, :1]
    blurred = blur(line, 0.4, (0.2, 1.0), PERIODIC)
    assert blurred.std() < line.std()
    assert blurred == pytest.approx(blur(np.repeat(line, 7, axis=1), 0.4, (0.2, 1.0), PERIODIC)[:, :1])
    assert blur(image[:1, :1], 0.4, (1.0, 1.0), PERIODIC) == pytest.approx(image[:1, :1])


def test_the_argument_is_not_changed(image):
    before = image.copy()
    blur(image, 0.5, (0.2, 0.3), PERIODIC)
    assert (image == before).all()
