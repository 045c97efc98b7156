"""Images of deflection and phase that the merge makes: DPC, iDPC and iCoM, Eqs. (P25) and (P26)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from stemphony.experiment.model import Experiment
from stemphony.experiment.scan_edges import repeats_of
from stemphony.physics.constants import MRAD
from stemphony.physics.integration import phase_of_deflection
from stemphony.physics.segments import segment_names
from stemphony.physics.source_size import Repeats

ICOM = "icom"
"""Name of the phase image from the centre of mass."""


def deflection_factors(experiment: Experiment) -> dict[str, float]:
    """Factor c of Eq. (P25) [rad] for each segmented detector of `experiment`, by the name of the detector.

    Detectors that do not measure the deflection along both axes are left out.
    """
    e = experiment
    factors = {
        name: detector.deflection_per_signal(e.semiangle, e.semiangle_inner) for name, detector in e.segmented.items()
    }
    return {name: factor for name, factor in factors.items() if factor}


@dataclass(frozen=True)
class PhaseImages:
    """Images that the merge makes from the images and centres of mass of the jobs.

    Each image is linear in the segments of one detector. So it is made for each job, and then averaged over the jobs
    like other images. Only `icom` is made from the averaged centre of mass, which is not the mean of the jobs' centres.

    Attributes
    ----------
    names : tuple of str
        Names of the images, in the order of `of_segments` followed by `icom`.
    integrated : bool
        Whether phases are made in addition to deflections.
    with_center_of_mass : bool
        Whether `icom` is among them.
    repeats : (int or None, int or None)
        How the scan window repeats, see `source_size.Repeats`.
    """

    names: tuple[str, ...] = ()
    integrated: bool = False
    with_center_of_mass: bool = False
    repeats: Repeats = (None, None)
    factors: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, experiment: Experiment, params: Mapping[str, Any]) -> PhaseImages:
        """Return the images that a merge with these `params` makes from the detectors of `experiment`."""
        if not experiment.adf:
            return cls()
        wanted = params.get("integrated")
        repeats = repeats_of({**params, "scan_repeats": wanted["repeats"]}) if wanted else (None, None)
        factors = deflection_factors(experiment)
        prefixes = {name: "" if len(factors) == 1 else f"{name}_" for name in factors}
        kinds = ("dpc_x", "dpc_y", "idpc") if wanted else ("dpc_x", "dpc_y")
        names = [f"{prefixes[name]}{kind}" for name in factors for kind in kinds]
        with_center = wanted is not None and experiment.center_of_mass
        return cls((*names, *([ICOM] if with_center else [])), wanted is not None, with_center, repeats, factors)

    def attributes(self) -> dict[str, tuple[str, str, str]]:
        """Units, long name and boundary conditions of each image."""
        kinds = {None: "zero slope across the edge", 0: "periodic"}
        axes = [kinds.get(repeat, "periodic, moved sideways") for repeat in self.repeats]
        boundaries = f"x: {axes[0]}; y: {axes[1]}"
        made = {}
        for name in self.names:
            if name.endswith(("dpc_x", "dpc_y")):
                made[name] = ("mrad", f"deflection along {name[-1]} that the segments show (P25)", "")
            else:
                what = "centre of mass" if name == ICOM else "deflection of the segments"
                made[name] = ("rad", f"phase from the {what}, mean zero (P26)", boundaries)
        return made

    def of_job(self, experiment: Experiment, images: np.ndarray, moments: np.ndarray) -> np.ndarray:
        """Make the images of one job.

        Parameters
        ----------
        experiment : Experiment
            Its detectors are those of the jobs.
        images : (x, y, depths, n) ndarray
            Images of `Experiment.images`, followed by the total intensity.
        moments : (x, y, depths, 2) ndarray
            Moments Σ λk I [mrad].

        Returns
        -------
        (x, y, depths, len(names)) ndarray
            Deflections [mrad] and phases [rad], in the order of `names`.
        """
        made = []
        for name, detector in experiment.segmented.items():
            if name not in self.factors:
                continue
            first = experiment.images.index(segment_names({name: detector})[0])
            segments = images[..., first : first + detector.number]
            deflection = self.factors[name] * segments @ detector.directions
            made += [deflection[..., 0] / MRAD, deflection[..., 1] / MRAD]
            if self.integrated:
                made.append(self._phase(experiment, deflection))
        if self.with_center_of_mass:
            total = images[..., -1:]
            center = np.divide(moments, total, out=np.zeros_like(moments), where=total > 0)
            made.append(self.phase_of_center(experiment, center))
        return np.stack(made, axis=-1) if made else np.empty((*images.shape[:3], 0))

    def phase_of_center(self, experiment: Experiment, center: np.ndarray) -> np.ndarray:
        """Make `icom` [rad], (x, y, depths), from the centres of mass `center` (x, y, depths, 2) [mrad].

        NaN counts as 0. `experiment` gives the wavelength and the distances of the positions.
        """
        return self._phase(experiment, np.nan_to_num(center) * MRAD)

    def _phase(self, experiment: Experiment, deflection: np.ndarray) -> np.ndarray:
        e = experiment.stored
        x, y = (axis[1] - axis[0] if len(axis) > 1 else 1.0 for axis in (e.scan_x, e.scan_y))
        return phase_of_deflection(deflection, e.wavelength, (x, y), self.repeats)


NO_PHASE_IMAGES = PhaseImages()
"""No images, for a merge that makes none."""
