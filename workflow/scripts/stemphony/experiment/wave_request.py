"""The waves that a job stores: the block `waves` and `probe.plane_wave`, in internal units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stemphony.experiment.scan import Pair, places_of

WHERE_EXIT, WHERE_COLUMNS = "waves.exit", "waves.columns"
"""Keys of the config that errors name."""


@dataclass(frozen=True)
class WaveRequest:
    """The exit waves of a job, Eqs. (P30) and (P31).

    Attributes
    ----------
    places : tuple of (float, float)
        Positions of the probe [Å]. A plane wave has one position, whose value does not matter.
    plane : bool
        Whether the incident wave is a plane wave.
    depth_profile : bool
        Whether the intensity along the depth is stored.
    columns : tuple of (float, float)
        Middles of the columns whose intensity is followed [Å]; empty without a depth profile.
    radius : float
        Radius of these columns [Å].
    """

    places: tuple[Pair, ...]
    plane: bool = False
    depth_profile: bool = False
    columns: tuple[Pair, ...] = ()
    radius: float = 0.0

    @classmethod
    def of(cls, blocks: Mapping[str, Any], lengths: Sequence[float]) -> WaveRequest | None:
        """Make the request of a job; None without exit waves.

        `blocks` are validated blocks of the config, by name, and `lengths` are the lengths of the cell along x and y
        [Å].

        Raises
        ------
        ConfigError
            A position lies far outside the cell.
        """
        if blocks["probe"].get("plane_wave"):
            return cls(((0.0, 0.0),), plane=True)
        block, scan = blocks.get("waves", {}), blocks["scan"]
        if not block.get("exit"):
            return None
        places = places_of(WHERE_EXIT, scan, block["exit"], lengths)
        if not block["depth_profile"]:
            return cls(places)
        columns = block["columns"]
        middles = places if columns is None else places_of(WHERE_COLUMNS, scan, columns, lengths)
        return cls(places, False, True, middles, float(block["column_radius_angstrom"]))


def job_block(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keys of the block `waves` of `config` that decide the numbers of a job; empty without exit waves."""
    block = config.get("waves", {})
    if not block.get("exit"):
        return {}
    keys = ("exit", "depth_profile", *(("columns", "column_radius_angstrom") if block["depth_profile"] else ()))
    return {key: block[key] for key in keys}


def merge_block(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the params of the merge for the group `waves`, from a validated `config`; empty without waves.

    Defoci are never averaged, because the mean wave of a focal spread is no wave of the microscope.
    """
    block = config.get("waves", {})
    if not (block.get("probe") or block.get("exit") or config["probe"].get("plane_wave")):
        return {}
    return {
        "probe": bool(block.get("probe")),
        "average_configurations": bool(block.get("average_configurations", True)),
        "average_defoci": False,
    }
