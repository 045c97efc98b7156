"""Rule merge_accuracy: the error budget of a config, from its variants.

    python merge_accuracy.py PARAMS_JSON OUTPUT_JSON OUTPUT_PNG VARIANT_JSON...

PARAMS_JSON holds the params that decide the numbers of the config's jobs, and the terms that do not apply.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

# PYTHONSAFEPATH keeps the working directory out of the search path, but also this folder. So it is added here.
sys.path.insert(0, str(Path(__file__).resolve().parent))

from stemphony.orchestration import job, script


def main(arguments: list[str]) -> None:
    """Merge the variants of an error budget. `arguments` are the words of the command line, see the module.

    Raises
    ------
    DamagedResultError
        A variant cannot be read.
    """
    text, output, picture, *files = arguments
    job.limit_threads(1)
    from stemphony.accuracy import figure
    from stemphony.accuracy.atoms import seed_of
    from stemphony.accuracy.budget import budget_of
    from stemphony.accuracy.positions import RULE
    from stemphony.errors import DamagedResultError
    from stemphony.provenance import digest
    from stemphony.store.atomic import write_text_atomic

    params: dict[str, Any] = json.loads(text)
    try:
        records = [json.loads(Path(file).read_text(encoding="utf-8")) for file in files]
        variants = {record["variant"]: record for record in records}
        origin = {"defocus_nm": params["defocus_nm"], "seed": seed_of(params["common"]), "positions": RULE}
        budget = budget_of(variants, params["without"], digest(params["common"]), origin)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DamagedResultError(
            f"{Path(files[0]).parent}: a variant of the budget is damaged ({error}). Delete the folder, and run again."
        ) from None
    figure.draw(Path(picture), budget, params["title"])
    write_text_atomic(Path(output), json.dumps(budget.record(), indent=1) + "\n")


if __name__ == "__main__":
    script.run(main)
