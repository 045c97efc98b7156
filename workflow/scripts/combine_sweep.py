"""Rule combine_sweep: the results of all members of a sweep in one file, and in one figure.

    python combine_sweep.py PARAMS OUTPUT FIGURE

PARAMS is the JSON text of the rule's params. They name the members and their values. The results of the members are in
the folders beside OUTPUT.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

# PYTHONSAFEPATH keeps the working directory out of the search path, but also this folder. So it is added here.
sys.path.insert(0, str(Path(__file__).resolve().parent))

from stemphony import paths
from stemphony.orchestration import script
from stemphony.orchestration.job_log import say


def main(arguments: list[str]) -> None:
    """Combine the members of a sweep. `arguments` are PARAMS, OUTPUT and FIGURE, see the module.

    Raises
    ------
    StemphonyError
        A result cannot be read, or a file cannot be written.
    """
    params, output, figure = arguments
    from stemphony.figures import sweep_figure
    from stemphony.figures.style import Style, save
    from stemphony.results.combined_sweep import Combined
    from stemphony.store.dates import date_not_ahead

    combined = Combined.of(json.loads(params), paths.SweepPaths(Path(output).parent))
    date_not_ahead(combined.files)
    combined.write(Path(output))
    save(sweep_figure.draw(combined, Style("page")), Path(figure))
    for note in combined.notes:
        say(note)


if __name__ == "__main__":
    script.run(main)
