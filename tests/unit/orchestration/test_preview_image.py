"""The small image that a finished job sends."""

from __future__ import annotations

import base64
import json
from dataclasses import replace

import numpy as np
import pytest
from stemphony.orchestration.preview_image import preview_of
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


def test_without_named_detectors_there_is_none():
    of = replace(experiment(), rings={})
    assert preview_of(of, signals(of, 1)) == {}
