"""Stand-ins for Slurm's commands: `sbatch` runs a job at once on this machine, and each call is written down.

They show what Snakemake's executor hands to Slurm: arguments, job scripts, environment. They say nothing of a cluster.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from support import stand_ins

COMMANDS: Final = ("sbatch", "srun", "sacct", "squeue", "scancel", "sacctmgr", "sshare", "sinfo", "scontrol")

_PROGRAM: Final = """
import json, os, pathlib, subprocess, sys, time
folder, name, arguments = pathlib.Path({folder!r}), sys.argv[1], sys.argv[2:]
(folder / f"call-{{time.time_ns()}}-{{os.getpid()}}.json").write_text(json.dumps([name, *arguments]))
if name == "sbatch":
    (wrapped,) = [word.partition("=")[2] for word in arguments if word.startswith("--wrap=")]
    number = str(os.getpid())
    (folder / f"job-{{number}}.sh").write_text("#!/bin/sh\\n" + wrapped)
    state = folder / f"state-{{number}}"
    state.write_text("RUNNING")
    run = 'if sh "$1"; then echo COMPLETED > "$2.new"; else echo FAILED > "$2.new"; fi; mv "$2.new" "$2"'
    with (folder / f"job-{{number}}.out").open("wb") as out:
        subprocess.Popen(
            ["sh", "-c", run, "sh", str(folder / f"job-{{number}}.sh"), str(state)],
            stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True,
            env={{**os.environ, "SLURM_JOB_ID": number}},
        )
    print(number)
elif name == "srun":
    # The options have their values behind an equals sign; the program is the first word without a dash.
    begin = next(place for place, word in enumerate(arguments) if not word.startswith("-"))
    os.execvp(arguments[begin], arguments[begin:])
elif name == "sacct":
    for state in folder.glob("state-*[0-9]"):
        print(f"{{state.name[6:]}}|{{state.read_text().strip()}}")
"""


def install(folder: Path) -> Path:
    """Write the commands into a folder of programs, and return it; their records go to `folder`."""
    return stand_ins.install(folder, "slurm", _PROGRAM, COMMANDS)
