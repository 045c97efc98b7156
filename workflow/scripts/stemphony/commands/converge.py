"""`stemphony converge`: how many configurations a finished result needs for a wanted statistical error."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from stemphony.commands.status import result_in
from stemphony.counting import number_of
from stemphony.errors import StemphonyError, StorageError
from stemphony.results import convergence_figure
from stemphony.results.precision import Precision, measured_errors, precisions, record
from stemphony.store import ledger

TARGETS = (0.03, 0.01, 0.003)
"""Statistical errors for which the table says how many configurations they need, as shares."""


def converge(given: Path, picture: Path | None, as_json: bool, say: Callable[[str], None]) -> int:
    """Print and draw the error of each detector, with the configurations that smaller errors need.

    Parameters
    ----------
    given : Path
        Folder of a simulation, or a file in it.
    picture : Path or None
        Picture to write. Default: convergence.png in the folder.
    as_json : bool
        Print one JSON object, and draw nothing unless a picture is named.
    say : callable
        Prints one line.

    Returns
    -------
    int
        Exit status.

    Raises
    ------
    StemphonyError
        There is no merged result, or it has no standard errors.
    """
    result = result_in(given)
    if not result.merged.exists():
        raise StorageError(
            f"{os.path.relpath(result.merged)} does not exist: nothing is merged yet. `stemphony preview` merges what "
            "is finished into another file."
        )
    found = [one for one in precisions(result.merged) if math.isfinite(one.error)]
    if not found:
        raise StemphonyError(
            f"{os.path.relpath(result.merged)} has no standard errors: they need two or more configurations that are "
            "averaged (frozen_phonon.configurations, adf.average_configurations), and named detectors."
        )
    if as_json:
        say(json.dumps([record(one, TARGETS) for one in found]))
    else:
        for line in table(found):
            say(line)
    if as_json and picture is None:
        return 0
    file = picture or result.convergence
    plan = ledger.read_plan(result)
    measured = {one.detector: measured_errors(result, plan, one) for one in found}
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        convergence_figure.draw(file, found, measured, TARGETS, str(plan.get("title", result.name)))
    except OSError as error:
        raise StorageError(f"{file} cannot be written: {error.strerror}. Choose another --output.") from None
    except ValueError as error:
        raise StorageError(f"{file} cannot be drawn: {error}. Use a name that ends in .png, .pdf or .svg.") from None
    if not as_json:
        say(f"figure: {os.path.relpath(file)}")
    return 0


def table(found: Sequence[Precision]) -> list[str]:
    """The table as lines for the user. `found` has the precision of each detector, at least of one."""
    first = found[0]
    count = number_of(first.configurations, "configuration")
    head = "".join(f"{f'for {100 * target:g} %':>12}" for target in TARGETS)
    lines = [
        f"{count}; error: standard error over the positions (RMS) relative to the "
        "image's mean"
        + (" (mrad and rad: to its contrast)" if any(one.is_signed for one in found) else "")
        + ", at the worst depth",
        f"{'detector':<16}{'error':>10}{'depth':>10}{head}",
    ]
    for one in found:
        needed = "".join(f"{one.needed(target):>12}" for target in TARGETS)
        lines.append(f"{one.detector:<16}{100 * one.error:>8.2g} %{one.depth_nm:>7.3g} nm{needed}")
    if first.is_uncertain:
        lines.append(
            f"uncertain: from {count} the error of a position is known to "
            f"±{100 * first.uncertainty:.0f} % (±27 % from 8), and the numbers above to twice that; run this again "
            "after some more."
        )
    lines.append("frozen_phonon.configurations sets the number; those that exist are kept.")
    return lines
