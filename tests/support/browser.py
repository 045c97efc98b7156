"""Debian's Chromium, driven by Playwright. Messages on the console of a page are kept."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, sync_playwright

from support.monitor import program

ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
FIGURES = Path(__file__).parents[2] / "docs" / "figures"
"""Where pictures go if STEMPHONY_FIGURES is set; without it a test leaves the repository as it is."""

MAX_FIGURE_BYTES = 300_000


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser, or no test."""
    executable = program("chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=ARGUMENTS)
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def opened(browser: Browser, url: str, **options: Any) -> Iterator[Page]:
    """A page in a context of its own. A message on its console fails the test."""
    options = {"viewport": {"width": 1400, "height": 900}, "locale": "en-GB", "timezone_id": "Europe/Berlin", **options}
    context = browser.new_context(**options)
    page = context.new_page()
    complaints: list[str] = []
    page.on(
        "console", lambda message: complaints.append(message.text) if message.type in ("error", "warning") else None
    )
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("dialog", lambda dialog: (complaints.append(f"dialog {dialog.message}"), dialog.dismiss()))
    page.complaints = complaints  # type: ignore[attr-defined]
    try:
        page.goto(url)
        yield page
    finally:
        context.close()


def axe_violations(page: Page) -> list[str]:
    """Violations that axe-core finds: the rule and the elements."""
    found = Axe().run(page).response["violations"]
    return [f"{entry['id']}: {[node['html'][:120] for node in entry['nodes'][:3]]}" for entry in found]


def fits(page: Page) -> bool:
    """Whether the page is no wider than the window."""
    return bool(page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth"))


def picture(page: Page, name: str, folder: Path, full: bool = True) -> Path:
    """Take a picture: into the documentation if STEMPHONY_FIGURES is set, else into a folder of the test."""
    place = FIGURES if os.environ.get("STEMPHONY_FIGURES") and name.startswith("monitor") else folder
    file = place / f"{name}.png"
    page.screenshot(path=file, full_page=full)
    assert file.stat().st_size < MAX_FIGURE_BYTES or place is folder
    return file
