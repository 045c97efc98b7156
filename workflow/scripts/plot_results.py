"""Rule plot_results: figures of a merged result, drawn as `stemphony plot` draws them.

    python plot_results.py RESULT FIGURE…

The name of a figure says what it shows: a detector (its image at the last depth), `thickness_curves`, or `cbed_mean`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

# PYTHONSAFEPATH keeps the working directory out of the search path, but also this folder. So it is added here.
sys.path.insert(0, str(Path(__file__).resolve().parent))

from stemphony.orchestration import script

THICKNESS_CURVES, CBED_MEAN = "thickness_curves", "cbed_mean"


def plot_results(result_file: Path, figures: Sequence[Path]) -> None:
    """Draw each of `figures` from the merged result in `result_file`. The name of a figure says what it shows.

    Raises
    ------
    DamagedResultError
        The merged result is truncated or damaged.
    ResultError
        It does not hold what a figure shows.
    """
    from stemphony.figures.request import CURVES, IMAGES, PATTERN, PROFILE, FigureRequest, draw
    from stemphony.figures.style import Style, save
    from stemphony.results.opened import OpenedResult
    from stemphony.store.dates import date_not_ahead

    result = OpenedResult(result_file)
    date_not_ahead([result_file])
    of_detector = IMAGES if result.positions.kind == "window" else PROFILE
    for figure in figures:
        if figure.stem == THICKNESS_CURVES:
            request = FigureRequest(CURVES)
        elif figure.stem == CBED_MEAN:
            request = FigureRequest(PATTERN)
        else:
            request = FigureRequest(of_detector, detectors=[figure.stem])
        save(draw(result, request, Style("column")).figure, figure)


def main(arguments: list[str]) -> None:
    """Draw figures of a merged result. `arguments` are RESULT and the files of the figures, see the module."""
    result_file, *figures = arguments
    plot_results(Path(result_file), [Path(figure) for figure in figures])


if __name__ == "__main__":
    script.run(main)
