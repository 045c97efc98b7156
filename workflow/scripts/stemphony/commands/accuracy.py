"""`stemphony accuracy`: how much each choice of a config changes the result, and which config is accurate enough."""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, redirect_stdout
from pathlib import Path
from typing import Any

from stemphony import ordinary_files
from stemphony.accuracy import figure, refinements
from stemphony.accuracy.budget import Budget
from stemphony.accuracy.recommendation import Recommendation, recommend, refined
from stemphony.commands import run as runner
from stemphony.errors import ConfigError, DamagedResultError, StorageError
from stemphony.experiment import configuration, overrides
from stemphony.experiment.model import detector_names
from stemphony.orchestration import preflight
from stemphony.orchestration.inputs import Inputs, read_inputs
from stemphony.paths import RESULTS, ResultPaths
from stemphony.store.atomic import write_text_atomic
from stemphony.store.progress import duration

SHOWN_DEPTHS = 4
"""Most depths in the table. accuracy.json has all depths."""

TOGETHER = "numerical choices together"
"""Name of the row with the sum of the numerical changes."""

SUFFIX = "_accurate"
"""Ending of the recommended simulation's name. With it, the new simulation replaces no result."""


def accuracy(
    snakefile: Path,
    config: Path,
    directory: Path,
    cores: int,
    profile: str | None,
    extra: Sequence[str],
    entries: Sequence[str],
    target: float | None,
    as_json: bool,
    say: Callable[[str], None],
) -> int:
    """Compute the error budget of a config, print it, and recommend a config for a wanted accuracy.

    Parameters
    ----------
    snakefile, config, directory, cores, profile, extra, entries
        As for `run.started`.
    target : float or None
        Wanted accuracy, as a share: 0.01 is 1 %.
    as_json : bool
        Print one JSON object.
    say : callable
        Prints one line.

    Returns
    -------
    int
        Exit status.

    Raises
    ------
    StemphonyError
        The config cannot be used, or has no named detectors.
    """
    given = overrides.overridden(configuration.load([config]), entries)
    inputs = read_inputs(given, [config])
    _require_detectors(inputs.config)
    if not as_json:
        number = len(refinements.variants(inputs.config))
        say(f"error budget of {inputs.config['simulation']['name']}: {number} small runs of a few positions …")
    # With --json, stdout holds only the object.
    with redirect_stdout(sys.stderr) if as_json else nullcontext():
        outcome = runner.started(snakefile, config, directory, cores, profile, [*extra, "accuracy"], entries)
    if outcome.status != 0:
        outcome.show()
        return outcome.exit_status
    result = ResultPaths.of(inputs.config["simulation"]["name"], directory / RESULTS)
    if runner.DRY_RUN & set(extra):
        outcome.show()
        return 0
    budget = read_budget(result)
    title = str(inputs.config["simulation"]["title"])
    found = None if target is None else recommend(budget, target)
    lines = [] if found is None else _recommended(given, inputs, budget, found, result)
    if target is not None:
        figure.draw(result.accuracy_figure, budget, title, target)
    if as_json:
        content: dict[str, Any] = json.loads(ordinary_files.read_text(result.accuracy))
        if found is not None:
            content["recommendation"] = {**vars(found), "reached": found.reached, "text": lines}
        say(json.dumps(content))
        return 0
    for line in [*table(budget), *lines]:
        say(line)
    say(f"figure: {os.path.relpath(result.accuracy_figure)}   numbers: {os.path.relpath(result.accuracy)}")
    return 0


def _require_detectors(config: Mapping[str, Any]) -> None:
    if not detector_names(config["adf"]):
        raise ConfigError(
            "adf.enabled",
            "is false, or there is no named detector; an error budget compares the signals of named detectors. Enable "
            "adf, and name detectors or leave adf.detectors null.",
        )


def read_budget(result: ResultPaths) -> Budget:
    """Read accuracy.json of the simulation `result`.

    Raises
    ------
    DamagedResultError
        The file is missing or damaged.
    """
    try:
        return Budget.of_record(json.loads(ordinary_files.read_text(result.accuracy)))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise DamagedResultError(
            f"{result.accuracy} is missing or damaged. Delete it, and run `stemphony accuracy` again."
        ) from None


def table(budget: Budget) -> list[str]:
    """The `budget` as lines for the user: a block for each detector, a column for each depth."""
    depths = _shown(len(budget.depths_nm))
    positions = ", ".join(f"{n}: ({x:.4g}, {y:.4g}) Å" for n, (x, y) in enumerate(budget.places))
    names = {line.name: f"{figure.NAMES[line.name]}: {line.what}" for line in budget.lines}
    width = 3 + max([len(name) for name in names.values()] + [len(TOGETHER)])
    lines = [
        f"positions {positions}",
        f"  chosen {budget.origin['positions']}",
        f"configuration 0 at defocus {budget.origin['defocus_nm']:g} nm; the atoms are the same in all rows",
        "change of the image: root mean square over the positions, relative to their mean signal",
        "last column: largest change of one position, relative to its own signal",
    ]
    for detector, (inner, outer) in budget.detectors.items():
        head = "".join(f"{budget.depths_nm[depth]:>8.4g} nm" for depth in depths)
        lines += ["", f"{f'{detector} ({inner:g}–{outer:g} mrad)':<{width + 2}}{head}{'one position':>20}"]
        for line in budget.lines:
            changes = line.changes[detector]
            worst = max(changes, key=lambda change: abs(change.worst))
            orders = "*" if any(change.order for change in changes) else ""
            values = "".join(f"{_percent(abs(changes[depth].image)):>11}" for depth in depths)
            one = f"{_percent(worst.worst, sign=True)} at {worst.at}"
            lines.append(f"  {names[line.name] + orders:<{width}}{values}{one:>20}")
        most = "".join(f"{budget.matters_most(detector, depth).name[:10]:>11}" for depth in depths)
        total = "".join(f"{_percent(budget.total(detector, depth)):>11}" for depth in depths)
        lines += [f"  {TOGETHER:<{width}}{total}", f"  {'matters most':<{width}}{most}"]
    if any(change.order for line in budget.lines for changes in line.changes.values() for change in changes):
        lines += ["", "* extrapolated where a third point confirms the order of convergence"]
    lines += ["", "left out:"] if budget.without else []
    lines += [f"  {figure.NAMES[name]}: {reason}" for name, reason in budget.without.items()]
    lines += [f"computing time of the budget: {duration(budget.cpu_seconds)} of CPU"]
    return lines


def _shown(number: int) -> list[int]:
    """Indices of the depths in the table: evenly spaced, with the exit surface last."""
    if number <= SHOWN_DEPTHS:
        return list(range(number))
    return sorted({round((n + 1) * number / SHOWN_DEPTHS) - 1 for n in range(SHOWN_DEPTHS)})


def _percent(share: float, sign: bool = False) -> str:
    value = 100 * share
    if abs(value) < 0.001:
        return "< 0.001 %"
    return f"{value:{'+' if sign else ''}.2g} %" if abs(value) < 99.5 else f"{value:{'+' if sign else ''}.0f} %"


def _recommended(
    given: Mapping[str, Any], inputs: Inputs, budget: Budget, found: Recommendation, result: ResultPaths
) -> list[str]:
    """Write the recommended config. Return lines that say what it changes and costs."""
    names = figure.NAMES
    target = _percent(found.target)
    lines = ["", f"target {target}: the numerical choices change an image by at most {_percent(found.before)}"]
    if inputs.config["frozen_phonon"]["enabled"]:
        lines.append(
            "  the statistical error comes on top; frozen_phonon.configurations: "
            f"{{until: {found.target:g}}} computes as many configurations as it needs"
        )
    for name in found.beyond:
        line = next(line for line in budget.lines if line.name == name)
        lines.append(
            f"  {names[name]} alone changes an image by {_percent(line.largest())}: no computing time makes that better"
        )
    if not found.levels:
        return [*lines, "  nothing needs to be refined" if found.reached else "  nothing can be refined further"]
    base = result.root.parent
    content = refined(given, budget, found.levels)
    name = f"{inputs.config['simulation']['name'][: 100 - len(SUFFIX)]}{SUFFIX}"
    content["simulation"] = {**content["simulation"], "name": name}
    content["specimen"] = {**content["specimen"], "file": str(inputs.specimen_file)}
    if inputs.snapshots_file is not None:
        content["frozen_phonon"] = {**content["frozen_phonon"], "snapshots": str(inputs.snapshots_file)}
    for detector, path in inputs.sensitivity_files.items():
        content["adf"]["detectors"][detector]["sensitivity"] = str(path)
    content = configuration.without_secrets(content)
    before = preflight.check(inputs, base)
    after = preflight.check(read_inputs(content, inputs.config_files), base)
    steps = ", ".join(f"{names[term]}{' twice' if level == 2 else ''}" for term, level in found.levels.items())
    if found.unmeasured:
        unmeasured = ", ".join(names[term] for term in found.unmeasured)
        lines.append(f"  refine {steps}: then the other choices change an image by at most {_percent(found.after)}")
        lines.append(f"  what is left of {unmeasured} is not measured: make a budget of the new config to measure it")
    else:
        lines.append(f"  refine {steps}: then at most {_percent(found.after)}")
    if not found.reached:
        lines.append(f"  that is above {target}: make a budget of the new config, which refines it further")
    file = result.root / f"{name}.yaml"
    try:
        write_text_atomic(file, _yaml(content))
    except OSError as error:
        raise StorageError(f"{file} cannot be written: {error.strerror}. Make its folder writable.") from None
    cost, more = before.cpu_hours, after.cpu_hours
    lines.append(
        f"  cost: about {duration(3600 * more)} of CPU for all pairs; the config as it is takes {duration(3600 * cost)}"
    )
    lines.append(f"  config: {os.path.relpath(file)}   stemphony run {shlex.quote(os.path.relpath(file))}")
    return lines


def _yaml(content: Mapping[str, Any]) -> str:
    import yaml

    text: str = yaml.safe_dump(dict(content), sort_keys=False, allow_unicode=True)
    return text
