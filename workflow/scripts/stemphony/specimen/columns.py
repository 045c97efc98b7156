"""Columns with one value per atom, by the names that programs give them: U, B, occupancy, charge."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stemphony.errors import SpecimenError
from stemphony.specimen import displacements
from stemphony.specimen.lattice import Floats

# Names in small letters without _ and -, as `_plain` makes them.
U_NAMES = ("uiso", "uisoorequiv", "uequiv", "ueq", "msd", "meansquaredisplacement")  # ⟨u_x²⟩ [Å²]
B_NAMES = ("biso", "bisoorequiv", "bequiv", "beq", "bfactor", "bfactors", "debyewallerfactor", "debyewallerfactors",
           "debyewaller", "dw", "tempfactor", "temperaturefactor", "tempfactors")  # fmt: skip
TENSOR_NAMES = ("uaniso", "uij", "adp", "adps", "ucart", "anisou")
# Meanings of columns whose names are not clear. A note states the meaning that is taken.
MEANINGS = {
    **dict.fromkeys(
        ("msd", "meansquaredisplacement"),
        "⟨u_x²⟩ along one axis in Å²; if it is the sum over the three axes, divide it by 3",
    ),
    **dict.fromkeys(
        ("debyewallerfactor", "debyewallerfactors", "debyewaller", "dw", "bfactor", "bfactors", "tempfactor",
         "temperaturefactor", "tempfactors"),
        "B = 8π²⟨u_x²⟩ in Å²; if it is U, name it u_iso",
    ),
}  # fmt: skip
OCCUPANCY_NAMES = ("occupancy", "occupancies", "occ", "siteoccupancy")
CHARGE_NAMES = ("charge", "charges", "initialcharges", "q", "formalcharge")
CHARGES_NOTE = "the charges of the structure file are not used: every atom scatters as a neutral one."
ASYMMETRIC = 0.01
"""Largest difference of a tensor from its transpose, as a share of its largest element. Rounding makes less."""
# Columns that a simulation of elastic scattering does not use: motion, forces, names and drawing.
WITHOUT_MEANING = frozenset(
    [
        *("forces", "force", "velocities", "velocity", "velo", "vel", "momenta", "momentum", "masses", "mass"),
        *("energy", "energies", "localenergy", "kine", "pote", "stress", "stresses", "virial", "dipoles"),
        *("magmom", "magmoms", "initialmagmoms", "tags", "tag", "movemask", "selectivedynamics", "color", "colour"),
        *("radius", "id", "ids", "molid", "mol", "type", "types", "moltype", "atomtypes", "label", "labels", "names"),
        *("residuenames", "residuenumbers", "numbers", "positions", "species", "pos", "z", "spacegroupkinds"),
        *("coordination", "structuretype", "particleidentifier"),
    ]
)


@dataclass(frozen=True)
class Quantities:
    """Quantities of each atom from the columns of a file; None if the file has no such column.

    Attributes
    ----------
    u_iso, u_aniso : (N,), (N, 3, 3) array or None
        Mean square displacements [Å²]; NaN if a column does not give one.
    occupancy, charge : (N,) array or None
        Probability of each atom, None if all are 1, and charge [e].
    notes, used : tuple of str
        Notes for the user, and names of the columns that were used.
    """

    u_iso: Floats | None = None
    u_aniso: Floats | None = None
    occupancy: Floats | None = None
    charge: Floats | None = None
    notes: tuple[str, ...] = ()
    used: tuple[str, ...] = ()

    @property
    def changes_numbers(self) -> bool:
        """Whether a column changes the specimen that version 0.1 made. All columns except `u_iso` do."""
        return bool(set(self.used) - {"u_iso"})


def take(arrays: Mapping[str, Any], file: Path) -> Quantities:
    """Take U, B, occupancy and charge from `arrays`, columns by name. A note names columns that are not used.

    `file` is named in messages.

    Raises
    ------
    SpecimenError
        The shape or the values of a column do not fit its name.
    """
    found: dict[str, Any] = {}
    names: dict[str, str] = {}
    used: list[str] = []
    unused: list[str] = []
    for name, values in arrays.items():
        plain = _plain(name)
        kind = _kind(plain)
        if kind is None:
            if plain not in WITHOUT_MEANING:
                unused.append(name)
            continue
        if kind in found:
            unused.append(name)
            continue
        found[kind] = _checked(file, name, kind, values)
        names[kind] = name
        if kind == "occupancy" and (found[kind] == 1).all():
            found[kind] = None
        elif kind != "charge":
            used.append(name)
    u_iso = found.get("u")
    if found.get("b") is not None:
        b = displacements.from_b(found["b"])
        if u_iso is not None and np.isfinite(u_iso).all():
            used.remove(names["b"])
            unused.append(names["b"])
        u_iso = b if u_iso is None else np.where(np.isfinite(u_iso), u_iso, b)
    if found.get("tensor") is not None:
        mean = displacements.equivalent(found["tensor"])
        u_iso = mean if u_iso is None else np.where(np.isfinite(mean), mean, u_iso)
    notes = [f"columns that are not used: {', '.join(unused)}"] if unused else []
    notes += [f"column {name} is taken for {MEANINGS[_plain(name)]}" for name in used if _plain(name) in MEANINGS]
    return Quantities(
        u_iso, found.get("tensor"), found.get("occupancy"), found.get("charge"), tuple(notes), tuple(used)
    )


def is_without_meaning(name: str) -> bool:
    """Whether a column of this name means nothing for a simulation of elastic scattering."""
    return _plain(name) in WITHOUT_MEANING


def has_meaning(name: str) -> bool:
    """Whether a column of this name gives U, occupancy or charge."""
    return _kind(_plain(name)) is not None


def _plain(name: str) -> str:
    return name.lower().replace("_", "").replace("-", "").replace(" ", "")


def _kind(plain: str) -> str | None:
    for kind, names in (
        ("u", U_NAMES), ("b", B_NAMES), ("tensor", TENSOR_NAMES), ("occupancy", OCCUPANCY_NAMES),
        ("charge", CHARGE_NAMES),
    ):  # fmt: skip
        if plain in names:
            return kind
    return None


def _checked(file: Path, name: str, kind: str, values: Any) -> Floats:
    try:
        numbers = np.array(values, dtype=np.float64)
    except (TypeError, ValueError):
        numbers = np.empty(0)
    if kind == "tensor":
        if numbers.ndim == 2 and numbers.shape[1] == 9:
            return _symmetric(file, name, numbers.reshape(-1, 3, 3))
        if numbers.ndim == 2 and numbers.shape[1] == 6:
            return displacements.symmetric(*numbers.T)
        raise SpecimenError(
            file,
            f"column {name}: six numbers (U11 U22 U33 U12 U13 U23) or nine per atom are expected, Cartesian in Å². "
            f"Declare it as {name}:R:6 in Properties.",
        )
    if numbers.ndim != 1 or len(numbers) != len(values):
        raise SpecimenError(
            file,
            f"column {name}: one number per atom{' (Å²)' if kind in 'ub' else ''} is expected. Declare it as "
            f"{name}:R:1 in Properties.",
        )
    if kind == "occupancy" and not ((numbers >= 0) & (numbers <= 1)).all():
        first = int(np.flatnonzero(~((numbers >= 0) & (numbers <= 1)))[0])
        raise SpecimenError(
            file,
            f"column {name}: atom {first} (counted from 0) has an occupancy of {numbers[first]:g}; 0 to 1 is allowed. "
            "Correct it.",
        )
    return numbers


def _symmetric(file: Path, name: str, tensors: Floats) -> Floats:
    """Tensors of nine numbers; a SpecimenError if a tensor is not symmetric within its rounding."""
    apart = np.abs(tensors - tensors.transpose(0, 2, 1)).max(axis=(1, 2))
    bad = np.flatnonzero(apart > ASYMMETRIC * np.abs(tensors).max(axis=(1, 2)))
    if len(bad):
        raise SpecimenError(
            file,
            f"column {name}: the tensor of atom {bad[0]} (counted from 0) is not symmetric: elements that should be "
            f"equal differ by {apart[bad[0]]:.3g} Å². Correct it, or write six numbers (U11 U22 U33 U12 U13 U23).",
        )
    return tensors
