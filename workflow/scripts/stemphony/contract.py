"""Names and texts that several processes of a run use: environment variables, prefixes of lines, texts to search for.

`stemphony run` starts Snakemake, and Snakemake starts the jobs. These processes read each other's output and
environment. A text that one process writes and another one searches for is defined only here.
"""

from __future__ import annotations

import errno
import json
import os
import re
import signal
from typing import Final

# --- rules of the Snakefile -------------------------------------------------------------------------------------------

MULTISLICE_RULE: Final = "run_multislice"
MERGE_RULE: Final = "merge_results"
ACCURACY_RULES: Final = frozenset({"accuracy", "prepare_accuracy", "run_variant", "merge_accuracy"})
"""Rules of an error budget. If Snakemake runs only these rules, it does not run the simulation itself."""

# --- environment variables --------------------------------------------------------------------------------------------

SCRIPTS_VARIABLE: Final = "STEMPHONY_SCRIPTS"
"""Folder of the rules' scripts. The Snakefile sets this variable, and the shell commands of the rules use it."""
CONFIG_VARIABLE: Final = "STEMPHONY_CONFIG_FILES"
"""Paths of the config files, a JSON list. A job reads url and credentials of http_reporting from these files."""
SPECIMEN_VARIABLE: Final = "STEMPHONY_SPECIMEN_FILE"
"""Path of the structure file, for rule prepare_specimen."""
SNAPSHOTS_VARIABLE: Final = "STEMPHONY_SNAPSHOTS_FILE"
"""Path of the trajectory file, for rule prepare_specimen; not set without snapshots."""
SENSITIVITIES_VARIABLE: Final = "STEMPHONY_SENSITIVITY_FILES"
"""JSON map from the name of a detector to the path of its sensitivities, for rule prepare_specimen. Not set without
such files."""
RUN_VARIABLE: Final = "STEMPHONY_RUN"
"""Number of the run that started a job."""
MEMBERS_VARIABLE: Final = "STEMPHONY_MEMBERS"
"""JSON map of a sweep: from the label of each member to those of these variables that have a value of their own for
it."""
PLAN_VARIABLE: Final = "STEMPHONY_PLAN"
"""Path of the plan of an error budget, for the processes of its jobs. Not set in a run of a simulation."""
MODULE_VARIABLE: Final = "STEMPHONY_MODULE"
"""Folder with the data that this invocation of Snakemake gives to its jobs. It is set only if another workflow uses
Stemphony as a module. It is then the only variable that Stemphony sets for all jobs."""
HANDOVER_VARIABLE: Final = "STEMPHONY_HANDOVER"
"""Subfolder of MODULE_VARIABLE with the data of the job's simulation. It is set only if another workflow uses
Stemphony as a module."""
TRY_VARIABLE: Final = "STEMPHONY_TRY"
"""Number of Snakemake's try at a job, from 1."""
RUNTIME_VARIABLE: Final = "STEMPHONY_RUNTIME_MIN"
"""Time limit that Snakemake requested from the batch system for the job [min]."""
BEGAN_VARIABLE: Final = "STEMPHONY_JOB_BEGAN"
"""When the batch system started the job [s of the monotonic clock of its machine]. Not set without a batch system."""
CHECKPOINT_VARIABLE: Final = "STEMPHONY_CHECKPOINT_S"
"""Time between two checkpoints [s]. Users and tests may set it."""
COURIER_VARIABLE: Final = "STEMPHONY_COURIER_S"
"""How long a process of its own sends the reports of a run after the end of the run [s]. With 0, the run itself waits
until they are sent."""
LIVE_VARIABLE: Final = "STEMPHONY_LIVE"
"""`stemphony run` sets this variable, because it shows the progress itself. The hooks of Snakemake then print none."""
CACHE_VARIABLE: Final = "STEMPHONY_CACHE_DIR"
"""Folder for FFT plans and calibrations. Users may set it."""
COMMIT_VARIABLE: Final = "STEMPHONY_GIT_COMMIT"
"""Commit of the code, for places without a git repository, such as a container image."""

REPLACE_KEY: Final = "replace"
"""Entry of Snakemake's option `--config` that lets a run replace finished pairs. A config file cannot have it."""

# --- prefixes and ends of lines ---------------------------------------------------------------------------------------

RUN_PREFIX: Final = "stemphony: "
"""First characters of each line of the hooks. `stemphony run` finds these lines in the output of Snakemake."""
NOTE_PREFIX: Final = "note: "
"""First characters of a line in a job's log that does not explain why the job ended."""
PROGRESS_SUFFIX: Final = " % of the waves"
"""Last characters of a line of progress in a job's log."""

# --- texts that another process looks for -----------------------------------------------------------------------------

REPLACES: Final = "holds results of"
"""A run writes this text when it would replace finished pairs without permission. `stemphony run` then does not advise
the same command again."""
REFUSAL: Final = "job files cannot be used"
"""The merge writes this text when it refuses job files. `stemphony run` then recommends another command."""

# --- texts of Snakemake that `stemphony run` looks for ----------------------------------------------------------------

NOTHING_TO_DO: Final = "Nothing to be done"
"""All results are up to date."""
LOCKED: Final = "Directory cannot be locked"
"""Another run of Snakemake uses the working directory."""
FAILED_RULE_LOG: Final = re.compile(r"^\s+log: (.+?) \(check log file")
"""Line of a failed job, with the path of its log."""
UNKNOWN_EXECUTOR: Final = re.compile(r"argument --executor/-e: invalid choice: '([^']*)'")
"""The plugin of an executor is not installed."""
COMPLAINT: Final = re.compile(r"error: |Error: |Exception: |Exception in |\[Errno|clock skew|sbatch")
"""A line in which Snakemake, or the program that submits its jobs, says what is wrong."""
NO_ROOM: Final = re.compile(rf"\[Errno (?:{errno.ENOSPC}|{errno.EDQUOT})\]")
"""Python's message that a disk or a quota is full."""
FULL_DISK: Final = re.compile(rf"\[Errno (?:{errno.ENOSPC}|{errno.EDQUOT})\] .*'(.+)'$")
"""The same message with a file. The last file that it names is the one being written."""
NOISE: Final = re.compile(
    r"SNAKEMAKE$|=+$"
    r"|  (Date|Workflow ID|Platform|Host|User|Snakemake version|Python version|Command|Snakefile|Base directory"
    r"|Run directory|Working directory|Config file\(s\)|Config MD5): "
    r"|(Using profile|Using workflow specific profile|Config file|host:|Building DAG|Assuming unrestricted|Using shell"
    r"|Provided cores|Rules claiming)"
)
"""Lines that Snakemake always prints before the first job."""


def variable(name: str, label: str = "") -> str:
    """Value of the environment variable `name`; empty if it is not set.

    With the `label` of a member of a sweep, the member's own value in MEMBERS_VARIABLE comes first. Without a member,
    `label` is empty.
    """
    if label and (members := os.environ.get(MEMBERS_VARIABLE)):
        own = json.loads(members).get(label, {})
        if name in own:
            return str(own[name])
    return os.environ.get(name, "")


def signal_received(number: int) -> str:
    """Line that the hooks write as soon as Snakemake receives the signal `number`: SIGINT or SIGTERM.

    `stemphony run` looks for it before it passes the signal on, because Snakemake must not receive it twice.
    """
    if number == signal.SIGINT:
        return "SIGINT: the run is cancelled; what is finished is kept"
    return "SIGTERM: no further pair starts; the run ends when the running pairs are finished"
