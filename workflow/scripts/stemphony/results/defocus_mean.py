"""Means of stored signals over configurations and defoci, if a result keeps them separately."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemphony.errors import ResultError

Floats = NDArray[np.float64]

SAME_DEFOCUS_NM = 0.01
"""Largest distance between a wanted defocus and the stored one that is used for it [nm]. It allows for a wanted defocus
that is rounded to two decimal places."""


@dataclass(frozen=True)
class DefocusMean:
    """The defoci of a result, and whether it averages them.

    Attributes
    ----------
    defoci_nm, weights : (D,) array
        All defoci that were computed, and their weights in averages.
    is_averaged : bool
        Whether the result keeps only the weighted mean over the defoci.
    are_independent : bool
        Whether each defocus has its own configurations.
    """

    defoci_nm: Floats
    weights: Floats
    is_averaged: bool
    are_independent: bool

    @classmethod
    def of(cls, root: Any) -> DefocusMean:
        """Read the defoci from `root`, an open result that has images, patterns or waves."""
        params = root["params"]
        names = {"images": "adf_defocus", "cbed": "cbed_defocus", "waves": "waves_defocus"}
        group, name = next((group, name) for group, name in names.items() if group in root.groups)
        frozen = params["frozen_phonon"]
        defoci = np.asarray(params["defocus"][:], dtype=float)
        return cls(
            defoci_nm=defoci,
            weights=np.asarray(params["defocus_weights"][:], dtype=float),
            is_averaged=len(root[group][name]) < len(defoci),
            are_independent=bool(getattr(frozen, "independent_defoci", 1)) and not getattr(frozen, "snapshots", None),
        )

    def defocus(self, wanted_nm: float | None) -> float | None:
        """The stored defocus [nm] nearest to `wanted_nm` [nm]; if this is None, the only defocus, or None for a mean.

        Raises ResultError if no stored defocus is within `SAME_DEFOCUS_NM`, or only the mean is stored.
        """
        if wanted_nm is not None:
            return float(self.defoci_nm[self._index(wanted_nm)])
        return float(self.defoci_nm[0]) if len(self.defoci_nm) == 1 else None

    def values(self, stack: Floats, wanted_nm: float | None = None) -> Floats:
        """Mean of signals over configurations, at one defocus or weighted over all defoci.

        Parameters
        ----------
        stack : (defocus, configuration, …) array
        wanted_nm : float or None
            The defocus [nm]; None for the weighted mean.

        Returns
        -------
        (…) array

        Raises
        ------
        ResultError
            No stored defocus is within `SAME_DEFOCUS_NM`, or only the mean is stored.
        """
        means = stack.mean(axis=1)
        if wanted_nm is not None:
            return np.asarray(means[self._index(wanted_nm)])
        return np.asarray(np.tensordot(self._weights(stack), means, axes=1))

    def errors(self, stack: Floats, kept: Floats | None, wanted_nm: float | None = None) -> Floats | None:
        """Standard error of `values`: the stored one, or that from the spread over separately stored configurations.

        Parameters
        ----------
        stack : (defocus, configuration, …) array
            The signals.
        kept : array of the same shape, or None
            Stored standard errors.
        wanted_nm : float or None
            The defocus [nm]; None for the weighted mean.

        Returns
        -------
        (…) array or None
            None if there is only one configuration. Also None if stored errors of several defoci would have to be
            combined although these share their configurations: such errors are not independent.

        Raises
        ------
        ResultError
            As for `values`.
        """
        if wanted_nm is not None:
            index = self._index(wanted_nm)
            stack, kept = stack[index : index + 1], None if kept is None else kept[index : index + 1]
        weights = self._weights(stack)
        if kept is not None:
            if len(kept) > 1 and not self.are_independent:
                return None
            return np.asarray(np.sqrt(np.tensordot(weights**2, kept[:, 0] ** 2, axes=1)))
        number = stack.shape[1]
        if number < 2:
            return None
        if not self.are_independent:
            stack, weights = np.tensordot(weights, stack, axes=1)[None], np.ones(1)
        return np.asarray(np.sqrt(np.tensordot(weights**2, stack.var(axis=1, ddof=1) / number, axes=1)))

    def _weights(self, stack: Floats) -> Floats:
        return self.weights if len(stack) == len(self.weights) else np.ones(1)

    def _index(self, wanted_nm: float) -> int:
        index = int(np.abs(self.defoci_nm - wanted_nm).argmin())
        listed = ", ".join(f"{value:g}" for value in self.defoci_nm)
        if abs(self.defoci_nm[index] - wanted_nm) > SAME_DEFOCUS_NM:
            raise ResultError(f"the result has no defocus of {wanted_nm:g} nm; it has {listed} nm. Give one of these.")
        if self.is_averaged:
            raise ResultError(
                f"got a defocus of {wanted_nm:g} nm; the result keeps only the mean over the defoci {listed} nm. With "
                "`adf: {average_defoci: false}` (for patterns `cbed`) the next run merges each defocus separately and "
                "computes no job again."
            )
        return index
