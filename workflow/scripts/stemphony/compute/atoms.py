"""The atoms of one frozen-phonon configuration, in their slices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stemphony import paths
from stemphony.experiment.model import Experiment
from stemphony.physics import occupancy, phonons, random_film, slicing
from stemphony.physics.random_film import Film


@dataclass(frozen=True)
class Atoms:
    """The atoms of one configuration.

    Attributes
    ----------
    symbols : (N,) ndarray of str
        Chemical symbols.
    positions : (N, 3) ndarray
        Positions [Å].
    slice_index : (N,) ndarray of int
        Slice of each atom.
    present : (N,) ndarray of bool or None
        Which sites hold their atom; None if all sites do.
    """

    symbols: np.ndarray
    positions: np.ndarray
    slice_index: np.ndarray
    present: np.ndarray | None = None

    def occupied(self) -> Atoms:
        """Return the atoms without the vacant sites."""
        if self.present is None:
            return self
        there = self.present
        return Atoms(self.symbols[there], self.positions[there], self.slice_index[there])


@dataclass(frozen=True)
class Occupancies:
    """Arguments of `occupancy.present_sites` for all sites: arrays (N,); `cluster` and `alternative` may be None."""

    occupancy: np.ndarray
    cluster: np.ndarray | None
    alternative: np.ndarray | None

    def present(self, random_seed: int, configuration: int, defocus_pm: int | None) -> np.ndarray:
        """Draw which sites hold their atom, Eq. (P20), and return this as (N,) of bool; see `occupancy.present_sites`.

        `random_seed` is the seed of the simulation, and `configuration` the index of the configuration; neither is
        negative. `defocus_pm` is the defocus [pm] if each defocus draws its own sites, else None. Raises ValueError if
        these numbers or the occupancies are out of range.
        """
        return occupancy.present_sites(
            self.occupancy, self.cluster, self.alternative, random_seed, configuration, defocus_pm
        )


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
    u_aniso: np.ndarray | None = None,
    occupancies: Occupancies | None = None,
    films: Sequence[Film] = (),
    heights: np.ndarray | None = None,
    slice_id: np.ndarray | None = None,
) -> Atoms:
    """Draw the atoms of one frozen-phonon configuration, Eqs. (P12) and (P20), and sort them into slices.

    Parameters
    ----------
    experiment : Experiment
        It gives the cell and the slices.
    symbols, positions, u_iso : (N,), (N, 3), (N,) ndarray
        Elements, positions at rest [Å], and mean square displacements per axis [Å²].
    frame : (N, 3) ndarray or None
        A snapshot of molecular dynamics [Å]. It replaces the positions, and all its atoms are present.
    displaced : bool
        False leaves the atoms at rest. Occupancies are drawn in any case.
    random_seed, configuration : int
        Seed of the simulation and index of the configuration.
    defocus_nm : float or None
        Defocus [nm] if each defocus draws its own displacements and occupancies, else None.
    displace_z, fixed_slicing : bool
        Whether atoms also move along the beam, and whether an atom stays in the slice of its undisplaced position.
    u_aniso : (N, 3, 3) ndarray or None
        Tensors [Å²] that replace `u_iso`; NaN for atoms without one.
    occupancies : Occupancies or None
        None if every site is full.
    films : sequence of Film
        Amorphous films, some of which each configuration draws again.
    heights : (N,) ndarray or None
        Undisplaced heights [Å]; None if they are those of `positions`. With snapshots, the means of the frames.
    slice_id : (N,) ndarray of int or None
        Slice of each atom, if the structure file names it. It is used only if `fixed_slicing` is true.

    Returns
    -------
    Atoms
        All sites in the order of the arguments. x and y are wrapped into the cell; z may leave it, and the atom then
        belongs to the first or the last slice. Vacant sites stay and are false in `present`.
    """
    pm = None if defocus_nm is None else paths.defocus_pm(defocus_nm)
    if films and frame is None:
        random = phonons.generator(random_seed, configuration, pm, random_film.FILM)
        positions = random_film.redrawn(films, positions, random)
    moved = np.array(positions if frame is None else frame, dtype=float)
    if displaced and frame is None:
        moved += phonons.displacements(u_iso, random_seed, configuration, pm, displace_z, u_aniso)
    moved = slicing.wrap_positions(moved, experiment.cell)
    if fixed_slicing:
        index = _slices_at_rest(experiment, positions[:, 2] if heights is None else heights, slice_id)
    else:
        index = experiment.slicing.index(moved[:, 2])
    drawn = occupancies if frame is None else None
    present = None if drawn is None else drawn.present(random_seed, configuration, pm)
    return Atoms(symbols, moved, index, present)


def _slices_at_rest(experiment: Experiment, heights: np.ndarray, slice_id: np.ndarray | None) -> np.ndarray:
    """Return the slice of each undisplaced atom (N,), from the structure file if it names slices, else by height."""
    if slice_id is not None and experiment.slices_of_file:
        return np.asarray(slice_id, dtype=np.int64)
    return experiment.slicing.index(heights)
