"""Names and texts that several processes of a run use: environment variables, prefixes of lines, texts to search for.

`stemphony run` starts Snakemake, Snakemake starts the jobs. Each reads the output and the environment of the others.
A text that one process writes and another one looks for stands here, and nowhere else.
"""

from __future__ import annotations

import json
import os
import re
import signal
from typing import Final

# --- rules of the Snakefile -------------------------------------------------------------------------------------------

MULTISLICE_RULE: Final = "run_multislice"
MERGE_RULE: Final = "merge_results"
ACCURACY_RULES: Final = frozenset({"accuracy", "prepare_accuracy", "run_variant", "merge_accuracy"})
"""Rules of an error budget. A run of these alone is no run of the simulation."""

# --- environment variables --------------------------------------------------------------------------------------------

SCRIPTS_VARIABLE: Final = "STEMPHONY_SCRIPTS"
"""Folder of the rules' scripts. The Snakefile sets it, the shell commands of the rules use it."""
CONFIG_VARIABLE: Final = "STEMPHONY_CONFIG_FILES"
"""Paths of the config files, a JSON list. A job reads url and credentials of http_reporting from these files."""
SPECIMEN_VARIABLE: Final = "STEMPHONY_SPECIMEN_FILE"
"""Path of the structure file, for rule prepare_specimen."""
SNAPSHOTS_VARIABLE: Final = "STEMPHONY_SNAPSHOTS_FILE"
"""Path of the trajectory file, for rule prepare_specimen; not set without snapshots."""
SENSITIVITIES_VARIABLE: Final = "STEMPHONY_SENSITIVITY_FILES"
"""Paths of the files with sensitivities by name of the detector, a JSON map, for rule prepare_specimen; or not set."""
RUN_VARIABLE: Final = "STEMPHONY_RUN"
"""Number of the run that started a job."""
MEMBERS_VARIABLE: Final = "STEMPHONY_MEMBERS"
"""Of a sweep, a JSON map: for the label of each member the values of these variables that are its own."""
PLAN_VARIABLE: Final = "STEMPHONY_PLAN"
"""Path of the plan of an error budget, for the processes of its jobs. Not set in a run of a simulation."""
MODULE_VARIABLE: Final = "STEMPHONY_MODULE"
"""In somebody else's workflow, the folder of what this invocation of Snakemake hands over to its jobs. It is the only
variable that Stemphony sets there for all jobs."""
HANDOVER_VARIABLE: Final = "STEMPHONY_HANDOVER"
"""In a job of a module, the folder below it that is of its simulation. Not set in a run of Stemphony's own."""
TRY_VARIABLE: Final = "STEMPHONY_TRY"
"""Which of Snakemake's tries of a job this is, from 1."""
RUNTIME_VARIABLE: Final = "STEMPHONY_RUNTIME_MIN"
"""Time limit that the batch system was asked for [min]."""
BEGAN_VARIABLE: Final = "STEMPHONY_JOB_BEGAN"
"""When the batch system started the job [s of the monotonic clock of its machine]. Not set without a batch system."""
CHECKPOINT_VARIABLE: Final = "STEMPHONY_CHECKPOINT_S"
"""Time between two checkpoints [s]. Users and tests may set it."""
COURIER_VARIABLE: Final = "STEMPHONY_COURIER_S"
"""How long a run's reports are sent after its end, by a process of their own [s]. With 0 the run waits instead."""
LIVE_VARIABLE: Final = "STEMPHONY_LIVE"
"""Set by `stemphony run`, which shows the progress itself: the hooks of Snakemake then print none."""
CACHE_VARIABLE: Final = "STEMPHONY_CACHE_DIR"
"""Folder for FFT plans and calibrations. Users may set it."""
COMMIT_VARIABLE: Final = "STEMPHONY_GIT_COMMIT"
"""Commit of the code where there is no git, as in a container image."""

REPLACE_KEY: Final = "replace"
"""Entry of Snakemake's `--config` that lets a run replace finished pairs. It is no key of a config file."""

# --- prefixes and ends of lines ---------------------------------------------------------------------------------------

RUN_PREFIX: Final = "stemphony: "
"""First characters of each line of the hooks. `stemphony run` finds these lines in the output of Snakemake."""
NOTE_PREFIX: Final = "note: "
"""First characters of a line in a job's log that is not the reason why the job ended."""
PROGRESS_SUFFIX: Final = " % of the waves"
"""Last characters of a line of progress in a job's log."""

# --- texts that another process looks for -----------------------------------------------------------------------------

REPLACES: Final = "holds results of"
"""A run that would replace finished pairs without leave writes it. `stemphony run` then does not advise the same
command again."""
REFUSAL: Final = "job files are not usable"
"""The merge writes it when it refuses job files. `stemphony run` then recommends another command."""

# --- texts of Snakemake that `stemphony run` looks for ----------------------------------------------------------------

NOTHING_TO_DO: Final = "Nothing to be done"
"""All results are up to date."""
LOCKED: Final = "Directory cannot be locked"
"""Another run of Snakemake uses the working directory."""
FAILED_RULE_LOG: Final = re.compile(r"^\s+log: (.+?) \(check log file")
"""Line of a failed job, with the path of its log."""
UNKNOWN_EXECUTOR: Final = re.compile(r"argument --executor/-e: invalid choice: '([^']*)'")
"""The plugin of an executor is not installed."""


def variable(name: str, label: str = "") -> str:
    """Value of an environment variable, empty if it is not set; for a member of a sweep its own value."""
    if label and (members := os.environ.get(MEMBERS_VARIABLE)):
        own = json.loads(members).get(label, {})
        if name in own:
            return str(own[name])
    return os.environ.get(name, "")


def signal_received(number: int) -> str:
    """Line that the hooks write as soon as Snakemake receives SIGINT or SIGTERM.

    `stemphony run` looks for it before it passes the signal on, because Snakemake must not receive it twice.
    """
    if number == signal.SIGINT:
        return "SIGINT: the run is cancelled; what is finished is kept"
    return "SIGTERM: no further pair starts; the run ends when the running pairs are finished"
