"""Events that a receiver gets from a campaign; faulty receivers do not harm the campaign."""

from __future__ import annotations

import base64
import json
import re
import signal
import time
import uuid
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from stemphony.paths import defocus_id
from stemphony.status.events import DESCRIPTION_KEYS
from support.campaign import (
    REPOSITORY,
    TINY,
    TINY_JOBS,
    Campaign,
    Outcome,
    arrays,
    assert_same_arrays,
    edit,
    make_clone,
    wait_for,
)
from support.status_server import EchoServer, FaultServer, closed_port
from support.time_limit import require_within

from workflow.conftest import CUSTOM, PASSWORD, PATH_TOKEN, USER, Reported, command_lines

SCHEMA = json.loads((REPOSITORY / "workflow" / "schemas" / "status_event.schema.json").read_text())
ORIGINAL_KEYS = {"time", "id", "num_threads", "num_processors", "num_defoci", "num_configurations", "event"}
OF_A_JOB = ("START_FP_CONFIGURATION", "PROGRESS", "FINISH_FP_CONFIGURATION", "ERROR")
PAIRS = {(0.0, 0, 0), (0.0, 0, 1), (5.0, 1, 0), (5.0, 1, 1)}
SHORT_WAIT_S = 4


def pair(event: Mapping[str, Any]) -> tuple[float, int, int]:
    return event["defocus"], event["defocus_index"], event["configuration_index"]


def of(events: list[dict[str, Any]], *names: str) -> list[dict[str, Any]]:
    return [event for event in events if event["event"] in names]


# --- a receiver that does what it should ----------------------------------------------------------------------------


def test_each_event_arrives_exactly_as_often_as_it_happened(tiny: Reported):
    assert Counter(event["event"] for event in tiny.events) == {
        "START_SIMULATION": 1,
        "START_DEFOCUS": 2,
        "START_FP_CONFIGURATION": 4,
        "PROGRESS": 20,  # 0, 25, 50, 75 and 100 % of 4 probe positions
        "FINISH_FP_CONFIGURATION": 4,
        "FINISH": 1,
    }
    assert {event["defocus"] for event in of(tiny.events, "START_DEFOCUS")} == {0.0, 5.0}
    assert {pair(event) for event in of(tiny.events, "START_FP_CONFIGURATION")} == PAIRS
    assert {pair(event) for event in of(tiny.events, "FINISH_FP_CONFIGURATION")} == PAIRS
    ids = [event["event_id"] for event in tiny.events]
    assert len(set(ids)) == len(ids)


def test_the_first_event_starts_and_the_last_one_finishes_the_simulation(tiny: Reported):
    assert tiny.events[0]["event"] == "START_SIMULATION"
    assert tiny.events[-1]["event"] == "FINISH"


def test_events_of_a_job_arrive_in_order_and_progress_never_falls(tiny: Reported):
    for wanted in PAIRS:
        own = [event for event in of(tiny.events, *OF_A_JOB) if pair(event) == wanted]
        assert [event["event"] for event in own] == [
            "START_FP_CONFIGURATION",
            *["PROGRESS"] * 5,
            "FINISH_FP_CONFIGURATION",
        ]
        assert [event["progress"] for event in own[1:-1]] == [0.0, 0.25, 0.5, 0.75, 1.0]
        assert [event["seq"] for event in own] == sorted(event["seq"] for event in own)
        times = [datetime.fromisoformat(event["time"]) for event in own]
        assert times == sorted(times)
        (started,) = [event for event in of(tiny.events, "START_DEFOCUS") if event["defocus"] == wanted[0]]
        assert datetime.fromisoformat(started["time"]) <= times[0] or started["job"] != own[0]["job"]


def test_every_event_has_the_keys_of_the_original_and_fits_the_schema(tiny: Reported):
    validator = jsonschema.Draft202012Validator(SCHEMA)
    for event in tiny.events:
        assert event.keys() >= ORIGINAL_KEYS
        problems = [problem.message for problem in validator.iter_errors(event)]
        assert problems == [], event["event"]
        assert (event["num_threads"], event["num_processors"]) == (1, 2)
        assert (event["num_defoci"], event["num_configurations"]) == (2, 2)
        assert datetime.fromisoformat(event["time"]).utcoffset() is not None


def test_every_event_has_the_custom_parameters(tiny: Reported):
    for event in tiny.events:
        assert {key: event.get(key) for key in CUSTOM} == CUSTOM


def test_every_request_has_the_path_and_the_credentials(tiny: Reported):
    assert tiny.paths == {f"/?token={PATH_TOKEN}"}
    assert tiny.authorizations == {"Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()}


def test_the_id_is_that_of_the_result(tiny: Reported):
    identity = json.loads(tiny.campaign.result.identity.read_text())["id"]
    assert {event["id"] for event in tiny.events} == {identity}
    assert str(uuid.UUID(identity)) == identity
    assert {event["run"] for event in tiny.events} == {1}
    assert {event["attempt"] for event in tiny.events if "attempt" in event} == {1}
    assert of(tiny.events, "START_SIMULATION")[0]["title"] == "Tiny campaign"
    assert of(tiny.events, "START_SIMULATION")[0]["result_name"] == tiny.campaign.result.name


def test_the_first_event_describes_the_simulation_unless_a_custom_parameter_does(tiny: Reported):
    (start,) = of(tiny.events, "START_SIMULATION")
    assert {key: start[key] for key in DESCRIPTION_KEYS} == {
        "specimen_formula": "Sr Ti O3", "beam_energy_kev": 200.0, "thickness_nm": 0.3905,
        "detectors": CUSTOM["detectors"],
    }  # fmt: skip
    said = "parameters.detectors takes the place of the value from the config"
    assert said in tiny.first.output
    assert not set(DESCRIPTION_KEYS) - {"detectors"} & of(tiny.events, "FINISH")[0].keys()


def test_events_of_the_run_carry_no_job(tiny: Reported):
    for event in of(tiny.events, "START_SIMULATION", "FINISH"):
        assert not {"job", "attempt"} & event.keys()
    for event in of(tiny.events, "START_DEFOCUS", *OF_A_JOB):
        assert {"job", "attempt"} <= event.keys()


def test_a_rerun_keeps_the_id_and_counts_on(tiny: Reported, tmp_path: Path):
    campaign = tiny.copy(tmp_path / "copy")
    campaign.job_file("p5d000/0001").unlink()
    with EchoServer() as server:
        campaign.change(
            http_reporting={
                "reporting": True,
                "url": server.url,
                "progress_event": "START_CONFIGURATION",
                "parameters": {},
            }
        )
        campaign.succeed()
        events = server.events
    assert Counter(event["event"] for event in events) == {
        "START_SIMULATION": 1,
        "START_DEFOCUS": 1,
        "START_FP_CONFIGURATION": 1,
        "START_CONFIGURATION": 5,
        "FINISH_FP_CONFIGURATION": 1,
        "FINISH": 1,
    }
    assert {event["id"] for event in events} == {tiny.events[0]["id"]}
    assert {event["run"] for event in events} == {2}
    assert {event["attempt"] for event in events if "attempt" in event} == {2}
    assert not {event["event_id"] for event in events} & {event["event_id"] for event in tiny.events}
    assert events[-1]["event"] == "FINISH"


def test_a_finished_job_sends_an_image_of_each_detector_if_previews_are_on(
    tiny: Reported, new_campaign: Callable[..., Campaign]
):
    assert [event for event in tiny.events if "preview" in event] == []
    with EchoServer() as server:
        campaign = new_campaign(TINY)
        campaign.change(http_reporting={"reporting": True, "url": server.url, "preview": True})
        campaign.succeed()
        shown = of(server.events, "PREVIEW")
    names = ("bf", "haadf")
    assert sorted(event["preview_detector"] for event in shown) == sorted(4 * names)
    for event in shown:
        jsonschema.validate(event, SCHEMA)
        file = campaign.result.job(defocus_id(event["defocus"]), event["configuration_index"])
        expected = arrays(file)[f"images/{event['preview_detector']}"][0, 0, -1].T[::-1]
        gray = np.frombuffer(base64.b64decode(event["preview"]), np.uint8).reshape(-1, event["preview_width"])
        found = event["preview_low"] + (event["preview_high"] - event["preview_low"]) * gray / 255
        assert found == pytest.approx(expected, abs=float(np.ptp(expected)) / 500)
        assert event["preview_repeats"] == "", "the scan covers a part of a period"
        assert event["preview_width_nm"] == event["preview_height_nm"] > 0


def test_a_run_of_one_rule_does_not_finish_the_simulation(tiny: Reported, new_campaign: Callable[..., Campaign]):
    campaign = new_campaign(tiny.campaign.settings)
    with EchoServer() as server:
        campaign.change(http_reporting={"reporting": True, "url": server.url})
        assert campaign.succeed("results/tiny/specimen.nc").jobs == {"prepare_specimen"}
        assert [event["event"] for event in server.events] == ["START_SIMULATION", "FAILED"]
        assert server.events[-1]["num_failed"] == 0


def test_snakemakes_touch_sends_no_event(tiny: Reported, tmp_path: Path):
    campaign = tiny.copy(tmp_path / "copy")
    campaign.result.merged.touch()
    with EchoServer() as server:
        campaign.change(http_reporting={"reporting": True, "url": server.url}, probe={"source_fwhm_nm": 0.1})
        campaign.succeed("--touch")
        assert server.received == []
    assert not campaign.result.run(2).exists()


# --- receivers of bad habits ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def hasty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone that waits only briefly at the end of a run."""
    clone = make_clone(tmp_path_factory.mktemp("hasty") / "clone")
    reporter = clone / "workflow" / "scripts" / "stemphony" / "status" / "reporter.py"
    edit(reporter, r"^RUN_END_WAIT_S: Final = [\d.]+$", f"RUN_END_WAIT_S: Final = {SHORT_WAIT_S}.0")
    return clone


@pytest.fixture(scope="module")
def with_faults(
    tiny: Reported, hasty: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, tuple[Campaign, Outcome, float, list[str]]]:
    """Campaigns that compute one job again, side by side, one for each kind of faulty receiver."""
    folder = tmp_path_factory.mktemp("faults")
    hang, broken, away = FaultServer("hang"), FaultServer("500"), FaultServer("302", headers=["Location: /elsewhere"])
    stranger = FaultServer("401")
    found = {}
    with hang, broken, away, stranger:
        urls = {
            "refuse": f"http://127.0.0.1:{closed_port()}/",
            "hang": hang.url,
            "500": broken.url,
            "302": away.url,
            "401": stranger.url,
        }

        def run(mode: str) -> None:
            copy = tiny.copy(folder / mode)
            campaign = Campaign(hasty, copy.folder, copy.env)
            campaign.job_file("p0d000/0000").unlink()
            campaign.change(http_reporting={"url": urls[mode]})
            begin = time.monotonic()
            outcome = campaign.snakemake("--until", "merge_results")
            methods = [entry.method for server in (hang, broken, away, stranger) for entry in server.received]
            found[mode] = (campaign, outcome, time.monotonic() - begin, methods)

        with ThreadPoolExecutor(len(urls)) as pool:
            list(pool.map(run, urls))
    return found


MODES = ("refuse", "hang", "500", "302", "401")


@pytest.mark.parametrize("mode", MODES)
def test_no_receiver_fails_a_simulation(tiny: Reported, with_faults: Any, mode: str):
    campaign, outcome, _, _ = with_faults[mode]
    assert outcome.status == 0, outcome.output
    assert outcome.jobs == {"p0d000/0000", "merge_results"}
    assert_same_arrays(campaign.result.merged, tiny.arrays)
    assert campaign.states(2)["p0d000/0000"]["state"] == "finished"


@pytest.mark.parametrize("mode", MODES)
def test_no_receiver_delays_a_simulation_longer_than_the_stated_waits(with_faults: Any, mode: str):
    campaign, _, seconds, _ = with_faults[mode]
    # Five runs share the machine, so each may take as long as all of them in turn.
    undisturbed = 5 * 20.0
    limit_s = undisturbed + 5 + 2 + SHORT_WAIT_S
    assert seconds < limit_s, f"the run took {seconds:.0f} s with the fault {mode}; the limit is {limit_s:g} s"
    job_s = wall_seconds_of_the_job(campaign)
    assert job_s < 20 + 2, f"the job took {job_s:.0f} s with the fault {mode}"


def wall_seconds_of_the_job(campaign: Campaign) -> float:
    table = campaign.directory / "benchmarks" / "run_multislice" / "tiny" / "defocus_p0d000" / "configuration_0000.tsv"
    header, values = (line.split("\t") for line in table.read_text().splitlines()[:2])
    return float(values[header.index("s")])


@pytest.mark.parametrize("mode", MODES)
def test_trouble_with_a_receiver_is_reported_without_its_secrets(with_faults: Any, mode: str):
    _, outcome, _, _ = with_faults[mode]
    said = [line for line in outcome.output.splitlines() if "status reports: " in line]
    if mode == "hang" and not said:
        # On a slow machine the run ends before the first attempt; then its end says what is left.
        assert "reports are not delivered" in outcome.output
    else:
        assert "The simulation goes on." in said[0]
    for secret in secrets():
        assert secret not in outcome.output


def test_redirects_are_not_followed(with_faults: Any):
    methods = with_faults["302"][3]
    assert set(methods) == {"POST"}


@pytest.mark.parametrize("mode", MODES)
def test_events_that_no_receiver_accepted_are_in_the_spool(with_faults: Any, mode: str):
    campaign = with_faults[mode][0]
    spools = list(campaign.result.events(2).rglob("*.jsonl"))
    events = [json.loads(line) for spool in spools for line in spool.read_text().splitlines()]
    assert Counter(event["event"] for event in events) == {
        "START_SIMULATION": 1,
        "START_DEFOCUS": 1,
        "START_FP_CONFIGURATION": 1,
        "PROGRESS": 5,
        "FINISH_FP_CONFIGURATION": 1,
        "FINISH": 1,
    }
    # They hold no secret, and have the permissions that the user gives to new files.
    (campaign.folder / "new").touch()
    assert {spool.stat().st_mode for spool in spools} == {(campaign.folder / "new").stat().st_mode}


def spooled_by_hooks(campaign: Campaign, run: int) -> list[str]:
    """Names of the events that the hooks of a run have written down."""
    spool = campaign.result.hook_events(run)
    return [json.loads(line)["event"] for line in spool.read_text().splitlines()] if spool.exists() else []


def test_ctrl_c_while_the_first_report_is_waited_for_cancels_the_run(tiny: Reported, hasty: Path, tmp_path: Path):
    copy = tiny.copy(tmp_path / "copy")
    campaign = Campaign(hasty, copy.folder, copy.env)
    campaign.job_file("p0d000/0000").unlink()
    with FaultServer("hang") as server:
        campaign.change(http_reporting={"url": server.url})
        with campaign.start() as running:
            assert server.wait_for(1)
            running.signal_all(signal.SIGINT)
            assert running.end().status != 0
    assert spooled_by_hooks(campaign, 2) == ["START_SIMULATION", "CANCELLED"]
    assert not campaign.job_file("p0d000/0000").exists()
    assert not list((campaign.directory / ".snakemake" / "locks").glob("*"))


def test_ctrl_c_while_the_last_report_is_waited_for_ends_the_wait_only(tiny: Reported, tmp_path: Path):
    campaign = tiny.copy(tmp_path / "copy")
    campaign.job_file("p0d000/0000").unlink()
    campaign.change(http_reporting={"url": f"http://127.0.0.1:{closed_port()}/"})
    with campaign.start() as running:
        wait_for(lambda: "FINISH" in spooled_by_hooks(campaign, 2), "FINISH to be written down")
        begin = time.monotonic()
        time.sleep(0.3)
        running.signal_all(signal.SIGINT)
        outcome = running.end()
    require_within(10, begin, "the end of a run after Ctrl-C while it waits for a receiver")
    assert outcome.status == 0, outcome.output
    assert "the wait for the receiver was interrupted" in outcome.output
    assert "Traceback" not in outcome.output
    assert_same_arrays(campaign.result.merged, tiny.arrays)


# --- secrets --------------------------------------------------------------------------------------------------------


def secrets() -> list[str]:
    encoded = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    return [PASSWORD, USER, PATH_TOKEN, encoded, *(value for value in CUSTOM.values() if isinstance(value, str))]


def files_with_secrets(folder: Path) -> dict[str, list[str]]:
    found = {}
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            content = path.read_bytes()
            held = [secret for secret in secrets() if secret.encode() in content]
            if held:
                found[str(path.relative_to(folder))] = held
    return found


def test_no_secret_is_in_any_file_but_the_config(tiny: Reported):
    assert files_with_secrets(tiny.campaign.directory) == {}
    # The search finds the canaries where they are: in the config, and in what Snakemake printed.
    assert list(files_with_secrets(tiny.campaign.folder)) == ["config/simulation.yaml"]


def test_no_secret_is_in_metadata_that_snakemake_encodes(tiny: Reported):
    records = [path for path in (tiny.campaign.directory / ".snakemake" / "metadata").rglob("*") if path.is_file()]
    assert len(records) >= len(TINY_JOBS)
    for record in records:
        # Only what stands for a value of the block; `http_reporting` itself names no secret.
        assert not re.search(r"auth_|my_token|http_reporting", record.read_text(errors="replace")), record.name


def test_no_secret_is_an_argument_of_a_process(tiny: Reported):
    jobs = [line for line in tiny.command_lines if "run_multislice.py" in line]
    assert jobs, "the processes of jobs were seen"
    for secret in secrets():
        assert [line for line in tiny.command_lines if secret in line] == []


def test_no_secret_is_in_results_of_a_failed_run(tiny: Reported, tmp_path: Path):
    campaign = tiny.copy(tmp_path / "copy")
    campaign.job_file("p0d000/0000").unlink()
    (campaign.result.root / "jobs" / "defocus_p0d000" / "configuration_0000.nc.sha256").unlink()
    (campaign.result.root / "jobs" / "defocus_p0d000" / "configuration_0000.nc.sha256").mkdir()
    with EchoServer() as server:
        campaign.change(http_reporting={"url": f"{server.url}?token={PATH_TOKEN}"})
        assert (ended := campaign.snakemake()).status == 1, ended.output
        assert [event["event"] for event in server.events][-1] == "FAILED"
    assert files_with_secrets(campaign.directory) == {}
    assert command_lines()
