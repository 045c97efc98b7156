"""A real result whose deflections are known: a probe beside one atom is bent towards it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from stemphony.compute.atoms import Atoms
from stemphony.compute.recorder import JobSignals
from stemphony.compute.simulation import simulate
from stemphony.experiment.model import Experiment
from stemphony.paths import ResultPaths
from stemphony.specimen.specimen import Specimen

from support.experiments import FakeCampaign, planned

ATOM = (4.0, 4.625, 1.0)
"""Place of the atom [Å], on a point of the grid.

The numbers of positions along x and y differ, so a swap of axes is seen."""


@dataclass
class OneAtom(FakeCampaign):
    """A campaign of one strontium atom in vacuum, with patterns and centres of mass of real jobs."""

    @classmethod
    def in_folder(cls, folder: Path, is_square: bool = False) -> OneAtom:
        """Compute it; the scan has three positions along x and five along y around the atom, 0.8 Å apart.

        The lengths of the cell, and so the pixels of the patterns, differ along x and y, unless `is_square`.
        """
        cell = (8.0, 8.0, 4.0) if is_square else (8.0, 10.0, 4.0)
        campaign = planned(
            probe={"semiangle_mrad": 25.0, "defocus_nm": 0.0, "energy_kev": 100.0},
            scan={"x": [0.4, 0.7], "y": [3.025 / cell[1], 7.025 / cell[1]], "points": [3, 5]},
            grating={"gpts": [64, round(8 * cell[1])], "slice_thickness_angstrom": 4.0},
            adf={"center_of_mass": True, "max_mrad": 90.0, "detectors": {"bf": [0.0, 20.0], "haadf": [60.0, 90.0]}},
            cbed={"enabled": True, "max_mrad": 60.0},
            frozen_phonon={"enabled": False},
        )
        specimen = Specimen(np.array(["Sr"]), np.array([ATOM]), cell, np.zeros(1), None, "ase")
        made = cls(
            replace(campaign), Experiment.of(campaign.common_params, cell, None), specimen,
            ResultPaths(folder / "one_atom"),
        )  # fmt: skip
        for pair in made.pairs:
            made.write(*pair)
        made.merge()
        return made

    def signals(self, defocus: str, configuration: int) -> JobSignals:
        """The signals of the real job."""
        atoms = Atoms(self.specimen.symbols, self.specimen.positions, self.table.slice_index)
        return simulate(
            self.experiment.computed, atoms, 0.0, threads=1, flag="FFTW_ESTIMATE", on_progress=lambda done, total: None
        )


def check_deflections(com_x: np.ndarray, com_y: np.ndarray, x_nm: np.ndarray, y_nm: np.ndarray) -> None:
    """Check that electrons are attracted by the atom: com_x and com_y [mrad] (nx, ny) point to it.

    For the force of a round atom the deflection is along the line to the atom, and zero at the atom.
    """
    assert com_x.shape == (3, 5), com_x.shape
    to_x = ATOM[0] / 10 - x_nm[:, None] + 0 * y_nm
    to_y = ATOM[1] / 10 - y_nm + 0 * x_nm[:, None]
    far_x, far_y = np.abs(to_x) > 0.01, np.abs(to_y) > 0.01
    assert far_x.sum() == 10
    assert (com_x * to_x)[far_x].min() > 0
    assert (com_y * to_y)[far_y].min() > 0
    assert np.abs(com_x[~far_x]).max() < 0.02 * np.abs(com_x).max()
    assert np.abs(com_y[~far_y]).max() < 0.02 * np.abs(com_y).max()
    assert np.abs(com_x).max() > 0.5  # mrad
