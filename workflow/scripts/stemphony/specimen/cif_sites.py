"""Sites of the asymmetric unit of a CIF: elements, coordinates, occupancies, U, disorder, charges."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stemphony.errors import SpecimenError
from stemphony.specimen import displacements, elements, orbits
from stemphony.specimen.cif_block import COORDINATES, CifBlock, as_number
from stemphony.specimen.lattice import Floats
from stemphony.specimen.statements import parsed_formula

PAIRS = ("11", "22", "33", "12", "13", "23")  # elements of a symmetric tensor, as CIF writes them
FULL = 1e-6
"""Largest difference of an occupancy from 1 that counts as none, because it comes from rounding."""
_UNKNOWN = (".", "?", "")
_MAGNETIC = "_atom_site_moment"
ISOTROPIC_NAMES = ("iso_or_equiv", "equiv_geom_mean", "iso")
_OF_EACH_SITE = (
    "_atom_site_type_symbol", "_atom_site_occupancy", "_atom_site_calc_flag", "_atom_site_attached_hydrogens",
    "_atom_site_disorder_assembly", "_atom_site_disorder_group", "_atom_site_label_alt_id", "_atom_site_adp_type",
    "_atom_site_thermal_displace_type", "_atom_site_pdbx_pdb_model_num", "_atom_site_label_atom_id",
    "_atom_site_pdbx_formal_charge", *(f"_atom_site_{kind}_{name}" for kind in "ub" for name in ISOTROPIC_NAMES),
)  # fmt: skip
"""Columns that have one value for each site."""

KINDS_OF_U = ("uani", "uiso", "uovl", "umpe", "uij", "ueq", "uequiv", "aniso", "iso")
ISOTROPIC_B = ("biso", "bovl", "beq")
KINDS_OF_B = ("bani", "bmpe", "bij", *ISOTROPIC_B)
"""Types of displacements in small letters, from the dictionary and from old programs."""

SAME_U = 0.2
"""Two statements of one U may differ by this share. Files round U, and programs average tensors in different ways."""

ROUNDED_U = 2e-3
"""Two statements of one U may also differ by this [Å²]: the rounding to two digits of U, or of B."""

FAR = 2.5
"""Largest usual fraction of a coordinate [cells]. Sites of asymmetric units and whole molecules reach this far. Larger
values are probably in Å or per cent."""

SMALLEST_B = 0.15
"""Limit between B and U [Å²]. At room temperature, hardly any crystal has a B below it (diamond: 0.14 Å²), and hardly
any has a U above it."""


@dataclass(frozen=True)
class Sites:
    """Sites of the asymmetric unit, M in all.

    Attributes
    ----------
    labels : list of str
    symbols : (M,) array of str
    fractions : (M, 3) array
    occupancy : (M,) array
        In (0, 1].
    u_iso : (M,) array or None
        [Å²]; NaN if none is given.
    u_aniso : (M, 3, 3) array or None
        Cartesian [Å²]; NaN if none is given.
    assembly, group : list of str
        Disorder assembly and group; empty if none is given.
    charge : (M,) array or None
        [e]; NaN if none is given.
    cartesian : (M, 3) array or None
        Coordinates [Å] in the axes of `read_cell`, if the file gives orthogonal coordinates without a matrix.
    reach : list of float
        Images of a site that are closer than this [Å] are one atom.
    notes : list of str
    revised : bool
        Whether earlier versions read other U: values of type Beq in a column of U.
    """

    labels: list[str]
    symbols: NDArray[np.str_]
    fractions: Floats
    occupancy: Floats
    u_iso: Floats | None
    u_aniso: Floats | None
    assembly: list[str]
    group: list[str]
    charge: Floats | None
    cartesian: Floats | None
    reach: list[float]
    notes: list[str]
    revised: bool = False


def read_sites(file: Path, block: CifBlock, cell: Floats) -> Sites:
    """All sites of a `block` that are atoms. The notes name what is left out.

    `cell` (3, 3) has the edges as rows [Å], and `file` is named in messages.

    Raises
    ------
    SpecimenError
        A site has an unknown element, coordinate or occupancy. The text names the site.
    """
    notes: list[str] = []
    block = _with_whole_columns(block, notes)
    names = _names(block)
    keep = _kept(block, names, notes)
    if not keep:
        raise SpecimenError(file, "holds no atoms. A specimen needs at least one.")
    labels = [names[i] for i in keep]
    fractions, cartesian, digits = _fractions(file, block, cell, keep, labels, notes)
    symbols, charge = _elements(file, block, keep, labels, notes)
    notes += _without_sites(block, keep, labels, symbols.tolist())
    occupancy = _occupancies(file, block, keep, labels, notes)
    u_iso, u_aniso = _displacements(file, block, cell, keep, labels, notes)
    present = np.flatnonzero(occupancy > 0)
    if len(present) < len(keep):
        gone = [labels[i] for i in np.flatnonzero(occupancy == 0)]
        notes.append(f"sites with an occupancy of 0 are left out: {_few(gone)}")
        if not len(present):
            raise SpecimenError(file, "has an occupancy of 0 at every site. Correct _atom_site_occupancy.")
    assembly, group = (
        _texts(block, keep, f"_atom_site_disorder_{kind}", *extra)
        for kind, extra in (("assembly", ()), ("group", ("_atom_site_label_alt_id",)))
    )
    if any(name.startswith(_MAGNETIC) for name in block.raw):
        notes.append("has magnetic moments, which are not used: electrons of the beam scatter from the charge alone")
    full = np.abs(occupancy - 1) <= FULL
    edge = float(np.linalg.norm(cell, axis=1).max())
    reach = [min(orbits.MERGED_IMAGE, 3 * 10.0 ** -digits[i] * edge) for i in present]
    return Sites(
        labels=[labels[i] for i in present],
        symbols=symbols[present],
        fractions=fractions[present],
        occupancy=np.where(full, 1.0, occupancy)[present],
        u_iso=None if u_iso is None else u_iso[present],
        u_aniso=None if u_aniso is None else u_aniso[present],
        assembly=[assembly[i] for i in present],
        group=[group[i] for i in present],
        charge=None if charge is None else charge[present],
        cartesian=None if cartesian is None else cartesian[present],
        reach=reach,
        notes=notes,
        revised=any(note.lower().startswith("the type of displacements is beq: the values") for note in notes),
    )


def _with_whole_columns(block: CifBlock, notes: list[str]) -> CifBlock:
    """The block without columns that do not have one value for each site. A note names these columns."""
    sites = len(block.column(*COORDINATES) or [])
    other = [name for name in _OF_EACH_SITE if len(block.raw.get(name, [None] * sites)) != sites]
    if not other:
        return block
    texts = [f"{block.written[name]} ({len(block.raw[name])})" for name in other]
    notes.append(f"columns without one value for each of the {sites} sites are not used: {', '.join(texts)}")
    return replace(block, raw={name: values for name, values in block.raw.items() if name not in other})


def _without_sites(block: CifBlock, keep: Sequence[int], labels: Sequence[str], symbols: Sequence[str]) -> list[str]:
    """Note on hydrogen that the file attaches to other atoms but that has no sites."""
    column = block.column("_atom_site_attached_hydrogens")
    if column is None:
        return []
    with_hydrogen = [labels[row] for row, site in enumerate(keep) if np.nan_to_num(as_number(column[site])) > 0]
    if not with_hydrogen or "H" in symbols:
        return []
    return [f"hydrogen attached to {_few(with_hydrogen)} (_atom_site_attached_hydrogens) has no sites: it is left out"]


def _few(names: Sequence[str], limit: int = 6) -> str:
    unique = list(dict.fromkeys(names))
    return ", ".join(unique[:limit]) + (f" and {len(unique) - limit} more" if len(unique) > limit else "")


def _names(block: CifBlock) -> list[str]:
    """One label per site. In mmCIF, the name of the atom with its residue."""
    length = len(block.column("_atom_site_fract_x", "_atom_site_cartn_x") or [])
    label = block.column("_atom_site_label", "_atom_site_label_atom_id", "_atom_site_type_symbol")
    if label is None or len(label) != length:
        return [f"number {i + 1}" for i in range(length)]
    sequence = block.raw.get("_atom_site_label_seq_id") or block.raw.get("_atom_site_auth_seq_id")
    if "_atom_site_label" not in block.raw and sequence and len(sequence) == length:
        return [f"{name}/{number}" for name, number in zip(label, sequence, strict=True)]
    return list(label)


def _texts(block: CifBlock, keep: Sequence[int], *names: str) -> list[str]:
    """A column for the kept sites. Unknown values are empty texts."""
    column = block.column(*names)
    if column is None:
        return [""] * len(keep)
    return ["" if column[i] in _UNKNOWN else column[i] for i in keep]


def _kept(block: CifBlock, labels: Sequence[str], notes: list[str]) -> list[int]:
    """Sites that are atoms, without dummies. If there are several models, only the first."""
    keep = list(range(len(labels)))
    flags = block.column("_atom_site_calc_flag")
    if flags is not None:
        dummies = [i for i in keep if flags[i].lower() in ("dum", "dummy")]
        if dummies:
            notes.append(f"dummies (calc_flag dum) are left out: {_few([labels[i] for i in dummies])}")
            keep = [i for i in keep if i not in set(dummies)]
    models = block.column("_atom_site_pdbx_pdb_model_num")
    if models is not None and len(set(models)) > 1:
        notes.append(f"holds {len(set(models))} models; the first ({models[0]}) is used")
        keep = [i for i in keep if models[i] == models[0]]
    return keep


def _fractions(
    file: Path, block: CifBlock, cell: Floats, keep: Sequence[int], labels: Sequence[str], notes: list[str]
) -> tuple[Floats, Floats | None, list[int]]:
    """(M, 3) fractions, orthogonal coordinates [Å] if those are given, and the decimal digits of each site."""
    scaled = "_atom_site_fract_x" in block.raw
    columns = [block.raw.get(f"_atom_site_{'fract' if scaled else 'cartn'}_{axis}") for axis in "xyz"]
    values = np.empty((len(keep), 3))
    digits = [3] * len(keep)
    thirds: dict[int, int] = {}
    points: list[str] = []
    for axis, column in zip(range(3), columns, strict=True):
        if column is None:
            raise SpecimenError(file, f"the column _atom_site_fract_{'xyz'[axis]} is missing. Export it again.")
        for row, site in enumerate(keep):
            text = column[site]
            if text == "." and scaled:
                points.append(labels[row])
                values[row, axis] = 0.0
                continue
            number = as_number(text)
            if not np.isfinite(number):
                raise SpecimenError(
                    file,
                    f"site {labels[row]}: the coordinate {'xyz'[axis]} is {text!r}, which is no number. Write it, "
                    "or delete the line if the atom's place is not known.",
                )
            values[row, axis] = number
            if "." in text and (count := len(re.sub(r"\(\d+\)$", "", text).split(".")[-1])) > 0:
                digits[row] = count if axis == 0 else max(digits[row], count)
                if count > 1 and _is_rounded_third(number, count):
                    thirds[row] = min(thirds.get(row, count), count)
    if scaled and "_atom_site_cartn_x" in block.raw:
        notes.append("orthogonal coordinates (_atom_site_Cartn_x …) are not used, because the file gives fractions")
    far = np.flatnonzero(np.abs(values).max(axis=1) > FAR).tolist() if scaled else []
    if far:
        names, largest = _few([labels[row] for row in far]), np.abs(values).max()
        notes.append(
            f"fractions far outside the cell are wrapped into it: {names} (up to {largest:g}). Check that they are "
            "not in Å or per cent"
        )
    if points:
        notes.append(f"coordinates written as '.' are taken for 0: {_few(points)}")
    if scaled:
        # For a site on an axis, only the digits of its thirds count, not those of the coordinate along the axis.
        return values, None, [min(count, thirds.get(row, count)) for row, count in enumerate(digits)]
    return *_from_cartesian(block, values, cell), [6] * len(keep)


def _is_rounded_third(value: float, digits: int) -> bool:
    """Whether a fraction is 1/6, 1/3, 2/3 or 5/6, rounded or cut to this number of digits."""
    scaled = (value % 1.0) * 10**digits
    return any(abs(scaled - n / 6 * 10**digits) < 1.0 for n in (1, 2, 4, 5))


def _from_cartesian(block: CifBlock, values: Floats, cell: Floats) -> tuple[Floats, Floats | None]:
    """Convert orthogonal coordinates to fractions, with the matrix of the file if it has one.

    Without such a matrix, also return the coordinates.
    """
    matrix = [[block.number(f"_atom_sites_fract_transf_matrix[{i}][{j}]") for j in (1, 2, 3)] for i in (1, 2, 3)]
    vector = [block.number(f"_atom_sites_fract_transf_vector[{i}]") for i in (1, 2, 3)]
    if all(number is not None for row in matrix for number in row):
        shift = np.array([0.0 if number is None else number for number in vector])
        given = np.array(matrix, dtype=float)
        if shift.any() or np.abs(given.T @ cell - np.eye(3)).max() > 1e-4:  # digits of the matrix
            return np.asarray(values @ given.T + shift), None
    return np.asarray(values @ np.linalg.inv(cell)), values


def _elements(
    file: Path, block: CifBlock, keep: Sequence[int], labels: Sequence[str], notes: list[str]
) -> tuple[NDArray[np.str_], Floats | None]:
    """Element and charge of every site, from its type, else from its label and the formula."""
    types = block.column("_atom_site_type_symbol")
    formula = parsed_formula(block.value("_chemical_formula_sum") or "") or {}
    numbers = _oxidation_numbers(block)
    formal = block.column("_atom_site_pdbx_formal_charge")
    known = {} if types is None else {name: elements.from_type(name) for name in set(types)}
    by_label: dict[str, str] = {}
    symbols, charges = [], []
    for row, site in enumerate(keep):
        name = "" if types is None or types[site] in _UNKNOWN else types[site]
        if name:
            found = known[name]
            if found is None:
                raise SpecimenError(file, elements.unknown_symbol(name, f"site {labels[row]}"))
            symbol, charge = found
            charge = numbers.get(name, charge)
        else:
            symbol, charge = _by_label(file, labels[row], formula), numbers.get(labels[row])
            by_label[symbol] = labels[row]
        symbols.append(symbol)
        if charge is None and formal is not None:
            charge = as_number(formal[site])
        charges.append(np.nan if charge is None else charge)
    other = [
        f"{labels[row]} is {symbol}"
        for row, symbol in enumerate(symbols)
        if by_label.get(symbol) != labels[row] and _names_another(labels[row], symbol)
    ]
    if other:
        notes.append(f"labels name other elements than _atom_site_type_symbol, which is used: {_few(other)}")
    isotopes = [f"{labels[i]} ({symbol})" for i, symbol in enumerate(symbols) if symbol in elements.ISOTOPES]
    if isotopes:
        notes.append(f"deuterium and tritium scatter electrons as hydrogen and become H: {_few(isotopes)}")
    if by_label:
        pairs = _few([f"{label} is {symbol}" for symbol, label in by_label.items()], 12)
        notes.append(f"elements are taken from the labels, since _atom_site_type_symbol is missing: {pairs}")
        water = [f"{label} is {symbols[i]}" for i, label in enumerate(labels) if elements.is_of_water(label)]
        if water:
            notes.append(f"labels of water and hydroxyl in mineral databases: {_few(water)}")
    array = np.array(["H" if symbol in elements.ISOTOPES else symbol for symbol in symbols], dtype="<U2")
    values = np.array(charges)
    return array, values if np.isfinite(values).any() else None


def _names_another(label: str, symbol: str) -> bool:
    """Whether a label such as `Sr1`, a symbol with a number, names another element than `symbol`."""
    match = re.fullmatch(r"([A-Z][a-z]?)\d*", label)
    return match is not None and match[1] != symbol and match[1] in elements.numbers() and match[1][0] != symbol[0]


def _by_label(file: Path, label: str, formula: dict[str, float]) -> str:
    found = elements.from_label(label, formula)
    if len(found) == 1 and (not formula or found[0] in formula or found[0] in elements.ISOTOPES):
        return found[0]
    if not found:
        raise SpecimenError(
            file,
            f"site {label}: its label names no element. Add the column _atom_site_type_symbol with the element of each "
            "site, such as O for the oxygen of water.",
        )
    if len(found) == 1:
        raise SpecimenError(
            file,
            f"site {label}: its label names {found[0]}, which the formula does not have. Add the column "
            "_atom_site_type_symbol, or correct _chemical_formula_sum.",
        )
    names = " or ".join(sorted(found))
    raise SpecimenError(
        file, f"site {label}: the label {label!r} could be {names}. Add the column _atom_site_type_symbol."
    )


def _oxidation_numbers(block: CifBlock) -> dict[str, float]:
    names, values = block.raw.get("_atom_type_symbol"), block.raw.get("_atom_type_oxidation_number")
    if names is None or values is None or len(names) != len(values):
        return {}
    pairs = {name: as_number(value) for name, value in zip(names, values, strict=True)}
    return {name: value for name, value in pairs.items() if np.isfinite(value)}


def _occupancies(file: Path, block: CifBlock, keep: Sequence[int], labels: Sequence[str], notes: list[str]) -> Floats:
    """Occupancy of every site; 1 if it is not given."""
    column = block.column("_atom_site_occupancy")
    if column is None:
        return np.ones(len(keep))
    values = np.ones(len(keep))
    unknown = []
    for row, site in enumerate(keep):
        text = column[site]
        if text in _UNKNOWN:
            if text == "?":
                unknown.append(labels[row])
            continue
        values[row] = as_number(text)
        if not -FULL <= values[row] <= 1.005:
            raise SpecimenError(
                file,
                f"site {labels[row]} has an occupancy of {text}; 0 to 1 is allowed. Correct _atom_site_occupancy.",
            )
    if unknown:
        notes.append(f"unknown occupancies ('?') are taken for 1: {_few(unknown)}")
    over = values > 1 + FULL
    if over.any():
        notes.append(
            f"occupancies up to 1.005 are taken for 1: {_few([labels[i] for i in np.flatnonzero(over).tolist()])}"
        )
    return np.clip(values, 0.0, 1.0)


def _displacements(
    file: Path, block: CifBlock, cell: Floats, keep: Sequence[int], labels: Sequence[str], notes: list[str]
) -> tuple[Floats | None, Floats | None]:
    """Isotropic U [Å²] and Cartesian tensors [Å²]; NaN if the file has none."""
    u, b = (
        _numbers(file, block, keep, labels, *(f"_atom_site_{kind}_{name}" for name in ISOTROPIC_NAMES)) for kind in "ub"
    )
    if u is not None and b is None:
        u, b = _by_kind(block, keep, u, notes)
    iso = None
    if u is not None or b is not None:
        iso = np.full(len(keep), np.nan)
        if b is not None:
            iso = displacements.from_b(b)
        if u is not None:
            notes += _different(labels, u, iso, "U and B of {} are not of one size (U = B / 8π²): U is used")
            iso = np.where(np.isfinite(u), u, iso)
    aniso = _tensors(file, block, cell, keep, labels, notes)
    if iso is not None and aniso is not None:
        text = "the isotropic U of {} is not a third of the trace of its tensor: the tensor is used"
        notes += _different(labels, displacements.equivalent(aniso), iso, text)
    if iso is not None and aniso is None and not np.nan_to_num(iso).any():
        # Programs for models write 0 if they know no U. Atoms at rest do not exist.
        notes.append("the U or B of every site is 0, as programs write if they know none: they are not used")
        iso = None
    unused = sorted({t for t in _texts(block, keep, "_atom_site_adp_type", "_atom_site_thermal_displace_type") if t})
    strange = [text for text in unused if text.lower() not in KINDS_OF_U + KINDS_OF_B]
    if strange:
        notes.append(
            f"the type of displacements {', '.join(strange)} is not known: columns of U and B are read as their names "
            "say"
        )
    if any(name.startswith(("_atom_site_anharm", "_atom_site_rot", "_atom_site_aniso_anharm")) for name in block.raw):
        notes.append("has anharmonic displacement parameters, which are not used")
    return (None if iso is None or not np.isfinite(iso).any() else iso), aniso


def _different(labels: Sequence[str], first: Floats, second: Floats, text: str) -> list[str]:
    """Note on sites whose two statements of U [Å²] differ by more than rounding explains."""
    apart = np.abs(first - second) > np.maximum(SAME_U * np.maximum(np.abs(first), np.abs(second)), ROUNDED_U)
    names = [f"{labels[i]} ({first[i]:.3g} and {second[i]:.3g} Å²)" for i in np.flatnonzero(apart).tolist()]
    return [text.format(_few(names))] if names else []


def _by_kind(block: CifBlock, keep: Sequence[int], u: Floats, notes: list[str]) -> tuple[Floats, Floats | None]:
    """U and B from a column of U. Old programs wrote B into this column and named the type of displacements B."""
    kinds = _texts(block, keep, "_atom_site_adp_type", "_atom_site_thermal_displace_type")
    said = np.array([kind.lower() in ISOTROPIC_B for kind in kinds]) & np.isfinite(u)
    if not said.any():
        return u, None
    kind = f"the type of displacements is {kinds[int(said.argmax())]}"
    if np.median(u[said]) < SMALLEST_B:
        notes.append(f"{kind}, but the column has the name and the size of U: taken for U")
        return u, None
    notes.append(f"{kind}: the values of the column of U are taken for B = 8π²U")
    return np.where(said, np.nan, u), np.where(said, u, np.nan)


def _numbers(file: Path, block: CifBlock, keep: Sequence[int], labels: Sequence[str], *names: str) -> Floats | None:
    """A column of numbers; NaN if the file has none. A text that is no number is refused."""
    column = block.column(*names)
    if column is None:
        return None
    texts = [column[i] for i in keep]
    values = np.array([as_number(text) for text in texts])
    _require_numbers(file, next(name for name in names if name in block.raw), labels, texts, values)
    return values


def _require_numbers(file: Path, name: str, labels: Sequence[str], texts: Sequence[str], values: Floats) -> None:
    bad = next((i for i, text in enumerate(texts) if not np.isfinite(values[i]) and text not in _UNKNOWN), None)
    if bad is not None:
        raise SpecimenError(
            file,
            f"site {labels[bad]}: {name} is {texts[bad]!r}, which is no number. Write it, such as 0.005, or '?' if it "
            "is not known.",
        )


def _tensors(
    file: Path, block: CifBlock, cell: Floats, keep: Sequence[int], labels: Sequence[str], notes: list[str]
) -> Floats | None:
    """(M, 3, 3) Cartesian U [Å²] from U, B or β, matched by label."""
    found: dict[str, Floats] = {}
    rows = block.column("_atom_site_aniso_label", "_atom_site_anisotrop_id")
    names = block.column("_atom_site_label")
    if "_atom_site_anisotrop_id" in block.raw and rows is block.raw["_atom_site_anisotrop_id"]:
        names = block.column("_atom_site_id")
    for kind in ("beta", "b", "u"):
        columns = [_tensor_column(block, kind, pair) for pair in PAIRS]
        if rows is None or all(column is None for column in columns):
            continue
        lacking = [pair for pair, column in zip(PAIRS, columns, strict=True) if column is None]
        if lacking:
            texts = ", ".join(f"_atom_site_aniso_{kind}_{pair}" for pair in lacking)
            notes.append(f"anisotropic displacements are not used, because the file lacks {texts}")
            continue
        six = [np.array([as_number(text) for text in column or []]) for column in columns]
        for pair, column, values in zip(PAIRS, columns, six, strict=True):
            _require_numbers(file, f"_atom_site_aniso_{kind}_{pair}", rows, column or [], values)
        if any(len(column) != len(rows) for column in six):
            notes.append("columns of anisotropic displacements have other lengths than their labels and are not used")
            continue
        tensors = displacements.symmetric(*six)
        if kind == "beta":
            tensors = displacements.from_beta(tensors, cell)
        elif kind == "b":
            tensors = displacements.from_b(tensors)
        whole = np.asarray(np.isfinite(tensors).all(axis=(1, 2)))
        # mmCIF gives Cartesian tensors. The core dictionary gives tensors along the reciprocal edges.
        turned = tensors if "_atom_site_anisotrop_id" in block.raw else displacements.cartesian(tensors, cell)
        _require_one_tensor(file, rows, tensors)
        found.update((label, turned[i]) for i, label in enumerate(rows) if whole[i] and tensors[i].any())
    if not found:
        return None
    identities = labels if names is None else [names[i] for i in keep]
    lost = sorted(set(found) - set(identities))
    if lost:
        notes.append(f"anisotropic displacements of {_few(lost)} belong to no site and are not used")
    empty = np.full((3, 3), np.nan)
    result = np.array([found.get(name, empty) for name in identities])
    return result if np.isfinite(result).any() else None


def _require_one_tensor(file: Path, rows: Sequence[str], tensors: Floats) -> None:
    """Refuse a label with two different tensors, because nothing says which site has which tensor."""
    first: dict[str, int] = {}
    for i, label in enumerate(rows):
        known = first.setdefault(label, i)
        if not np.array_equal(tensors[i], tensors[known], equal_nan=True):
            raise SpecimenError(
                file,
                f"site {label}: _atom_site_aniso_label has two lines with different tensors for it. Remove one of "
                "them, or give each site a label of its own.",
            )


def _tensor_column(block: CifBlock, kind: str, pair: str) -> list[str] | None:
    short = f"_atom_site_aniso_{kind}_{pair}"
    macro = f"_atom_site_anisotrop_{kind}[{pair[0]}][{pair[1]}]"
    swapped = f"_atom_site_aniso_{kind}_{pair[::-1]}"
    return block.column(short, macro, swapped)
