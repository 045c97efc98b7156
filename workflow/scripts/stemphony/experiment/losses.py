"""The block `plasmon_scattering` of the config in internal units, and its note for the plan."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from stemphony.errors import ConfigError
from stemphony.physics.constants import MRAD, NM
from stemphony.physics.periods import Layers
from stemphony.physics.plasmons import Plasmons
from stemphony.physics.slicing import Slices

BLOCK = "plasmon_scattering"
"""Name of the block of the config."""

MOST_MEAN_FREE_PATHS = 20.0
"""Largest thickness in mean free paths. At this thickness, only 2e-9 of the electrons are left without a loss."""


def job_block(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the block `plasmon_scattering` of `config` for the params of a job.

    The result is empty if the block changes no number.
    """
    block = config.get(BLOCK, {})
    return dict(block) if block.get("enabled") else {}


def plasmons_of(block: Mapping[str, Any], beam_energy: float, layers: Layers, slices: Slices) -> Plasmons | None:
    """Convert the block; None if plasmons are off.

    Parameters
    ----------
    block : mapping
        The block, in config units.
    beam_energy : float
        Energy of the beam [eV].
    layers : Layers
        The undisplaced atoms. In a slab with vacuum, plasmons are excited from the first plane to behind the last one.
        In a cell without vacuum, they are excited everywhere.
    slices : Slices

    Returns
    -------
    Plasmons or None
        Lengths in Å, energies in eV, angles in rad.
    """
    if not block.get("enabled"):
        return None
    # ASSUME: one mean free path holds between two flat surfaces, also in vacuum beside or inside the specimen.
    top, bottom = 0.0, slices.depths[-1]
    if not layers.heights.size:
        bottom = 0.0
    elif layers.periods.slab:
        top = max(top, float(layers.heights.min()))
        bottom = min(bottom, float(layers.heights.max()) + layers.periods.spacing)
    _require_thin(block["mean_free_path_nm"], (bottom - top) / NM)
    cutoff = block["cutoff_mrad"]
    return Plasmons(
        beam_energy, top, bottom,
        mean_free_path=block["mean_free_path_nm"] * NM,
        plasmon_energy=block["plasmon_energy_ev"],
        width=block["plasmon_fwhm_ev"] or 1.0,  # not used in simple mode
        max_energy=block["max_energy_ev"],
        density=block["energy_grid_density_per_ev"],
        plural=block["plural_scattering"],
        simple=block["simple_mode"],
        cutoff=None if cutoff is None else cutoff * MRAD,
        draws=block["draws"],
    )  # fmt: skip


def _require_thin(mean_free_path_nm: float, thickness_nm: float) -> None:
    """Refuse a mean free path that leaves almost no electron without a loss. Its unit is probably wrong."""
    if thickness_nm > MOST_MEAN_FREE_PATHS * mean_free_path_nm:
        raise ConfigError(
            f"{BLOCK}.mean_free_path_nm",
            f"got {mean_free_path_nm:g} nm; {thickness_nm:.4g} nm of material are then "
            f"{thickness_nm / mean_free_path_nm:.3g} mean free paths, and allowed are {MOST_MEAN_FREE_PATHS:g}. "
            "Silicon at 200 kV has 128 nm. Check the unit, or use a thinner specimen.",
        )


def plan_note(plasmons: Plasmons) -> str:
    """Return a note on the energy losses that `plasmons` cause.

    It says how many electrons lose energy, how much they lose, and how many waves this needs.
    """
    mean = (plasmons.bottom - plasmons.top) / plasmons.mean_free_path
    shares = [math.exp(-mean) * mean**n / math.factorial(n) for n in range(100)]
    more = f", {100 * max(0.0, 1 - shares[0] - shares[1]):.2g} % more" if plasmons.plural else ""
    one = shares[1] if plasmons.plural else 1 - shares[0]
    text = (
        f"plasmon_scattering: {(plasmons.bottom - plasmons.top) / NM:.4g} nm of material are {mean:.3g} mean free "
        f"paths. {100 * shares[0]:.3g} % of the electrons lose nothing, {100 * one:.3g} % excite one plasmon{more}. "
        f"Signals have {len(plasmons.energies)} energy losses up to {plasmons.energies[-1]:g} eV, and each wave "
        f"becomes {plasmons.waves} waves."
    )
    inside = math.floor(plasmons.energies[-1] / plasmons.plasmon_energy)
    beyond = max(0.0, 1 - sum(shares[: inside + 1])) if plasmons.plural else 0.0
    if beyond > 1e-3:
        text += (
            f" About {100 * beyond:.2g} % lose more than max_energy_ev; the last entry of the energy axis counts them."
        )
    return text
