"""Windows of a large specimen: each part of the scan is computed on the potential around it.

ASSUME: the specimen outside a window does not affect the probes inside. This is an approximation: a focused probe has
long tails, which the periodic window wraps, and scattering spreads the probe. So windows are used only if the user sets
`grating.window_angstrom`. The plan says how much of the probe falls outside, and every job measures the error on some
positions of its own specimen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from stemphony.compute.atoms import Atoms
from stemphony.compute.keeper import Keeper
from stemphony.compute.recorder import JobSignals, Recorder, ScanInParts, Simulate
from stemphony.experiment.model import TILE_SHARE, Experiment
from stemphony.physics.grid import Grid, fft_friendly_size
from stemphony.store.parts import Part, Parts

_CHECKED = 3
"""Number of positions along the diagonal of the scan on which a job measures the error. The first lies in the corner of
a tile, where the error is largest; more positions would cost more time."""


@dataclass(frozen=True)
class Window:
    """A part of the scan, and the piece of the specimen around it.

    Attributes
    ----------
    experiment : Experiment
        The experiment on the cell of the window.
    origin : (float, float)
        Corner of the window in the specimen (x, y) [Å].
    rows, columns : (n,) ndarray of int
        Indices of the scan positions along the two axes of the scan. On a line or list, the positions are the pairs
        (rows[i], columns[i]). On a grid, they are each row with each column.
    """

    experiment: Experiment
    origin: tuple[float, float]
    rows: np.ndarray
    columns: np.ndarray

    @property
    def at(self) -> tuple[np.ndarray, np.ndarray]:
        """Index of its scan positions in arrays (nx, ny, …), of the shape of its own signals."""
        if self.experiment.places is not None:
            return self.rows[:, None], self.columns[:, None]
        rows, columns = np.ix_(self.rows, self.columns)
        return rows, columns

    def cut(self, atoms: Atoms, cell: tuple[float, float, float]) -> Atoms:
        """Return the atoms inside the window, in its coordinates.

        Parameters
        ----------
        atoms : Atoms
            All atoms of the specimen, which is periodic in x and y.
        cell : (float, float, float)
            Lengths of the specimen [Å].

        Returns
        -------
        Atoms
            Positions [Å] from the corner of the window, with the numbers of slices.
        """
        moved = atoms.positions.copy()
        inside = np.ones(len(moved), dtype=bool)
        for axis in (0, 1):
            moved[:, axis] = np.mod(moved[:, axis] - self.origin[axis], cell[axis])
            # Rounding may turn the remainder of an atom just below the origin into the whole length.
            moved[moved[:, axis] >= cell[axis], axis] = 0.0
            inside &= moved[:, axis] < self.experiment.cell[axis]
        return Atoms(atoms.symbols[inside], moved[inside], atoms.slice_index[inside])


def windows(experiment: Experiment) -> Iterator[Window]:
    """Iterate over the windows of `experiment`, each around one tile of the scan."""
    if experiment.places is not None:
        for rows, columns in _groups(experiment):
            yield _around(experiment, experiment.grid, rows, columns)
        return
    for rows in _tiles(experiment.scan_x, experiment.grid.extent[0]):
        for columns in _tiles(experiment.scan_y, experiment.grid.extent[1]):
            yield _around(experiment, experiment.grid, rows, columns)


def simulate_in_windows(
    experiment: Experiment,
    atoms: Atoms,
    simulate: Simulate,
    on_progress: Callable[[int, int], None],
    keeper: Keeper | None = None,
) -> JobSignals:
    """Compute the signals of all scan positions window by window, and measure the error on some positions.

    Parameters
    ----------
    experiment : Experiment
    atoms : Atoms
        All atoms of the specimen.
    simulate : callable
        Computes one window: `simulate(experiment, atoms, on_progress, keeper)`.
    on_progress : callable
        Called as `on_progress(done, total)` in units of scan positions.
    keeper : Keeper or None
        Keeps finished windows and the work of the present one.

    Returns
    -------
    JobSignals
        `window_check` holds the sizes of window and reference [Å], the number of positions, and the relative RMS
        deviation of each signal. Patterns with their own scan are not checked: the error of the images stands for it.
    """
    return _WindowedScan(experiment, atoms, simulate, on_progress, (keeper or Keeper()).inside("windows")).signals()


class _WindowedScan(ScanInParts):
    """One job window by window."""

    def __post_init__(self) -> None:
        self.recorder, found = Recorder(self.experiment), self.keeper.found
        self.finished = np.zeros(self.recorder.signals.total.shape[:2], dtype=bool)
        self.passed, self.waves, self.algorithm = 0, 0, self.recorder.signals.algorithm
        if self.recorder.fits(found):
            self.recorder.restore(found)
            self.finished = found["positions"].copy()
            self.passed, self.waves = int(found["passed"]), int(found["waves"])
            self.algorithm = found["algorithm"].item()

    def signals(self) -> JobSignals:
        """Compute the windows that an earlier attempt has not finished, and measure the error."""
        before = 0
        for number, window in enumerate(windows(self.experiment)):
            if number >= self.passed:
                self._compute(number, window, before)
            before += window.experiment.positions
        signals = self.recorder.signals
        signals.algorithm, signals.waves = self.algorithm, self.waves
        if self.experiment.adf:
            signals.window_check = _check(self.experiment, self.atoms, signals, self.simulate)
        return signals

    def _compute(self, number: int, window: Window, before: int) -> None:
        """Compute one window after `before` scan positions."""
        signals, size = self.recorder.signals, window.experiment.positions

        def report(done: int, total: int) -> None:
            # Progress is above 0 from the first wave on, because a job without progress keeps no checkpoint.
            reached = max(min(1, done), before + size * done // max(1, total))
            self.on_progress(reached, self.experiment.positions)

        inner = self.keeper.inside(str(number), around=self._parts)
        part = self.simulate(window.experiment, window.cut(self.atoms, self.experiment.cell), report, inner)
        at = window.at
        for name in ("bins", "rings", "total", "center_of_mass"):
            getattr(signals, name)[at] = getattr(part, name)
        if signals.cbed is not None and part.cbed is not None:
            signals.cbed[at] = part.cbed
        if signals.spectrum is not None and part.spectrum is not None:
            signals.spectrum[at] = part.spectrum
        self.finished[at] = True
        self.passed, self.waves, self.algorithm = number + 1, self.waves + part.waves, part.algorithm
        self.keeper.watch(self._parts)

    def _parts(self) -> Parts:
        about = {"passed": self.passed, "waves": self.waves, "algorithm": self.algorithm}
        return {**self.recorder.parts(self.finished), **{name: Part.of(value) for name, value in about.items()}}


def _check(experiment: Experiment, atoms: Atoms, signals: JobSignals, simulate: Simulate) -> dict[str, Any]:
    """Compare signals with those in windows of twice the size. Deviations are relative to the RMS in these windows."""
    sx, sy = len(experiment.scan_x), len(experiment.scan_y)
    places = sorted({((sx - 1) * i // (_CHECKED - 1), (sy - 1) * i // (_CHECKED - 1)) for i in range(_CHECKED)})
    grid = doubled_grid(experiment)
    found, exact = [], []
    for i, j in places:
        window = _around(experiment, grid, np.array([i]), np.array([j]))
        one = replace(window.experiment, algorithm="multislice", cbed_max=None)
        wide = simulate(one, window.cut(atoms, experiment.cell), lambda done, total: None, Keeper())
        exact.append(np.concatenate([wide.rings[0, 0], wide.total[0, 0][:, None]], axis=1))
        found.append(np.concatenate([signals.rings[i, j], signals.total[i, j][:, None]], axis=1))
    deviation = np.sqrt(np.mean((np.array(found) - exact) ** 2, axis=(0, 1)) / np.mean(np.square(exact), axis=(0, 1)))
    names = [*experiment.images, "total_intensity"]
    return {
        "window_angstrom": [round(length, 4) for length in experiment.grid.extent],
        "reference_angstrom": [round(length, 4) for length in grid.extent],
        "positions": len(places),
        "relative_deviation": {name: float(f"{value:.3g}") for name, value in zip(names, deviation, strict=False)},
    }


def doubled_grid(experiment: Experiment) -> Grid:
    """Return the grid of windows of twice the size of those of `experiment`, at the same sampling.

    It is at most as large as the whole cell.
    """
    sampling = experiment.grid.sampling
    gpts = [
        min(round(length / step), fft_friendly_size(2 * points))
        for length, step, points in zip(experiment.cell[:2], sampling, experiment.grid.gpts, strict=True)
    ]
    return Grid((gpts[0], gpts[1]), (gpts[0] * sampling[0], gpts[1] * sampling[1]))


def _around(experiment: Experiment, grid: Grid, rows: np.ndarray, columns: np.ndarray) -> Window:
    """A window of the given grid with the scan positions in its middle."""
    if experiment.places is not None:
        return _around_places(experiment, grid, rows, columns)
    scans, origins = [], []
    for positions, indices, length, step in (
        (experiment.scan_x, rows, grid.extent[0], grid.sampling[0]),
        (experiment.scan_y, columns, grid.extent[1], grid.sampling[1]),
    ):
        chosen = [positions[index] for index in indices]
        # On a point of the specimen's grid, so that atoms keep their positions relative to the points.
        origins.append(round((0.5 * (chosen[0] + chosen[-1]) - 0.5 * length) / step) * step)
        scans.append(tuple(position - origins[-1] for position in chosen))
    cell = (grid.extent[0], grid.extent[1], experiment.cell[2])
    inside = replace(experiment, grid=grid, cell=cell, scan_x=scans[0], scan_y=scans[1], window=None, margin=(0, 0))
    return Window(inside, (origins[0], origins[1]), rows, columns)


def _around_places(experiment: Experiment, grid: Grid, rows: np.ndarray, columns: np.ndarray) -> Window:
    """A window of the given grid with positions of a line or list in its middle."""
    chosen = experiment.probe_positions[rows, columns]
    extent, sampling = np.asarray(grid.extent), np.asarray(grid.sampling)
    middle = 0.5 * (chosen.min(axis=0) + chosen.max(axis=0))
    # On a point of the specimen's grid, so that atoms keep their positions relative to the points.
    origin = np.rint((middle - 0.5 * extent) / sampling) * sampling
    places = tuple((float(x), float(y)) for x, y in chosen - origin)
    cell = (grid.extent[0], grid.extent[1], experiment.cell[2])
    inside = replace(
        experiment, grid=grid, cell=cell, scan_x=tuple(map(float, range(len(places)))), scan_y=(0.0,), places=places,
        window=None, margin=(0, 0),
    )  # fmt: skip
    return Window(inside, (float(origin[0]), float(origin[1])), rows, columns)


def _groups(experiment: Experiment) -> list[tuple[np.ndarray, np.ndarray]]:
    """Rows and columns of the positions of a line or list, in groups no wider than the window's tile."""
    places = experiment.probe_positions
    tile = TILE_SHARE * np.asarray(experiment.grid.extent)
    number = np.floor((places - places.reshape(-1, 2).min(axis=0)) / tile + 1e-9).astype(int)
    _, group = np.unique(number.reshape(-1, 2), axis=0, return_inverse=True)
    columns = places.shape[1]
    members = [np.flatnonzero(group.reshape(-1) == value) for value in range(int(group.max()) + 1)]
    return [np.divmod(flat, columns) for flat in members]


def _tiles(positions: tuple[float, ...], length: float) -> list[np.ndarray]:
    """Indices of neighbouring scan positions, in groups no wider than the window's tile."""
    along = np.asarray(positions)
    number = np.floor((along - along[0]) / (TILE_SHARE * length) + 1e-9)
    return [np.flatnonzero(number == value) for value in np.unique(number)]
