"""The reporters of runs and jobs send each event with all its keys, and never stop a computation."""

from __future__ import annotations

import errno
import json
import os
import stat
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import jsonschema
import pytest
from stemphony.status import reporter as reporter_module
from stemphony.status import sender as sender_module
from stemphony.status import spool as spool_module
from stemphony.status.delivery import count_undelivered, delivered_until
from stemphony.status.events import COMMON_KEYS, RESERVED_KEYS, Event, failure_keys
from stemphony.status.reporter import JOB_END_WAIT_S, ONSTART_WAIT_S, RUN_END_WAIT_S, JobReporter, Reporter
from stemphony.status.sender import THREAD_NAME
from stemphony.status.settings import ReportingSettings
from support.status_server import EchoServer, FaultServer, closed_port
from support.time_limit import require_within

ROOT = Path(__file__).parents[3]
CANARY = "CANARY-7f3a"
SIMULATION = "2c0b3d0e-2f0b-4a55-8a2e-0d6c0c6a2b11"
TOTALS = {
    "id": SIMULATION,
    "num_threads": 4,
    "num_processors": 8,
    "num_defoci": 5,
    "num_configurations": 10,
}
COMMON = {**TOTALS, "run": 2}
PAIR = {"defocus": -2.5, "defocus_index": 1, "configuration_index": 7}

validator = jsonschema.Draft202012Validator(
    json.loads((ROOT / "workflow/schemas/status_event.schema.json").read_text()),
    format_checker=jsonschema.FormatChecker(),
)


@pytest.fixture(autouse=True)
def _no_thread_stays():
    yield
    for thread in threading.enumerate():
        if thread.name == THREAD_NAME:
            thread.join(15)
            assert not thread.is_alive()


@pytest.fixture
def warnings() -> list[str]:
    return []


def settings_for(url: str, **values) -> ReportingSettings:
    return ReportingSettings(reporting=True, url=url, **values)


def job_reporter(settings, folder: Path, warnings: list[str], **values) -> JobReporter:
    arguments = {
        "defocus_nm": -2.5,
        "defocus_index": 1,
        "configuration_index": 7,
        "run": 2,
        "attempt": 3,
        "job": "defocus_m2d500_configuration_0007",
        "reports_dir": folder / "run-2",
        "marker_file": folder / "run-2/defocus_m2d500.START_DEFOCUS.json",
        "warn": warnings.append,
    }
    return JobReporter(settings, TOTALS, **{**arguments, **values})


def spooled(folder: Path) -> list[dict]:
    (file,) = folder.rglob("*.jsonl")
    return [json.loads(line) for line in file.read_text().splitlines()]


def everything_below(folder: Path) -> str:
    return "\n".join(f"{path} {path.read_text()}" for path in folder.rglob("*") if path.is_file())


def test_the_longest_waits_are_5_and_2_and_60_seconds():
    assert (ONSTART_WAIT_S, JOB_END_WAIT_S, RUN_END_WAIT_S) == (5.0, 2.0, 60.0)


# Sent events.


def test_events_of_a_run_are_sent_with_all_keys(tmp_path, warnings):
    with EchoServer() as server:
        parameters = {"simulation_category": "suitable for many Nature papers", "beamtime": 12, "demo": True}
        hooks = Reporter(
            settings_for(server.url, parameters=parameters),
            COMMON,
            tmp_path / "s.jsonl",
            warn=warnings.append,
        )
        hooks.emit(Event.START_SIMULATION, version="0.1.0", git_commit="", title="SrTiO₃ [001]")
        assert hooks.flush(20.0)
        hooks.emit(Event.FAILED, **failure_keys([(1, 7), (0, 3)], 12))
        hooks.emit(Event.CANCELLED)
        hooks.emit(Event.FINISH)
        assert hooks.close(20.0)
    events = server.events
    assert [event["event"] for event in events] == ["START_SIMULATION", "FAILED", "CANCELLED", "FINISH"]
    for seq, event in enumerate(events):
        validator.validate(event)
        assert {key: event[key] for key in COMMON} == COMMON
        assert list(event)[: len(COMMON_KEYS)] == list(COMMON_KEYS)
        assert event["seq"] == seq
        assert {key: event[key] for key in parameters} == parameters
        assert not {"job", "attempt"} & set(event)
    assert (events[0]["version"], events[0]["git_commit"], events[0]["title"]) == (
        "0.1.0",
        "",
        "SrTiO₃ [001]",
    )
    assert events[1]["failed"] == [[0, 3], [1, 7]]
    assert (events[1]["num_failed"], events[1]["num_never_ran"]) == (2, 12)
    assert len({event["event_id"] for event in events}) == 4
    assert warnings == []


@pytest.mark.parametrize("name", ["PROGRESS", "START_CONFIGURATION"])
def test_events_of_a_job_are_sent_with_all_keys(tmp_path, warnings, name):
    with EchoServer() as server:
        settings = settings_for(server.url, parameters={"group": "em"}, progress_event=name)
        with job_reporter(settings, tmp_path, warnings) as job:
            job.start()
            job.progress(0.5)
            job.finish()
            assert job.close(20.0)
    events = server.events
    assert [event["event"] for event in events] == [
        "START_DEFOCUS",
        "START_FP_CONFIGURATION",
        name,
        name,
        name,
        "FINISH_FP_CONFIGURATION",
    ]
    for seq, event in enumerate(events):
        validator.validate(event)
        assert {key: event[key] for key in COMMON} == COMMON
        assert (event["job"], event["attempt"], event["seq"]) == ("defocus_m2d500_configuration_0007", 3, seq)
        assert (event["defocus"], event["defocus_index"]) == (-2.5, 1)
        assert event.get("configuration_index") == (None if event["event"] == "START_DEFOCUS" else 7)
        assert event["group"] == "em"
        assert datetime.fromisoformat(event["time"]).utcoffset() == timedelta(0)
    assert [event["progress"] for event in events[2:5]] == [0.0, 0.5, 1.0]
    assert [type(event["progress"]) for event in events[2:5]] == [float] * 3
    # The spool holds the same, without the custom parameters.
    assert spooled(tmp_path) == [{k: v for k, v in event.items() if k != "group"} for event in events]
    assert warnings == []


def test_an_error_is_sent_with_all_keys(tmp_path, warnings):
    with EchoServer() as server:
        job = job_reporter(settings_for(server.url), tmp_path, warnings)
        job.start()
        job.error("OSError: [Errno 28] No space left on device: '/scratch/ada/tmp.nc'", will_retry=True)
        job.error("again")
        job.finish()
        assert job.close(20.0)
    event = server.events[-1]
    validator.validate(event)
    assert event["event"] == "ERROR"
    assert event["message"] == "OSError: [Errno 28] No space left on device: 'tmp.nc'"
    assert event["will_retry"] is True
    assert [entry["event"] for entry in server.events].count("ERROR") == 1


def test_schema_refuses_what_is_not_an_event():
    good = {
        **COMMON,
        "time": "2026-01-01T00:00:00.000+00:00",
        "event": "PROGRESS",
        "schema": 1,
        "event_id": SIMULATION,
        "seq": 0,
        **PAIR,
        "job": "j",
        "attempt": 1,
        "progress": 0.5,
    }
    assert validator.is_valid(good)
    assert validator.is_valid({**good, "custom": "x", "other": 1.5, "third": False})
    for change in (
        {"custom": None},
        {"custom": [1]},
        {"progress": 1.5},
        {"time": "2026-01-01T00:00:00"},
        {"event": "SOMETHING"},
        {"event": "FINISH"},
        {"event": "ERROR"},
        {"event": "START_SIMULATION"},
        {"num_threads": "4"},
    ):
        assert not validator.is_valid({**good, **change}), change
    for key in ("time", "id", "num_threads", "event", "event_id", "seq", "defocus", "progress", "job"):
        assert not validator.is_valid({k: v for k, v in good.items() if k != key}), key


def test_custom_parameters_never_replace_keys_of_an_event(tmp_path, warnings):
    with EchoServer() as server:
        settings = settings_for(server.url, parameters={"event": "HACKED", "time": "never", "defocus": 9, "x": 1})
        job = job_reporter(settings, tmp_path, warnings)
        job.start()
        assert job.close(20.0)
    for event in server.events:
        validator.validate(event)
        assert event["event"] != "HACKED"
        assert event["defocus"] == -2.5
        assert list(event)[-1] == "x"


def test_the_time_of_an_event_is_when_it_happened(tmp_path, warnings):
    moments = iter([datetime(2026, 1, 1, 12, tzinfo=UTC), datetime(2026, 1, 1, 13, tzinfo=UTC)])
    with FaultServer("500", "ok") as server:
        reporter = Reporter(settings_for(server.url), COMMON, None, warn=warnings.append, clock=lambda: next(moments))
        reporter.emit(Event.CANCELLED)
        reporter.emit(Event.FINISH)
        assert reporter.close(20.0, patient=True)
        assert [event["time"][11:16] for event in server.events] == ["12:00", "12:00", "13:00"]


def test_values_that_json_cannot_hold_are_left_out(tmp_path, warnings):
    class Scalar:
        def item(self):
            return 3

    with EchoServer() as server:
        reporter = Reporter(settings_for(server.url), COMMON, None, warn=warnings.append)
        reporter.emit(Event.FINISH, a=float("nan"), b=Path("/x"), c=None, d=Scalar(), title="a\ud800\x00b", e=b"x")
        assert reporter.close(20.0)
    (event,) = server.events
    assert not {"a", "b", "c", "e"} & set(event)
    assert event["d"] == 3
    assert event["title"] == "a  b"


def test_event_ids_are_reproducible_and_can_be_given(tmp_path, warnings):
    lines = []
    for folder in (tmp_path / "a", tmp_path / "b"):
        job = job_reporter(settings_for("", via="submit_host"), folder, warnings)
        job.start()
        job.close()
        lines.append([entry["event_id"] for entry in spooled(folder)])
    assert lines[0] == lines[1]
    assert len(set(lines[0])) == 3
    reporter = Reporter(settings_for(""), COMMON, tmp_path / "c/s.jsonl", send=False, warn=warnings.append)
    reporter.emit(Event.FINISH, event_id=SIMULATION)
    reporter.close(0)
    assert spooled(tmp_path / "c")[0]["event_id"] == SIMULATION


# Reporting that is off or only writes.


@pytest.mark.parametrize("settings", [None, ReportingSettings(reporting=False, url="http://127.0.0.1:1/")])
def test_reporting_that_is_off_makes_no_thread_and_no_file(tmp_path, warnings, settings):
    before = threading.active_count()
    reporter = Reporter(settings, COMMON, tmp_path / "s.jsonl", warn=warnings.append)
    reporter.emit(Event.FINISH)
    assert not reporter.enabled
    assert reporter.flush(60.0, patient=True)
    assert reporter.close(60.0, patient=True)
    with job_reporter(settings, tmp_path, warnings) as job:
        job.start()
        job.progress(0.3)
        job.finish()
    assert threading.active_count() == before
    assert list(tmp_path.iterdir()) == []
    assert warnings == []


def test_a_job_that_reports_via_the_submit_host_only_writes(tmp_path, warnings):
    with (
        FaultServer("ok") as server,
        job_reporter(settings_for(server.url, via="submit_host"), tmp_path, warnings) as job,
    ):
        job.start()
        job.finish()
        assert not job.close()
    assert server.connections == 0
    assert len(spooled(tmp_path)) == 5
    assert warnings == []


LIGHT = """
import sys, pathlib
from stemphony.status.reporter import JobReporter
job = JobReporter(None, {}, defocus_nm=0, defocus_index=0, configuration_index=0, run=1, attempt=1, job="j",
                  reports_dir=pathlib.Path("x"), marker_file=pathlib.Path("x/y"), warn=print)
job.start(); job.finish(); job.close()
print([name for name in ("requests", "urllib3", "yaml", "http.client", "numpy") if name in sys.modules])
"""


def test_a_job_without_reporting_imports_no_heavy_package():
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "workflow/scripts")}
    result = subprocess.run([sys.executable, "-c", LIGHT], env=environment, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


# No receiver can fail or delay a simulation.

FAULTS = [
    "refuse",
    "hang",
    "drip",
    "500",
    "503",
    "429",
    "301",
    "302",
    "307",
    "401",
    "400",
    "stores-then-fails",
]
FAULTS += ["garbage", "huge", "huge-redirect"]


@pytest.mark.parametrize("mode", FAULTS)
def test_a_job_ends_in_time_under_every_fault(tmp_path, warnings, mode):
    with FaultServer("ok") as target:
        headers = {
            "503": ["Retry-After: 21600"],
            "301": [f"Location: {target.url}"],
            "302": [f"Location: {target.url}"],
            "307": [f"Location: {target.url}"],
        }.get(mode, [])
        with FaultServer("ok" if mode == "refuse" else mode, headers=headers) as server:
            url = server.url if mode != "refuse" else f"http://127.0.0.1:{closed_port()}/"
            settings = settings_for(
                f"{url}{CANARY}?token={CANARY}",
                auth_user=CANARY,
                auth_pass=CANARY,
                parameters={"api_token": CANARY, "plain": CANARY},
            )
            job = job_reporter(settings, tmp_path, warnings)
            job.start()
            for step in range(16):
                job.progress((step + 1) / 16)
            job.finish()
            began = time.monotonic()
            complete = job.close(0.5)
            require_within(0.5 + 3, began, "the end of a job that may wait 0.5 s")
            began = time.monotonic()
            job.close(0.5)
            require_within(3, began, "the second end of a job")
        assert mode == "huge" or not complete
        assert target.connections == 0
    # Every event is on disk in any case, and none contains a secret.
    assert [event["seq"] for event in spooled(tmp_path)] == list(range(20))
    assert CANARY not in everything_below(tmp_path)
    assert CANARY not in "".join(warnings)
    assert len(warnings) == len(set(warnings)) <= 2


@pytest.mark.parametrize("mode", ["hang", "drip", "stores-then-fails"])
def test_emit_returns_without_waiting(tmp_path, warnings, mode):
    with FaultServer(mode) as server:
        reporter = Reporter(settings_for(server.url), COMMON, tmp_path / "s.jsonl", warn=warnings.append)
        reporter.emit(Event.CANCELLED)
        assert server.wait_for(1)
        began = time.monotonic()
        for _ in range(1500):
            reporter.emit(Event.PROGRESS, **PAIR, progress=0.5)
        # Any wait for the receiver would be 1500 times a timeout.
        require_within(30, began, "1500 events that nothing waits for")
        assert not reporter.close(0.1)
    assert len((tmp_path / "s.jsonl").read_text().splitlines()) == 1501
    assert len(warnings) == len(set(warnings)) <= 2


EXIT = """
import pathlib, sys
from stemphony.status.reporter import JobReporter
from stemphony.status.settings import ReportingSettings
folder = pathlib.Path(sys.argv[2])
totals = {"id": "2c0b3d0e-2f0b-4a55-8a2e-0d6c0c6a2b11", "num_threads": 1, "num_processors": 1,
          "num_defoci": 1, "num_configurations": 1}
job = JobReporter(ReportingSettings(reporting=True, url=sys.argv[1]), totals, defocus_nm=0, defocus_index=0,
                  configuration_index=0, run=1, attempt=1, job="j", reports_dir=folder,
                  marker_file=folder / "marker", warn=lambda text: print(text, file=sys.stderr))
job.start(); job.finish(); job.close()
"""


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["hang", "drip", "503", "huge-redirect"])
def test_a_process_ends_under_faults(tmp_path, mode):
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "workflow/scripts")}
    with FaultServer(mode) as server:
        command = [sys.executable, "-c", EXIT, server.url, str(tmp_path)]
        result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "Traceback" not in result.stderr
    assert "Fatal" not in result.stderr


@pytest.mark.parametrize("trouble", ["disk full", "no folder"])
def test_a_failing_spool_neither_raises_nor_stops_sending(tmp_path, warnings, monkeypatch, trouble):
    def write(descriptor, data):
        raise OSError(errno.ENOSPC, "No space left on device", str(tmp_path))

    if trouble == "disk full":
        monkeypatch.setattr(spool_module.os, "write", write)
    else:
        (tmp_path / "run-2").write_text("a file where the folder should be")
    with EchoServer() as server:
        with job_reporter(settings_for(server.url), tmp_path, warnings) as job:
            job.start()
            job.finish()
            assert job.close(20.0)
        assert len(server.events) == 5
    (warning,) = warnings
    assert "cannot be written" in warning
    assert str(tmp_path) not in warning


def test_an_internal_error_is_reported_once_and_never_raised(tmp_path, warnings, monkeypatch):
    def broken(*args, **kwargs):
        raise ZeroDivisionError(CANARY)

    reporter = Reporter(settings_for("http://127.0.0.1:1/"), COMMON, tmp_path / "s.jsonl", warn=warnings.append)
    monkeypatch.setattr(reporter_module, "timestamp", broken)
    reporter.emit(Event.FINISH)
    reporter.emit(Event.FINISH)
    reporter.emit("NO_SUCH_EVENT")
    monkeypatch.setattr(sender_module.Sender, "flush", broken)
    assert not reporter.close(1.0)
    assert warnings == ["status reporting is broken here (ZeroDivisionError). The simulation goes on."]


def test_an_exception_in_warn_is_ignored(tmp_path):
    def warn(text):
        raise BrokenPipeError

    reporter = Reporter(settings_for(f"http://127.0.0.1:{closed_port()}/"), COMMON, None, warn=warn)
    reporter.emit(Event.FINISH)
    assert not reporter.close(5.0)


def test_warn_is_called_in_the_thread_that_reports(tmp_path):
    callers = []
    reporter = Reporter(
        settings_for(f"http://127.0.0.1:{closed_port()}/"),
        COMMON,
        None,
        warn=lambda text: callers.append(threading.current_thread()),
    )
    reporter.emit(Event.FINISH)
    reporter.close(5.0)
    assert callers == [threading.current_thread()]


def test_flush_leaves_the_reporter_usable_and_close_does_not(warnings):
    with FaultServer("500", "ok") as server:
        reporter = Reporter(settings_for(server.url), COMMON, None, warn=warnings.append)
        reporter.emit(Event.CANCELLED)
        assert reporter.flush(20.0, patient=True)
        reporter.emit(Event.FINISH)
        assert reporter.close(20.0)
        assert reporter.close(20.0)
        reporter.emit(Event.FINISH)
        assert [event["event"] for event in server.events] == ["CANCELLED", "CANCELLED", "FINISH"]


# Secrets stay in the settings.


def test_no_secret_is_on_disk_in_reprs_or_in_messages(tmp_path, warnings):
    secret = "s3cr3t/with:odd@characters"
    with EchoServer() as server:
        settings = settings_for(
            server.url + f"?token={CANARY}",
            auth_user="u" + CANARY,
            auth_pass=secret,
            parameters={"api_key": CANARY + "-key", "proxy_pass": "p4ssw0rd", "group": CANARY + "-group"},
        )
        job = job_reporter(settings, tmp_path, warnings)
        job.start()
        job.error(
            f"ValueError: cannot log in with {secret} and {CANARY}-key through p4ssw0rd at {server.url}?token={CANARY}"
        )
        assert job.close(20.0)
    assert server.events[-1]["api_key"] == CANARY + "-key"
    message = server.events[-1]["message"]
    shown = everything_below(tmp_path) + message + "".join(warnings) + repr(settings) + repr(vars(job))
    assert CANARY not in shown
    assert secret not in shown
    assert "s3cr3t" not in shown
    assert "p4ssw0rd" not in shown


def test_spool_and_marker_follow_the_umask(tmp_path, warnings):
    before = os.umask(0o027)
    try:
        job = job_reporter(settings_for("", via="submit_host"), tmp_path, warnings)
        job.start()
        job.close()
    finally:
        os.umask(before)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) == 2
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o640}


# Progress and ends of a job.


def percents(folder: Path) -> list[float]:
    return [event["progress"] for event in spooled(folder) if event["event"] == "PROGRESS"]


def test_each_integer_percent_is_reported_once(tmp_path, warnings):
    job = job_reporter(settings_for("", via="submit_host"), tmp_path, warnings)
    job.start()
    for step in range(1, 1001):
        job.progress(step / 1000)
    job.progress(0.3)
    job.finish()
    job.close()
    assert percents(tmp_path) == [percent / 100 for percent in range(101)]


def test_few_steps_report_the_reached_percent(tmp_path, warnings):
    job = job_reporter(settings_for("", via="submit_host"), tmp_path, warnings)
    job.start()
    job.progress(0.0)
    for step in range(1, 17):
        job.progress(step / 16)
    job.finish()
    job.close()
    reached = [0, 6, 12, 18, 25, 31, 37, 43, 50, 56, 62, 68, 75, 81, 87, 93, 100]
    assert percents(tmp_path) == [percent / 100 for percent in reached]


def test_impossible_progress_is_ignored(tmp_path, warnings):
    job = job_reporter(settings_for("", via="submit_host"), tmp_path, warnings)
    job.start()
    for fraction in (float("nan"), -0.5, -float("inf"), 0.999999, 0.5):
        job.progress(fraction)
    job.progress(float("inf"))
    job.progress(7.0)
    job.close()
    assert percents(tmp_path) == [0.0, 0.99, 1.0]


def test_progress_is_thinned_except_first_and_last(tmp_path, warnings):
    now = [0.0]
    settings = settings_for("", via="submit_host", progress_min_interval_s=2.0)
    job = job_reporter(settings, tmp_path, warnings, monotonic=lambda: now[0])
    job.start()
    for step in range(1, 101):
        now[0] = 0.1 * step
        job.progress(step / 100)
    job.finish()
    job.close()
    assert percents(tmp_path) == [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]


def test_progress_can_be_thinned_to_first_and_last(tmp_path, warnings):
    settings = settings_for("", via="submit_host", progress_min_interval_s=1e6)
    with job_reporter(settings, tmp_path, warnings) as job:
        job.start()
        for step in range(1, 100):
            job.progress(step / 100)
        job.finish()
    assert percents(tmp_path) == [0.0, 1.0]


def test_a_second_job_of_a_defocus_does_not_report_its_start(tmp_path, warnings):
    settings = settings_for("", via="submit_host")
    names = []
    for configuration in (7, 8):
        with job_reporter(
            settings, tmp_path, warnings, configuration_index=configuration, job=f"d/c{configuration}"
        ) as job:
            job.start()
        (file,) = tmp_path.rglob(f"d.c{configuration}.*")
        entries = [json.loads(line) for line in file.read_text().splitlines()]
        assert [entry["seq"] for entry in entries] == list(range(len(entries)))
        names.append([entry["event"] for entry in entries])
    assert names == [
        ["START_DEFOCUS", "START_FP_CONFIGURATION", "PROGRESS"],
        ["START_FP_CONFIGURATION", "PROGRESS"],
    ]


def test_marker_holds_the_event_that_was_sent(tmp_path, warnings):
    with EchoServer() as server, job_reporter(settings_for(server.url), tmp_path, warnings) as job:
        job.start()
        assert job.close(20.0)
    (marker,) = tmp_path.rglob("*.START_DEFOCUS.json")
    assert json.loads(marker.read_text()) == server.events[0] == spooled(tmp_path)[0]


def test_leaving_the_context_by_an_exception_reports_the_error(tmp_path, warnings):
    def run() -> None:
        with job_reporter(settings_for("", via="submit_host"), tmp_path, warnings) as job:
            job.start()
            raise MemoryError("of /home/ada/big.nc")

    with pytest.raises(MemoryError):
        run()
    last = spooled(tmp_path)[-1]
    assert (last["event"], last["message"]) == ("ERROR", "MemoryError: of big.nc")
    assert "will_retry" not in last


@pytest.mark.parametrize(("code", "number"), [(0, 0), (None, 0), (143, 1)])
def test_leaving_the_context_by_sys_exit_reports_only_a_failure(tmp_path, warnings, code, number):
    def run() -> None:
        with job_reporter(settings_for("", via="submit_host"), tmp_path, warnings) as job:
            job.start()
            raise SystemExit(code)

    with pytest.raises(SystemExit):
        run()
    assert [event["event"] for event in spooled(tmp_path)].count("ERROR") == number


def test_a_defocus_of_minus_zero_is_reported_as_zero(tmp_path, warnings):
    with job_reporter(settings_for("", via="submit_host"), tmp_path, warnings, defocus_nm=-0.0) as job:
        job.start()
    assert '"defocus": 0.0' in everything_below(tmp_path)
    assert "-0.0" not in everything_below(tmp_path)


def test_a_second_attempt_writes_its_own_spool(tmp_path, warnings):
    for attempt in (1, 2, 2):
        with job_reporter(settings_for("", via="submit_host"), tmp_path, warnings, attempt=attempt) as job:
            job.start()
    assert len(list(tmp_path.rglob("*.jsonl"))) == 3


# The page for authors of receivers.


def test_examples_of_the_page_are_valid_and_complete():
    page = (ROOT / "docs/status-api.md").read_text(encoding="utf-8")
    examples = [json.loads(block.partition("```")[0]) for block in page.split("```json\n")[1:]]
    for example in examples:
        validator.validate(example)
    assert {example["event"] for example in examples} == set(Event)
    for key in RESERVED_KEYS:
        assert f"`{key}`" in page


def test_an_event_that_a_signal_keeps_from_the_sender_is_never_acknowledged(tmp_path, warnings, monkeypatch):
    """SIGTERM arrives between spool and sender. The courier sends the event, even if later ones were sent."""
    with EchoServer() as server:
        job = job_reporter(settings_for(server.url), tmp_path, warnings)
        put = job._reporter._sender.put

        def interrupted(line, end):
            monkeypatch.setattr(job._reporter._sender, "put", put)
            raise SystemExit(143)

        monkeypatch.setattr(job._reporter._sender, "put", interrupted)
        with pytest.raises(SystemExit):
            job.start()
        job.error("terminated by signal 15")
        assert job.close(20.0)
    assert server.events[-1]["event"] == "ERROR"
    (file,) = tmp_path.rglob("*.jsonl")
    assert delivered_until(file) == 0, "the skipped event is before all that was sent"
    assert count_undelivered(file) == len(spooled(tmp_path)) >= 2
