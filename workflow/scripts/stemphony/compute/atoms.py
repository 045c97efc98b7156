"""The atoms of one frozen-phonon configuration, in their slices."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stemphony import paths
from stemphony.experiment.model import Experiment
from stemphony.physics import phonons, slicing


@dataclass(frozen=True)
class Atoms:
    """The atoms of one configuration: positions (N, 3) [Å], slices (N,), and elements (N,)."""

    symbols: np.ndarray
    positions: np.ndarray
    slice_index: np.ndarray


def draw_atoms(
    experiment: Experiment,
    symbols: np.ndarray,
    positions: np.ndarray,
    u_iso: np.ndarray,
    *,
    frame: np.ndarray | None,
    displaced: bool,
    random_seed: int,
    configuration: int,
    defocus_nm: float | None,
    displace_z: bool,
    fixed_slicing: bool,
) -> Atoms:
    """Atoms of one frozen-phonon configuration, Eq. (P12), in their slices.

    Parameters
    ----------
    positions, u_iso : (N, 3), (N,)
        Atoms at rest [Å] and their mean square displacements per axis [Å²].
    frame : (N, 3) or None
        A snapshot of molecular dynamics [Å], used as it is.
    displaced : bool
        False leaves the atoms at rest.
    defocus_nm : float or None
        Given where each defocus draws its own displacements.

    Notes
    -----
    Atoms in = atoms out: x and y are wrapped into the cell, z is clipped to it (a displacement of the outermost
    atoms must not lose them).
    """
    length_z = experiment.cell[2]
    if frame is not None:
        moved = np.array(frame, dtype=float)
    elif displaced:
        pm = None if defocus_nm is None else paths.defocus_pm(defocus_nm)
        moved = positions + phonons.displacements(u_iso, random_seed, configuration, pm, displace_z)
    else:
        moved = np.array(positions, dtype=float)
    # ASSUME: thermal motion of the surface atoms beyond the cell's faces is cut off in z.
    moved[:, 2] = np.clip(moved[:, 2], 0.0, length_z)
    moved = slicing.wrap_positions(moved, experiment.cell)
    z = positions[:, 2] if fixed_slicing else moved[:, 2]
    return Atoms(symbols, moved, slicing.slice_indices(z, length_z, experiment.slices))
