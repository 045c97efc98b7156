"""Variables that a module sets only for its own jobs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from stemphony.orchestration import as_module
from stemphony.store.handover import Handover

PYTHON = str(Path(sys.executable).parent)


def environment_of_jobs(folder: Path, **variables: str) -> dict[str, str]:
    """Environment of a job of a simulation, which starts with these variables."""
    workflow = SimpleNamespace(deployment_settings=SimpleNamespace(deployment_method=[]))
    inputs = SimpleNamespace(environment={"FILE": "it's a file"}, config={"simulation": {"name": "inner"}})
    file = folder / "environment.sh"
    file.write_text(as_module._environment(Handover(folder), inputs, workflow))
    shell = ["/bin/bash", "-c", f"set -euo pipefail; . {file}; exec /usr/bin/env -0"]
    printed = subprocess.run(shell, env=variables, check=True, stdout=subprocess.PIPE, text=True).stdout
    return dict(entry.split("=", 1) for entry in printed.split("\0") if entry)


def test_no_program_or_library_of_a_job_is_searched_in_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    given = {"PATH": "/lab/bin::/usr/bin:bin", "LD_LIBRARY_PATH": ":", "PYTHONPATH": "lib:/lab/python"}
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    found = environment_of_jobs(tmp_path, **given)
    assert found["PATH"] == f"{PYTHON}:/lab/bin:/usr/bin"
    assert found["PYTHONPATH"] == "/lab/python"
    assert "LD_LIBRARY_PATH" not in found


def test_a_job_on_another_machine_keeps_the_variables_of_that_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", "/usr/bin")
    found = environment_of_jobs(tmp_path, PATH="/node/bin:/usr/bin", HDF5_USE_FILE_LOCKING="TRUE")
    assert found["PATH"] == f"{PYTHON}:/node/bin:/usr/bin"
    assert found["HDF5_USE_FILE_LOCKING"] == "TRUE"
    assert (found["FILE"], found["PYTHONSAFEPATH"]) == ("it's a file", "1")
