"""The atoms of one frozen-phonon configuration, from the params of a job and its specimen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from stemphony.compute.atoms import Atoms, Occupancies, draw_atoms
from stemphony.experiment.model import Experiment
from stemphony.paths import defocus_pm
from stemphony.physics.phonons import generator
from stemphony.physics.plasmons import PLASMONS

if TYPE_CHECKING:
    from stemphony.specimen.specimen import Specimen


def with_losses(experiment: Experiment, params: Mapping[str, Any], seed: int | None, configuration: int) -> Experiment:
    """Return the experiment with the energy losses that a configuration draws, Eq. (P33); without plasmons unchanged.

    Parameters
    ----------
    experiment : Experiment
    params : mapping
        Params of the job.
    seed : int or None
        Seed in use.
    configuration : int
        Index of the configuration.

    Returns
    -------
    Experiment
        A copy with the drawn `trajectories`, or the experiment itself.
    """
    if experiment.plasmons is None:
        return experiment
    own_defocus = bool(params["frozen_phonon"]["independent_defoci"])
    pm = defocus_pm(params["defocus_nm"]) if own_defocus else None
    random = generator(seed or 0, configuration, pm, PLASMONS)
    return replace(experiment, trajectories=experiment.plasmons.trajectories(random))


def configuration_atoms(
    params: Mapping[str, Any],
    seed: int | None,
    configuration: int,
    experiment: Experiment,
    specimen: Specimen,
    u_scale: float = 1.0,
) -> Atoms:
    """Displace the atoms of a configuration, or take them from its snapshot.

    Parameters
    ----------
    params : mapping
        Params of the job.
    seed : int or None
        Seed in use; None if nothing is drawn.
    configuration : int
        Index of the configuration.
    experiment : Experiment
    specimen : Specimen
    u_scale : float
        Factor on all mean square displacements. The random numbers stay the same.

    Returns
    -------
    Atoms
        Atoms of one configuration, with positions [Å] and numbers of slices.
    """
    phonons = params["frozen_phonon"]
    return draw_atoms(
        experiment,
        specimen.species,
        specimen.positions,
        u_scale * specimen.u_iso,
        frame=None if specimen.frames is None or not phonons["enabled"] else specimen.frames[configuration],
        displaced=seed is not None and phonons["enabled"],
        random_seed=seed or 0,
        configuration=configuration,
        defocus_nm=params["defocus_nm"] if phonons["independent_defoci"] else None,
        displace_z=bool(phonons["displace_z"]),
        fixed_slicing=phonons["fixed_slicing"],
        films=specimen.films,
        heights=None if specimen.frames is None else specimen.layers.heights,
        slice_id=specimen.slice_id,
        u_aniso=None if specimen.u_aniso is None else u_scale * specimen.u_aniso,
        occupancies=None
        if specimen.occupancy is None
        else Occupancies(specimen.occupancy, specimen.disorder, specimen.disorder_group),
    )
