"""The monitor's page with simulations that really run behind it. The pictures of the documentation come from here."""

from __future__ import annotations

import re
import shlex
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect
from support.browser import axe_violations, chromium, fits, opened, picture
from support.campaign import Campaign, changed
from support.monitor import MonitorProcess

from workflow.conftest import SLOW

pytestmark = pytest.mark.slow

WATCHED = changed(
    SLOW,
    simulation={"name": "focal_series", "title": "SrTiO3 [001], focal series"},
    probe={"defoci_nm": [-2.5, 0.0, 2.5]},
    frozen_phonon={"configurations": 4},
    scan={"points": [24, 24]},
    adf={"detectors": {"bf": [0.0, 10.0], "haadf": [25.0, 40.0]}},
)
KILLED = changed(SLOW, simulation={"name": "killed", "title": "A run that was killed"})
RUNNING = changed(WATCHED, simulation={"name": "second", "title": "SrTiO3 [001], other displacements"})
STALE_MINUTES = "0.4"
LONG_MS = 90_000


def block(monitor: MonitorProcess, preview: bool = False, **parameters: str) -> dict[str, object]:
    return {"reporting": True, "url": monitor.url, "preview": preview, "parameters": parameters}


def test_the_page_shows_start_and_progress_and_failure_and_finish_and_silence(
    new_campaign: Callable[..., Campaign], tmp_path: Path
):
    with chromium() as browser, MonitorProcess(tmp_path, "--stale-after", STALE_MINUTES) as monitor:
        watched = new_campaign(WATCHED, "watched")
        watched.change(
            http_reporting=block(monitor, True, project="tomography", microscope="A", my_token="canary-4711")
        )
        # This job cannot write its result, because a folder is in the place of its checksum. It comes first, so that
        # others run while the page shows its failure.
        failing = watched.job_file("p0d000/0001").relative_to(watched.directory)
        obstacle = Path(f"{watched.job_file('p0d000/0001')}.sha256")
        obstacle.mkdir(parents=True)
        with opened(browser, monitor.url) as page:
            expect(page.get_by_text("No simulation has reported yet")).to_be_visible()
            with watched.start("--prioritize", failing) as running:
                page.get_by_role("link", name="SrTiO3 [001], focal series").click(timeout=LONG_MS)
                expect(page.locator(".badge")).to_have_text("running")
                expect(page.locator("#grid i.r").first).to_be_visible(timeout=LONG_MS)
                expect(page.locator("#grid i.e")).to_have_count(1, timeout=LONG_MS)
                expect(page.locator("#grid i.r")).not_to_have_count(0, timeout=LONG_MS)
                expect(page.get_by_text("per minute")).to_be_visible(timeout=LONG_MS)
                page.locator("#grid i.e").click()
                expect(page.locator("#cell")).to_contain_text("failed; attempt 1 in run 1")
                picture(page, "monitor_simulation", tmp_path)
                assert (ended := running.end()).status == 1, ended.output
            expect(page.locator(".badge")).to_have_text("failed", timeout=LONG_MS)
            expect(page.locator(".facts").first).to_contain_text("11 of 12 finished, 1 failed")
            rerun_as_the_page_says(page, watched, obstacle)
            expect(page.locator("#grid i.f")).to_have_count(12, timeout=LONG_MS)
            expect(page.locator(".badge")).to_have_text("finished", timeout=LONG_MS)
            expect(page.locator(".failures")).to_have_count(0)
            expect(page.locator("#grid i.f.again")).to_have_count(1)
            images = page.locator(".previews svg")
            expect(images).to_have_count(6)
            expect(images.nth(3)).to_have_attribute("aria-label", re.compile("haadf at 0 nm, mean of 4 configurations"))
            assert page.complaints == []
            silence(new_campaign, monitor, page)
            with_a_second_one(new_campaign, monitor, page, tmp_path)
        assert "canary" not in monitor.get("/simulations/1/events?all=1").text


def rerun_as_the_page_says(page: Page, campaign: Campaign, obstacle: Path) -> None:
    """The command beside the failed pair, as it stands there."""
    words = shlex.split(page.locator(".failures td code").inner_text())
    assert words[:3] == ["stemphony", "rerun", f"results/{campaign.result.name}"]
    obstacle.rmdir()
    outcome = campaign.command("rerun", campaign.result.root, *words[3:])
    assert outcome.status == 0, outcome.output
    assert campaign.job_file("p0d000/0001").exists()


def silence(new_campaign: Callable[..., Campaign], monitor: MonitorProcess, page: Page) -> None:
    """Kill Snakemake and its jobs, so that only silence shows it."""
    killed = new_campaign(KILLED, "killed")
    killed.change(http_reporting=block(monitor, project="tomography", microscope="B", my_token="canary-4711"))
    with killed.start() as running:
        killed.wait_for_jobs(1)
        running.signal_all(signal.SIGKILL)
    page.goto(monitor.url)
    entry = page.locator("li.simulation", has_text="A run that was killed")
    expect(entry.locator(".badge")).to_have_text("stale", timeout=LONG_MS)
    expect(entry.locator(".parameters")).to_contain_text("<hidden>")
    assert page.complaints == []


def with_a_second_one(new_campaign: Callable[..., Campaign], monitor: MonitorProcess, page: Page, folder: Path) -> None:
    """The list with simulations in several states."""
    second = new_campaign(RUNNING, "second")
    second.change(http_reporting=block(monitor, project="tomography", microscope="B"))
    with second.start() as running:
        entry = page.locator("li.simulation", has_text="other displacements")
        expect(entry.get_by_text(re.compile(r"per (minute|hour)"))).to_be_visible(timeout=LONG_MS)
        page.set_viewport_size({"width": 1400, "height": 400})
        picture(page, "monitor", folder)
        assert axe_violations(page) == []
        page.set_viewport_size({"width": 360, "height": 740})
        assert fits(page)
        running.signal_all(signal.SIGINT)
        running.end()
    expect(entry.locator(".badge")).to_have_text("cancelled", timeout=LONG_MS)
