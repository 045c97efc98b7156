"""Numbers of a crystal that quickly show a wrong file: composition, density, shortest distance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stemphony.errors import SpecimenError
from stemphony.physics.constants import GRAM_PER_CM3
from stemphony.specimen.joint_sites import CLOSEST, close_pairs, exclusive
from stemphony.specimen.lattice import Floats
from stemphony.specimen.specimen import Specimen
from stemphony.specimen.structure import Structure

DENSEST = 25.0
"""Largest possible density [g/cm³]. Osmium, the densest element, has 22.6. A larger density means a wrong unit, a wrong
cell or doubled atoms."""

THINNEST = 0.5
"""Smallest density of a solid without a note [g/cm³]. Lithium, the lightest metal, has 0.53. A smaller density means a
wrong unit or large gaps."""

GAP = 3.0
"""Largest width [Å] with which an empty layer across the cell counts in the density without gaps."""

LONGEST = 6.0
"""Distance [Å] that neighbours in solids never reach. The largest is 5.3 Å, in caesium."""

_NEIGHBOURHOOD = 8.0
"""Smallest period [Å] of the cell in which distances are searched. A periodic tree finds only one image of each atom,
so narrower cells are repeated."""


@dataclass(frozen=True)
class Crystal:
    """Numbers of a specimen that the plan shows.

    Attributes
    ----------
    atoms : mapping
        Mean number of atoms by element, with occupancies.
    density : float
        In g/cm³, without the vacuum that the config adds.
    density_without_gaps : float
        Density if each empty layer across x, y or z that is wider than GAP had the width GAP.
    shortest : float or None
        Smallest distance between two atoms that may be present together [Å]; x and y are periodic. None for one atom.
    pair : tuple of str
        Elements of these two atoms.
    partial_sites : int
        Sites whose occupancy is below 1.
    """

    atoms: Mapping[str, float]
    density: float
    density_without_gaps: float
    shortest: float | None
    pair: tuple[str, str]
    partial_sites: int

    @classmethod
    def of(cls, specimen: Specimen) -> Crystal:
        """The crystal of a specimen."""
        occupancy = np.ones(len(specimen.symbols)) if specimen.occupancy is None else specimen.occupancy
        atoms = _counts(specimen.symbols, occupancy)
        mass = sum(number * _mass(symbol) for symbol, number in atoms.items())
        bare = np.asarray(specimen.cell) - np.asarray(specimen.vacuum)
        shortest, pair = _shortest(specimen)
        return cls(
            atoms=atoms,
            density=mass / float(np.prod(bare)) * GRAM_PER_CM3,
            density_without_gaps=mass / float(np.prod(_without_gaps(specimen.positions, bare))) * GRAM_PER_CM3,
            shortest=shortest,
            pair=pair,
            partial_sites=int((occupancy < 1).sum()),
        )

    @property
    def formula(self) -> str:
        """Formula of all atoms, with occupancies: `Sr832 Ti832 O2496`."""
        return _formula(self.atoms)

    def text(self, formula: str) -> str:
        """One line of the plan. `formula` is that of the cell of the file, empty if it is not known."""
        counts = ", ".join(f"{_number(number)} {symbol}" for symbol, number in self.atoms.items())
        parts = [f"{formula} in the file's cell", counts] if formula else [counts]
        gaps = ""
        if self.density_without_gaps > 1.02 * self.density:
            gaps = f" ({self.density_without_gaps:.3g} without empty layers)"
        parts.append(f"{self.density:.4g} g/cm³{gaps}")
        if self.shortest is not None:
            parts.append(f"shortest distance {self.shortest:.3f} Å ({self.pair[0]}–{self.pair[1]})")
        return "; ".join(parts)

    def notes(self) -> list[str]:
        """Notes on values that are unusual and may be intended."""
        check = "Check the cell and the unit of the structure file (Å; STEMsalabim: nm)."
        if self.density_without_gaps < THINNEST:
            return [
                f"the density is {self.density_without_gaps:.3g} g/cm³ without empty layers of more than {GAP:g} Å; "
                f"solids have more than {THINNEST:g}. {check}"
            ]
        # In a crystal that is ten times too large, every layer is empty. Its density without empty layers says nothing.
        if self.density < THINNEST and self.shortest is not None and self.shortest > LONGEST:
            return [
                f"the density is {self.density:.3g} g/cm³, and all atoms are at least {self.shortest:.3g} Å apart; in "
                f"solids neighbours are nearer than {LONGEST:g} Å. {check}"
            ]
        return []

    def require_density(self, file: Path | str) -> None:
        """Refuse a density that no real crystal has. `file` is named in the message.

        Raises
        ------
        SpecimenError
            The density exceeds `DENSEST`.
        """
        if self.density > DENSEST:
            raise SpecimenError(
                file,
                f"its density is {self.density:.4g} g/cm³; nothing has more than {DENSEST:g} (osmium: 22.6). Correct "
                "the cell, the unit (Å; STEMsalabim: nm) or the elements, or remove doubled atoms. "
                "`specimen.accept: [density]` uses it as it is: put this line into the config's `specimen:` block\n"
                "  accept: [density]",
            )


def formula(structure: Structure) -> str:
    """Formula of the cell of a `structure`, with occupancies, elements in the order of the file: `Sr Ti O3`."""
    occupancy = np.ones(len(structure.symbols)) if structure.occupancy is None else structure.occupancy
    return _formula(_counts(structure.symbols, occupancy))


def _formula(counts: Mapping[str, float]) -> str:
    return " ".join(f"{symbol}{'' if abs(n - 1) < 1e-6 else _number(n)}" for symbol, n in counts.items())


def require_distances(specimen: Specimen, minimum: float = CLOSEST, file: Path | str = "") -> None:
    """Refuse pairs of atoms of a `specimen` that are closer than `minimum` [Å], periodic in x and y.

    A pair does not count if the two atoms are never present together. `file` is named in the message.

    Raises
    ------
    SpecimenError
        There is such a pair. The text names the first one.
    """
    pairs, lengths = close_pairs(specimen, minimum)
    both = ~exclusive(specimen, pairs)
    pairs, lengths = pairs[both], lengths[both]
    if not len(pairs):
        return
    first = np.lexsort((pairs[:, 1], pairs[:, 0]))[0]
    i, j = pairs[first]
    symbols = specimen.symbols
    x, y, z = specimen.positions[i]
    raise SpecimenError(
        file or "atoms",
        f"atoms {i} ({symbols[i]}) and {j} ({symbols[j]}), counted from 0, are {lengths[first]:.3f} Å apart "
        f"at {x:.4f}, {y:.4f}, {z:.4f} Å (pairs closer than {minimum:g} Å in all {len(symbols)} atoms: "
        f"{len(pairs)}; x and y are periodic). Remove doubled atoms, or correct the cell or the unit (Å; "
        "STEMsalabim: nm). `specimen.accept: [distance]` uses them as they are: put this line into the config's "
        "`specimen:` block\n"
        "  accept: [distance]",
    )


def _counts(symbols: np.ndarray, occupancy: Floats) -> dict[str, float]:
    names, first, inverse = np.unique(symbols, return_index=True, return_inverse=True)
    numbers = np.bincount(inverse.ravel(), weights=occupancy)
    return {str(names[i]): float(numbers[i]) for i in np.argsort(first)}


def _number(value: float) -> str:
    whole = round(value)
    return f"{whole}" if abs(value - whole) < 1e-6 * max(1.0, value) else f"{value:.6g}"


def _mass(symbol: str) -> float:
    from ase.data import atomic_masses, atomic_numbers

    return float(atomic_masses[atomic_numbers[symbol]])


def _without_gaps(positions: Floats, cell: Floats) -> Floats:
    """Lengths of a cell [Å] in which every empty layer across it is at most GAP wide."""
    lengths = []
    for along, length in zip(positions.T, cell, strict=True):
        planes = np.sort(along % length)
        gaps = np.diff(np.append(planes, planes[0] + length))
        lengths.append(length - np.maximum(gaps - GAP, 0.0).sum())
    return np.array(lengths)


def _shortest(specimen: Specimen) -> tuple[float | None, tuple[str, str]]:
    """Smallest distance between atoms that may be present together, and their elements."""
    from scipy.spatial import cKDTree

    positions, cell = specimen.positions, np.asarray(specimen.cell)
    sites = np.arange(len(positions))
    # A periodic tree finds only one image of each atom, so narrow cells are repeated.
    for axis in (0, 1):
        copies = int(np.ceil(_NEIGHBOURHOOD / cell[axis])) if cell[axis] < _NEIGHBOURHOOD else 1
        shift = np.zeros(3)
        shift[axis] = cell[axis]
        positions = (positions + np.arange(copies)[:, None, None] * shift).reshape(-1, 3)
        sites, cell = np.tile(sites, copies), cell * np.where(np.arange(3) == axis, copies, 1)
    if len(positions) < 2:
        return None, ("", "")
    tree = cKDTree(positions, boxsize=[cell[0], cell[1], 0.0])
    best, pair = np.inf, (0, 0)
    for neighbours in (2, 3, 5, 9, 17):
        if neighbours > 2 and specimen.occupancy is None:
            break
        distances, found = tree.query(positions, k=min(neighbours, len(positions)))
        # An atom is among its own neighbours. If several atoms lie at one place, it need not be the first of them.
        for column in range(distances.shape[1]):
            pairs = np.column_stack([sites, sites[found[:, column]]])
            itself = found[:, column] == np.arange(len(positions))
            allowed = np.where(itself | exclusive(specimen, pairs), np.inf, distances[:, column])
            nearest = int(np.argmin(allowed))
            if allowed[nearest] < best:
                best, pair = float(allowed[nearest]), (int(pairs[nearest, 0]), int(pairs[nearest, 1]))
        # Further neighbours cannot be nearer than the last neighbour that was found.
        if best <= distances[:, -1].min() or distances.shape[1] == len(positions):
            break
    if not np.isfinite(best):
        return None, ("", "")
    order = list(dict.fromkeys(specimen.symbols.tolist()))  # the same for equal distances, whichever pair is nearest
    first, second = sorted((str(specimen.symbols[index]) for index in pair), key=order.index)
    return best, (first, second)
