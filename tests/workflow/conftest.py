"""Campaigns that many tests share. A test that changes one works on a copy of its folder."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import forks
from support.campaign import TINY, Campaign, Outcome, arrays, changed, clean_environment, make_clone
from support.shared import made_once, shared_cache
from support.status_server import EchoServer

HERE = Path(__file__).parent

PASSWORD, USER = "canary-password-4711", "canary-user"
PATH_TOKEN = "canary-path-token-0815"
CUSTOM = {
    "my_token": "canary-custom-value-2342",
    "sample": "canary-sample-1701",
    "charge": 3,
    "good": True,
    "dose": 0.5,
    "detectors": "canary-detectors-1802",
}

# Two jobs of one or two seconds, so that a signal can hit them while they compute. It has no figures.
SLOW = changed(
    TINY,
    simulation={"name": "slow", "title": "Slow campaign"},
    probe={"defoci_nm": [0.0]},
    grating={"gpts": [96, 96], "slice_thickness_angstrom": 1.0},
    scan={"points": [40, 40]},
    adf={"detectors": {}},
    cbed={"enabled": False},
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.workflow)


@pytest.fixture(scope="session")
def env(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Environment of all processes: one thread per library, one cache of FFT plans for the whole session."""
    forks.start()  # otherwise the first test that forks during a run would wait for seconds
    return clean_environment(shared_cache(tmp_path_factory))


@pytest.fixture(scope="session")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone of the repository, in a folder with a space in its name."""
    return made_once(tmp_path_factory, "clone", lambda folder: make_clone(folder / "a clone of it"))


@dataclass(frozen=True)
class Finished:
    """A campaign after an undisturbed run, and its results."""

    campaign: Campaign
    first: Outcome
    arrays: dict[str, np.ndarray]

    def copy(self, folder: Path) -> Campaign:
        return self.campaign.copy(folder)


@dataclass(frozen=True)
class Reported(Finished):
    """The same, with the events that a receiver got and the command lines that were seen."""

    events: list[dict[str, Any]]
    authorizations: set[str]
    paths: set[str]
    command_lines: set[str]


@pytest.fixture(scope="session")
def tiny(clone: Path, env: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Reported:
    """TINY, computed once with status reports to the receiver of STEMsalabim's documentation."""
    return made_once(tmp_path_factory, "tiny", lambda folder: compute_tiny(clone, env, folder / "tiny campaign"))


def compute_tiny(clone: Path, env: dict[str, str], folder: Path) -> Reported:
    """Compute TINY, record what the receiver gets, and look at all command lines meanwhile."""
    with EchoServer() as server:
        # The original's receiver has the one route `/`: the token stands in the query.
        block = {"reporting": True, "url": f"{server.url}?token={PATH_TOKEN}", "auth_user": USER, "auth_pass": PASSWORD}
        config = changed(TINY, http_reporting={**block, "parameters": CUSTOM})
        campaign = Campaign.make(clone, folder, config, env)
        seen: set[str] = set()
        with campaign.start() as running:
            while running.process.poll() is None:
                seen |= command_lines()
                time.sleep(0.05)
            outcome = running.end()
        assert outcome.status == 0, outcome.output
        return Reported(
            campaign,
            outcome,
            arrays(campaign.result.merged),
            server.events,
            {entry.headers.get("authorization", "") for entry in server.received},
            {entry.path for entry in server.received},
            seen,
        )


def command_lines() -> set[str]:
    """Command line of every process on this machine."""
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                found.add((entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace"))
            except OSError:
                continue
    return found


@pytest.fixture(scope="session")
def slow(clone: Path, env: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """SLOW, computed once without any disturbance."""

    def compute(folder: Path) -> Finished:
        campaign = Campaign.make(clone, folder / "slow campaign", SLOW, env)
        return Finished(campaign, campaign.succeed(), arrays(campaign.result.merged))

    return made_once(tmp_path_factory, "slow", compute)


@pytest.fixture
def quiet_copy(tiny: Reported, tmp_path: Path) -> Campaign:
    """A copy of the finished tiny campaign that reports nothing."""
    campaign = tiny.copy(tmp_path / "copy of it")
    campaign.change(http_reporting={"reporting": False})
    return campaign


@pytest.fixture
def new_campaign(clone: Path, env: dict[str, str], tmp_path: Path) -> Callable[..., Campaign]:
    """Make campaigns that have not run yet."""

    def make(config: dict[str, Any], name: str = "new campaign") -> Campaign:
        return Campaign.make(clone, tmp_path / name, config, env)

    return make
