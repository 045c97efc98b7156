"""Undocumented names of Snakemake that the package and the rules use: the pinned version has each of them."""

from __future__ import annotations

import importlib
import inspect
import re
from pathlib import Path
from typing import Any

import pytest
from stemphony.orchestration import dag

ORCHESTRATION = Path(dag.__file__).parent
ROOT = Path(__file__).parents[3]
SNAKEFILES = [ROOT / "Snakefile", *sorted((ROOT / "workflow/rules").glob("*.smk"))]


def parts() -> list[tuple[str, str]]:
    """Class and name of everything of Snakemake that `dag.py` touches, and what other modules read of the workflow."""
    names = {
        "Workflow": "dag dag_settings persistence scheduler rules resource_settings local_exec touch async_run "
        "register_envvars modifier basedir config_settings configfiles overwrite_configfiles deployment_settings "
        "executor_settings remote_execution_settings remote_exec is_main_process default_target current_basedir",
        "WorkflowModifier": "is_main_snakefile path_modifier",
        "PathModifier": "prefix _prefix_replacements",
        "SourceFile": "get_path_or_uri",
        "DAG": "needrun_jobs reason forcefiles priorityfiles update_priority",
        "DAGSettings": "forceall forcerun",
        "ResourceSettings": "nodes cores",
        "PersistenceBase": "incomplete started",
        "JobScheduler": "failed",
        "Job": "rule output wildcards",
        "Rule": "name restart_times",
        "Reason": "missing_output",
    }
    return [(owner, name) for owner, listed in names.items() for name in listed.split()]


@pytest.fixture(scope="module")
def classes() -> dict[str, Any]:
    # First, because snakemake.workflow and snakemake.dag import each other.
    importlib.import_module("snakemake.cli")
    from snakemake import dag as graph
    from snakemake import jobs, modules, path_modifier, persistence, rules, sourcecache, workflow
    from snakemake.scheduling import job_scheduler
    from snakemake.settings import types

    return {
        "Workflow": workflow.Workflow, "DAG": graph.DAG, "DAGSettings": types.DAGSettings,
        "ResourceSettings": types.ResourceSettings, "PersistenceBase": persistence.PersistenceBase,
        "WorkflowModifier": modules.WorkflowModifier, "PathModifier": path_modifier.PathModifier,
        "JobScheduler": job_scheduler.JobScheduler, "Job": jobs.Job, "Rule": rules.Rule, "Reason": jobs.Reason(),
        "SourceFile": sourcecache.SourceFile,
    }  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("owner", "name"), parts())
def test_snakemake_still_has_the_name(classes: dict[str, Any], owner: str, name: str):
    found = classes[owner]
    set_by_itself = rf"self\.{name}\b.*=|^    {name}\s*[:=]"
    assert hasattr(found, name) or re.search(set_by_itself, inspect.getsource(found), re.MULTILINE), (
        f"snakemake's {owner} has no {name} any more: see orchestration/dag.py"
    )


def test_every_name_that_the_module_touches_is_checked():
    source = "".join(map(inspect.getsource, (dag.Graph, dag.is_module, dag.moves_files)))
    pattern = r"\b(?:workflow|modifier|dag|graph|persistence|scheduler|settings|dag_settings|job|rule|wildcards)\.(\w+)"
    used = set(re.findall(pattern, source)) - {"workflow", "Workflow", "configuration", "defocus"}
    assert used <= {name for _, name in parts()}, used


def test_every_name_of_the_workflow_that_a_module_reads_is_checked():
    source = "".join(file.read_text(encoding="utf-8") for file in ORCHESTRATION.glob("*.py"))
    used = set(re.findall(r"\bworkflow\.(\w+)", source)) - {"Workflow"}
    assert used <= {name for owner, name in parts() if owner == "Workflow"}


def test_every_name_of_the_workflow_that_the_snakefiles_read_is_checked():
    lines = (line for file in SNAKEFILES for line in file.read_text(encoding="utf-8").splitlines())
    code = "\n".join(line for line in lines if not line.lstrip().startswith("#"))
    used = set(re.findall(r"\bworkflow((?:\.[a-z_]+)+)", code))
    assert {".default_target", ".current_basedir.get_path_or_uri", ".modifier.is_main_snakefile"} <= used
    assert {path.split(".")[1] for path in used} <= {name for owner, name in parts() if owner == "Workflow"}
    # What follows a name of the workflow belongs to another class. The table has it too.
    further = {name for path in used for name in path.split(".")[2:]}
    assert further <= {name for owner, name in parts() if owner != "Workflow"}


def test_a_record_is_where_snakemake_writes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from snakemake.persistence.file import FilePersistence

    monkeypatch.chdir(tmp_path)
    file = Path("results/tiny/specimen.nc")
    writer = FilePersistence.__new__(FilePersistence)
    writer._max_len = None
    for kind, is_there in (("metadata", dag.has_record), ("incomplete", dag.is_incomplete)):
        folder = dag.RECORDS / kind
        folder.mkdir(parents=True)
        assert not is_there(file)
        Path(writer._record_path(str(folder), str(file))).touch()
        assert is_there(file)


def test_no_other_module_touches_the_graph():
    for file in ORCHESTRATION.glob("*.py"):
        if file.name != "dag.py":
            found = re.findall(r"\.(?:dag|persistence|scheduler|dag_settings)\b", file.read_text(encoding="utf-8"))
            found = [name for name in found if name != ".dag"] + re.findall(r"workflow\.dag\b", file.read_text())
            assert not found, f"{file.name}: {found} belongs into dag.py"
