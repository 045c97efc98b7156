"""Rounds of a campaign with a goal: how many configurations each has, as Snakemake's checkpoints tell it."""

from __future__ import annotations

from typing import Any

from stemphony.experiment.stopping import Goal
from stemphony.paths import ResultPaths
from stemphony.store.rounds import read_round


def total_of(number: int, goal: Goal, result: ResultPaths, checkpoints: Any = None) -> int:
    """Return how many configurations there are in all in a round.

    Parameters
    ----------
    number : int
        Number of the round, from 0.
    checkpoints : snakemake.checkpoints.Checkpoints or None
        If given, the round before must be judged in this run or be up to date.

    Raises
    ------
    snakemake.exceptions.IncompleteCheckpointException
        It is not; Snakemake judges it and asks again.
    DamagedResultError
        Its file is damaged.
    """
    if number == 0:
        return goal.fewest
    if checkpoints is not None:
        checkpoints.judge_round.get(round=f"{number - 1:02d}")
    following = read_round(result, number - 1)["next"]
    # None can only be in a file of another goal, whose round is judged again.
    return goal.fewest if following is None else int(following)


def last_total(goal: Goal, result: ResultPaths, checkpoints: Any) -> int:
    """Return how many configurations there are after the last round; parameters and errors as for `total_of`."""
    number = 0
    while True:
        checkpoints.judge_round.get(round=f"{number:02d}")
        content = read_round(result, number)
        if content["next"] is None:
            return int(content["configurations"])
        number += 1
