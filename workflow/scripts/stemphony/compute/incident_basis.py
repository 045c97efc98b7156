"""The basis of incident waves. Each probe of a job is a superposition of these waves, Eq. (P18)."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from stemphony.compute import basis_memory
from stemphony.compute.propagation import probe
from stemphony.experiment.model import Experiment
from stemphony.physics.basis import ApertureWaves, probe_basis
from stemphony.store.parts import Part, Parts

_SHARE_OF_TOLERANCE = 0.05
"""Tolerance of the waves, as a share of the user's tolerance, which holds for the signals.

A signal is a square, which doubles the relative error of a wave. A detector that sees little of the wave enlarges the
error further, for example bright field in the hole of an annular aperture: 1600 random experiments showed a factor of
up to 14. This share covers both, and costs a sixth more waves."""


@dataclass(frozen=True)
class Basis:
    """Orthonormal incident waves that span all probes of some defoci and scan positions, Eq. (P18).

    Attributes
    ----------
    rows, columns : (b,) ndarray of int
        Grid indices of the b pixels of the aperture.
    vectors : (b, r) ndarray
        The r waves in columns, as values at these pixels.
    """

    rows: np.ndarray
    columns: np.ndarray
    vectors: np.ndarray

    @property
    def rank(self) -> int:
        """Number of waves r."""
        return int(self.vectors.shape[1])

    @classmethod
    def of(cls, experiment: Experiment, defoci_nm: Sequence[float], where: np.ndarray | None = None) -> Basis:
        """Return the smallest basis within the experiment's tolerance.

        Parameters
        ----------
        experiment : Experiment
            Grid, optics, scan positions and tolerance.
        defoci_nm : sequence of float
            Defoci whose probes the basis spans [nm].
        where : (m,) ndarray of int or None
            Flat indices of the scan positions, y fastest; None for all positions.

        Returns
        -------
        Basis
            Basis of rank r, for all probes of all defoci.
        """
        basis = cls.within(experiment, defoci_nm, where, None)
        assert basis is not None
        return basis

    @classmethod
    def within(
        cls, experiment: Experiment, defoci_nm: Sequence[float], where: np.ndarray | None, most: int | None
    ) -> Basis | None:
        """Return the basis as `of` does, or None if it needs more than `most` waves.

        The search gives up early: it does not find all waves of a basis that is too large.

        `experiment`, `defoci_nm` and `where` are those of `of`.
        """
        probes = _Probes(experiment, defoci_nm, where)
        vectors = probe_basis(probes, _SHARE_OF_TOLERANCE * experiment.basis_tolerance, most)
        return None if vectors is None else cls(probes.aperture.rows, probes.aperture.columns, vectors)

    def coefficients(self, experiment: Experiment, defocus_nm: float, where: np.ndarray | None = None) -> np.ndarray:
        """Return the coefficients of the probes of one defocus, (r, m), one column for each scan position.

        Parameters
        ----------
        experiment : Experiment
            Grid, optics and scan positions.
        defocus_nm : float
            Defocus [nm].
        where : (m,) ndarray of int or None
            Flat indices of the scan positions, y fastest; None for all positions.

        Returns
        -------
        (r, m) ndarray of complex
            Coefficients [1]. The sum of basis waves with these factors is the probe.
        """
        adjoint = self.vectors.conj().T
        return np.concatenate([adjoint @ probes for probes in _Probes(experiment, [defocus_nm], where)], axis=1)

    def parts(self) -> Parts:
        """Return the basis as checkpoint arrays.

        A resumed job must reuse this basis. Another machine may find a basis that differs in the last bits. The exit
        waves in the checkpoint would not fit that basis.
        """
        return {name: Part.of(getattr(self, name)) for name in ("rows", "columns", "vectors")}


def rank_of_window(experiment: Experiment, defoci_nm: Sequence[float], nx: np.ndarray, ny: np.ndarray) -> int:
    """Return the rank of the smallest basis of some positions of a scan window, without its waves.

    The inner product of two probes depends on the difference of their positions only. The eigenvalues of the matrix of
    all inner products say how much the best r waves miss, Eq. (P18). This takes a tenth of the time of `Basis.of`.

    Parameters
    ----------
    experiment : Experiment
        Grid, optics, scan window and tolerance.
    defoci_nm : sequence of float
        Defoci whose probes the basis spans [nm].
    nx, ny : ndarray of int
        Indices of positions along x and y. All pairs of them are taken.

    Returns
    -------
    int
        Number of waves r.
    """
    spectra = np.stack([probe(experiment, defocus) for defocus in defoci_nm])
    is_used = (spectra != 0).any(axis=0)
    rows, columns = np.flatnonzero(is_used.any(axis=1)), np.flatnonzero(is_used.any(axis=0))
    spectra = spectra[:, rows[:, None], columns]
    at_x, at_y = np.asarray(experiment.scan_x)[nx], np.asarray(experiment.scan_y)[ny]
    waves_x = np.exp(2j * np.pi * np.outer((at_x[:, None] - at_x).ravel(), experiment.grid.kx[rows]))
    waves_y = np.exp(2j * np.pi * np.outer(experiment.grid.ky[columns], (at_y[:, None] - at_y).ravel()))
    number = at_x.size * at_y.size
    gram = np.empty((len(spectra), number, len(spectra), number), dtype=complex)
    for first, second in np.ndindex(len(spectra), len(spectra)):
        products = waves_x @ (spectra[first].conj() * spectra[second]) @ waves_y
        pairs = products.reshape(at_x.size, at_x.size, at_y.size, at_y.size).transpose(0, 2, 1, 3)
        gram[first, :, second] = pairs.reshape(number, number)
    shares = np.linalg.eigvalsh(gram.reshape(len(spectra) * number, -1)).clip(min=0.0)
    tolerance = _SHARE_OF_TOLERANCE * experiment.basis_tolerance
    # No defocus misses more than all defoci together.
    missed = np.cumsum(shares) <= tolerance**2 * shares.sum() / len(spectra)
    return int(shares.size - missed.sum())


class _Probes(Collection[np.ndarray]):
    """Blocks of incident probes at the pixels of the aperture; each iteration makes the blocks again."""

    def __init__(self, experiment: Experiment, defoci_nm: Sequence[float], where: np.ndarray | None) -> None:
        self.grid = experiment.grid
        self.aperture = ApertureWaves(np.stack([probe(experiment, defocus) for defocus in defoci_nm]))
        positions = experiment.probe_positions.reshape(-1, 2)
        self.positions = positions if where is None else positions[where]
        self.defoci = len(defoci_nm)
        self.step = max(1, int(basis_memory.BLOCK_BYTES / (16 * len(self.aperture.rows))))

    def __len__(self) -> int:
        return self.defoci * -(-len(self.positions) // self.step)

    def __iter__(self) -> Iterator[np.ndarray]:
        for defocus in range(self.defoci):
            for first in range(0, len(self.positions), self.step):
                some = self.positions[first : first + self.step]
                yield self.aperture.probes(self.grid.kx, self.grid.ky, some, defocus)

    def __contains__(self, _: object) -> bool:
        return False
