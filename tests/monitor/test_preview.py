"""The averaged image of a defocus, as it grows."""

from __future__ import annotations

import base64
import struct
import zlib
from typing import Any

import pytest
from sqlalchemy import text
from stemphony.monitor.database import images, timeline
from stemphony.monitor.intake.preview import KEPT_APART
from stemphony.monitor.web.png import gray_png
from support.monitor import Story

from monitor.conftest import Inside, sweep_twice

KEY = "m2d500"


def image(*gray: int, width: int = 2, low: float = 0.0, high: float = 255.0, detector: str = "haadf") -> dict[str, Any]:
    return {
        "preview": base64.b64encode(bytes(gray)).decode(), "preview_detector": detector, "preview_width": width,
        "preview_low": low, "preview_high": high,
    }  # fmt: skip


def finished(story: Story, configuration: int, keys: dict[str, Any], attempt: int = 1) -> list[dict[str, Any]]:
    *events, last = story.done(0, configuration, attempt=attempt)
    return [*events, {**last, **keys}]


def mean(monitor: Inside, key: str = KEY) -> list[float]:
    with monitor.database.reader.begin() as connection:
        average = images.mean_of(connection, 1, key)
        assert average is not None
        return [value / average.number for value in average.sums]


def pixels(png: bytes) -> list[bytes]:
    """Rows of a PNG file of ours."""
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    width, height, depth, colour = struct.unpack(">IIBB", png[16:26])
    assert (depth, colour) == (8, 0)
    size = struct.unpack(">I", png[33:37])[0]
    assert png[37:41] == b"IDAT"
    raw = zlib.decompress(png[41 : 41 + size])
    assert len(raw) == height * (width + 1)
    return [raw[row * (width + 1) + 1 : (row + 1) * (width + 1)] for row in range(height)]


def test_the_average_grows_and_is_shown(any_monitor: Inside):
    story = Story()
    any_monitor.store([story.start(), *finished(story, 0, image(0, 10, 20, 30))])
    assert mean(any_monitor) == [0, 10, 20, 30]
    any_monitor.store(finished(story, 1, image(0, 255, 0, 255, low=-1.0, high=1.0)))
    assert mean(any_monitor) == pytest.approx([-0.5, 5.5, 9.5, 15.5])
    page = any_monitor.client.get("/simulations/1").text
    assert 'alt="haadf at −2.5 nm, mean of 2 configurations"' in page
    address = page.partition('<img src="')[2].partition('"')[0].replace("&amp;", "&")
    answer = any_monitor.client.get(address)
    assert answer.mimetype == "image/png"
    assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert pixels(answer.data) == [bytes([0, 96]), bytes([159, 255])]
    assert "preview.png" in any_monitor.client.get("/simulations/1/live").json["sections"]["previews"]


def test_events_that_come_twice_or_too_late_change_no_average(any_monitor: Inside):
    story = Story()
    first = finished(story, 0, image(1, 2, 3, 4))
    second = finished(story, 0, image(5, 6, 7, 8), attempt=2)
    any_monitor.store([story.start(), *second, *first, *second])
    assert mean(any_monitor) == [5, 6, 7, 8]


def test_a_pair_that_is_computed_again_counts_once(any_monitor: Inside):
    story = Story()
    any_monitor.store([*finished(story, 0, image(1, 2, 3, 4)), *finished(story, 1, image(3, 4, 5, 6))])
    any_monitor.store(finished(story, 0, image(5, 6, 7, 8), attempt=2))
    assert mean(any_monitor) == pytest.approx([4, 5, 6, 7])


def test_images_of_another_size_or_detector_begin_anew(any_monitor: Inside):
    story = Story()
    any_monitor.store([*finished(story, 0, image(1, 2, 3, 4)), *finished(story, 1, image(9, 9, width=1))])
    assert mean(any_monitor) == [9, 9]
    any_monitor.store(finished(story, 0, image(1, 2, detector="bf", width=1), attempt=2))
    assert mean(any_monitor) == [1, 2]
    any_monitor.store(finished(story, 1, image(3, 4, detector="bf", width=1), attempt=2))
    assert mean(any_monitor) == [2, 3]


@pytest.mark.parametrize(
    "keys",
    [
        {"preview": "not base64!"},
        {"preview": "ä"},
        {"preview": 7},
        {"preview": ""},
        {"preview": "AAAA", "preview_width": 2},
        {"preview_width": 0},
        {"preview_width": True},
        {"preview_width": 10**9},
        {"preview_low": 1, "preview_high": 0},
        {"preview_low": 1e200, "preview_high": 1e308},
        {"preview_high": "much"},
        {"preview_detector": ["bf"]},
        {"preview": base64.b64encode(bytes(65 * 64)).decode(), "preview_width": 64},
    ],
)
def test_what_is_no_image_costs_no_event(monitor: Inside, keys: dict[str, Any]):
    story = Story()
    monitor.store([story.start(), *finished(story, 0, {**image(1, 2, 3, 4), **keys})])
    assert monitor.simulation["finished"] == 1
    assert "<img" not in monitor.client.get("/simulations/1").text


def test_the_name_of_a_detector_is_text(monitor: Inside):
    story = Story()
    monitor.store(finished(story, 0, image(1, 2, 3, 4, detector='"><script>alert(1)</script>')))
    page = monitor.client.get("/simulations/1").text
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)" in page


def test_the_image_is_stored_once_and_goes_with_its_simulation(any_monitor: Inside):
    story = Story()
    event = finished(story, 0, image(1, 2, 3, 4))[-1]
    any_monitor.store([event])
    with any_monitor.database.reader.begin() as connection:
        (stored,) = timeline.events(connection, 1)
    assert stored.body["preview"] == KEPT_APART
    assert sweep_twice(any_monitor, 1, event_time(any_monitor) + 3 * 86_400) == 1
    with any_monitor.database.reader.begin() as connection:
        for table in ("preview", "preview_sum"):
            assert connection.execute(text(f"SELECT count(*) FROM {table}")).scalar() == 0


def event_time(monitor: Inside) -> float:
    return float(monitor.simulation["last_received"])


@pytest.mark.parametrize(
    ("address", "status"),
    [("?defocus=m2d500", 404), ("?defocus=%00", 400), ("", 404), ("?defocus=" + 5000 * "a", 400)],
)
def test_an_image_that_is_not_there(monitor: Inside, address: str, status: int):
    assert monitor.client.get(f"/simulations/1/preview.png{address}").status_code == status


def test_an_even_image_is_black():
    average = images.MeanImage("bf", 2)
    average.add(3.0, 3.0, bytes(4))
    assert pixels(gray_png(average.gray(), average.width)) == [bytes(2), bytes(2)]
