"""The small image that a finished job sends."""

from __future__ import annotations

import base64
import json
from dataclasses import replace

import numpy as np
import pytest
from stemphony.orchestration.preview_image import preview_of
from stemphony.physics.plane_symmetry import PlaneGroup
from stemphony.physics.sensitivity import SensitiveDetector
from stemphony.status.events import PREVIEW_KEYS, RESERVED_KEYS
from support.experiments import experiment, signals

RINGS = {"haadf": (0.06, 0.09), "bf": (0.0, 0.01)}


def sent(image: np.ndarray) -> tuple[np.ndarray, dict[str, object]]:
    """Pixels and keys of the preview of one image, [x, y]; other depths and detectors hold other numbers."""
    of = replace(experiment(), rings=RINGS)
    rings = np.full((*image.shape, 3, 2), 7.0)
    rings[:, :, -1, 0] = image
    keys = preview_of(of, replace(signals(of, 1), rings=rings))
    gray = np.frombuffer(base64.b64decode(keys["preview"]), np.uint8).reshape(-1, keys["preview_width"])
    return keys["preview_low"] + (keys["preview_high"] - keys["preview_low"]) * gray / 255, keys


def test_it_shows_the_outermost_detector_at_the_last_depth_with_y_upwards():
    image = np.random.default_rng(1).random((5, 3))
    pixels, keys = sent(image)
    assert keys["preview_detector"] == "haadf"
    assert tuple(keys) == PREVIEW_KEYS
    assert set(keys) <= RESERVED_KEYS
    assert pixels == pytest.approx(image.T[::-1], abs=1 / 500)


@pytest.mark.parametrize("shape", [(128, 64), (100, 130), (65, 1), (1, 1000), (64, 64)])
def test_it_stays_small_and_keeps_the_mean_of_blocks(shape: tuple[int, int]):
    image = np.random.default_rng(2).random(shape)
    pixels, keys = sent(image)
    assert max(pixels.shape) <= 64
    assert len(json.dumps(keys)) < 6000
    if shape == (128, 64):
        assert pixels == pytest.approx(image.reshape(64, 2, 64).mean(axis=1).T[::-1], abs=1 / 500)
    if shape == (65, 1):
        assert pixels[0, -1] == pytest.approx(image[64, 0], abs=1 / 500)


def test_an_even_image_is_an_image():
    pixels, keys = sent(np.full((4, 4), 0.25))
    assert keys["preview_low"] == keys["preview_high"] == 0.25
    assert (pixels == 0.25).all()


def test_copies_by_symmetry_are_in_the_image():
    group = PlaneGroup.of({((-1, 0), (0, 1)): [(0, 0)]}, (64, 64))
    of = replace(experiment(scan={"points": [4, 4]}), rings=RINGS, symmetry=group)
    values = np.arange(12.0)
    rings = np.zeros((12, 1, 3, 2))
    rings[:, 0, -1, 0] = values
    keys = preview_of(of, replace(signals(of.computed, 1), rings=rings))
    gray = np.frombuffer(base64.b64decode(keys["preview"]), np.uint8).reshape(4, 4)
    # Rows of x = 0, 1, 2, and of 3, which is that of 1.
    expected = np.concatenate([values, values[4:8]]).reshape(4, 4).T[::-1]
    assert gray / 255.0 * 11 == pytest.approx(expected, abs=0.05)


@pytest.mark.parametrize("inner", [0.02, 0.07])
def test_a_detector_with_a_sensitivity_counts_by_its_inner_angle(inner: float):
    sensitive = {"camera": SensitiveDetector(inner, 0.09, "5" * 64)}
    of = replace(experiment(), rings={"ring": (0.06, 0.09)}, sensitive=sensitive)
    image = np.random.default_rng(3).random((5, 3))
    rings = np.full((5, 3, 3, 2), 7.0)
    rings[:, :, -1, 1 if inner > 0.06 else 0] = image
    for rings_alone in (False, True):
        shown = replace(of, rings={}) if rings_alone else of
        keys = preview_of(shown, replace(signals(of, 1), rings=rings[..., 1:] if rings_alone else rings))
        assert keys["preview_detector"] == ("camera" if rings_alone or inner > 0.06 else "ring")
        assert keys["preview_low"] == (7.0 if rings_alone and inner < 0.06 else image.min())


def test_without_named_detectors_there_is_none():
    of = replace(experiment(), rings={})
    assert preview_of(of, signals(of, 1)) == {}
