"""Rule run_variant: the signals of an error budget's positions in one variant of the config.

    python run_variant.py PARAMS_JSON SPECIMEN LARGER OUTPUT THREADS

PARAMS_JSON holds the name of the variant and the params of prepare_accuracy. SPECIMEN and LARGER are the files of that
rule. OUTPUT is JSON. If a variant cannot be computed, its file says why, and the other variants are still computed.
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
    """Compute a variant. `arguments` are PARAMS_JSON, SPECIMEN, LARGER, OUTPUT and THREADS, see the module.

    Raises
    ------
    ConfigError, SpecimenError
        The variant is the reference and cannot be computed.
    """
    text, specimen, larger, output, threads = arguments
    job.limit_threads(1)
    from stemphony.accuracy.refinements import REFERENCE
    from stemphony.accuracy.variant import run_variant
    from stemphony.errors import ConfigError, SpecimenError
    from stemphony.store.atomic import write_text_atomic

    params: dict[str, Any] = json.loads(text)
    try:
        record = run_variant(params, Path(specimen), Path(larger), int(threads))
    except (ConfigError, SpecimenError) as error:
        if params["variant"] == REFERENCE:
            raise
        record = {"variant": params["variant"], "reason": str(error)}
    write_text_atomic(Path(output), json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    script.run(main)
