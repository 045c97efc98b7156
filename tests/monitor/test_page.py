"""The page in a real browser: each state designed, usable with a keyboard and a screen reader, narrow and dark."""

from __future__ import annotations

import base64
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, Page, expect
from support.browser import axe_violations, chromium, fits, opened, picture
from support.monitor import MonitorProcess, Story

from monitor.test_receiver import HOSTILE

pytestmark = pytest.mark.slow

PICTURES = os.environ.get("STEMPHONY_PICTURES", "")
"""A folder for pictures of every state, to be looked at."""

POLL_MS = 15_000


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


def look(page: Page, name: str, full: bool = True) -> None:
    """Take a picture if somebody wants to look at it."""
    if PICTURES:
        picture(page, name, Path(PICTURES), full=full)


def campaign(title: str, defoci: int, configurations: int, **more: Any) -> Story:
    values = tuple(round(-10 + 20 * n / max(1, defoci - 1), 3) for n in range(defoci))
    return Story(values, configurations, title, now=time.time() - 4000, processors=8, **more)


def half_way(story: Story, finished: int, failures: int = 0, running: int = 6) -> list[dict[str, Any]]:
    """A run with this number of finished pairs, some at the second attempt, with failed and running ones."""
    places = [(d, c) for c in range(story.configurations) for d in range(len(story.defoci))]
    messages = ["OSError: [Errno 28] No space left on device: 'tmp.nc'", "terminated (SIGTERM)", "out of memory"]
    events = [story.start()]
    step = 3800 / max(1, 4 * finished)
    for number, (d, c) in enumerate(places[:finished]):
        if number % 17 == 5:
            events += story.job(d, c, 0, 30, end="terminated (SIGTERM)")
            events += story.done(d, c, attempt=2, step_s=step)
        else:
            events += story.done(d, c, step_s=step)
    for number, (d, c) in enumerate(places[finished : finished + failures]):
        events += story.job(d, c, 0, 20, end=messages[number % 3])
    story.now = time.time() - 60
    for number, (d, c) in enumerate(places[finished + failures : finished + failures + running]):
        events += story.job(d, c, 0, 5 + 14 * number % 95)
        story.now = time.time() - 1
    return events


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MonitorProcess]:
    """A monitor with simulations in every state, and a grid of 50 × 200."""
    with MonitorProcess(tmp_path_factory.mktemp("many")) as monitor:
        project = {"parameters": {"project": "tomography", "microscope": "A"}}
        gray = base64.b64encode(bytes(7 * n % 256 for n in range(24 * 16))).decode()
        keys = {"preview": gray, "preview_width": 24, "preview_low": 0.0, "preview_high": 0.1}
        size = {"preview_width_nm": 0.6, "preview_height_nm": 0.4, "preview_repeats": "xy"}
        previews = [{**keys, **size, "preview_detector": name} for name in ("adf", "bf", "haadf")]
        done = campaign("SrTiO3 [001], 10 nm, focal series", 5, 10, previews=previews, **project)
        monitor.store(half_way(done, 50, running=0))
        monitor.store([done.finish()])
        failed = campaign("GaN dislocation core, 300 kV", 7, 12, parameters={"project": "defects"})
        monitor.store(half_way(failed, 60, failures=5, running=0))
        monitor.store([failed.failed((0, 9), (1, 9), (2, 9), never_ran=19)])
        stopped = campaign("MoS2 monolayer, 60 kV", 3, 20, parameters={"project": "2D", "microscope": "B"})
        monitor.store([*half_way(stopped, 21), stopped.cancelled(never_ran=33)])
        monitor.store(half_way(campaign("Pt nanoparticle on carbon", 5, 16, **project), 37, failures=3))
        monitor.store(half_way(campaign("Large focal series of a tilted SrTiO3 lamella", 50, 200), 420, failures=9))
        monitor.store([Story(title="Just begun", now=time.time()).start()])
        yield monitor


def row_of(monitor: MonitorProcess, text: str) -> int:
    from urllib.parse import quote

    (found,) = monitor.get(f"/api/simulations?text={quote(text)}").json["simulations"]
    return int(found["row"])


VIEWS = {
    "wide": {},
    "dark": {"color_scheme": "dark"},
    "phone": {"viewport": {"width": 360, "height": 740}},
    "phone_dark": {"viewport": {"width": 360, "height": 740}, "color_scheme": "dark"},
}


@pytest.mark.parametrize("view", VIEWS)
def test_pages_fit_and_axe_finds_nothing(browser: Browser, many: MonitorProcess, view: str):
    pages = {
        "list": "",
        "running": f"simulations/{row_of(many, 'Pt nano')}",
        "failed": f"simulations/{row_of(many, 'GaN')}",
        "finished": f"simulations/{row_of(many, '10 nm')}",
        "cancelled": f"simulations/{row_of(many, 'MoS2')}",
        "begun": f"simulations/{row_of(many, 'begun')}",
        "events": f"simulations/{row_of(many, 'Pt nano')}/events?all=1",
        "none": "?text=nothing+like+this",
        "missing": "simulations/4711",
    }
    for name, path in pages.items():
        with opened(browser, many.url + path, **VIEWS[view]) as page:
            page.wait_for_timeout(50)
            look(page, f"{name}_{view}")
            assert fits(page), name
            if view.startswith("phone"):
                wide = "found => found.filter(one => one.scrollWidth > one.clientWidth).length"
                assert page.locator(".scroll").evaluate_all(wide) == 0, f"{name}: columns are cut"
            assert axe_violations(page) == [], name
            expected = ["404"] if name == "missing" else []
            assert [c for c in page.complaints if not any(e in c for e in expected)] == [], name


def test_an_empty_monitor_says_what_to_do(browser: Browser, tmp_path: Path):
    with MonitorProcess(tmp_path) as monitor, opened(browser, monitor.url) as page:
        expect(page.get_by_role("heading", name="No simulation has reported yet")).to_be_visible()
        expect(page.locator("pre")).to_contain_text(f'url: "{monitor.url}"')
        look(page, "empty")
        assert axe_violations(page) == []
        # The first event of a simulation takes its place, without a reload.
        monitor.store([Story(title="The first one").start()])
        expect(page.get_by_role("link", name="The first one")).to_be_visible(timeout=POLL_MS)
        expect(page.get_by_text("No simulation has reported yet")).to_have_count(0)


def test_a_page_that_loses_its_monitor_says_so_and_recovers(browser: Browser, tmp_path: Path):
    monitor = MonitorProcess(tmp_path)
    with monitor:
        monitor.store([Story(title="Watched").start()])
        port = monitor.port
        with opened(browser, monitor.url) as page:
            expect(page.locator("#connection")).to_have_text("live", timeout=POLL_MS)
            monitor.end()
            expect(page.locator("#lost")).to_contain_text("No connection to the monitor.", timeout=POLL_MS)
            expect(page.locator("#connection")).to_have_text("disconnected")
            expect(page.get_by_role("link", name="Watched")).to_be_visible()
            look(page, "disconnected")
            assert axe_violations(page) == []
            with MonitorProcess(tmp_path, db=monitor.db, port=port):
                expect(page.locator("#lost")).to_be_hidden(timeout=2 * POLL_MS)
                expect(page.locator("#connection")).to_have_text("live")


def test_the_keyboard_reaches_every_cell(browser: Browser, many: MonitorProcess):
    with opened(browser, f"{many.url}simulations/{row_of(many, 'GaN')}") as page:
        page.keyboard.press("Tab")
        expect(page.get_by_text("Skip to the content")).to_be_focused()
        for _ in range(40):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.getAttribute('role')") == "gridcell":
                break
        detail = page.locator("#cell")
        expect(detail).to_contain_text("−10 nm, configuration 0")
        page.keyboard.press("ArrowDown")
        page.keyboard.press("ArrowRight")
        expect(detail).to_contain_text("−6.667 nm, configuration 1")
        page.keyboard.press("End")
        expect(detail).to_contain_text("Configuration 11: pending")
        page.keyboard.press("Home")
        page.keyboard.press("ArrowUp")
        expect(detail).to_contain_text("−10 nm, configuration 0")
        # Above the first row is only the line with the numbers of the configurations.
        page.keyboard.press("ArrowUp")
        expect(cell_of(page, 0, 0)).to_be_focused()
        assert page.complaints == []
        # A row clips its content, and the mark of the focus lies 4 pixels outside its cell.
        room = page.evaluate(
            "() => { const cell = document.activeElement.getBoundingClientRect();"
            " const row = document.activeElement.closest('[role=row]').getBoundingClientRect();"
            " return [cell.left - row.left, cell.top - row.top, row.right - cell.right, row.bottom - cell.bottom]; }"
        )
        assert min(room) >= 4, room
        # The whole grid is one stop of the Tab key; the next stop is behind it.
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.getAttribute('role')") != "gridcell"


@pytest.mark.parametrize("width", [1400, 360])
@pytest.mark.parametrize("configurations", [5, 60, 200])
def test_each_number_stands_above_the_column_of_its_configuration(
    browser: Browser, tmp_path: Path, width: int, configurations: int
):
    story = Story((-2.5, 0.0), configurations, "Numbered")
    with MonitorProcess(tmp_path) as monitor:
        monitor.store([story.start(), *story.job(0, 1, 40)])
        with opened(browser, f"{monitor.url}simulations/1", viewport={"width": width, "height": 800}) as page:
            look(page, f"numbers_{configurations}_{width}")
            assert fits(page)
            found = page.evaluate(
                "() => { const box = (one) => one.getBoundingClientRect();"
                " const middle = (one) => box(one).x + box(one).width / 2;"
                " const cells = document.querySelector('#grid [role=row] .cells').children;"
                " const range = document.createRange(), found = [];"
                " [...document.querySelectorAll('.numbers u')].forEach((one, index) => { if (one.textContent) {"
                " range.selectNodeContents(one);"
                " found.push([Number(one.textContent), index, middle(range) - middle(cells[index])]); } });"
                " return found; }"
            )
            assert len(found) >= 5
            for number, index, aside in found:
                assert number == index
                assert abs(aside) < 1.5, number


def cell_of(page: Page, row: int, configuration: int) -> Locator:
    return page.locator('[role="row"]').nth(row).locator('[role="gridcell"]').nth(configuration)


def chosen(page: Page) -> Locator:
    """The chosen cell, found by its state and not by its name, because the test checks the name."""
    return page.locator('#grid [aria-selected="true"]')


def test_a_defocus_that_starts_keeps_the_chosen_cell_and_the_keyboard_focus(browser: Browser, tmp_path: Path):
    story = Story((-5.0, -2.5, 0.0, 2.5), 4, "Focused")
    with MonitorProcess(tmp_path) as monitor:
        monitor.store([story.start(), *story.job(2, 1, 40)])
        with opened(browser, f"{monitor.url}simulations/1") as page:
            detail = page.locator("#cell")
            cell_of(page, 0, 1).click()
            expect(detail).to_contain_text("0 nm, configuration 1: running, 40 %")
            # A row before it and one after it appear; no event concerns the chosen cell itself.
            monitor.store([*story.job(0, 0, 7), *story.job(3, 3, 7), *story.job(2, 1, 40, 70)[-1:]])
            expect(page.get_by_role("rowheader", name="−5 nm")).to_be_visible(timeout=POLL_MS)
            expect(cell_of(page, 1, 1)).to_be_focused()
            expect(chosen(page)).to_have_text("70")
            expect(detail).to_contain_text("0 nm, configuration 1: running, 70 %")
            page.keyboard.press("ArrowDown")
            expect(cell_of(page, 2, 1)).to_be_focused()
            expect(detail).to_contain_text("Configuration 1: pending")
            # The chosen cell is in a row without a defocus yet. The defocus that starts is above it.
            page.keyboard.press("ArrowDown")
            expect(detail).to_have_text("This defocus has not started.")
            monitor.store(story.job(1, 1, 9))
            expect(page.get_by_role("rowheader", name="−2.5 nm")).to_be_visible(timeout=POLL_MS)
            expect(cell_of(page, 3, 1)).to_be_focused()
            expect(detail).to_contain_text("Configuration 1: pending")
            assert page.locator('#grid [tabindex="0"]').count() == 1
            assert axe_violations(page) == []
            assert page.complaints == []


def test_a_defocus_that_starts_does_not_take_the_keyboard_focus(browser: Browser, tmp_path: Path):
    """A chosen cell stays chosen while the focus is elsewhere. If none is chosen, none gets chosen."""
    story = Story((-5.0, -2.5, 0.0), 4, "Elsewhere")
    with MonitorProcess(tmp_path) as monitor:
        monitor.store([story.start(), *story.job(2, 1, 40)])
        with opened(browser, f"{monitor.url}simulations/1") as page:
            monitor.store(story.job(1, 0, 7))
            expect(page.get_by_role("rowheader", name="−2.5 nm")).to_be_visible(timeout=POLL_MS)
            expect(chosen(page)).to_have_count(0)
            cell_of(page, 1, 1).click()
            link = page.get_by_role("link", name="All events")
            link.focus()
            monitor.store([*story.job(0, 0, 7), *story.job(2, 1, 40, 70)[-1:]])
            expect(page.get_by_role("rowheader", name="−5 nm")).to_be_visible(timeout=POLL_MS)
            expect(chosen(page)).to_have_text("70")
            expect(page.locator("#cell")).to_contain_text("0 nm, configuration 1: running, 70 %")
            expect(link).to_be_focused()


def test_only_the_chosen_cell_has_an_accessible_name(browser: Browser, tmp_path: Path):
    story = Story(title="Named")
    with MonitorProcess(tmp_path) as monitor:
        monitor.store([story.start(), *story.job(0, 1, 0, 40)])
        with opened(browser, f"{monitor.url}simulations/1") as page:
            named = page.locator("#grid [aria-label]")
            # Tab reaches the first one.
            expect(named).to_have_attribute("aria-label", "defocus −2.5 nm, configuration 0: pending")
            cell = cell_of(page, 0, 1)
            cell.click()
            expect(named).to_have_count(1)
            expect(page.get_by_role("gridcell", name="defocus −2.5 nm, configuration 1: running, 40 %")).to_be_focused()
            monitor.store(story.job(0, 1, 0, 40, 41)[-1:])
            name = "defocus −2.5 nm, configuration 1: "
            expect(cell).to_have_attribute("aria-label", f"{name}running, 41 %", timeout=POLL_MS)
            monitor.store(story.job(0, 1, 0, 40, 41, end="out of memory")[-1:])
            expect(cell).to_have_attribute("aria-label", f"{name}failed", timeout=POLL_MS)
            monitor.store(story.done(0, 1, attempt=2))
            expect(cell).to_have_attribute("aria-label", f"{name}finished, more than one attempt", timeout=POLL_MS)
            page.keyboard.press("ArrowDown")
            expect(named).to_have_count(1)
            expect(named).to_have_attribute("aria-label", "defocus not started, configuration 1: pending")
            assert axe_violations(page) == []
            assert page.complaints == []


def test_a_failed_cell_shows_its_message_and_the_command(browser: Browser, many: MonitorProcess):
    with opened(browser, f"{many.url}simulations/{row_of(many, 'GaN')}") as page:
        page.locator('[role="gridcell"].e').first.click()
        expect(page.locator("#cell")).to_contain_text("failed; attempt 1 in run 1")
        expect(page.locator("#cell code")).to_have_text(
            re.compile(r"stemphony rerun results/focal_series --defocus \S+ --configuration \d+")
        )
        expect(page.get_by_role("heading", name="Failed")).to_be_visible()
        assert page.locator(".failures tbody tr").count() == 5
        expect(page.locator("main")).not_to_contain_text("NAME")


def test_a_command_with_a_missing_name_says_which_name_to_insert(browser: Browser, tmp_path: Path):
    """The command of a program that does not send the name of the result."""
    story = Story(title="Of old", result_name="")
    explained = "NAME is the folder of the result, simulation.name in the config."
    with MonitorProcess(tmp_path) as monitor:
        monitor.store([story.start(), *story.job(0, 1, 3, end="out of memory")])
        with opened(browser, f"{monitor.url}simulations/1") as page:
            expect(page.locator(".failures td code")).to_contain_text("stemphony rerun results/NAME --defocus -2.5")
            expect(page.locator(".failures .hint")).to_contain_text(explained)
            cell_of(page, 0, 1).click()
            expect(page.locator("#cell")).to_contain_text("stemphony rerun results/NAME --defocus -2.5")
            expect(page.locator("#cell")).to_contain_text(explained)
            assert axe_violations(page) == []
            # The next run comes from a program that sends it; the page updates itself.
            story.run, story.hook_seq, story.result_name = 2, 0, "of_old"
            monitor.store([story.start()])
            expect(page.locator(".failures td code")).to_contain_text("results/of_old", timeout=POLL_MS)
            expect(page.locator(".failures")).not_to_contain_text("NAME")


def test_a_list_that_is_cut_says_so(browser: Browser, tmp_path: Path):
    story = Story((-2.5, 0.0), 300, "Cut")
    with MonitorProcess(tmp_path) as monitor:
        events = [event for c in range(200) for event in story.job(0, c, 3, end="out of memory")]
        monitor.store([story.start(), *events, *(event for c in range(50) for event in story.job(1, c, 3))])
        with opened(browser, f"{monitor.url}simulations/1") as page:
            failures, working = page.locator(".failures"), page.locator('[data-section="working"]')
            expect(failures.locator("tbody tr")).to_have_count(200)
            expect(working.locator("li")).to_have_count(50)
            expect(page.get_by_text("The list has the")).to_have_count(0)
            expect(failures).to_contain_text(
                "stemphony rerun results/focal_series --failed computes all failed pairs again"
            )
            monitor.store([event for c in range(200, 300) for event in story.job(0, c, 3, end="out of memory")])
            monitor.store(story.job(1, 50, 3))
            expect(failures).to_contain_text("The list has the latest 200 of 300.", timeout=POLL_MS)
            expect(working).to_contain_text("The list has the most advanced 50 of 51.")
            expect(failures.locator("tbody tr")).to_have_count(200)
            assert fits(page)


def test_failures_of_this_run_and_of_earlier_runs_are_distinguished(browser: Browser, tmp_path: Path):
    """Two pairs failed. One is computed again, so nothing is merged; the other is still failed."""
    story = Story((-2.5, 0.0), 4, "Twice")
    with MonitorProcess(tmp_path) as monitor:
        done = [event for d, c in ((0, 0), (0, 2), (1, 0), (1, 2)) for event in story.done(d, c)]
        bad = [*story.job(0, 1, 3, end="out of memory"), *story.job(1, 1, 3, end="out of memory")]
        monitor.store([story.start(), *done, *bad, story.failed((0, 1), (1, 1), never_ran=2)])
        with opened(browser, f"{monitor.url}simulations/1") as page:
            note, facts = page.locator(".note.failed"), page.locator(".facts")
            expect(note).to_have_text("The run ended without a result: a job failed. 2 failed, 2 never ran.")
            expect(facts).to_contain_text("4 of 8 finished, 2 failed")
            story.run, story.hook_seq = 2, 0
            message = "the run ended without a merged result"
            monitor.store([story.start(), *story.done(0, 1, attempt=2), story.failed(message=message)])
            expect(facts).to_contain_text("5 of 8 finished, 1 failed", timeout=POLL_MS)
            expect(note).to_have_text(
                f"The run ended without a result: {message}. In this run 0 failed; 1 pair failed in an earlier run."
            )
            # A pair that fails again has failed in this run; a pair without any event counts too.
            story.run, story.hook_seq = 3, 0
            failed = story.failed((1, 1), (1, 3), never_ran=1)
            monitor.store([story.start(), *story.job(1, 1, 3, attempt=2, end="out of memory"), failed])
            expect(note).to_contain_text("a job failed. 2 failed, 1 never ran.", timeout=POLL_MS)
            expect(facts).to_contain_text("5 of 8 finished, 2 failed")


def count_changes(page: Page, what: str) -> None:
    """Count from now on which elements of a part of the page an update touches."""
    page.evaluate(
        "what => { window.touched = new Set(); new MutationObserver(records => {"
        " for (const record of records) { const at = record.target; const element = at.closest ? at : at.parentElement;"
        " window.touched.add(element); for (const node of record.addedNodes)"
        " for (const inner of node.querySelectorAll?.('*') ?? []) window.touched.add(inner); } })"
        ".observe(document.querySelector(what),"
        " {subtree: true, childList: true, characterData: true, attributes: true}) }",
        what,
    )


def test_an_update_of_a_large_grid_touches_only_what_changed(browser: Browser, tmp_path: Path):
    """The grid has 10,000 cells. A benchmark measures how long an update takes."""
    story = campaign("Large", 50, 200)
    with MonitorProcess(tmp_path) as monitor:
        monitor.store(half_way(story, 420, failures=9))
        with opened(browser, f"{monitor.url}simulations/1") as page:
            cells = page.locator('[role="gridcell"]')
            assert cells.count() == 10_000
            look(page, "large", full=False)
            expect(page.locator("#connection")).to_have_text("live", timeout=POLL_MS)
            count_changes(page, "#grid")
            monitor.store(story.job(49, 199, 0, 42))
            last = cells.nth(9_999)
            expect(last).to_have_text("42", timeout=POLL_MS)
            # A row that had no name may come as a new grid; from then on it is one cell and the sum of its row.
            page.evaluate("window.touched.clear()")
            monitor.store(story.job(49, 199, 0, 42, 43)[-1:])
            expect(last).to_have_text("43", timeout=POLL_MS)
            assert 1 <= page.evaluate("window.touched.size") <= 3
            cells.nth(5000).click()
            for _ in range(10):
                page.keyboard.press("ArrowRight")
            expect(cells.nth(5010)).to_be_focused()
            assert fits(page)


def test_a_page_follows_its_simulation(browser: Browser, tmp_path: Path):
    story = Story(title="Followed", parameters={"project": "a"})
    with MonitorProcess(tmp_path) as monitor:
        monitor.store([story.start()])
        with opened(browser, f"{monitor.url}simulations/1") as page:
            expect(page.locator(".badge")).to_have_text("running")
            cell = page.locator('[role="row"]').nth(0).locator('[role="gridcell"]').nth(1)
            monitor.store(story.job(1, 1, 0, 42))
            # A row of the grid has its name as soon as its defocus is known.
            expect(page.get_by_role("rowheader", name="0 nm")).to_be_visible(timeout=POLL_MS)
            expect(cell).to_have_text("42")
            expect(page.locator(".working li")).to_have_count(1)
            monitor.store(story.job(1, 1, 0, 42, end="OSError: disk full")[-1:])
            expect(cell).to_have_text("✕", timeout=POLL_MS)
            expect(page.locator(".failures")).to_contain_text("OSError: disk full")
            monitor.store([story.failed((1, 1), never_ran=11)])
            expect(page.locator(".badge")).to_have_text("failed", timeout=POLL_MS)
            story.run, story.hook_seq = 2, 0
            monitor.store([story.start(), *story.done(1, 1, attempt=2), story.finish()])
            expect(page.locator(".badge")).to_have_text("finished", timeout=2 * POLL_MS)
            expect(cell).to_have_text("✓")
            expect(cell).to_have_class(re.compile("again"))
            expect(page.locator(".failures")).to_have_count(0)
            assert page.complaints == []


def test_the_page_is_complete_without_its_script(browser: Browser, many: MonitorProcess):
    with opened(browser, many.url, java_script_enabled=False) as page:
        expect(page.get_by_role("link", name="Pt nanoparticle on carbon")).to_be_visible()
        page.get_by_role("link", name="failed", exact=False).first.click()
        expect(page.locator("li.simulation")).to_have_count(1)
        page.goto(many.url)
        page.get_by_label("project").select_option("tomography")
        page.get_by_role("button", name="Filter").click()
        expect(page.locator("li.simulation")).to_have_count(2)
        page.get_by_role("link", name="Pt nanoparticle on carbon").click()
        assert page.locator('[role="gridcell"]').count() == 80
        expect(page.locator("#cell")).to_be_hidden()


def test_hostile_values_are_text_in_a_browser(browser: Browser, tmp_path: Path):
    story = Story(title="<img src=x onerror=alert(5)>", parameters=HOSTILE, uid="<svg onload=alert(6)>")
    with MonitorProcess(tmp_path) as monitor:
        monitor.store([story.start(), *story.job(0, 0, 0, end="<script>alert(7)</script>")])
        for path in ("", "simulations/1", "simulations/1/events?all=1"):
            with opened(browser, monitor.url + path, viewport={"width": 360, "height": 740}) as page:
                if "events" not in path:
                    expect(page.locator("#connection")).to_have_text("live", timeout=POLL_MS)
                if path == "simulations/1":
                    page.locator('[role="gridcell"].e').click()
                    expect(page.locator("#cell")).to_contain_text("<script>alert(7)</script>")
                assert page.complaints == []
                assert fits(page)
                assert page.locator("main img, main script, main iframe").count() == 0
                hrefs = page.eval_on_selector_all("a", "links => links.map(link => link.protocol)")
                assert set(hrefs) == {"http:"}
        with opened(browser, monitor.url) as page:
            # A filter by a hostile value finds its simulation.
            page.locator('select[name="p.link"]').select_option("javascript:alert(1)")
            page.get_by_role("button", name="Filter").click()
            expect(page.locator("li.simulation")).to_have_count(1)
            assert page.complaints == []


def test_an_update_of_two_hundred_simulations_touches_only_what_changed(browser: Browser, tmp_path: Path):
    with MonitorProcess(tmp_path) as monitor:
        for number in range(200):
            story = Story(title=f"Simulation {number}", parameters={"number": number % 7})
            monitor.store([story.start(), *story.job(0, 0, 0, number % 100)])
        with opened(browser, monitor.url) as page:
            expect(page.locator("li.simulation")).to_have_count(200)
            expect(page.locator("#connection")).to_have_text("live", timeout=POLL_MS)
            focused = page.get_by_role("link", name="Simulation 100", exact=True)
            focused.focus()
            page.locator("li.simulation").evaluate_all("items => { window.items = items; }")
            monitor.store([story.finish()])
            expect(page.locator("li.simulation.finished")).to_have_count(1, timeout=POLL_MS)
            # An update leaves the focus where it is, and the other simulations as they are.
            expect(focused).to_be_focused()
            assert page.evaluate("window.items.filter(item => item.isConnected).length") >= 199
            assert fits(page)


def test_a_reader_signs_in_and_sees_a_live_page(browser: Browser, tmp_path: Path):
    from stemphony.monitor.database import credentials
    from stemphony.monitor.database.connection import Database

    with Database.open(str(tmp_path / "monitor.sqlite")) as database, database.writer.begin() as connection:
        secret = credentials.add(connection, "group", credentials.Role.READER, 0.0)
    with MonitorProcess(tmp_path) as monitor:
        sign_in = {"http_credentials": {"username": "group", "password": secret}}
        with opened(browser, monitor.url, **sign_in) as page:
            expect(page.locator("pre")).to_contain_text("auth_user")
            expect(page.locator("#connection")).to_have_text("live", timeout=POLL_MS)
