"""Compute one variant of an error budget: the signals of its positions, with one choice of the config changed."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from stemphony.accuracy.atoms import ATTRIBUTE, CONFIGURATION, seed_of
from stemphony.accuracy.refinements import U_CHANGE, Fixed
from stemphony.compute.atoms import Atoms, draw_atoms
from stemphony.compute.configuration import configuration_atoms
from stemphony.compute.simulation import simulate
from stemphony.errors import SpecimenError
from stemphony.experiment.model import Experiment
from stemphony.physics.constants import MRAD, NM
from stemphony.specimen.specimen import Specimen
from stemphony.specimen.specimen_file import read_attributes, read_specimen_file

PLANNING = "FFTW_ESTIMATE"
"""Planner flag of the FFTs. Each variant has its own grid, and measured plans take longer than they save for a few
waves."""


def run_variant(params: Mapping[str, Any], specimen_file: Path, larger_file: Path, threads: int) -> dict[str, Any]:
    """Compute the signals of a variant.

    Parameters
    ----------
    params : mapping
        Params of the rule: `variant`, and those of prepare_accuracy.
    specimen_file, larger_file : Path
        Files of prepare_accuracy.
    threads : int
        Threads that compute the waves.

    Returns
    -------
    dict
        Record of the variant: its numerical choices, and `signals` by detector, depth and position, as fractions of the
        incident intensity. If there is no larger cell for the variant `cell`, only the name and the reason.

    Raises
    ------
    ConfigError, SpecimenError
        The choice cannot be refined; the text says why.
    """
    began = time.process_time()
    variant, common = params["variant"], params["common"]
    specimen = read_specimen_file(specimen_file)
    prepared = json.loads(read_attributes(specimen_file)[ATTRIBUTE])
    reference = Experiment.of(common, specimen.cell, specimen.layers).stored
    places = [(x, y) for x, y in prepared["places"]]
    others = [(x, y) for x, y in prepared["others"]]
    fixed = Fixed(common, reference, specimen.layers.periods, places, others)
    if variant == "cell":
        if reason := json.loads(read_attributes(larger_file)[ATTRIBUTE])["reason"]:
            return {"variant": variant, "reason": reason}
        experiment, atoms = _in_larger_cell(fixed, larger_file, specimen)
    else:
        experiment = Experiment.of(fixed.blocks(variant), specimen.cell, specimen.layers)
        scale = {"u_more": 1 + U_CHANGE, "u_less": 1 - U_CHANGE}.get(variant, 1.0)
        job = {**common, "defocus_nm": params["defocus_nm"]}
        atoms = configuration_atoms(job, seed_of(common), CONFIGURATION, experiment, specimen, scale)
    # Angles that are converted to mrad and back may differ in the last bit, which moves pixels over a hard edge.
    # ASSUME: numerical choices change signals with plasmons as they change those of elastic scattering.
    experiment = replace(experiment, rings=reference.rings, plasmons=None)
    signals = simulate(
        experiment, atoms.occupied(), params["defocus_nm"], threads=threads, flag=PLANNING,
        on_progress=lambda done, total: None,
    )  # fmt: skip
    measured = signals.rings.reshape(-1, *signals.rings.shape[2:])[: len(places)]
    return {
        "variant": variant,
        "reason": "",
        "places_angstrom": [list(place) for place in places],
        "depths_nm": [depth / NM for depth in experiment.depths],
        "detectors": {name: [inner / MRAD, outer / MRAD] for name, (inner, outer) in experiment.rings.items()},
        "signals": {
            name: np.moveaxis(measured[..., index], 0, 1).tolist() for index, name in enumerate(experiment.rings)
        },
        "choices": _choices(experiment),
        "cpu_seconds": time.process_time() - began,
    }


def _in_larger_cell(fixed: Fixed, file: Path, specimen: Specimen) -> tuple[Experiment, Atoms]:
    """The experiment and the atoms in the larger cell."""
    large = read_specimen_file(file)
    assert large.frames is not None
    at_rest = replace(large, frames=None)
    repeats = large.cell[0] / specimen.cell[0], large.cell[1] / specimen.cell[1]
    experiment = Experiment.of(fixed.blocks("cell", repeats), large.cell, at_rest.layers)
    own = fixed.experiment.slicing
    if not np.allclose(experiment.slicing.faces, own.faces) or not np.allclose(experiment.slicing.edges, own.edges):
        raise SpecimenError("in a larger cell", "the slices differ, so the change would not be that of the cell alone.")
    atoms = draw_atoms(
        experiment, large.species, large.positions, large.u_iso, frame=large.frames[0], displaced=False,
        random_seed=0, configuration=0, defocus_nm=None, displace_z=False,
        fixed_slicing=fixed.common["frozen_phonon"]["fixed_slicing"], slice_id=large.slice_id,
    )  # fmt: skip
    return experiment, replace(atoms, present=None if large.occupancy is None else large.occupancy > 0.5)


def _choices(e: Experiment) -> dict[str, Any]:
    """The numerical choices of an experiment, for the table and the extrapolation."""
    return {
        "gpts": list(e.grid.gpts),
        "extent_angstrom": list(e.grid.extent),
        "spacing_angstrom": max(e.grid.sampling),
        "slices": e.slices,
        "slice_angstrom": e.slice_thickness,
        "band_limit_mrad": e.band_limit_angle / MRAD,
        "potential_oversampling": e.potential_oversampling,
        "parametrization": e.parametrization,
        "precision": e.precision,
        "algorithm": e.algorithm,
        "basis_tolerance": e.basis_tolerance,
    }
