"""Exit waves of one configuration that serve all its defoci: one propagation, then signals for each defocus."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from stemphony.compute.basis_memory import COPIES_WHILE_WRITING, kept_bytes, waves_bytes
from stemphony.compute.exit_waves import ExitWaves, StepCounter, slice_blocks
from stemphony.compute.incident_basis import Basis
from stemphony.compute.keeper import Keeper
from stemphony.compute.propagation import Propagation
from stemphony.compute.recorder import JobSignals
from stemphony.compute.superposed_signals import SuperposedSignals
from stemphony.experiment.model import Experiment
from stemphony.store.parts import Part

_SAME_NM = 0.0005
"""Defoci closer than this [nm] count as equal: their ids, which are in pm, are the same."""


@dataclass(frozen=True)
class Superposition:
    """Exit waves of a basis, reduced to what the signals of any superposed probe need.

    Attributes
    ----------
    basis : Basis
    defoci_nm : tuple of float
        Defoci whose probes the basis spans [nm].
    forms : tuple of (n, r, r) ndarray
        For each depth of images the Hermitian matrices of the detector regions; empty without adf.
    patterns : tuple of (r, h) ndarray
        For each depth of patterns the exit waves at the native pixels of the diffraction patterns; empty without cbed.
    """

    basis: Basis
    defoci_nm: tuple[float, ...]
    forms: tuple[np.ndarray, ...]
    patterns: tuple[np.ndarray, ...]

    @classmethod
    def of(
        cls,
        propagation: Propagation,
        defoci_nm: Sequence[float],
        budget_bytes: float,
        on_progress: Callable[[int, int], None],
        keeper: Keeper | None = None,
    ) -> Superposition:
        """Send the basis of all probes of the given defoci through the specimen.

        Parameters
        ----------
        propagation : Propagation
            Specimen and threads.
        defoci_nm : sequence of float
            Defoci of the campaign [nm].
        budget_bytes : float
            Memory for transmission functions and waves [bytes].
        on_progress : callable
            Called as `on_progress(done, total)` in steps of one wave through one block of slices.
        keeper : Keeper or None
            Keeps waves for another attempt and holds those of an earlier one.

        Returns
        -------
        Superposition
            The basis, and what each depth needs of it for the signals of any of its probes.
        """
        e = propagation.experiment
        keeper = (keeper or Keeper()).inside("shared")
        found = keeper.found
        detectors = SuperposedSignals(e)
        basis = Basis(found["rows"], found["columns"], found["vectors"]) if "rows" in found else Basis.of(e, defoci_nm)
        taken = basis.vectors.nbytes + waves_bytes(e, basis.rank) + COPIES_WHILE_WRITING * kept_bytes(e, basis.rank)
        waves = ExitWaves(e, basis, detectors.pixels, slice_blocks(e, max(0.0, budget_bytes - taken)))
        made: dict[str, np.ndarray] = {}
        if waves.restore(found):
            made = {name: values for name, values in found.items() if name.startswith(("forms_", "patterns_"))}
        found.clear()
        keeper.watch(lambda: {**waves.parts(), **{name: Part.of(made[name]) for name in list(made)}})
        counter = StepCounter(waves.all_steps, on_progress, keeper, waves.steps)
        for depth, behind in waves.depths(propagation, counter):
            if depth in detectors.recorder.image_depths:
                made[f"forms_{depth:04d}"] = detectors.forms(behind, depth)
            if depth in detectors.recorder.pattern_depths:
                made[f"patterns_{depth:04d}"] = detectors.at_patterns(behind, depth)
        return cls(basis, tuple(defoci_nm), _by_depth(made, "forms_"), _by_depth(made, "patterns_"))

    def serves(self, defocus_nm: float) -> bool:
        """Whether the basis spans the probes of this defocus, `defocus_nm` [nm]."""
        return any(abs(defocus_nm - known) < _SAME_NM for known in self.defoci_nm)

    def signals(self, experiment: Experiment, defocus_nm: float) -> JobSignals:
        """Return the signals of all scan positions of `experiment` at one defocus, `defocus_nm` [nm].

        The experiment is the one that the waves were computed for, and the basis must span the defocus, see `serves`.
        """
        detectors = SuperposedSignals(experiment, self.basis.rank)
        where = np.arange(experiment.positions)
        coefficients = self.basis.coefficients(experiment, defocus_nm)
        for depth, forms in enumerate(self.forms):
            detectors.record_forms(where, depth, forms, coefficients)
        for depth, patterns in enumerate(self.patterns):
            detectors.record_patterns(where, depth, patterns, coefficients)
        return detectors.recorder.signals

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the named arrays that a file holds. Of a Hermitian matrix, the file holds only the upper half."""
        basis = self.basis
        row, column = np.triu_indices(basis.rank)
        return {
            "rows": basis.rows,
            "columns": basis.columns,
            "vectors": basis.vectors,
            "defoci_nm": np.array(self.defoci_nm),
            **{f"forms_{depth:04d}": forms[:, row, column] for depth, forms in enumerate(self.forms)},
            **{f"patterns_{depth:04d}": patterns for depth, patterns in enumerate(self.patterns)},
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> Superposition:
        """Make a superposition from the result of `arrays`. Other input raises KeyError, IndexError or ValueError."""
        basis = Basis(arrays["rows"], arrays["columns"], arrays["vectors"])
        forms = tuple(_whole(packed, basis.rank) for packed in _by_depth(arrays, "forms_"))
        return cls(basis, tuple(arrays["defoci_nm"].tolist()), forms, _by_depth(arrays, "patterns_"))


def _by_depth(arrays: Mapping[str, np.ndarray], prefix: str) -> tuple[np.ndarray, ...]:
    return tuple(arrays[name] for name in sorted(arrays) if name.startswith(prefix))


def _whole(packed: np.ndarray, rank: int) -> np.ndarray:
    """Hermitian matrices (n, r, r) from their upper halves."""
    forms = np.empty((len(packed), rank, rank), dtype=packed.dtype)
    row, column = np.triu_indices(rank)
    forms[:, column, row] = packed.conj()
    forms[:, row, column] = packed
    return forms
