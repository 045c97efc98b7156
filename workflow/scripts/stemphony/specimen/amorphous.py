"""Amorphous films on the faces of a specimen: contamination, and support films."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from stemphony.errors import SpecimenError
from stemphony.physics.constants import NM
from stemphony.physics.random_film import ADDITION, FILM, Film, film_positions, packing
from stemphony.specimen.joint_sites import CLOSEST
from stemphony.specimen.lattice import Floats
from stemphony.specimen.structure import Structure, appended

AVOGADRO_PER_CUBIC_ANGSTROM = 0.602214076
"""Atoms per Å³ of a substance of 1 g/cm³ and 1 g/mol."""

BOND_SHARE = 1.9
"""Smallest distance of the atoms of a film, in covalent radii of its smallest element. It is nearly the length of a
bond: 1.44 Å for carbon."""

PACKING = 0.25
"""Largest packing fraction (π/6)·n·d³ if the config gives no distance d. d is then reduced to meet this limit. Films up
to 0.5 are possible."""


def _thicknesses(layers: Mapping[str, Any] | None) -> tuple[float, float]:
    """Thickness of the films at the entrance and at the exit [Å]."""
    if layers is None:
        return 0.0, 0.0
    return NM * float(layers["entrance_nm"]), NM * float(layers["exit_nm"])


def with_films(
    file: Path, block: Structure, layers: Mapping[str, Any] | None
) -> tuple[Structure, tuple[Film, ...], str]:
    """Return a crystal with films on its faces, the films, and a line of the plan.

    The crystal moves behind the entrance film. The number of formula units is n = ρ V N_A / M, rounded.
    `film_positions` draws the positions, and keeps them away from the atoms of the crystal too.

    The film has the density and a smallest distance, but no bonds and no short-range order. Random carbon scatters more
    strongly at low angles than a relaxed network of bonds. So these films show the background and the blur that a film
    adds, but not the structure of the film. Source: Ricolleau et al., J. Appl. Phys. 114 (2013) 213504.

    Parameters
    ----------
    file : Path
        Structure file, for messages.
    block : Structure
        In an orthogonal cell without vacuum.
    layers : mapping or None
        The config's `specimen.amorphous_layers`.

    Returns
    -------
    (Structure, tuple of Film, str)
        Lengths in Å. Without films, the crystal itself, no film and an empty line.

    Raises
    ------
    SpecimenError
        There is no formula or two, or an element is unknown. Or a film has no atom, or is too dense for its smallest
        distance.
    """
    entrance, behind = _thicknesses(layers)
    if layers is None or entrance + behind == 0:
        return block, (), ""
    counts = _formula(file, layers)
    lx, ly, lz = np.diagonal(block.cell) + np.array([0.0, 0.0, entrance + behind])
    crystal = block.positions + np.array([0.0, 0.0, entrance])
    density = float(layers["density_g_cm3"])
    units_per_volume = density * AVOGADRO_PER_CUBIC_ANGSTROM / _mass(counts)
    number_density = units_per_volume * sum(counts.values())
    distance = layers.get("minimum_distance_angstrom") or _distance(counts, number_density)
    random = np.random.Generator(np.random.PCG64(np.random.SeedSequence([layers["seed"], FILM])))
    symbols: list[str] = []
    positions = np.empty((0, 3))
    films, dense = [], False
    for name, bottom, top in (("entrance", 0.0, entrance), ("exit", lz - behind, lz)):
        if top - bottom <= 0:
            continue
        own = _atoms(file, name, counts, units_per_volume * lx * ly * (top - bottom), top - bottom)
        others = np.concatenate([crystal, positions])
        new = _places(file, name, random, len(own), (lx, ly), bottom, top, distance, others)
        begin = len(crystal) + len(symbols)
        redrawn = layers["draw"] == "configuration"
        films.append(Film(float(bottom), float(top), begin, begin + len(own), distance, redrawn, float(lx), float(ly)))
        symbols += own
        positions = np.concatenate([positions, new])
        dense = dense or packing(len(own), (lx, ly), bottom, top, distance) > ADDITION
    # Earlier readers made dense films by random addition, with other positions.
    revision = max(3, block.revision) if dense else block.revision
    whole = appended(replace(block, positions=crystal, revision=revision), symbols, positions, np.diag([lx, ly, lz]))
    return whole, tuple(films), _line(layers, counts, distance)


def _atoms(file: Path, name: str, counts: Mapping[str, int], units: float, thickness: float) -> list[str]:
    """Symbols of the atoms of a film with this number of formula units, rounded."""
    if round(units) == 0:
        raise SpecimenError(
            file,
            f"`specimen.amorphous_layers`: {name}_nm of {thickness / NM:g} holds no atom at this density. Use a "
            "thicker film, or 0 for none.",
        )
    return [symbol for symbol, n in counts.items() for _ in range(n * round(units))]


def _places(
    file: Path,
    name: str,
    random: np.random.Generator,
    number: int,
    cell: tuple[float, float],
    bottom: float,
    top: float,
    distance: float,
    others: Floats,
) -> Floats:
    """Return what `film_positions` returns. Its error becomes a SpecimenError that names the film."""
    try:
        return film_positions(random, number, cell, bottom, top, distance, others)
    except ValueError as error:
        raise SpecimenError(
            file,
            f"`specimen.amorphous_layers`: {error} in the {name} film with a smallest distance of {distance:.3g} Å."
            " Use a smaller minimum_distance_angstrom or density_g_cm3.",
        ) from None


def _formula(file: Path, layers: Mapping[str, Any]) -> dict[str, int]:
    from ase.formula import Formula

    given = [layers.get(key) for key in ("element", "formula") if layers.get(key) is not None]
    where = "`specimen.amorphous_layers`"
    if len(given) != 1:
        raise SpecimenError(file, f"{where} needs one of `element` and `formula`, such as `element: C`.")
    try:
        counts = dict(Formula(str(given[0])).count())
        if not counts or min(counts.values()) < 1:
            raise ValueError
        _mass(counts)
    except (ValueError, KeyError):
        raise SpecimenError(
            file, f"{where}: {given[0]!r} is no formula. Write element symbols, such as SiO2."
        ) from None
    return counts


def _mass(counts: Mapping[str, int]) -> float:
    """Mass of one formula unit [g/mol]."""
    from ase.data import atomic_masses, atomic_numbers

    if any(atomic_numbers[symbol] < 1 for symbol in counts):
        raise KeyError("X")
    return float(sum(n * atomic_masses[atomic_numbers[symbol]] for symbol, n in counts.items()))


def _distance(counts: Mapping[str, int], number_density: float) -> float:
    """Smallest distance [Å] if the config gives none."""
    from ase.data import atomic_numbers, covalent_radii

    bond = BOND_SHARE * min(float(covalent_radii[atomic_numbers[symbol]]) for symbol in counts)
    bond = max(bond, CLOSEST)  # that of hydrogen is 0.59 Å; atoms nearer than CLOSEST are refused as doubled atoms
    return float(min(bond, (PACKING * 6 / (math.pi * number_density)) ** (1 / 3)))


def _line(layers: Mapping[str, Any], counts: Mapping[str, int], distance: float) -> str:
    entrance, behind = layers["entrance_nm"], layers["exit_nm"]
    name = "".join(f"{symbol}{n if n > 1 else ''}" for symbol, n in counts.items())
    drawn = "each configuration" if layers["draw"] == "configuration" else f"once, seed {layers['seed']}"
    return (
        f"{name} of {layers['density_g_cm3']:g} g/cm³, {entrance:g} nm at the entrance, {behind:g} nm at the exit; "
        f"random, no distance below {distance:.3g} Å, drawn {drawn}"
    )
