"""The preview, a small image that a finished job sends."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from stemphony.orchestration.preview_image import previews_of
from stemphony.physics.plane_symmetry import PlaneGroup
from stemphony.physics.sensitivity import SensitiveDetector
from stemphony.status.events import PREVIEW_IMAGES, PREVIEW_KEYS, RESERVED_KEYS
from support.experiments import experiment, signals
from support.specimens import srtio3

CRYSTAL = srtio3((2, 2, 2))
WINDOW = {"x": [0.0, 1.0], "y": [0.0, 1.0], "step_angstrom": None}
RINGS = {"haadf": (0.06, 0.09), "bf": (0.0, 0.01)}


def sent(image: np.ndarray, **blocks: dict[str, Any]) -> tuple[np.ndarray, dict[str, object]]:
    """Pixels and keys of the preview of one image, [x, y]; other depths and detectors hold other numbers."""
    scan = {"x": [0.0, 1.0], "y": [0.0, 1.0], "points": list(image.shape), **blocks.get("scan", {})}
    of = replace(experiment(scan=scan), rings=RINGS)
    rings = np.full((*image.shape, 3, 2), 7.0)
    rings[:, :, -1, 0] = image
    keys, other = previews_of(of, replace(signals(of, 1), rings=rings), CRYSTAL, WINDOW | scan)
    assert (other["preview_detector"], other["preview_low"], other["preview_high"]) == ("bf", 7.0, 7.0)
    gray = np.frombuffer(base64.b64decode(keys["preview"]), np.uint8).reshape(-1, keys["preview_width"])
    return keys["preview_low"] + (keys["preview_high"] - keys["preview_low"]) * gray / 255, keys


def test_the_preview_shows_each_detector_at_the_last_depth_with_y_upwards():
    image = np.random.default_rng(1).random((5, 3))
    pixels, keys = sent(image)
    assert keys["preview_detector"] == "haadf"
    assert tuple(keys) == PREVIEW_KEYS
    assert set(keys) <= RESERVED_KEYS
    assert pixels == pytest.approx(image.T[::-1], abs=1 / 500)


@pytest.mark.parametrize("shape", [(128, 64), (100, 130), (65, 1), (1, 1000), (64, 64)])
def test_the_preview_stays_small_and_keeps_the_mean_of_blocks(shape: tuple[int, int]):
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
    keys = previews_of(of, replace(signals(of.computed, 1), rings=rings), CRYSTAL, WINDOW | {"points": [4, 4]})[0]
    gray = np.frombuffer(base64.b64decode(keys["preview"]), np.uint8).reshape(4, 4)
    # Rows of x = 0, 1, 2, and of 3, which is that of 1.
    expected = np.concatenate([values, values[4:8]]).reshape(4, 4).T[::-1]
    assert gray / 255.0 * 11 == pytest.approx(expected, abs=0.05)


def test_a_detector_with_a_sensitivity_is_shown():
    of = replace(
        experiment(), rings={"ring": (0.06, 0.09)}, sensitive={"camera": SensitiveDetector(0.02, 0.09, "5" * 64)}
    )
    image = np.random.default_rng(3).random((5, 3))
    rings = np.full((5, 3, 3, 2), 7.0)
    rings[:, :, -1, 1] = image
    shown = previews_of(of, replace(signals(of, 1), rings=rings), CRYSTAL, WINDOW | {"points": [3, 4]})
    assert [keys["preview_detector"] for keys in shown] == ["ring", "camera"]
    assert [keys["preview_low"] for keys in shown] == [7.0, image.min()]


def test_no_preview_is_sent_without_named_detectors():
    of = replace(experiment(), rings={})
    assert previews_of(of, signals(of, 1), CRYSTAL, WINDOW | {"points": [3, 4]}) == []


def test_the_preview_states_its_size_and_repeats_with_the_specimen():
    """The cell is 0.781 nm wide and holds 2 × 2 unit cells."""
    keys = sent(np.random.default_rng(3).random((4, 6)), scan={"x": [0.0, 0.5], "y": [0.0, 0.3]})[1]
    assert (keys["preview_width_nm"], keys["preview_height_nm"]) == pytest.approx((0.3905, 0.2343))
    assert keys["preview_repeats"] == "x"
    whole = sent(np.random.default_rng(3).random((4, 6)))[1]
    assert (whole["preview_width_nm"], whole["preview_repeats"]) == (0.781, "xy")
    # 33 blocks of two positions end behind the window of 65 positions, so copies would not fit.
    odd = sent(np.random.default_rng(3).random((65, 64)))[1]
    assert (odd["preview_width_nm"], odd["preview_repeats"]) == (round(0.781 * 66 / 65, 6), "y")


def test_a_line_has_no_width():
    of = replace(experiment(), rings=RINGS, scan_kind="line")
    values = replace(signals(of, 1), rings=np.random.default_rng(4).random((3, 4, 3, 2)))
    assert "preview_width_nm" not in previews_of(of, values, CRYSTAL, {})[0]


def test_a_job_sends_a_bounded_number_of_images():
    of = replace(experiment(), rings={f"ring_{n}": (0.001 * n, 0.001 * n + 0.001) for n in range(20)})
    values = replace(signals(of, 1), rings=np.ones((3, 4, 3, 20)))
    assert len(previews_of(of, values, CRYSTAL, WINDOW | {"points": [3, 4]})) == PREVIEW_IMAGES
