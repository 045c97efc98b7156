"""The atoms and positions of an error budget, from the specimen of its config."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from stemphony import paths
from stemphony.accuracy.positions import telling_positions
from stemphony.accuracy.refinements import BASIS_POSITIONS, larger_specimen
from stemphony.compute.configuration import configuration_atoms
from stemphony.experiment.model import Experiment
from stemphony.physics.occupancy import present_sites
from stemphony.physics.phonons import displacements
from stemphony.specimen.larger_cell import partners
from stemphony.specimen.planned import read_planned
from stemphony.specimen.specimen import Specimen

ATTRIBUTE = "accuracy"
"""Attribute, as JSON, of the files that prepare_accuracy writes: positions of the budget [Å], or why there is no larger
cell."""

CONFIGURATION = 0
"""Index of the frozen-phonon configuration of a budget."""

_OUTSIDE = 2**31
"""Index of the configuration that displaces the atoms that are only in the larger cell. No campaign has so many
configurations, so these displacements are independent of all others."""

POSITIONS = 4
"""Number of positions of a budget: those with the largest and smallest potential, and two between them."""

Places = list[list[float]]


def seed_of(common: Mapping[str, Any]) -> int | None:
    """Seed of a budget from the blocks `common` of its config: the config's seed, or 1 if the first run draws its seed.

    None if the config has no seed.
    """
    seed = common["simulation"]["random_seed"]
    return None if seed is None else seed or 1


def chosen_places(experiment: Experiment, specimen: Specimen) -> tuple[Places, Places]:
    """Choose the positions of the budget among those of the `experiment`, from the potential of the `specimen`.

    Returns
    -------
    list, list
        The positions of the budget, at most `POSITIONS`, and the scan positions nearest to their middle, which together
        are at most `BASIS_POSITIONS`; [x, y] each [Å].
    """
    every = experiment.probe_positions.reshape(-1, 2)
    chosen = telling_positions(
        every, specimen.species.tolist(), specimen.positions, experiment.cell[:2],
        experiment.factors, POSITIONS,
    )  # fmt: skip
    distance = np.hypot(*(every - every[chosen].mean(axis=0)).T)
    distance[chosen] = np.inf
    nearest = np.argsort(distance, kind="stable")[: max(0, min(BASIS_POSITIONS, len(every)) - len(chosen))]
    return every[chosen].tolist(), every[np.sort(nearest)].tolist()


def in_larger_cell(
    params: Mapping[str, Any],
    experiment: Experiment,
    specimen: Specimen,
    file: Path,
    places: Sequence[Sequence[float]],
) -> Specimen:
    """Build the next larger cell with the atoms of the budget's configuration, as its only snapshot.

    Atoms that are also in the config's cell keep their displacements and occupancies. The middle of that cell lies at
    the middle of the positions. For the other atoms, both are drawn.

    Parameters
    ----------
    params : mapping
        Params of the rule prepare_accuracy.
    experiment, specimen
        The experiment of the config and its atoms at rest.
    file : Path
        The structure file.
    places : sequence of (float, float)
        Positions of the budget [Å].

    Returns
    -------
    Specimen
        The larger cell. `frames` has the one snapshot, (1, N, 3) [Å]. `occupancy` is 1 for sites that hold an atom and
        0 for others; it is None if the specimen has no occupancies.

    Raises
    ------
    SpecimenError
        The larger cell does not continue the smaller one.
    """
    repeat = None if specimen.building is None else specimen.building.repeat
    large = read_planned(larger_specimen(params["specimen"]["specimen"], repeat), file)
    partner = partners(specimen, large, np.mean(places, axis=0).tolist())
    common, shared = params["common"], partner >= 0
    phonons, defocus = common["frozen_phonon"], params["defocus_nm"]
    job, seed = {**common, "defocus_nm": defocus}, seed_of(common)
    small = configuration_atoms(job, seed, CONFIGURATION, experiment, specimen)
    pm = paths.defocus_pm(defocus) if phonons["independent_defoci"] else None
    moves = np.zeros_like(large.positions)
    if phonons["enabled"]:
        displace_z = bool(phonons["displace_z"])
        moves = displacements(large.u_iso, seed or 0, _OUTSIDE, pm, displace_z, large.u_aniso)
    moves[shared] = _least(small.positions - specimen.positions, specimen.cell)[partner[shared]]
    occupancy = None
    if large.occupancy is not None:
        present = present_sites(large.occupancy, large.disorder, large.disorder_group, seed or 0, _OUTSIDE, pm)
        if small.present is not None:
            present[shared] = small.present[partner[shared]]
        occupancy = present.astype(float)
    frames = (large.positions + moves)[None]
    return replace(large, frames=frames, occupancy=occupancy, disorder=None, disorder_group=None)


def _least(step: np.ndarray, cell: Sequence[float]) -> np.ndarray:
    """Displacements without the whole cell lengths that wrapping adds along x and y."""
    lengths = np.array([cell[0], cell[1], np.inf])
    return np.asarray(step - np.where(np.isfinite(lengths), lengths, 0.0) * np.round(step / lengths))
