"""Repeat values of the config under the names and units of STEMsalabim, for scripts that read its files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from stemphony.experiment.campaign import focal_fwhm_nm
from stemphony.experiment.model import Experiment
from stemphony.physics.constants import NM


def original_parameters(
    experiment: Experiment, blocks: Mapping[str, Mapping[str, Any]], defoci_nm: list[float]
) -> dict[str, dict[str, Any]]:
    """Attributes of the group `params` under STEMsalabim's names, by its blocks.

    Lengths are in nm, angles in mrad, energies in keV, densities in 1/nm, as in its parameter file. Keys of STEMsalabim
    without a counterpart here, such as the cut-off of potentials, are left out.

    Parameters
    ----------
    experiment : Experiment
        Grid, slices, scan and detectors of the simulation.
    blocks : mapping
        Blocks of the config. The blocks that jobs have are enough.
    defoci_nm : list of float
        Defoci of the simulation [nm].

    Returns
    -------
    dict of str to dict
        Attributes by block. A value that does not exist is None.
    """
    e = experiment
    simulation, probe = blocks.get("simulation", {}), blocks.get("probe", {})
    aberrations = probe.get("aberrations") or {}
    # The blocks that jobs have do not contain the focal spread.
    spread_nm = focal_fwhm_nm(probe) if "defocus_fwhm_nm" in probe else None
    step_x, step_y = (axis[1] - axis[0] if len(axis) > 1 else None for axis in (e.scan_x, e.scan_y))
    phonons = blocks.get("frozen_phonon", {})
    window = {axis: _pair(blocks.get("scan", {}).get(axis)) for axis in "xy"}
    averages = ("average_configurations", "average_defoci")
    return {
        "application": {"random_seed": simulation.get("random_seed")},
        "simulation": {"bandwidth_limiting": e.bandlimit < 1, "normalize_always": False, "output_compress": True},
        "probe": {
            "c5": aberrations.get("C50_nm", 0.0), "cs": aberrations.get("C30_nm", 0.0),
            "astigmatism_ca": aberrations.get("C12_nm", 0.0),
            "defocus": probe.get("defocus_nm"), "fwhm_defoci": spread_nm,
            "num_defoci": len(defoci_nm), "min_apert": probe.get("semiangle_inner_mrad"),
            "max_apert": probe.get("semiangle_mrad"), "beam_energy": probe.get("energy_kev"),
            "scan_density": None if step_x is None or step_x != step_y else NM / step_x,
        },
        "specimen": {"crystal_file": blocks.get("specimen", {}).get("file")},
        "grating": {
            "density": NM / max(e.grid.sampling), "slice_thickness": e.slice_thickness / NM,
            "nx": e.grid.gpts[0], "ny": e.grid.gpts[1],
        },
        "adf": {
            **window,
            "detector_min_angle": 1e3 * e.bins[0] if e.bins else None,
            "detector_max_angle": 1e3 * e.bins[-1] if e.bins else None,
            "detector_num_angles": len(e.bins) - 1 if e.bins else None,
            "detector_interval_exponent": blocks.get("adf", {}).get("interval_exponent"),
            **{key: blocks.get("adf", {}).get(key) for key in averages},
        },
        "cbed": {
            **(window if e.cbed_scan is None else {}),
            **{key: blocks.get("cbed", {}).get(key) for key in averages},
        },
        "frozen_phonon": {"number_configurations": _number(phonons.get("configurations"))},
    }  # fmt: skip


def with_stemsalabim_names(
    experiment: Experiment, blocks: Mapping[str, Mapping[str, Any]], defoci_nm: list[float]
) -> dict[str, dict[str, Any]]:
    """Blocks of the config, with STEMsalabim's names added. If both have a name, the config's value stays.

    The arguments are those of `original_parameters`: `experiment`, `blocks` of the config by name, and `defoci_nm`
    [nm].
    """
    original = original_parameters(experiment, blocks, defoci_nm)
    return {name: {**original.get(name, {}), **blocks.get(name, {})} for name in [*blocks, *original]}


def _number(configurations: Any) -> int | None:
    """A number of configurations; None for a goal, which STEMsalabim does not have."""
    return configurations if isinstance(configurations, int) else None


def _pair(window: Any) -> str | None:
    """A window as STEMsalabim's parameter file writes it."""
    return None if window is None else json.dumps([float(edge) for edge in window])
