"""The plan states the symmetry that is used, and jobs compute accordingly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from stemphony.experiment import campaign
from stemphony.orchestration import preflight
from stemphony.orchestration.inputs import read_inputs
from stemphony.orchestration.plan import Preflight
from support.experiments import TINY
from support.specimens import U_ISO, srtio3, write_xyz


@pytest.fixture
def checked(tmp_path, monkeypatch):
    """Check a tiny campaign of 8 × 8 positions on 2 × 2 × 1 cells; `blocks` override single keys."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STEMPHONY_CACHE_DIR", str(tmp_path / "cache"))
    write_xyz(tmp_path / "tiny.xyz", srtio3((2, 2, 1)))
    base: dict[str, Any] = {
        **TINY,
        "specimen": {"file": "tiny.xyz", "u_iso_angstrom2": U_ISO},
        "scan": {"points": [8, 8]},
        "depths": {},
        "frozen_phonon": {"configurations": 2},
    }

    def run(**blocks: Any) -> Preflight:
        config = {name: {**base.get(name, {}), **blocks.get(name, {})} for name in base.keys() | blocks.keys()}
        Path("config.yaml").write_text(yaml.safe_dump(config))
        return preflight.check(read_inputs(config, [Path("config.yaml")]))

    return run


def row(of: Preflight) -> str | None:
    found = [line[25:] for line in of.lines() if line.startswith("symmetry".ljust(25))]
    return found[0] if found else None


def test_off_computes_every_position_and_says_what_auto_would_save(checked):
    made = checked()
    assert row(made) == "off; scan.symmetry: auto would compute 6 of 64 positions, 10.7 times fewer"
    assert made.campaign.symmetry is None
    assert made.experiment.computed.positions == 64


def test_auto_says_what_is_saved_and_what_is_shared(checked):
    off, auto = checked(), checked(scan={"symmetry": "auto"})
    assert row(auto).startswith("a job computes 6 of 64 positions, 10.7 times fewer; the others are copies, turned")
    assert "Copies share their statistical error" in row(auto)
    assert "Copies share" not in row(checked(scan={"symmetry": "auto"}, frozen_phonon={"enabled": False}))
    assert auto.experiment.computed.positions == 6
    assert auto.cpu_hours == pytest.approx(off.cpu_hours * 6 / 64)
    assert auto.result_mb == off.result_mb
    assert auto.campaign.common_params != off.campaign.common_params
    plan = auto.plan(1, 1, 2, "now")
    assert campaign.of_plan(plan).common_params == auto.campaign.common_params
    assert f"one wave for each of the {6} probes of a job" in "\n".join(auto.lines())


@pytest.mark.parametrize(
    ("blocks", "text"),
    [
        ({"adf": {"average_configurations": False}}, "not used: adf.average_configurations is false"),
        ({"scan": {"x": [0.01, 0.2], "y": [0.02, 0.23], "points": [3, 3]}}, "no two positions of the scan are equal"),
        ({"probe": {"aberrations": {"C21_nm": 1.0, "phi21_deg": 20.0}}}, "left out by probe.aberrations"),
        ({"grating": {"gpts": [63, 63]}}, "operations of the crystal miss the points of the grid"),
    ],
)
def test_the_reason_against_symmetry_is_named(checked, blocks, text):
    blocks["scan"] = {"symmetry": "auto", **blocks.get("scan", {})}
    assert text in row(checked(**blocks))


def test_without_possible_savings_the_plan_does_not_mention_symmetry(checked):
    assert row(checked(adf={"average_configurations": False})) is None
    assert row(checked(scan={"x": [0.01, 0.2], "y": [0.02, 0.23], "points": [3, 3]})) is None


def test_a_margin_is_reduced_with_the_window(checked):
    scan = {"x": [0.0, 0.25], "y": [0.0, 0.25], "points": [4, 4], "margin_nm": 0.1}
    off, auto = (checked(scan={**scan, "symmetry": kind}, probe={"source_fwhm_nm": 0.05}) for kind in ("off", "auto"))
    assert off.campaign.edges.margin == (3, 3) or off.campaign.edges.margin == (2, 2)
    assert auto.campaign.edges == off.campaign.edges
    assert auto.experiment.computed.positions == 15
    assert off.experiment.computed.positions > 60
