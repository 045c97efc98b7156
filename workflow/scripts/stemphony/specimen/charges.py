"""Charges from a structure file, for atoms that scatter as ions, Eq. (P32)."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np

from stemphony.errors import SpecimenError
from stemphony.physics.scattering import ions
from stemphony.specimen.lattice import Floats
from stemphony.specimen.specimen import Specimen

NEUTRAL = "neutral"
FROM_FILE = "file"

IMPRECISE = ("Ba2+", "Pd2+")
"""Ions with imprecise factors: their printed coefficients are large and cancel, so three digits are too few.

f_e of Ba2+ deviates by up to 5 %, near s = 0.3 Å⁻¹, from that of ions with as many electrons. f_e of Pd2+ deviates as
much, at s = 1.5 Å⁻¹, from that of the core of the atom.
"""

NET_CHARGE = 1e-3
"""Largest net charge of a cell, as a share of the sum of all charges. It allows for rounded occupancies."""


def with_charges(file: Path, specimen: Specimen, charge: Floats | None) -> Specimen:
    """Return the specimen with the charges of its file, and with a note on the atoms that scatter as ions.

    Parameters
    ----------
    charge : (N,) array or None
        Charge of each atom [e]; NaN if the file gives none, which means neutral.

    Returns
    -------
    Specimen
        A copy with `charge` [e], (N,).

    Raises
    ------
    SpecimenError
        The file has no charges; a charge is not whole or belongs to an ion without scattering factor; or the cell has
        a net charge.
    """
    known = None if charge is None else np.nan_to_num(np.asarray(charge, dtype=float))
    if known is None or not known.any():
        raise SpecimenError(
            file,
            "no charge is read from it, but specimen.charges is file. Charges are read from a CIF: types such as Sr2+, "
            "or _atom_type_oxidation_number. Add them, or use charges: neutral.",
        )
    whole = np.rint(known).astype(np.int64)
    if (broken := np.flatnonzero(np.abs(known - whole) > 1e-6)).size:
        index = int(broken[0])
        raise SpecimenError(
            file,
            f"gives {specimen.symbols[index]} the charge {known[index]:g}; scattering factors exist for ions of whole "
            "charge. Write whole charges, or use specimen.charges: neutral.",
        )
    made = replace(specimen, charge=whole)
    _require_ions(file, made)
    share = np.ones(len(whole)) if specimen.occupancy is None else specimen.occupancy
    net = float(whole @ share)
    if abs(net) > NET_CHARGE * float(np.abs(whole) @ share):
        raise SpecimenError(
            file,
            f"has {_counted(made)}, which make a net charge of {net:+g} e in the cell. The potential of a "
            "periodic cell needs a net charge of zero. Correct the charges or the occupancies, or use "
            "specimen.charges: neutral.",
        )
    note = f"specimen.charges: the specimen has {_counted(made)}; names without a charge are neutral atoms."
    imprecise = [name for name in IMPRECISE if name in made.species]
    few = f"specimen.charges: the published factor of {', '.join(imprecise)} is precise to 5 % only."
    return replace(made, notes=(*made.notes, note, *([few] if imprecise else [])))


def _require_ions(file: Path, specimen: Specimen) -> None:
    assert specimen.charge is not None
    known = ions()
    for name in dict.fromkeys(specimen.species[specimen.charge != 0].tolist()):
        if name not in known:
            element = name.rstrip("+-0123456789")
            others = sorted(other for other in known if other.rstrip("+-0123456789") == element)
            there = f"there are {', '.join(others)}" if others else "there is no ion"
            raise SpecimenError(
                file,
                f"{name} has no scattering factor. Of {element} {there}. Write another charge (0 for neutral) into "
                "the file, or use specimen.charges: neutral.",
            )


def _counted(specimen: Specimen) -> str:
    """Numbers of the ions and atoms, such as `8 Sr2+, 24 O2-`."""
    counts = Counter(specimen.species.tolist())
    return ", ".join(f"{number} {name}" for name, number in counts.items())
