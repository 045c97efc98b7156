"""Read a small image that a finished job sends."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any, Final

from stemphony.monitor.records import Preview
from stemphony.status.events import PREVIEW_SIDE, clean_text

KEPT_APART: Final = "<preview>"
"""Text that replaces the image in the stored event. Another table stores the image."""

_MAX_DETECTOR_CHARACTERS: Final = 100
"""Longest name of a detector with an image [characters]."""
_LARGEST: Final = 1e100
"""Largest value of a pixel. A larger value would overflow in the sum over many images."""

_SHORTEST_NM: Final = 1e-4
_LONGEST_NM: Final = 1e6
_MOST_OBLONG: Final = 50.0
"""Limits of the sides of an image [nm] and of their ratio. A page cannot show other images in their true shape."""


def read_preview(event: Mapping[str, Any]) -> Preview | None:
    """Return the image of `event`, or None if it has no valid one. A damaged image does not make an event invalid."""
    text, detector, width = event.get("preview"), event.get("preview_detector"), event.get("preview_width")
    low, high = _number(event.get("preview_low")), _number(event.get("preview_high"))
    if not isinstance(text, str) or not isinstance(detector, str) or type(width) is not int:
        return None
    if low is None or high is None or low > high:
        return None
    try:
        pixels = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    if not 0 < width <= PREVIEW_SIDE or not 0 < len(pixels) <= width * PREVIEW_SIDE or len(pixels) % width:
        return None
    size = _size(event)
    told = event.get("preview_repeats")
    repeats = "".join(axis for axis in "xy" if axis in told) if size and isinstance(told, str) else ""
    return Preview(clean_text(detector[:_MAX_DETECTOR_CHARACTERS]), width, low, high, pixels, size, repeats)


def _size(event: Mapping[str, Any]) -> tuple[float, float] | None:
    """Return width and height of an image [nm] if the event has both and they are within the limits, else None."""
    width, height = _number(event.get("preview_width_nm")), _number(event.get("preview_height_nm"))
    if width is None or height is None or not _SHORTEST_NM < min(width, height) <= max(width, height) < _LONGEST_NM:
        return None
    return (width, height) if 1 / _MOST_OBLONG <= width / height <= _MOST_OBLONG else None


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < _LARGEST:
        return None
    return float(value)
