"""Diffraction patterns at their own positions: a job computes the scan of its images, then that of its patterns."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np

from stemphony.compute.atoms import Atoms
from stemphony.compute.keeper import Keeper
from stemphony.compute.recorder import JobSignals, Recorder, Simulate
from stemphony.experiment.model import Experiment
from stemphony.store.parts import Part, Parts


def simulate_apart(
    experiment: Experiment,
    atoms: Atoms,
    simulate: Simulate,
    on_progress: Callable[[int, int], None],
    keeper: Keeper | None = None,
) -> JobSignals:
    """Compute images and patterns one after the other, each at its own positions and depths.

    Parameters
    ----------
    experiment : Experiment
        An experiment with a `cbed_scan`.
    atoms : Atoms
        All atoms of the specimen.
    simulate : callable
        Computes one scan: `simulate(experiment, atoms, on_progress, keeper)`.
    on_progress : callable
        Called as `on_progress(done, total)` in units of scan positions.
    keeper : Keeper or None
        Keeps finished images and the work of the present scan.

    Returns
    -------
    JobSignals
        `waves` counts the waves of both scans.
    """
    images, patterns = experiment.without_patterns, experiment.patterns
    total = images.positions + patterns.positions
    keeper = (keeper or Keeper()).inside("apart")

    def report(before: int, positions: int) -> Callable[[int, int], None]:
        return lambda done, of: on_progress(before + positions * done // max(1, of), total)

    recorder = Recorder(images)
    inner = keeper.inside("patterns", around=lambda: _parts(recorder))
    if not _take_up(recorder, keeper.found):
        recorder.signals = simulate(images, atoms, report(0, images.positions), keeper.inside("images"))
    made = recorder.signals
    of_patterns = simulate(patterns, atoms, report(images.positions, patterns.positions), inner)
    made.cbed, made.cbed_angles = of_patterns.cbed, of_patterns.cbed_angles
    made.waves += of_patterns.waves
    return made


def _parts(recorder: Recorder) -> Parts:
    """Finished images as checkpoint arrays."""
    signals = recorder.signals
    about = {"waves": signals.waves, "algorithm": signals.algorithm, "window_check": json.dumps(signals.window_check)}
    everywhere = np.ones(signals.total.shape[:2], dtype=bool)
    return {**recorder.parts(everywhere), **{name: Part.of(value) for name, value in about.items()}}


def _take_up(recorder: Recorder, found: dict[str, np.ndarray]) -> bool:
    """Take the images if an earlier attempt has finished them; return whether it has."""
    if not recorder.fits(found) or not found["positions"].all() or "window_check" not in found:
        return False
    recorder.restore(found)
    signals = recorder.signals
    signals.waves, signals.algorithm = int(found["waves"]), found["algorithm"].item()
    signals.window_check = json.loads(found["window_check"].item())
    found.clear()
    return True
