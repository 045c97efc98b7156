"""A structure as its file gives it. Readers of formats make it, and the specimen is built from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemphony.specimen.lattice import Floats


@dataclass(frozen=True, eq=False)
class Structure:
    """One structure as its file gives it: any cell, nothing wrapped, nothing moved.

    Attributes
    ----------
    symbols : (N,) array of str
        Element symbols, one per site.
    positions : (N, 3) array
        Cartesian coordinates [Å] from the corner of the cell.
    cell : (3, 3) array
        Edges a, b, c as rows [Å].
    u_iso : (N,) array or None
        Mean square displacement per Cartesian axis [Å²]; NaN if the file gives none for a site, None if for no site. If
        `u_aniso` has a tensor, a third of its trace.
    u_aniso : (N, 3, 3) array or None
        Mean square displacements as Cartesian tensors [Å²], NaN for isotropic sites; None without any.
    occupancy : (N,) array or None
        Probability that the site holds this atom; None if all are 1.
    disorder : (N,) array of int or None
        Sites with equal numbers ≥ 0 exclude each other: one crystallographic site, or one disorder assembly with its
        groups in `disorder_group`. −1 means independent.
    disorder_group : (N,) array of int or None
        Sites of one assembly and one group are present together.
    charge : (N,) array or None
        Formal charge [e]; NaN if the file gives none.
    slice_id : (N,) array of int or None
        Slice of each atom, from the sixth column of STEMsalabim.
    format, reader : str
        Format in which the file was read (`cif`, `poscar`, `stemsalabim` …), and the library that read it.
    notes : tuple of str
        What a user must know: data of the file that were not used, moved, merged or guessed.
    revision : int
        1 if all versions of the readers read the same atoms, U and coordinates from this file. Otherwise the number of
        the first version that reads the present ones. It is then part of the digest of the specimen, so that old
        results are not mixed with new ones.
    periodic : bool
        Whether the cell repeats along c. It does not if the program writes z in the order in which the beam meets the
        atoms, or if the file says so.
    stated : mapping
        Statements of the file about itself, for comparison: `formula`, `z`, `density_g_cm3`, `space_group`, if given.
    """

    symbols: NDArray[np.str_]
    positions: Floats
    cell: Floats
    u_iso: Floats | None = None
    u_aniso: Floats | None = None
    occupancy: Floats | None = None
    disorder: NDArray[np.int64] | None = None
    disorder_group: NDArray[np.int64] | None = None
    charge: Floats | None = None
    slice_id: NDArray[np.int64] | None = None
    format: str = ""
    reader: str = ""
    notes: tuple[str, ...] = ()
    revision: int = 1
    periodic: bool = True
    stated: Mapping[str, str | float] = field(default_factory=dict)


_PER_ATOM = ("symbols", "u_iso", "u_aniso", "occupancy", "disorder", "disorder_group", "charge", "slice_id")


def chosen(structure: Structure, atoms: NDArray[np.intp] | NDArray[np.bool_]) -> Structure:
    """The structure with only these atoms, in this order."""
    columns = {name: getattr(structure, name) for name in _PER_ATOM}
    kept: dict[str, Any] = {name: values[atoms] for name, values in columns.items() if values is not None}
    return replace(structure, positions=structure.positions[atoms], **kept)


def copied(structure: Structure, positions: Floats, cell: Floats) -> Structure:
    """Copies of all atoms of a `structure` at `positions` (n·N, 3) [Å], copy by copy, in another `cell` (3, 3) [Å].

    Disorder assemblies get their own numbers in each copy, because the copies are drawn independently.
    """
    copies = len(positions) // len(structure.symbols)
    columns = {name: getattr(structure, name) for name in _PER_ATOM}
    tiled: dict[str, Any] = {
        name: np.tile(values, (copies, *(1,) * (values.ndim - 1)))
        for name, values in columns.items()
        if values is not None
    }
    if structure.disorder is not None:
        number = np.repeat(np.arange(copies), len(structure.symbols)) * (int(structure.disorder.max()) + 1)
        tiled["disorder"] = np.where(tiled["disorder"] >= 0, tiled["disorder"] + number, -1)
    return replace(structure, positions=positions, cell=cell, **tiled)


def turned(structure: Structure, positions: Floats, cell: Floats, rotation: Floats) -> Structure:
    """The atoms of a `structure` at `positions` (N, 3) [Å] in another `cell` (3, 3) [Å].

    Tensors U turn with the crystal: U' = Rᵀ U R for r' = r R.

    Parameters
    ----------
    rotation : (3, 3) array
        Proper rotation R of row vectors.

    Returns
    -------
    Structure
        A copy.
    """
    u_aniso = None if structure.u_aniso is None else rotation.T @ structure.u_aniso @ rotation
    return replace(structure, positions=positions, cell=cell, u_aniso=u_aniso)


def appended(structure: Structure, symbols: Sequence[str], positions: Floats, cell: Floats) -> Structure:
    """The `structure` with M further atoms in another `cell`, whose edges are rows [Å].

    Only element and place of these atoms are known: `symbols` (M,) and `positions` (M, 3) [Å].
    """
    number = len(symbols)
    unknown = {"u_iso": np.nan, "u_aniso": np.nan, "charge": np.nan, "occupancy": 1.0}
    longer: dict[str, Any] = {"symbols": np.concatenate([structure.symbols, np.array(symbols, dtype="<U2")])}
    for name in _PER_ATOM[1:]:
        values = getattr(structure, name)
        if values is not None:
            more = np.full((number, *values.shape[1:]), unknown.get(name, -1), dtype=values.dtype)
            longer[name] = np.concatenate([values, more])
    return replace(structure, positions=np.concatenate([structure.positions, positions]), cell=cell, **longer)
