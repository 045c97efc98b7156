"""Group `accuracy` of a result: the error budget of its config."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import netCDF4
import numpy as np

from stemphony import ordinary_files, provenance
from stemphony.accuracy.budget import Budget
from stemphony.results.layout import add_attributes, add_texts, add_variable

GROUP = "accuracy"
"""Name of the group of the result."""


def add_accuracy(root: netCDF4.Dataset, file: Path, common: Mapping[str, Any]) -> str:
    """Write the error budget into a result, if the budget belongs to the result's config.

    Parameters
    ----------
    root : Dataset
        The result, open for writing.
    file : Path
        accuracy.json; it may be missing.
    common : mapping
        Params that the jobs of the result share.

    Returns
    -------
    str
        Note for the user if the budget is damaged or belongs to another config; else empty.
    """
    if not file.exists():
        return ""
    try:
        budget = Budget.of_record(json.loads(ordinary_files.read_text(file)))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return f"{file} is damaged, so the result holds no error budget; `stemphony accuracy` makes it again."
    if budget.digest != provenance.digest(common):
        return f"{file} is of another config, so the result does not hold it; `stemphony accuracy` makes a new one."
    group = root.createGroup(GROUP)
    add_attributes(
        group,
        {
            "digest": budget.digest,
            "defocus_nm": float(budget.origin["defocus_nm"]),
            "positions_angstrom": [list(place) for place in budget.places],
            "not_applicable": dict(budget.without),
        },
    )
    group.createDimension("accuracy_term", len(budget.lines))
    group.createDimension("accuracy_slice", len(budget.depths_nm))
    add_texts(group, "term", "accuracy_term", "choice that was refined", [line.name for line in budget.lines])
    add_texts(group, "kind", "accuracy_term", "numerical, model or input", [line.kind for line in budget.lines])
    add_texts(group, "change", "accuracy_term", "what was changed", [line.what for line in budget.lines])
    add_variable(group, "accuracy_slice_coords", "f8", ("accuracy_slice",), "nm", "depth", np.asarray(budget.depths_nm))
    for name in budget.detectors:
        changes = [line.changes[name] for line in budget.lines]
        for suffix, what in (
            ("image", "root mean square change over the positions, relative to their mean signal"),
            ("worst", "largest change of a position, relative to its own signal"),
        ):
            values = np.array([[getattr(change, suffix) for change in row] for row in changes])
            add_variable(
                group, f"{name}_{suffix}", "f8", ("accuracy_term", "accuracy_slice"), "1", what,
                values.reshape(len(budget.lines), len(budget.depths_nm)),
            )  # fmt: skip
    return ""
