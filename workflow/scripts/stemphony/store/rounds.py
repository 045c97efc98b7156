"""What was decided after each round of configurations: one small JSON file per round."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stemphony import ordinary_files
from stemphony.errors import DamagedResultError
from stemphony.paths import ResultPaths

_WRONG = (OSError, ValueError, KeyError, TypeError, RecursionError)
"""Errors from reading a file of a round that is missing or damaged."""


def _content(file: Path) -> dict[str, Any]:
    content = json.loads(ordinary_files.read_text(file))
    following = content["next"]
    numbers = {"configurations": int(content["configurations"]), "next": None if following is None else int(following)}
    return {**content, **numbers}


def read_round(result: ResultPaths, number: int) -> dict[str, Any]:
    """Read the file of round `number`, counted from 0, of the simulation `result`.

    Raises
    ------
    DamagedResultError
        The file is missing or damaged.
    """
    file = result.round(number)
    try:
        return _content(file)
    except _WRONG:
        raise DamagedResultError(
            f"{file} is missing or damaged. Delete it and run again: the round is judged again, and no configuration "
            "is computed again."
        ) from None


def delete_damaged(result: ResultPaths) -> list[str]:
    """Delete files of rounds of the simulation `result` that cannot be read, and return a note for each.

    Their rounds are judged again. Nothing is lost: a round is judged from job files.
    """
    notes = []
    for file in sorted(result.round(0).parent.glob("round_*.json")):
        try:
            _content(file)
        except _WRONG:
            file.unlink(missing_ok=True)
            notes.append(f"{file} was damaged and is deleted: the round is judged again, from its job files")
    return notes


def last_round(result: ResultPaths, configurations: int) -> dict[str, Any] | None:
    """Return the content of the file of the round that ended with so many `configurations`; None if there is none.

    `result` are the files of the simulation. Raises DamagedResultError if an earlier round's file is missing or
    damaged.
    """
    for number in range(len(list(result.round(0).parent.glob("round_*.json")))):
        content = read_round(result, number)
        if content["configurations"] == configurations:
            return content
    return None


def round_in_words(content: Mapping[str, Any]) -> str:
    """Text of a round for the user: its worst error, and what follows.

    Parameters
    ----------
    content : mapping
        Content of the round's file.

    Returns
    -------
    str
        One line without a line end.
    """
    worst = content["largest"]
    error = worst["relative_error"]
    what = "no intensity" if error is None else f"{100 * error:.2g} %"
    text = (
        f"{content['configurations']} configurations: the largest error of an image is {what} ({worst['detector']} at "
        f"{worst['depth_nm']:.4g} nm); the goal is {100 * content['until']:.3g} %"
    )
    if content["next"] is not None:
        return f"{text}; the next round has {content['next']} configurations"
    if content["reached"]:
        return f"{text}, which is reached"
    return f"{text}, which was not reached with the largest number of configurations (frozen_phonon.configurations.max)"
