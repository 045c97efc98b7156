"""Two copies of a results folder report to one monitor through a faulty proxy: no event is lost or stored twice."""

from __future__ import annotations

import json
import shutil
import threading
from collections import Counter
from pathlib import Path

import pytest
from stemphony.paths import ResultPaths
from stemphony.status.backlog import left_in, spools_of
from stemphony.status.courier import Courier
from stemphony.status.delivery import read_events
from stemphony.status.events import Event
from stemphony.status.limits import Limits
from stemphony.status.reporter import JobReporter, Reporter
from stemphony.status.settings import ReportingSettings
from stemphony.store import copies, ledger
from support.fault_proxy import FaultProxy
from support.monitor import MonitorProcess

from monitor.test_faults import stored_ids

pytestmark = pytest.mark.slow

IMPATIENT = Limits(
    connect_s=1, read_s=0.5, answer_s=0.7, retry_after_cap_s=0.2, backoff_base_s=0.05, backoff_cap_s=0.2,
    unanswered_s=0.2, quiet_s=60,
)  # fmt: skip
JOBS, PERCENTS = 4, 25


def one_run(result: ResultPaths, port: int) -> None:
    """The events of one run, sent as the jobs and the hooks send them."""
    settings = ReportingSettings(reporting=True, url=f"http://127.0.0.1:{port}/")
    identity, number = ledger.identity(result, 1), ledger.claim_run(result)
    common = {
        "id": identity.id, "instance": identity.instance, "num_threads": 1, "num_processors": 1, "num_defoci": 1,
        "num_configurations": JOBS,
    }  # fmt: skip
    spool = result.hook_events(number)
    hooks = Reporter(settings, {**common, "run": number}, spool, warn=lambda text: None, limits=IMPATIENT)
    hooks.emit(Event.START_SIMULATION, title=result.root.parents[1].name)
    courier = Courier(result, settings, run=number, interval_s=0.1, limits=IMPATIENT)
    courier.start()
    for configuration in range(JOBS):
        job = JobReporter(
            settings, common, defocus_nm=0, defocus_index=0, configuration_index=configuration, run=number,
            attempt=ledger.claim_attempt(result, "p0d000", configuration), job=f"p0d000/{configuration:04d}",
            reports_dir=result.events(number), marker_file=result.run(number) / "p0d000.START_DEFOCUS.json",
            warn=lambda text: None, limits=IMPATIENT,
        )  # fmt: skip
        job.start()
        for percent in range(PERCENTS):
            job.progress((percent + 1) / PERCENTS)
        job.finish()
        job.close(0.2)
    hooks.emit(Event.FINISH)
    hooks.close(1.0, patient=True)
    courier.drain(1.0)
    courier.stop()


def deliver_the_rest(result: ResultPaths, port: int) -> None:
    courier = Courier(result, ReportingSettings(reporting=True, url=f"http://127.0.0.1:{port}/"), limits=IMPATIENT)
    courier.start()
    assert courier.drain(60), courier.trouble
    courier.stop()


def written(result: ResultPaths) -> list[str]:
    """Ids of all events in the spools of a folder."""
    files = [spool.path for spool in spools_of(result)]
    return [event["event_id"] for file in files for event, _ in read_events(file) if event is not None]


@pytest.mark.parametrize("seen", [True, False], ids=["copy-beside", "copy-on-another-machine"])
def test_each_event_of_both_copies_is_stored_once(tmp_path: Path, seen: bool):
    """A copy beside its original gets another id. A copy that does not see its original keeps the id."""
    original, copy = (ResultPaths(tmp_path / name / "results/gan") for name in ("original", "copy"))
    with (
        MonitorProcess(tmp_path, "--rate", "0") as monitor,
        FaultProxy(monitor.port, seed=7, faults={"429": 8, "500": 8, "stores-then-fails": 12, "cut": 5}) as proxy,
    ):
        one_run(original, proxy.port)
        shutil.copytree(original.root, copy.root)
        if not seen:
            kept = json.loads(copy.identity.read_text())
            copy.identity.write_text(json.dumps({**kept, "folder": "/not/here", "host": "another machine"}))
        assert ("is a copy of" in copies.settle_identity(copy)) is seen
        threads = [threading.Thread(target=one_run, args=(result, proxy.port)) for result in (original, copy)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert proxy.met["stores-then-fails"] > 3
        proxy.faulty = False
        for result in (original, copy):
            deliver_the_rest(result, proxy.port)
            assert left_in(result) == 0
        expected = {*written(original), *written(copy)}
        stored = stored_ids(monitor)
        # The start of a run has one id in both folders, so that the monitor sees two senders. It keeps both.
        doubled = [event_id for event_id, times in Counter(stored).items() if times > 1]
        assert len(doubled) == (0 if seen else 1)
        assert set(stored) == expected
        assert len(expected) == 3 * (2 + 1 + JOBS * (PERCENTS + 3)) - len(doubled)
        simulations = monitor.get("/api/simulations").json["simulations"]
        assert len(simulations) == 1 + seen
        assert {simulation["state"] for simulation in simulations} == {"finished"}
