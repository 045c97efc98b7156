"""Rule merge_results: all job files of a simulation into one stem.nc.

    python merge_results.py PARAMS SPECIMEN OUTPUT

PARAMS is the JSON text of the rule's params; it says which job files belong to the result. All of them are checked
first. On any doubt nothing is merged, the files are named, and nothing is deleted.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from stemphony import job, paths, provenance, script


def merge_results(params: dict[str, Any], specimen_file: Path, output: Path) -> None:
    """Check and merge the job files beside `output`."""
    from stemphony.model import Experiment
    from stemphony.store import ledger
    from stemphony.store.jobs import atom_table
    from stemphony.store.merge import merge
    from stemphony.store.specimen_file import read_specimen_file

    result = paths.ResultPaths(output.parent)
    plan = ledger.read_plan(result)
    identity = ledger.identity(result, params["common"]["simulation"]["random_seed"] or 0)
    specimen = read_specimen_file(specimen_file)
    experiment = Experiment.of(params["common"], specimen.cell)
    blocks = {name: value for name, value in params["common"].items() if isinstance(value, dict)}
    config = plan.get("config", blocks)
    merge(
        params,
        result,
        output,
        atom_table(specimen, experiment),
        experiment,
        root_attributes={
            "title": plan.get("title", result.name), "id": identity.id, "Conventions": "AMBER",
            "program": provenance.PROGRAM, "version": provenance.VERSION, "git_commit": provenance.git_commit(),
            "config_yaml": _yaml(config), "config_digest": provenance.digest(config),
            "merge_digest": provenance.digest(params), "physics_version": provenance.PHYSICS_VERSION,
            "created": identity.created,
        },
        runtime_attributes=lambda: {
            "UUID": identity.id, **provenance.runtime_attributes(),
            "controller": plan.get("controller", {}), "time_stop": ledger.now(),
        },
        blocks={name: value for name, value in config.items() if isinstance(value, dict)},
        warn=lambda text: print(f"note: {text}", file=sys.stderr),
    )  # fmt: skip


def _yaml(config: dict[str, Any]) -> str:
    import yaml

    text: str = yaml.safe_dump(config, sort_keys=False, allow_unicode=True)
    return text


def main(arguments: list[str]) -> None:
    """Run from a shell rule."""
    params, specimen_file, output = arguments
    job.limit_threads(1)
    merge_results(json.loads(params), Path(specimen_file), Path(output))


if __name__ == "__main__":
    script.run(main)
