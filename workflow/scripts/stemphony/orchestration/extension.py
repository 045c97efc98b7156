"""Rounds of a campaign with a goal: the number of configurations of each, read through Snakemake's checkpoints."""

from __future__ import annotations

from typing import Any

from stemphony.experiment.stopping import Goal
from stemphony.paths import ResultPaths
from stemphony.store.rounds import read_round


def total_of(number: int, goal: Goal, result: ResultPaths, checkpoints: Any = None) -> int:
    """Return the total number of configurations after a round.

    Parameters
    ----------
    number : int
        Number of the round, from 0.
    goal : Goal
        Gives the number of the first round.
    result : ResultPaths
        Paths of the simulation, which holds the files of judged rounds.
    checkpoints : snakemake.checkpoints.Checkpoints or None
        If given, the round before must have been judged in this run, or its file must be current.

    Returns
    -------
    int
        Number of configurations.

    Raises
    ------
    snakemake.exceptions.IncompleteCheckpointException
        The round before is not judged. Snakemake catches this error, judges the round and calls again.
    DamagedResultError
        The file of the round before is damaged.
    """
    if number == 0:
        return goal.fewest
    if checkpoints is not None:
        checkpoints.judge_round.get(round=f"{number - 1:02d}")
    following = read_round(result, number - 1)["next"]
    # Only a file of another goal may hold None here. Its round is judged again.
    return goal.fewest if following is None else int(following)


def last_total(goal: Goal, result: ResultPaths, checkpoints: Any) -> int:
    """Return the total number of configurations after the last round.

    `goal`, `result` and `checkpoints`, and the errors, are as for `total_of`.
    """
    number = 0
    while True:
        checkpoints.judge_round.get(round=f"{number:02d}")
        content = read_round(result, number)
        if content["next"] is None:
            return int(content["configurations"])
        number += 1
