"""Stand-ins for Grid Engine's commands: `qsub` runs a job at once on this machine, and each call is written down.

With `-V` a job has the environment of `qsub`, without it next to none.

They show that such commands understand Snakemake and the profile. They do not replace a test on a cluster.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from support import stand_ins

COMMANDS: Final = ("qsub", "qstat", "qacct", "qdel")

_PROGRAM: Final = """
import json, os, pathlib, signal, subprocess, sys, time
folder, name, arguments = pathlib.Path({folder!r}), sys.argv[1], sys.argv[2:]
call = folder / f"new-{{time.time_ns()}}-{{os.getpid()}}"
call.write_text(json.dumps([name, *arguments]))
call.rename(folder / f"call-{{call.name.removeprefix('new-')}}.json")

def runs(number):
    try:
        pid = (folder / f"pid-{{number}}").read_text()
        return (pathlib.Path("/proc") / pid / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False

if name == "qsub":
    number, kills = str(os.getpid()), folder / "kills"
    # The first jobs are killed before they do anything, as many as the file says.
    left = int(kills.read_text()) if kills.exists() else 0
    kills.write_text(str(max(0, left - 1)))
    run = "kill -KILL $$" if left else 'sh "$1"; echo $? > "$2.new"; mv "$2.new" "$2"'
    with (folder / f"out-{{number}}").open("wb") as out:
        job = subprocess.Popen(
            ["sh", "-c", run, "sh", arguments[-1], str(folder / f"exit-{{number}}")],
            stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True,
            env=None if "-V" in arguments else {{"PATH": os.environ["PATH"], "HOME": str(folder)}},
        )
    (folder / f"pid-{{number}}").write_text(str(job.pid))
    print(number)
elif name == "qstat":
    time.sleep(float((folder / "qstat_s").read_text()))
    if not runs(arguments[-1]):
        sys.exit("Following jobs do not exist: " + arguments[-1])
    print("job_number:                 " + arguments[-1])
elif name == "qacct":
    ended = folder / f"exit-{{arguments[-1]}}"
    status = ended.read_text().strip() if ended.exists() else "137"
    print(f"jobnumber    {{arguments[-1]}}\\nfailed       {{0 if ended.exists() else 100}}\\nexit_status  {{status}}")
elif name == "qdel":
    for number in arguments:
        os.killpg(int((folder / f"pid-{{number}}").read_text()), signal.SIGKILL)
"""


def install(folder: Path, kills: int = 0, qstat_s: float = 0.0) -> Path:
    """Write the commands into a folder of programs, and return it; their records go to `folder`.

    Parameters
    ----------
    kills : int
        Number of jobs that are killed before they do anything.
    qstat_s : float
        Time until `qstat` answers [s].
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "kills").write_text(str(kills))
    (folder / "qstat_s").write_text(str(qstat_s))
    return stand_ins.install(folder, "grid_engine", _PROGRAM, COMMANDS)


def calls(folder: Path, name: str) -> list[list[str]]:
    """Arguments of every call of a command, in their order."""
    said = [json.loads(file.read_text()) for file in sorted(folder.glob("call-*.json"))]
    return [words for called, *words in said if called == name]
