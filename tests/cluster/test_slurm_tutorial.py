"""The tutorial of a campaign on Slurm does what it says: its commands at a small size, with its monitor."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from support.campaign import REPOSITORY
from support.monitor import MonitorProcess
from support.pages import Executed
from support.status_server import closed_port

from cluster.cluster import Cluster

PAGE = REPOSITORY / "docs" / "tutorials" / "slurm.md"
POLLED = "seconds-between-status-checks: "
SMALL = (
    "specimen.repeat=[3, 3, 2]", "grating.gpts=[64, 64]", "scan.points=[2, 2]", "scan.x=[0, 0.3333333333333333]",
    "scan.y=[0, 0.3333333333333333]", "adf.detectors={bf: [0, 10], haadf: [20, 30]}", "probe.defoci_nm=[0.0, 2.0]",
    "frozen_phonon.configurations=2",
)  # fmt: skip


def test_the_slurm_tutorial_works_as_typed(cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The edit of the profile shortens its pause between two looks; the monitor gets a free port."""
    own = {name: str(tmp_path / name) for name in ("XDG_STATE_HOME", "XDG_DATA_HOME")}
    for name, value in own.items():
        monkeypatch.setenv(name, value)  # some commands run in this process
    port = closed_port()
    stand_ins = {
        "nano slurm/": f"sed -i 's/^{POLLED}20$/{POLLED}1/' slurm/",
        "stemphony monitor &": f"stemphony monitor --port {port} &",
        "127.0.0.1:8000": f"127.0.0.1:{port}",
    }
    page = Executed(PAGE, tmp_path, {**cluster.env, **own}, SMALL, stand_ins)
    page.execute()

    assert f"\n{POLLED}1\n" in (page.directory / "slurm" / "config.v9+.yaml").read_text()
    assert (page.directory / "series.png").read_bytes().startswith(b"\x89PNG")
    states = [state for name, state, directory in cluster.jobs("%j|%T|%Z") if directory == str(page.directory)]
    assert states == ["COMPLETED"] * 4
    # The database of the page's monitor, which has ended.
    database = Path(own["XDG_DATA_HOME"]) / "stemphony" / "monitor.sqlite"
    with MonitorProcess(tmp_path, db=str(database)) as monitor:
        listed = monitor.get("/api/simulations").json["simulations"]
        assert [(one["title"], one["state"]) for one in listed] == [("SrTiO3 [001], focal series", "finished")]
        pairs = monitor.get("/api/simulations/1/pairs").json["pairs"]
        assert [pair["state"] for pair in pairs] == ["finished"] * 4
        shown = monitor.get("/simulations/1").text
        assert len(re.findall(r'aria-label="(?:bf|haadf) at \d nm, mean of 2 configurations', shown)) == 4
