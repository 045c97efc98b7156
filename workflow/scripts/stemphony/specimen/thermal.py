"""Mean square displacements U of a structure, from its file, from the config, or from the Debye model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from stemphony.errors import ConfigError, SpecimenError
from stemphony.physics.phonons import debye_u_iso, not_positive
from stemphony.specimen.structure import Structure

LARGEST_U = 4.0
"""Largest possible U [Å²]. With it, an atom would move by 2 Å RMS along each axis, farther than to its neighbours. B
would be 316 Å²."""


USUAL_U = (3e-4, 0.25)
"""Smallest and largest usual U [Å²]. The heaviest, stiffest elements (Os, Ir) have 4e-4 Å² by zero-point motion alone.
Except in proteins, hardly a site has more than 0.25 Å² (0.5 Å RMS)."""

PROTEINS = ("pdb", "mmcif")
"""Formats of protein crystals. Their atoms move, and are misplaced, farther than the largest usual U."""


@dataclass(frozen=True)
class ThermalSettings:
    """The keys of the block `specimen` that decide U.

    Attributes
    ----------
    u_iso_angstrom2 : mapping
        Element symbol to U [Å²].
    u_source : {'file', 'config'}
        Which of the two is used if both give a value.
    temperature_k : float or None
        Temperature of the specimen [K] for the Debye model.
    debye_temperature_k : float, mapping or None
        Debye temperature [K], one for all elements or by element symbol.
    """

    u_iso_angstrom2: Mapping[str, float] = field(default_factory=dict)
    u_source: str = "file"
    temperature_k: float | None = None
    debye_temperature_k: float | Mapping[str, float] | None = None


@dataclass(frozen=True)
class Thermal:
    """A structure with all known U, their sources in words, and notes on values that were not used."""

    structure: Structure
    source: str
    notes: tuple[str, ...]


def with_displacements(file: Path, structure: Structure, settings: ThermalSettings) -> Thermal:
    """Give every site of a `structure` its U: that of the file, else of `u_iso_angstrom2`, else of the Debye model.

    The model is Eq. (P19). The keys are those of `settings`. With `u_source: config`, the file comes last. If no source
    gives a value, `u_iso` is NaN. If a site has a tensor, `u_iso` is a third of its trace.

    Raises
    ------
    ConfigError
        Only one of the two temperatures is given.
    SpecimenError
        A U of `file` that would be used is negative, infinite or not positive semidefinite. The text names the site.
    """
    _require_settings(settings)
    symbols = structure.symbols
    given, debye = _per_site(symbols, settings.u_iso_angstrom2), _debye(structure, settings)
    in_file = _known_in_file(structure)
    config_wins = settings.u_source == "config"
    from_map = ~np.isnan(given) & (config_wins | ~in_file)
    from_debye = ~np.isnan(debye) & ~from_map & (config_wins | ~in_file)
    from_file = in_file & ~from_map & ~from_debye
    _require_positive(file, structure, from_file)

    u_iso = np.where(from_map, given, np.where(from_debye, debye, np.nan))
    if structure.u_iso is not None:
        u_iso[from_file] = structure.u_iso[from_file]
    u_aniso, tensors = None, np.zeros(len(symbols), dtype=bool)
    if structure.u_aniso is not None:
        tensors = from_file & ~np.isnan(structure.u_aniso[:, 0, 0])
        u_iso[tensors] = np.trace(structure.u_aniso[tensors], axis1=1, axis2=2) / 3
        if tensors.any():
            # Make the tensors symmetric to the last bit, because products of rotations are not.
            symmetric = (structure.u_aniso + structure.u_aniso.transpose(0, 2, 1)) / 2
            u_aniso = np.where(tensors[:, None, None], symmetric, np.nan)
    origins = [
        ("the file, anisotropic", tensors),
        ("the file", from_file & ~tensors),
        ("specimen.u_iso_angstrom2", from_map),
        (f"Debye model at {settings.temperature_k or 0:g} K", from_debye),
        ("not known", np.isnan(u_iso)),
    ]
    source = "; ".join(f"{where}: {_values(symbols[sites], u_iso[sites])}" for where, sites in origins if sites.any())
    notes = _unused(symbols, settings, in_file, from_map, from_debye)
    notes += _at_rest(symbols[from_file], u_iso[from_file])
    if structure.format not in PROTEINS:
        notes += _unusual(u_iso[from_file])
    return Thermal(replace(structure, u_iso=u_iso, u_aniso=u_aniso), source, tuple(notes))


def lines_to_paste(elements: Sequence[str]) -> str:
    """Lines of a config that give the U of elements, with a value or a Debye temperature to fill in."""
    values, temperatures = (", ".join(f"{symbol}: <{unit}>" for symbol in elements) for unit in ("Å²", "K"))
    return (
        f"  u_iso_angstrom2: {{{values}}}\n"
        "or, for the Debye model,\n"
        f"  temperature_k: 300\n  debye_temperature_k: {{{temperatures}}}"
    )


def _require_settings(settings: ThermalSettings) -> None:
    if (settings.temperature_k is None) != (settings.debye_temperature_k is None):
        missing, has = "debye_temperature_k", "temperature_k"
        if settings.temperature_k is None:
            missing, has = has, missing
        raise ConfigError(
            f"specimen.{has}",
            f"given without specimen.{missing}; the Debye model needs both. Add {missing}, or remove {has}.",
        )


def _per_site(symbols: np.ndarray, by_element: Mapping[str, float]) -> np.ndarray:
    return np.array([by_element.get(symbol, np.nan) for symbol in symbols.tolist()], dtype=float)


def _debye(structure: Structure, settings: ThermalSettings) -> np.ndarray:
    """U of each site in the Debye model [Å²]; NaN if its element has no Debye temperature."""
    temperature, debye = settings.temperature_k, settings.debye_temperature_k
    if temperature is None or debye is None:
        return np.full(len(structure.symbols), np.nan)
    from ase.data import atomic_masses, atomic_numbers

    elements = dict.fromkeys(structure.symbols.tolist())
    thetas = dict(debye) if isinstance(debye, Mapping) else dict.fromkeys(elements, debye)
    values = {
        symbol: debye_u_iso(float(atomic_masses[atomic_numbers[symbol]]), float(thetas[symbol]), temperature)
        for symbol in elements
        if symbol in thetas
    }
    return _per_site(structure.symbols, values)


def _known_in_file(structure: Structure) -> np.ndarray:
    known = np.zeros(len(structure.symbols), dtype=bool)
    if structure.u_iso is not None:
        known |= ~np.isnan(structure.u_iso)
    if structure.u_aniso is not None:
        known |= ~np.isnan(structure.u_aniso).all(axis=(1, 2))
    return known


def _require_positive(file: Path, structure: Structure, used: np.ndarray) -> None:
    """Refuse an impossible U of the file (negative, or a tensor that is not positive), if it would be used."""
    way_out = (
        "Correct it, or give the element another U in `specimen.u_iso_angstrom2` with `specimen.u_source: config`."
    )
    tensors = np.zeros(len(used), dtype=bool)
    if structure.u_aniso is not None:
        tensors = used & ~np.isnan(structure.u_aniso).all(axis=(1, 2))
        wrong = [index for index in not_positive(structure.u_aniso) if used[index]]
        if wrong:
            tensor = structure.u_aniso[wrong[0]]
            components = ", ".join(f"{value:.4g}" for value in tensor[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]])
            smallest = float(np.linalg.eigvalsh(np.nan_to_num(tensor))[0])
            raise SpecimenError(
                file,
                f"{_site(structure, wrong[0])}: its U tensor has a mean square displacement of {smallest:.4g} Å² along "
                f"one direction, and none may be negative (Cartesian U11, U22, U33, U23, U13, U12: {components} Å²; "
                f"sites with this fault: {len(wrong)}). {way_out}",
            )
    if structure.u_iso is not None:
        bad = np.flatnonzero(used & ~tensors & ~(np.isfinite(structure.u_iso) & (structure.u_iso >= 0)))
        if len(bad):
            raise SpecimenError(
                file,
                f"{_site(structure, bad[0])}: its U is {structure.u_iso[bad[0]]:g} Å²; allowed are finite values from "
                f"0. {way_out}",
            )
    _require_possible(file, structure, used, tensors, way_out)


def _require_possible(file: Path, structure: Structure, used: np.ndarray, tensors: np.ndarray, way_out: str) -> None:
    """Refuse a U that is too large for an atom of a solid. Its unit or its quantity is probably wrong."""
    largest = np.zeros(len(used))
    if structure.u_iso is not None:
        largest = np.where(used & ~tensors, structure.u_iso, 0.0)
    if structure.u_aniso is not None and tensors.any():
        largest[tensors] = np.linalg.eigvalsh(structure.u_aniso[tensors]).max(axis=1)
    bad = np.flatnonzero(largest > LARGEST_U)
    if len(bad):
        raise SpecimenError(
            file,
            f"{_site(structure, bad[0])}: its U is {largest[bad[0]]:g} Å², so it would move by "
            f"{np.sqrt(largest[bad[0]]):.2g} Å along an axis (RMS); at most {LARGEST_U:g} Å² is possible (sites with "
            f"this fault: {len(bad)}). Perhaps it is B = 8π²U, or in another unit. {way_out}",
        )


def _at_rest(symbols: np.ndarray, u_iso: np.ndarray) -> list[str]:
    """Note on sites that stand still while others move, because a refinement fixed their U at 0."""
    still = u_iso == 0
    if not still.any() or still.all():
        return []
    return [
        f"the structure file's U is 0 at {int(still.sum())} of {len(still)} sites ({_elements(symbols[still])}), and "
        "others move: these atoms stand still, and scatter too little at high angles. If their U is not known, correct "
        "the file, or set specimen.u_source: config and u_iso_angstrom2 for their elements."
    ]


def _unusual(values: np.ndarray) -> list[str]:
    """Note on U of a file that are as large as B, or smaller than zero-point motion."""
    values = values[values > 0]
    if not len(values):
        return []
    smallest, largest = USUAL_U
    if np.median(values) > largest:
        what = f"most are above {largest:g} Å², so atoms move by {np.sqrt(np.median(values)):.2g} Å along an axis (RMS)"
        why = "If the file gives B = 8π²U under the name of U"
    elif values.max() < smallest:
        what = f"all are below {smallest:g} Å², the zero-point motion of solids"
        why = "If the file gives U under the name of B, or in nm²"
    else:
        return []
    return [
        f"the structure file's U are unusual: {what}. {why}, correct it, or set specimen.u_source: config and "
        "u_iso_angstrom2."
    ]


def _site(structure: Structure, index: int) -> str:
    x, y, z = structure.positions[index]
    return f"atom {index} (counted from 0, {structure.symbols[index]} at {x:.4f}, {y:.4f}, {z:.4f} Å)"


def _elements(symbols: np.ndarray) -> str:
    return ", ".join(dict.fromkeys(symbols.tolist()))


def _values(symbols: np.ndarray, u_iso: np.ndarray) -> str:
    """Elements with their U [Å²], or the range of U. For tensors, a third of the trace."""
    texts = []
    for symbol in dict.fromkeys(symbols.tolist()):
        values = u_iso[symbols == symbol]
        low, high = (f"{value:.4g}" for value in (values.min(), values.max()))
        texts.append(symbol if low == "nan" else f"{symbol} {low}" if low == high else f"{symbol} {low}–{high}")
    return ", ".join(texts) + ("" if np.isnan(u_iso).all() else " Å²")


def _unused(
    symbols: np.ndarray,
    settings: ThermalSettings,
    in_file: np.ndarray,
    from_map: np.ndarray,
    from_debye: np.ndarray,
) -> list[str]:
    """Notes on values of the config or of the file that are not used, or only used for some sites of an element."""
    theta = settings.debye_temperature_k
    elements = list(dict.fromkeys(symbols.tolist()))
    named = elements if theta is None or not isinstance(theta, Mapping) else list(theta)
    notes = [
        *_shadowed("u_iso_angstrom2", list(settings.u_iso_angstrom2), symbols, from_map, in_file, settings.u_source),
        *_shadowed("debye_temperature_k", named if theta else [], symbols, from_debye, in_file, settings.u_source),
    ]
    absent = sorted(set(named) - set(elements))
    if absent:
        notes.append(f"specimen.debye_temperature_k: there is no {', '.join(absent)} in the specimen.")
    dropped = in_file & (from_map | from_debye)
    if dropped.any():
        notes.append(
            f"the structure file's U of {_elements(symbols[dropped])} is not used, as specimen.u_source is config."
        )
    return notes


def _shadowed(
    key: str, asked: Sequence[str], symbols: np.ndarray, used: np.ndarray, in_file: np.ndarray, u_source: str
) -> list[str]:
    """Notes on entries of a key of the config that another source overrides on all or some sites of an element."""
    by_file: dict[str, list[str]] = {}
    by_map: dict[str, list[str]] = {}
    for symbol in dict.fromkeys(symbols.tolist()):
        sites = symbols == symbol
        if symbol not in asked or used[sites].all():
            continue
        extent = "an effect on a part of the sites alone" if used[sites].any() else "no effect"
        winner = by_file if u_source == "file" and in_file[sites].any() else by_map
        winner.setdefault(extent, []).append(symbol)
    why_file = "the structure file gives their U, which wins. `specimen.u_source: config` reverses that."
    why_map = "specimen.u_iso_angstrom2 gives their U."
    return [
        f"specimen.{key} has {extent} for {', '.join(chosen)}: {why}"
        for winner, why in ((by_file, why_file), (by_map, why_map))
        for extent, chosen in winner.items()
    ]
