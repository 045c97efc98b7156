"""The averaged image of a defocus, as it grows."""

from __future__ import annotations

import base64
import re
import struct
import zlib
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import text
from stemphony.monitor.database import images, timeline
from stemphony.monitor.intake.preview import KEPT_APART
from stemphony.monitor.web.png import gray_png
from stemphony.status.events import PREVIEW_IMAGES
from support.monitor import Story

from monitor.conftest import Inside, sweep_twice

KEY = "m2d500"


def image(
    *gray: int, width: int = 2, low: float = 0.0, high: float = 255.0, detector: str = "haadf", **more: Any
) -> dict[str, Any]:
    return {
        "preview": base64.b64encode(bytes(gray)).decode(), "preview_detector": detector, "preview_width": width,
        "preview_low": low, "preview_high": high, **more,
    }  # fmt: skip


def finished(story: Story, configuration: int, *keys: dict[str, Any], attempt: int = 1) -> list[dict[str, Any]]:
    """A job that sends an image with each of `keys`."""
    return replace(story, previews=keys).done(0, configuration, attempt=attempt)


def mean(monitor: Inside, detector: str = "haadf") -> list[float]:
    with monitor.database.reader.begin() as connection:
        average = images.mean_of(connection, 1, KEY, detector)
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
    assert 'aria-label="haadf at −2.5 nm, mean of 2 configurations"' in page
    address = page.partition('<image href="')[2].partition('"')[0].replace("&amp;", "&")
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


def test_images_of_another_size_start_a_new_average(any_monitor: Inside):
    story = Story()
    any_monitor.store([*finished(story, 0, image(1, 2, 3, 4)), *finished(story, 1, image(9, 9, width=1))])
    assert mean(any_monitor) == [9, 9]


def test_each_detector_has_an_image_of_its_own(any_monitor: Inside):
    story = Story()
    bf = [image(1, 2, detector="bf", width=1), image(3, 4, detector="bf", width=1)]
    any_monitor.store([*finished(story, 0, bf[0], image(5, 6, 7, 8)), *finished(story, 1, bf[1], image(7, 8, 9, 10))])
    assert mean(any_monitor, "bf") == [2, 3]
    assert mean(any_monitor) == [6, 7, 8, 9]
    page = any_monitor.client.get("/simulations/1").text
    assert re.findall(r'aria-label="(\w+) at −2.5 nm, mean of 2', page) == ["bf", "haadf"]
    assert page.count("<h3>−2.5 nm</h3>") == 1


def test_an_image_that_arrives_after_the_end_of_its_job_counts(any_monitor: Inside):
    *before, preview, end = finished(Story(), 0, image(1, 2, 3, 4))
    any_monitor.store([*before, end, preview])
    assert mean(any_monitor) == [1, 2, 3, 4]
    assert any_monitor.simulation["finished"] == 1


def test_a_defocus_has_a_bounded_number_of_images(monitor: Inside):
    many = [image(1, 2, detector=f"d{number:02}") for number in range(PREVIEW_IMAGES + 3)]
    monitor.store(finished(Story(), 0, *many))
    with monitor.database.reader.begin() as connection:
        assert len(images.listed(connection, 1)) == PREVIEW_IMAGES


@pytest.mark.parametrize(
    ("keys", "shown", "bar"),
    [
        # A window of 0.39 nm that repeats along x is shown three times.
        ({"preview_width_nm": 0.39, "preview_height_nm": 0.39, "preview_repeats": "x"}, (6, 2), "0.5 nm"),
        ({"preview_width_nm": 0.39, "preview_height_nm": 0.78, "preview_repeats": "xy"}, (6, 4), "0.5 nm"),
        ({"preview_width_nm": 0.1, "preview_height_nm": 0.1, "preview_repeats": "yx"}, (12, 12), "0.2 nm"),
        ({"preview_width_nm": 20, "preview_height_nm": 5, "preview_repeats": "xy"}, (2, 2), "5 nm"),
        ({"preview_width_nm": 0.39, "preview_height_nm": 0.39}, (2, 2), "0.1 nm"),
        ({"preview_width_nm": 0.39, "preview_repeats": "xy"}, (2, 2), ""),
        ({"preview_width_nm": "1", "preview_height_nm": 1, "preview_repeats": ["x"]}, (2, 2), ""),
        ({"preview_width_nm": 1e-300, "preview_height_nm": 1, "preview_repeats": "xy"}, (2, 2), ""),
        ({"preview_width_nm": 1000, "preview_height_nm": 1, "preview_repeats": "xy"}, (2, 2), ""),
    ],
)
def test_an_image_is_tiled_and_has_a_scale_bar(monitor: Inside, keys: dict[str, Any], shown: tuple[int, int], bar: str):
    monitor.store(finished(Story(), 0, image(0, 1, 2, 255, **keys)))
    page = monitor.client.get("/simulations/1").text
    address = page.partition('<image href="')[2].partition('"')[0].replace("&amp;", "&")
    rows = pixels(monitor.client.get(address).data)
    assert (len(rows[0]), len(rows)) == shown
    assert rows[0][:2] == bytes([0, 1])
    assert rows[-1][-2:] == bytes([2, 255])
    found = re.search(r'<rect y="[\d.]+" width="([\d.]+)" height="3"/><text [^>]*>([^<]*)</text>', page)
    assert (found[2] if found else "") == bar
    if found:
        width_nm = keys["preview_width_nm"] * shown[0] / 2
        wide = re.search(r'width="([\d.]+)" height="([\d.]+)" preserve', page)
        assert wide is not None
        assert float(found[1]) / float(wide[1]) == pytest.approx(float(bar.split()[0]) / width_nm, rel=2e-3)
        ratio = width_nm / (keys["preview_height_nm"] * shown[1] / 2)
        assert float(wide[1]) / float(wide[2]) == pytest.approx(ratio, rel=2e-3)


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
def test_an_invalid_image_costs_no_event(monitor: Inside, keys: dict[str, Any]):
    story = Story()
    monitor.store([story.start(), *finished(story, 0, {**image(1, 2, 3, 4), **keys})])
    assert monitor.simulation["finished"] == 1
    assert "<image" not in monitor.client.get("/simulations/1").text


def test_the_name_of_a_detector_is_text(monitor: Inside):
    story = Story()
    monitor.store(finished(story, 0, image(1, 2, 3, 4, detector='"><script>alert(1)</script>')))
    page = monitor.client.get("/simulations/1").text
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)" in page


def test_the_image_is_stored_once_and_goes_with_its_simulation(any_monitor: Inside):
    story = Story()
    event = finished(story, 0, image(1, 2, 3, 4))[-2]
    any_monitor.store([event])
    with any_monitor.database.reader.begin() as connection:
        (stored,) = timeline.events(connection, 1, all_of_them=True)
    assert stored.body["preview"] == KEPT_APART
    assert stored.name == "PREVIEW"
    assert sweep_twice(any_monitor, 1, event_time(any_monitor) + 3 * 86_400) == 1
    with any_monitor.database.reader.begin() as connection:
        for table in ("preview", "preview_sum"):
            assert connection.execute(text(f"SELECT count(*) FROM {table}")).scalar() == 0


def event_time(monitor: Inside) -> float:
    return float(monitor.simulation["last_received"])


@pytest.mark.parametrize(
    ("address", "status"),
    [("?defocus=m2d500", 404), ("?defocus=%00", 400), ("", 404), ("?detector=" + 5000 * "a", 400)],
)
def test_a_missing_image_gives_404(monitor: Inside, address: str, status: int):
    assert monitor.client.get(f"/simulations/1/preview.png{address}").status_code == status


def test_an_even_image_is_black():
    average = images.MeanImage("bf", 2)
    average.add(3.0, 3.0, bytes(4))
    assert pixels(gray_png(average.gray(), average.width)) == [bytes(2), bytes(2)]
