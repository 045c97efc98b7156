"""Atoms at rest of a merged result, and how its scan window repeats with them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemphony.experiment.scan_edges import OPEN, is_whole_cell, window_repeats
from stemphony.physics.constants import NM
from stemphony.physics.source_size import Repeats
from stemphony.results.layout import read_texts
from stemphony.specimen.specimen import Specimen
from stemphony.specimen.translations import Translations

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class RestAtoms:
    """Atoms at rest in the cell of the specimen; lengths in nm.

    Attributes
    ----------
    symbols, positions_nm : (N,), (N, 3) array
        Elements and positions.
    cell_nm : (3,) array
        Lengths of the cell.
    msd_nm2 : (N,) array
        Mean square displacement of each atom along one axis.
    msd_tensor_nm2 : (N, 3, 3) array or None
        The same as tensors, NaN for atoms that move isotropically.
    radius_nm : (N,) array
        Covalent radii.
    occupancy : (N,) array or None
        Probability that a site holds its atom.
    scan : mapping
        Block `scan` of the config.
    is_crystal : bool
        Whether the specimen repeats as these atoms do: there are no snapshots and no amorphous films.
    """

    symbols: NDArray[np.str_]
    positions_nm: Floats
    cell_nm: Floats
    msd_nm2: Floats
    msd_tensor_nm2: Floats | None
    radius_nm: Floats
    occupancy: Floats | None
    scan: dict[str, Any]
    is_crystal: bool

    @property
    def elements(self) -> list[str]:
        """The elements, in the order of the atoms."""
        return list(dict.fromkeys(self.symbols.tolist()))

    @classmethod
    def of(cls, root: Any) -> RestAtoms | None:
        """Read the atoms from `root`, an open result; None if it does not hold the atoms at rest."""
        amber = root.groups.get("AMBER")
        if amber is None or not ({"lattice_coordinates", "coordinates"} & amber.variables.keys()):
            return None
        name = "lattice_coordinates" if "lattice_coordinates" in amber.variables else "coordinates"
        if name == "coordinates" and int(getattr(amber, "displaced", 1)):
            return None
        # If occupancies are drawn, a frame has 0 for a vacant site. At least one frame has the element.
        names = np.array(read_texts(amber["atom_types"]))
        params, variables = root["params"], amber.variables
        frozen, specimen = (_values(params.groups[block]) for block in ("frozen_phonon", "specimen"))
        return cls(
            symbols=names[np.max(np.asarray(amber["element"][:]), axis=0)],
            positions_nm=np.asarray(amber[name][0], dtype=float),
            cell_nm=np.asarray(amber["cell_lengths"][0], dtype=float),
            msd_nm2=np.asarray(amber["msd"][0], dtype=float),
            msd_tensor_nm2=_tensors(amber["msd_tensor"][:]) if "msd_tensor" in variables else None,
            radius_nm=np.asarray(amber["radius"][0], dtype=float),
            occupancy=np.asarray(amber["occupancy"][:], dtype=float) if "occupancy" in variables else None,
            scan=_values(params.groups["scan"]),
            is_crystal=not (frozen.get("snapshots") or specimen.get("amorphous_layers")),
        )

    @cached_property
    def repeats(self) -> Repeats:
        """How the scan window repeats with the atoms, see `physics.source_size.Repeats`."""
        if not self.is_crystal:
            x, y = (0 if is_whole_cell(self.scan, axis) else None for axis in (0, 1))
            return x, y
        lengths = (float(self.cell_nm[0] * NM), float(self.cell_nm[1] * NM))
        return window_repeats(self.scan, lengths, lambda: Translations(self._specimen))

    @property
    def _specimen(self) -> Specimen:
        cell = [float(length) * NM for length in self.cell_nm]
        return Specimen(
            symbols=self.symbols,
            positions=self.positions_nm * NM,
            cell=(cell[0], cell[1], cell[2]),
            u_iso=self.msd_nm2 * NM**2,
            slice_id=None,
            u_aniso=None if self.msd_tensor_nm2 is None else self.msd_tensor_nm2 * NM**2,
            format="result",
            occupancy=self.occupancy,
        )


def repeats_in(root: Any, atoms: RestAtoms | None) -> Repeats:
    """How the scan window of the open result `root` repeats with its `atoms` at rest, see `source_size.Repeats`.

    If `atoms` is None, this is known only for the whole cell.
    """
    scan = _values(root["params"].groups["scan"])
    if scan["line"] is not None or scan["positions"] is not None:
        return OPEN
    if atoms is not None:
        return atoms.repeats
    x, y = (0 if is_whole_cell(scan, axis) else None for axis in (0, 1))
    return x, y


def _tensors(upper: Any) -> Floats:
    """Symmetric tensors (N, 3, 3) from their components xx, yy, zz, yz, xz, xy (N, 6)."""
    return np.asarray(upper, dtype=float)[:, [[0, 5, 4], [5, 1, 3], [4, 3, 2]]]


_SCAN_DEFAULTS: dict[str, Any] = {
    "unit": "cell", "origin": [0.0, 0.0], "line": None, "positions": None, "points": None, "step_angstrom": None,
}  # fmt: skip
"""Values of keys that a result does not hold, because they are null or did not exist when it was written."""


def _values(group: Any) -> dict[str, Any]:
    """Values of a block of the config, from the attributes of its group. Lists and mappings are stored as JSON text."""
    found: dict[str, Any] = dict(_SCAN_DEFAULTS) if group.name == "scan" else {}
    for key in group.ncattrs():
        value = group.getncattr(key)
        is_json = isinstance(value, str) and value[:1] in "[{"
        found[key] = json.loads(value) if is_json else value
    return found
