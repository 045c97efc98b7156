"""Read CIF and mmCIF with gemmi: all atoms of the cell, or a refusal that says what is missing in the file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stemphony.errors import SpecimenError
from stemphony.specimen import cif_symmetry, copies, orbits, source, statements
from stemphony.specimen.cif_block import CifBlock, as_number, read_blocks, structure_block
from stemphony.specimen.cif_sites import Sites, read_sites
from stemphony.specimen.cif_symmetry import Symmetry
from stemphony.specimen.disorder import exclusive_sites, lists_every_image, overlapping
from stemphony.specimen.displacements import equivalent, turned
from stemphony.specimen.lattice import Floats
from stemphony.specimen.structure import Structure

VOLUME_TOLERANCE = 0.01
"""Largest share by which `_cell_volume` may differ from the volume of lengths and angles, because programs round all of
them."""
SHARE_TOLERANCE = 0.01
"""Number of atoms by which the images of a site on an axis may together exceed one atom, because files round
occupancies."""
UNEQUAL_TENSORS = 0.1
"""Share of its largest component by which a tensor may break the symmetry of its site. If `ROUNDED_TENSOR` is larger,
that decides."""
ROUNDED_TENSOR = 1.5e-3
"""Difference [Å²] by which a small tensor may break the symmetry of its site, because files round components."""
_KEPT = 1e-9
"""Largest distance of a fraction from 1 at which an image is at 0, so that rounding moves no atom to the far end of the
cell."""


def read_cif(file: Path) -> Structure:
    """The structure of a CIF, with symmetry applied and U in Cartesian axes. Statements of the file are compared.

    Raises
    ------
    SpecimenError
        The file is no CIF, lacks information, or contradicts itself; the text says what to add or correct.
    """
    block = structure_block(file, read_blocks(file))
    if not copies.has_copies(block):
        return read_block(file, block, "cif")
    notes: list[str] = []
    structure = read_block(file, copies.of_mmcif(file, source.read_text(file), block.name, notes), "cif")
    return replace(structure, notes=(*notes, *structure.notes), revision=3)


def read_block(file: Path, block: CifBlock, format: str) -> Structure:
    """The structure of one `block` of `file`. The block may come from another `format` that was converted.

    Raises
    ------
    SpecimenError
        The block has no cell, no atoms, or contradicts itself.
    """
    cell = read_cell(file, block)
    sites = read_sites(file, block, cell)
    stated = _stated(block)
    options = cif_symmetry.candidates(file, block, cell)
    for symmetry in options:
        orbits.require_few_images(file, len(sites.symbols), len(symmetry.operations))
    options, expanded = _possible(file, block, sites, options, cell)
    if format == "cif" and sites.cartesian is not None:
        format = "mmcif"
    structure = _chosen(file, block, options, expanded, stated)
    return replace(structure, format=format, stated=stated)


def _possible(
    file: Path, block: CifBlock, sites: Sites, options: Sequence[Symmetry], cell: Floats
) -> tuple[list[Symmetry], list[Structure]]:
    """The options, with their structures, that do not put atoms of two lines on one place; a refusal if all do."""
    possible: list[Symmetry] = []
    expanded: list[Structure] = []
    failures: list[tuple[str, SpecimenError]] = []
    for symmetry in options:
        try:
            expanded.append(_expanded(file, block, sites, symmetry, cell))
            possible.append(symmetry)
        except SpecimenError as error:
            failures.append((symmetry.origin, error))
    if not possible:
        full = next((s for s in options if lists_every_image(sites, s.rotations, s.translations, cell)), None)
        if full is None:
            raise failures[0][1]
        note = f"lists every atom of the cell, so its symmetry ({full.origin}) adds none: each line is one atom"
        possible = [cif_symmetry.identity(full.origin, (*full.notes, note))]
        return possible, [_expanded(file, block, sites, possible[0], cell)]
    if failures:
        note = f"{failures[0][0]}: not used, because it would put atoms of two lines on one place"
        expanded = [replace(structure, notes=(*structure.notes, note)) for structure in expanded]
    return possible, expanded


def read_cell(file: Path, block: CifBlock) -> Floats:
    """Edges of the cell of a `block` as rows [Å]: a along x, b in the plane of x and y. `file` is named in messages.

    Raises
    ------
    SpecimenError
        A length or angle is missing or impossible, or they contradict the volume in the block.
    """
    from ase.geometry import cellpar_to_cell

    values = []
    for tag in ("length_a", "length_b", "length_c", "angle_alpha", "angle_beta", "angle_gamma"):
        text = block.value(f"_cell_{tag}")
        if text is None and tag.startswith("angle"):
            values.append(90.0)  # the default of the CIF dictionary
            continue
        number = np.nan if text is None else as_number(text)
        if not np.isfinite(number) or number <= 0:
            raise SpecimenError(
                file, f"_cell_{tag} is {text or 'missing'!r}; a positive number is needed. Correct the cell."
            )
        values.append(number)
    try:
        cell = np.asarray(cellpar_to_cell(values), dtype=float)
    except AssertionError:
        cell = np.full((3, 3), np.nan)
    if not np.isfinite(cell).all():
        raise SpecimenError(file, f"the cell's angles {values[3:]} cannot meet in a corner. Correct _cell_angle_….")
    if values == [1.0, 1.0, 1.0, 90.0, 90.0, 90.0]:
        raise SpecimenError(file, "has no cell (1 Å edges stand for none). Give the real cell in _cell_length_….")
    stated = block.number("_cell_volume")
    volume = abs(float(np.linalg.det(cell)))
    if stated is not None and abs(stated - volume) > VOLUME_TOLERANCE * volume:
        raise SpecimenError(
            file,
            f"contradicts itself: _cell_volume is {stated:g} Å³, the cell's lengths and angles make {volume:.2f} Å³. "
            "Correct the lengths or angles, or remove _cell_volume.",
        )
    return cell


def _stated(block: CifBlock) -> dict[str, str | float]:
    """Statements of the block about its own structure: formula, Z, density and others."""
    found: dict[str, str | float] = {}
    formula = block.value("_chemical_formula_sum")
    if formula is not None:
        found["formula"] = formula.strip("'\" ")
    z = block.number("_cell_formula_units_z")
    if z is not None:
        found["z"] = z
    numbers = {
        "density_g_cm3": "_exptl_crystal_density_diffrn",
        "measured_density_g_cm3": "_exptl_crystal_density_meas",
        "formula_weight": "_chemical_formula_weight",
    }
    if _of_x_rays(block):
        numbers["electrons"] = "_exptl_crystal_f_000"
    found.update((name, value) for name, tag in numbers.items() if (value := block.number(tag)) is not None)
    if deuterium := _deuterium(block):
        found["deuterium"] = deuterium
    group = block.value(*cif_symmetry.HERMANN_MAUGUIN) or block.value(*cif_symmetry.HALL)
    number = block.value(*cif_symmetry.NUMBER)
    if group or number:
        found["space_group"] = group or str(number)
    return found


def _of_x_rays(block: CifBlock) -> bool:
    """Whether F(000) counts electrons. With neutrons it sums scattering lengths, with electrons their amplitudes."""
    probes = [block.value("_diffrn_radiation_probe"), block.value("_diffrn_radiation_type")]
    return not any(word in (text or "").lower() for text in probes for word in ("neutron", "electron"))


def _deuterium(block: CifBlock) -> float:
    """Share of the hydrogen that is deuterium, from the formula, else from the types of the sites."""
    formula = block.value("_chemical_formula_sum")
    if formula is None:
        kinds = {text.strip("+-0123456789") for text in block.column("_atom_site_type_symbol") or []}
        formula = " ".join(kinds & {"H", "D"})
    return statements.deuterium_share(formula)


def _expanded(file: Path, block: CifBlock, sites: Sites, symmetry: Symmetry, cell: Floats) -> Structure:
    """All atoms of the cell under one set of operations."""
    rotations, translations, as_ase = _ordered(block, symmetry)
    # ASE converts fractions to Cartesian coordinates and back. The same rounding gives the same bits as version 0.1.
    fractions = np.asarray(np.linalg.solve(cell.T, (sites.fractions @ cell).T).T if as_ase else sites.fractions)
    found = orbits.expand(fractions, rotations, translations, cell, sites.reach)
    positions = found.fractions @ cell
    if len(rotations) == 1 and sites.cartesian is not None:
        positions = sites.cartesian.copy()
    # If the fraction of an image is 1 up to rounding, it belongs at 0, not at the far end of the cell.
    positions -= np.where(np.abs(positions @ np.linalg.inv(cell) - 1) < _KEPT, 1.0, 0.0) @ cell
    cartesian = cell.T @ rotations[found.operation] @ np.linalg.inv(cell.T)
    u_aniso = None if sites.u_aniso is None else turned(sites.u_aniso[found.site], cartesian)
    u_iso = None if sites.u_iso is None else sites.u_iso[found.site]
    notes_of_images = _other_multiplicities(block, sites, found, len(rotations))
    if u_aniso is not None:
        notes_of_images += _against_symmetry(sites, found, rotations, cell)
        mean = equivalent(u_aniso)
        u_iso = mean if u_iso is None else np.where(np.isfinite(mean), mean, u_iso)
    occupancy = _whole_images(sites, found, len(rotations), notes := [*sites.notes, *symmetry.notes, *notes_of_images])[
        found.site
    ]
    partial = bool((occupancy < 1).any())
    disorder, group = exclusive_sites(file, sites, found, positions, cell)
    if found.merged:
        names = ", ".join(f"{sites.labels[i]} ({apart:.4f} Å)" for i, apart in list(found.merged.items())[:5])
        notes.append(
            f"images of one site that differ only by rounding are merged to one atom at their mean: {names}"
            f"{', …' if len(found.merged) > 5 else ''}"
        )
    return Structure(
        symbols=sites.symbols[found.site],
        positions=positions,
        cell=cell,
        u_iso=u_iso,
        u_aniso=u_aniso,
        occupancy=occupancy if partial else None,
        disorder=disorder,
        disorder_group=group,
        charge=None if sites.charge is None else sites.charge[found.site],
        reader="gemmi",
        notes=tuple(notes),
        revision=3 if sites.revised else 1 if as_ase and u_iso is None else 2,
    )


def _against_symmetry(sites: Sites, found: orbits.SiteOrbits, rotations: NDArray[np.int64], cell: Floats) -> list[str]:
    """Note on tensors that change under an operation which keeps their site in place."""
    if sites.u_aniso is None:
        return []
    worst: dict[int, float] = {}
    for site, first, second in found.equal_operations:
        tensor = sites.u_aniso[site]
        if np.isnan(tensor).any():
            continue
        pair = cell.T @ rotations[[first, second]] @ np.linalg.inv(cell.T)
        one, other = turned(np.array([tensor, tensor]), pair)
        apart = float(np.abs(one - other).max())
        if apart > max(UNEQUAL_TENSORS * float(np.abs(tensor).max()), ROUNDED_TENSOR):
            worst[site] = max(worst.get(site, 0.0), apart)
    if not worst:
        return []
    names = ", ".join(f"{sites.labels[i]} ({apart:.2g} Å²)" for i, apart in list(worst.items())[:5])
    return [
        f"anisotropic displacements do not have the symmetry of their site: {names}. They are used as they are listed; "
        "check their components, of hexagonal cells U12"
    ]


def _other_multiplicities(block: CifBlock, sites: Sites, found: orbits.SiteOrbits, operations: int) -> list[str]:
    """Note on sites whose number of images differs from the multiplicity that the file states."""
    listed = block.column("_atom_site_symmetry_multiplicity", "_atom_site_site_symmetry_multiplicity")
    if listed is None or len(listed) != len(sites.labels):
        return []
    images = np.bincount(found.site, minlength=len(sites.labels))
    if all(as_number(text) * number == operations for text, number in zip(listed, images, strict=True)):
        return []  # the file states the order of the symmetry of the site, as SHELXL-97 does
    other = [
        f"{label} {listed[i]} and {images[i]}"
        for i, label in enumerate(sites.labels)
        if np.isfinite(as_number(listed[i])) and as_number(listed[i]) != images[i]
    ]
    if not other:
        return []
    more = f" and {len(other) - 5} more" if len(other) > 5 else ""
    return [
        "stated multiplicities differ from the numbers of images that the symmetry makes: "
        f"{', '.join(other[:5])}{more}. Check the coordinates and the setting"
    ]


def _whole_images(sites: Sites, found: orbits.SiteOrbits, operations: int, notes: list[str]) -> Floats:
    """Return the occupancy of each site. On an axis, PDB and mmCIF give that of one image; here, images are added."""
    if sites.cartesian is None:
        return sites.occupancy
    equal = operations / np.bincount(found.site, minlength=len(sites.labels))
    shared = (equal > 1) & (sites.occupancy * equal < 1 + SHARE_TOLERANCE)
    if shared.any():
        notes.append(f"{int(shared.sum())} atoms on axes have the occupancy of one image: their images are added")
    return np.where(shared, np.minimum(sites.occupancy * equal, 1.0), sites.occupancy)


def _ordered(block: CifBlock, symmetry: Symmetry) -> tuple[NDArray[np.int64], Floats, bool]:
    """Return rotations, translations, and whether ASE finds the same group. If so, they have the order of ASE."""
    old = cif_symmetry.ase_operations(block)
    if old is not None and cif_symmetry.triplets(*old) == symmetry.key:
        return *old, True
    return symmetry.rotations, symmetry.translations, False


def _chosen(
    file: Path,
    block: CifBlock,
    options: Sequence[Symmetry],
    expanded: Sequence[Structure],
    stated: Mapping[str, str | float],
) -> Structure:
    """The structure that agrees with the statements of the file. Refuse the file if none agrees, or if several do."""
    verdicts = [_verdict(structure, stated) for structure in expanded]
    fits = [i for i, verdict in enumerate(verdicts) if verdict.consistent]
    if not fits:
        raise SpecimenError(file, _contradiction(options, verdicts))
    decided = ""
    if len(fits) > 1 and not options[0].origin.startswith("operations"):
        fits, decided = _narrowed(block, expanded, fits)
        if len(fits) > 1:
            raise SpecimenError(file, _open_setting([options[i] for i in fits], [expanded[i] for i in fits]))
    first = fits[0]
    notes = list(expanded[first].notes)
    if len(options) > 1 and options[first].notes:
        why = sorted({"z": "Z", "density": "density", "formula": "formula"}[name] for name in verdicts[first].agrees)
        if why or not options[0].origin.startswith("operations"):
            why = [*why, decided] if decided else why
            notes.append(f"{options[first].origin}: chosen by the file's {', '.join(why) or 'cell'}")
    for name, text in verdicts[first].differs.items():
        if name == statements.HYDROGEN:
            notes.append(text)
            continue
        notes.append(f"{text}; the atoms agree with its {'density' if name == 'z' else 'formula units'}")
    notes += verdicts[first].notes
    return replace(expanded[first], notes=tuple(dict.fromkeys(notes)))


def _narrowed(block: CifBlock, expanded: Sequence[Structure], fits: list[int]) -> tuple[list[int], str]:
    """The options that remain, and the rule that excluded others: multiplicities, or distances between atoms."""
    why = ""
    for rule, name in ((_by_multiplicity, "multiplicities"), (_without_overlaps, "distances between atoms")):
        left = rule(block, expanded, fits)
        why = name if len(left) < len(fits) else why
        fits = left
    if all(_same_atoms(expanded[fits[0]], expanded[i]) for i in fits[1:]):
        fits = fits[:1]
    return fits, why


def _open_setting(options: Sequence[Symmetry], expanded: Sequence[Structure]) -> str:
    """Text for a file that does not say which setting or origin of its space group it uses."""
    counts = " or ".join(f"{n} atoms" for n in dict.fromkeys(len(structure.symbols) for structure in expanded))
    settings = [option.setting for option in options]
    origins = len({name.split(":")[0] for name in settings}) == 1
    where, also = "numbers of atoms", " _cell_formula_units_Z with _chemical_formula_sum may decide as well."
    if len({len(structure.symbols) for structure in expanded}) == 1:
        where, also = "places", ""
    return (
        f"does not say which {'origin' if origins else 'setting'} of the space group it uses ({options[0].origin}; "
        f"possible are {', '.join(settings)}), and its own statements do not decide: the cell has {counts}, and the "
        f"{where} differ. Add the one that you mean, such as\n"
        f"_space_group_name_H-M_alt '{settings[0]}'\n"
        f"or the operations (_space_group_symop_operation_xyz).{also}"
    )


def _verdict(structure: Structure, stated: Mapping[str, str | float]) -> statements.Agreement:
    counts = statements.counted(structure.symbols, structure.occupancy)
    volume = abs(float(np.linalg.det(structure.cell)))
    return statements.compare(counts, volume, stated, partial=structure.occupancy is not None)


def _contradiction(options: Sequence[Symmetry], verdicts: Sequence[statements.Agreement]) -> str:
    texts = [
        f"{options[i].origin}: {'; '.join(verdict.differs.values())}" if len(options) > 1 else
        "; ".join(verdict.differs.values())
        for i, verdict in enumerate(verdicts)
    ]  # fmt: skip
    return (
        f"{' | '.join(texts)} (symmetry: {options[0].origin}). Sites or occupancies are missing, or the symmetry "
        "is not clear. Export it again with all sites and all symmetry operations, or correct _chemical_formula_sum, "
        "_cell_formula_units_Z or _exptl_crystal_density_diffrn."
    )


def _by_multiplicity(block: CifBlock, expanded: Sequence[Structure], fits: list[int]) -> list[int]:
    """Choose the options whose number of atoms is the sum of the multiplicities in the file. If none is, choose all."""
    listed = block.column("_atom_site_symmetry_multiplicity", "_atom_site_site_symmetry_multiplicity")
    numbers = [as_number(text) for text in listed or []]
    if not numbers or not all(np.isfinite(numbers)):
        return fits
    agreeing = [i for i in fits if abs(sum(numbers) - len(expanded[i].symbols)) < 0.5]
    return agreeing or fits


def _without_overlaps(block: CifBlock, expanded: Sequence[Structure], fits: list[int]) -> list[int]:
    """Choose the options in which no two whole atoms are at the same place. If there is none, choose all."""
    apart = [i for i in fits if not overlapping(expanded[i])]
    return apart or fits


def _same_atoms(first: Structure, second: Structure) -> bool:
    """Whether both have the same elements at the same places, in any order."""
    if len(first.symbols) != len(second.symbols):
        return False
    inverse = np.linalg.inv(first.cell)
    rows = [
        sorted(zip(s.symbols.tolist(), *np.round(s.positions @ inverse % 1.0 % 0.9999999, 5).T.tolist(), strict=True))
        for s in (first, second)
    ]
    return rows[0] == rows[1]
