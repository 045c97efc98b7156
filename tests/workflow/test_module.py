"""Stemphony as a `module` of another workflow: jobs, status events and refusals."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import jsonschema
import pytest
import yaml
from stemphony.paths import ResultPaths
from support import forks
from support.campaign import (
    DEADLINE_S,
    PROGRAMS,
    REPOSITORY,
    TINY,
    Campaign,
    Outcome,
    arrays,
    assert_same_arrays,
    changed,
)
from support.pages import Executed
from support.status_server import EchoServer

PAGE = REPOSITORY / "docs" / "how-to" / "module.md"
SCHEMA = json.loads((REPOSITORY / "workflow" / "schemas" / "status_event.schema.json").read_text())
ADDRESS = "http://127.0.0.1:8000/events"
OF_A_PAIR = {"START_FP_CONFIGURATION": 1, "PROGRESS": 5, "FINISH_FP_CONFIGURATION": 1}  # 4 probe positions
PAIR = changed(
    TINY,
    simulation={"name": "inner", "title": "In a module"},
    probe={"defoci_nm": [0.0]},
    cbed={"enabled": False},
)
OWN_RULE = """
rule own:
    output: "own.txt"
    shell: "env > {output}; umask >> {output}; set -o >> {output}"
"""


@dataclass(frozen=True)
class Outer:
    """A workflow that uses Stemphony as a module, in a folder of its own."""

    folder: Path
    env: Mapping[str, str]

    @property
    def result(self) -> ResultPaths:
        return ResultPaths.of("inner", self.folder / "results")

    def write(self, config: Mapping[str, Any], *lines: str, name: str = "Snakefile") -> None:
        """Write its config and its Snakefile."""
        (self.folder / "config.yaml").write_text(yaml.safe_dump({"stemphony": dict(config)}), encoding="utf-8")
        (self.folder / name).write_text("\n".join(('configfile: "config.yaml"', *lines, "")), encoding="utf-8")

    def run(self, *arguments: str) -> Outcome:
        """Run it to its end, with any exit status."""
        log = self.folder / "outer.out"
        status = forks.run(["snakemake", "--cores", "2", *arguments], self.env, self.folder, log, DEADLINE_S)
        return Outcome(status, log.read_text(encoding="utf-8", errors="replace"))

    def plan(self, *arguments: str) -> Outcome:
        """Make a dry run."""
        return self.run("--dry-run", *arguments)


def statement(*further: str, snakefile: Path | str = REPOSITORY / "Snakefile", use: str = "exclude all") -> str:
    """The statement `module`, and the one that uses its rules."""
    inner = (f'snakefile: "{snakefile}"', 'config: config["stemphony"]', *further)
    return "\n    ".join(("module stemphony:", *inner)) + f"\n\nuse rule * from stemphony {use}\n"


@pytest.fixture
def outer(env: Mapping[str, str], tmp_path: Path) -> Outer:
    shutil.copy(REPOSITORY / "config" / "srtio3.cif", tmp_path)
    # netCDF4, which this process has imported, sets a variable that the outer workflow must not get from Stemphony.
    own = {name: value for name, value in env.items() if name != "HDF5_PLUGIN_PATH"}
    return Outer(tmp_path, {**own, "XDG_STATE_HOME": str(tmp_path / "state")})


# --- the page, with a receiver -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Documented:
    """The example of the page after its run, and the events of its receiver."""

    page: Executed
    events: list[dict[str, Any]]


@pytest.fixture(scope="module")
def documented(env: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Documented:
    folder = tmp_path_factory.mktemp("module")
    with EchoServer() as server:
        own = {**env, "XDG_STATE_HOME": str(folder / "state")}
        page = Executed(PAGE, folder, own, stand_ins={ADDRESS: server.url})
        page.execute()
        return Documented(page, server.events)


def test_the_commands_of_the_page_work(documented: Documented):
    folder = documented.page.folder
    assert "haadf" in (folder / "report.txt").read_text()
    kept = folder / ".snakemake" / "stemphony-module"
    assert [file.name for file in kept.iterdir()] == ["sto.yaml"]  # nothing of either run is left behind
    assert (kept / "sto.yaml").stat().st_mode & 0o777 == 0o600


def test_two_runs_send_each_event_once_even_if_one_has_nothing_to_do(documented: Documented):
    assert Counter(event["event"] for event in documented.events) == {
        "START_SIMULATION": 1, "START_DEFOCUS": 1, "FINISH": 1, **{name: 2 * n for name, n in OF_A_PAIR.items()},
    }  # fmt: skip
    assert documented.events[0]["event"] == "START_SIMULATION"
    assert documented.events[-1]["event"] == "FINISH"


def test_events_are_those_of_a_direct_run(documented: Documented):
    validator = jsonschema.Draft202012Validator(SCHEMA)
    identity = json.loads((documented.page.folder / "results/sto/simulation.json").read_text())["id"]
    for event in documented.events:
        assert [problem.message for problem in validator.iter_errors(event)] == []
        assert (event["id"], event["run"], event["num_defoci"], event["num_configurations"]) == (identity, 1, 1, 2)
    start, finish = documented.events[0], documented.events[-1]
    assert (start["num_jobs"], start["result_name"], start["specimen_formula"]) == (2, "sto", "Sr Ti O3")
    assert (start["seq"], finish["seq"]) == (0, 1)
    assert len({event["event_id"] for event in documented.events}) == len(documented.events)


def test_a_direct_run_computes_the_same_bits_and_leaves_nothing_to_do_for_the_module(
    documented: Documented, tmp_path: Path
):
    folder = documented.page.folder
    config = yaml.safe_load((folder / ".snakemake/stemphony-module/sto.yaml").read_text())
    assert config["specimen"]["file"] == str(folder / "srtio3.cif")
    plain = Campaign.make(REPOSITORY, tmp_path / "plain", config, documented.page.env)
    plain.change(http_reporting={"reporting": False})
    plain.succeed(plain.result.merged.relative_to(plain.directory))
    assert_same_arrays(folder / "results/sto/stem.nc", arrays(plain.result.merged))
    outer = Outer(plain.directory, documented.page.env)
    outer.write(plain.settings, statement(use="as stemphony_*"))
    files = [str(file.relative_to(plain.directory)) for file in (plain.result.merged, plain.result.job("p0d000", 1))]
    planned = outer.plan(*files)
    assert "Nothing to be done" in planned.output, planned.output


# --- failures, and the user's own rules ----------------------------------------------------------------------------


def test_after_a_failure_the_next_run_computes_only_the_failed_pair_and_no_rule_of_the_outer_workflow(outer: Outer):
    with EchoServer() as server:
        reporting = {"reporting": True, "url": server.url}
        outer.write(changed(PAIR, http_reporting=reporting), OWN_RULE, statement())
        blocked = outer.result.job("p0d000", 1).with_name("configuration_0001.nc.sha256")
        blocked.mkdir(parents=True)
        merged = str(outer.result.merged.relative_to(outer.folder))
        failed = outer.run("--keep-going", merged, "own.txt")
        assert failed.status != 0
        first = Counter(event["event"] for event in server.events)
        assert (first["START_SIMULATION"], first["ERROR"], first["FINISH"], first["FAILED"]) == (1, 1, 0, 0)
        assert not (outer.folder / ".snakemake/stemphony-runs").is_dir() or not any(
            (outer.folder / ".snakemake/stemphony-runs").iterdir()
        )
        status = Campaign(REPOSITORY, outer.folder, outer.env).command("status", outer.result.root)
        assert "2 pairs: 1 done, 1 failed" in status.output
        blocked.rmdir()
        done = outer.run(merged)
        assert done.status == 0, done.output
        assert done.jobs == {"p0d000/0001", "merge_results"}
        second = [event for event in server.events if event["run"] == 2]
        assert Counter(event["event"] for event in second) == {
            "START_SIMULATION": 1, "START_DEFOCUS": 1, "FINISH": 1, **OF_A_PAIR,
        }  # fmt: skip
        assert second[0]["num_jobs"] == 1
    with_module = (outer.folder / "own.txt").read_text().splitlines()
    (outer.folder / "own.txt").unlink()
    outer.write(PAIR, OWN_RULE)
    assert (ended := outer.run("own.txt")).status == 0, ended.output
    without = (outer.folder / "own.txt").read_text().splitlines()
    assert [line.split("=")[0] for line in with_module if line not in without] == ["STEMPHONY_MODULE"]
    assert set(without) <= set(with_module)


# The command that a cluster executor starts for one job, after an edit of the config.
JOB_ON_A_CLUSTER = f"""
rule cluster:
    input: "results/inner/specimen.nc"
    output: "cluster.txt"
    shell:
        "sed -i 's/random_seed: 7/random_seed: 8/' config.yaml; "
        "{PROGRAMS / "snakemake"} --cores 1 --mode remote --nolock --ignore-incomplete --force "
        "--allowed-rules a_run_multislice --target-jobs 'a_run_multislice:defocus=p0d000,configuration=0001' "
        "--target-files-omit-workdir-adjustment; "
        "touch {{output}}"
"""


def test_a_job_on_a_cluster_follows_the_plan_of_its_run_and_begins_the_run(outer: Outer):
    outer.write(PAIR, JOB_ON_A_CLUSTER, statement(use="as a_*"))
    done = outer.run("cluster.txt")
    assert done.status == 0, done.output
    assert "random_seed: 8" in (outer.folder / "config.yaml").read_text()
    assert json.loads(outer.result.plan.read_text())["run"] == 1
    assert [*outer.result.root.glob("reports/run-*/progress/*/*_0001.json")]
    outer.write(PAIR, statement(use="as a_*"))
    planned = outer.plan(str(outer.result.merged.relative_to(outer.folder)))
    assert planned.jobs == {"p0d000/0000", "a_merge_results"}, planned.output


# --- dry runs ------------------------------------------------------------------------------------------------------


def test_the_outer_workflow_keeps_its_target_and_its_rules_of_our_names(outer: Outer):
    own = (
        'rule all:\n    input: "own.txt"\n' + OWN_RULE + '\nrule merge_results:\n    output: "m.txt"\n    shell: "a"\n'
    )
    outer.write(PAIR, own, statement(use="as stemphony_*"))
    planned = outer.plan()
    assert planned.status == 0, planned.output
    assert planned.jobs == {"own"}
    assert "localrule own" not in planned.output
    assert "localrules directive" not in planned.output
    wanted = outer.plan("stemphony_all", "m.txt")
    assert wanted.status == 0, wanted.output
    assert {"p0d000/0000", "p0d000/0001", "stemphony_plot_results", "merge_results"} <= wanted.jobs
    assert [*(outer.folder / ".snakemake" / "stemphony-module").iterdir()] == []


def test_a_rule_of_the_module_can_be_changed_and_two_simulations_stand_side_by_side(outer: Outer):
    changed_rule = (
        "use rule run_multislice from stemphony as a_run_multislice with:\n"
        "    resources: mem_mb=900, runtime=77, try_number=lambda wildcards, attempt: attempt\n\n"
        'other = dict(config["stemphony"], simulation={"name": "other", "title": "O"})\n'
        f'module second:\n    snakefile: "{REPOSITORY / "Snakefile"}"\n    config: other\n\n'
        "use rule * from second as b_*\n"
    )
    outer.write(PAIR, statement(use="as a_*"), changed_rule)
    planned = outer.plan("a_all", "b_all")
    assert planned.status == 0, planned.output
    assert planned.output.count("runtime=77") == 2
    assert {"a_merge_results", "b_merge_results"} <= planned.jobs


REFUSED: list[tuple[str, Callable[[Outer], None], tuple[str, ...]]] = [
    ("prefix", lambda o: o.write(PAIR, statement('prefix: "below"')), ("`prefix`", "Leave it out")),
    ("sweep", lambda o: o.write({**PAIR, "sweep": {"probe.semiangle_mrad": [20, 25]}}, statement()),
     ("sweep", "one statement `module` for each simulation")),
    ("until", lambda o: o.write(changed(PAIR, frozen_phonon={"configurations": {"until": 0.01}}), statement()),
     ("frozen_phonon.configurations", "Give a number")),
    ("no config", lambda o: o.write({}, statement()), ('config: config["stemphony"]',)),
    ("no structure", lambda o: o.write(changed(PAIR, specimen={"file": "made.cif"}), statement()),
     ("made.cif", "must exist before Snakemake starts")),
    ("workdir", lambda o: o.write(PAIR, statement(), 'workdir: "below"'), ("`workdir:` above the statement",)),
]  # fmt: skip


@pytest.mark.parametrize(("write", "said"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_unsupported_uses_of_a_module_are_refused_with_a_proposal(
    outer: Outer, write: Callable[[Outer], None], said: tuple[str, ...]
):
    (outer.folder / "below").mkdir()
    write(outer)
    refused = outer.plan("results/inner/stem.nc")
    assert refused.status != 0
    for text in said:
        assert text in refused.output
    assert "Traceback" not in refused.output


@pytest.fixture
def served() -> Iterator[str]:
    handler = partial(SimpleHTTPRequestHandler, directory=str(REPOSITORY))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def test_a_snakefile_at_a_url_is_refused_with_a_proposal(outer: Outer, served: str):
    outer.write(PAIR, statement(snakefile=f"{served}/Snakefile"))
    refused = outer.plan()
    assert refused.status != 0
    assert "Clone Stemphony" in refused.output


def test_finished_pairs_of_another_config_are_not_replaced_without_permission(
    documented: Documented, env: dict[str, str]
):
    outer = Outer(documented.page.folder, documented.page.env)
    file = outer.folder / "config.yaml"
    before = file.read_text()
    try:
        file.write_text(before.replace("200.0", "80.0"))
        refused = outer.plan("results/sto/stem.nc")
        assert refused.status != 0
        assert "probe.energy_kev: 200.0 → 80.0" in refused.output
        allowed = outer.plan("results/sto/stem.nc", "--config", "replace=true")
        assert allowed.status == 0, allowed.output
        assert allowed.jobs >= {"p0d000/0000", "p0d000/0001"}
    finally:
        file.write_text(before)
