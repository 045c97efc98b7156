"""Symmetry operations of a CIF, from a list of operations, a Hall symbol, a Hermann-Mauguin symbol or a number."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemphony.errors import SpecimenError
from stemphony.specimen import orbits
from stemphony.specimen.cif_block import CifBlock
from stemphony.specimen.lattice import Floats

METRIC_TOLERANCE = 0.01
"""Largest share by which an operation may change the metric tensor of the cell. Rounded lengths and angles change it by
less."""

OPERATIONS = ("_space_group_symop_operation_xyz", "_symmetry_equiv_pos_as_xyz", "_space_group_symop_xyz")
MAGNETIC = ("_space_group_symop_magn_operation_xyz",)
CENTERING = ("_space_group_symop_magn_centering_xyz",)
MODULATED = ("_space_group_symop_ssg_operation_algebraic", "_space_group_symop_magn_ssg_operation_algebraic")
MODULATING = (
    "_cell_wave_vector", "_cell_subsystem_", "_atom_site_displace_", "_atom_site_occ_fourier", "_atom_site_occ_special",
    "_atom_site_u_fourier", "_atom_site_u_special",
)  # fmt: skip
"""Beginnings of the names of quantities that vary from cell to cell."""
MAGNETIC_NAMES = ("_space_group_magn_name_bns", "_space_group_magn_name_og", "_space_group_magn_number_bns")
HALL = ("_space_group_name_hall", "_symmetry_space_group_name_hall")
HERMANN_MAUGUIN = (
    "_space_group_name_h-m_alt", "_symmetry_space_group_name_h-m", "_space_group_name_h-m_full",
    "_space_group_name_h-m",
    "_symmetry_space_group_name_h-m_full", "_symmetry_space_group_name_h-m_alt", "_space_group_name_h-m_ref",
)  # fmt: skip
NUMBER = ("_space_group_it_number", "_symmetry_int_tables_number")
CODE = ("_space_group_it_coordinate_system_code", "_symmetry_space_group_setting")
# ICSD appends Z or S to the symbol of a group with two origins (at the centre of inversion, or at another point), and
# H, HR, R or RS to the symbol of a rhombohedral group in hexagonal or rhombohedral axes.
ICSD_LETTERS = {"Z": "2", "S": "1", "HR": "H", "RS": "R"}


@dataclass(frozen=True)
class Symmetry:
    """One set of operations: x' = R x + t in fractions of the cell.

    Attributes
    ----------
    operations : tuple of gemmi.Op
        Each operation once, the identity first.
    origin : str
        Where the operations come from, in words.
    notes : tuple of str
        What was assumed.
    number, setting : int or None, str
        Number of the space group, and its symbol with setting and origin, if they are known.
    """

    operations: tuple[Any, ...]
    origin: str
    notes: tuple[str, ...] = ()
    number: int | None = field(default=None, compare=False)
    setting: str = field(default="", compare=False)

    @property
    def key(self) -> frozenset[str]:
        """The operations as a set. Equal groups have equal sets, whatever the order of the operations."""
        return frozenset(op.triplet() for op in self.operations)

    @property
    def rotations(self) -> NDArray[np.int64]:
        """(G, 3, 3) integers."""
        return np.array([np.array(op.rot) // 24 for op in self.operations])

    @property
    def translations(self) -> Floats:
        """(G, 3) fractions of the cell."""
        return np.array([op.tran for op in self.operations]) / 24.0

    def allows(self, cell: Floats) -> bool:
        """Whether every rotation keeps the metric of `cell` (rows a, b, c), so that symmetry and cell fit."""
        metric = cell @ cell.T
        turned = np.einsum("gki,kl,glj->gij", self.rotations, metric, self.rotations)
        scale = np.sqrt(np.outer(np.diag(metric), np.diag(metric)))
        return bool((np.abs(turned - metric) <= METRIC_TOLERANCE * scale).all())


def candidates(file: Path, block: CifBlock, cell: Floats) -> list[Symmetry]:
    """Sets of operations that the `block` may mean: one if it is clear, several if it does not say origin or setting.

    `cell` (3, 3) has the edges as rows [Å], and `file` is named in messages.

    Raises
    ------
    SpecimenError
        The block gives symmetry that cannot be read, or that contradicts itself or the cell.
    """
    if block.column(*MODULATED) or (name := _modulation(block)):
        why = "superspace operations" if block.column(*MODULATED) else name
        raise SpecimenError(
            file,
            f"describes a modulated structure ({why}), whose atoms no unit cell repeats. Write a "
            "supercell approximant with another program.",
        )
    found = _listed(file, block)
    if not found and (found := _from_hall(block)):
        _require_agreement(file, block, found)
    found = found or _from_symbol(file, block, cell) or _from_number(file, block)
    if not found:
        symbols = [block.value(*names) for names in (HALL, HERMANN_MAUGUIN, NUMBER, MAGNETIC_NAMES)]
        if any(symbols):
            raise SpecimenError(
                file,
                f"the symmetry {next(s for s in symbols if s)!r} is not known. Add the symmetry operations "
                "(_space_group_symop_operation_xyz), or the Hall symbol (_space_group_name_Hall).",
            )
        note = "gives no symmetry: the listed sites are taken for all atoms of the cell (P 1)"
        return [_made(["x,y,z"], "none given", (note,))]
    allowed = [symmetry for symmetry in found if symmetry.allows(cell)]
    if not allowed:
        raise SpecimenError(
            file,
            f"the symmetry ({found[0].origin}) does not fit the cell: an operation changes its lengths or angles. "
            "Correct the symmetry, its setting, or _cell_length and _cell_angle. If the file lists all atoms of this "
            "cell, such as a primitive one, write the symmetry P 1.",
        )
    return _distinct(allowed)


def _modulation(block: CifBlock) -> str:
    """Name of the first value that describes a modulation; empty if there is none."""
    named = next((block.written[name] for name in block.raw if name.startswith(MODULATING)), "")
    if not named and (block.number("_cell_modulation_dimension") or 0) > 0:
        named = "_cell_modulation_dimension"
    return named


def _distinct(found: Sequence[Symmetry]) -> list[Symmetry]:
    kept: dict[frozenset[str], Symmetry] = {}
    for symmetry in found:
        kept.setdefault(symmetry.key, symmetry)
    return list(kept.values())


def identity(origin: str, notes: tuple[str, ...] = ()) -> Symmetry:
    """P 1, for a list of all atoms of a cell.

    `origin` says where the symmetry comes from, `notes` what a user must know.
    """
    return _made(["x,y,z"], origin, notes)


def _made(triplets: Sequence[str], origin: str, notes: tuple[str, ...] = ()) -> Symmetry:
    import gemmi

    operations = dict.fromkeys(gemmi.Op(text).wrap().triplet() for text in triplets)
    return Symmetry(tuple(gemmi.Op(text) for text in operations), origin, notes)


def _listed(file: Path, block: CifBlock) -> list[Symmetry]:
    """Operations that the block lists. Magnetic operations include their centring."""
    magnetic = block.column(*MAGNETIC)
    texts = magnetic or block.column(*OPERATIONS)
    texts = [text for text in texts or [] if text.strip() not in (".", "?", "")]
    if not texts:
        return []
    try:
        made = _made([_triplet(text) for text in texts], "operations listed in the file")
        if magnetic and (centring := block.column(*CENTERING)):
            shifts = _made([_triplet(text) for text in centring if text.strip() not in (".", "?")], "")
            orbits.require_few_images(file, 1, len(shifts.operations) * len(made.operations))
            products = [shift * op for shift in shifts.operations for op in made.operations]
            made = _made([op.triplet() for op in products], made.origin)
    except (ValueError, RuntimeError) as error:
        bad = next((text for text in texts if not _is_operation(text)), texts[0])
        raise SpecimenError(
            file,
            f"the symmetry operation {bad!r} cannot be read ({str(error)[:80]}). Correct it, such as 'x,1/2+y,-z'.",
        ) from None
    orbits.require_few_images(file, 1, len(made.operations))
    return _beside_names(block, made if made.key == {"x,y,z"} else _closed(file, made), magnetic is not None)


def _beside_names(block: CifBlock, made: Symmetry, magnetic: bool) -> list[Symmetry]:
    """The listed operations. If they are only a part of the named group, for example without centring, both."""
    name, other = _named(block)
    if name is None or magnetic:
        return [made]
    listed = "x,y,z alone" if len(made.operations) == 1 else f"{len(made.operations)} symmetry operations"
    if not other:
        if len(made.operations) > 1:
            return [made]  # files with a complete list often name a setting that no table has
        note = f"lists {listed}, but names the space group {name}, which is not known: the listed operation is used"
        return [Symmetry(made.operations, made.origin, (*made.notes, note))]
    if any(len(made.operations) == len(s.operations) and _number_of(made) in (None, s.number) for s in other):
        return [made]
    are = "operation is" if len(made.operations) == 1 else "operations are"
    note = f"lists {listed}, but names the space group {name}: the listed {are} used"
    symbol_note = f"lists {listed}; the operations of {name} are used, because the file's own statements need them"
    return [
        Symmetry(made.operations, made.origin, (*made.notes, note)),
        *(Symmetry(s.operations, f"symbol {name}", (symbol_note, *s.notes)) for s in other if made.key < s.key),
    ]


def _named(block: CifBlock) -> tuple[str | None, list[Symmetry]]:
    """The space group that the block names beside a list of operations, and the settings that this name may mean."""
    symbol, hall, number = block.value(*HERMANN_MAUGUIN), block.value(*HALL), block.number(*NUMBER)
    if symbol is not None:
        return symbol, _by_symbol(symbol, None, None)
    if hall is not None:
        return hall, _from_hall(block)
    return (None, []) if number is None else (f"number {number:g}", _of_number(int(number)))


def _of_number(number: int) -> list[Symmetry]:
    import gemmi

    return [_of_group(s, f"number {number}") for s in gemmi.spacegroup_table_itb() if s.number == number]


def _number_of(symmetry: Symmetry) -> int | None:
    """Number of the space group of these operations; None for a setting that no table has."""
    import gemmi

    group = gemmi.find_spacegroup_by_ops(gemmi.GroupOps(list(symmetry.operations)))
    return None if group is None else int(group.number)


def _closed(file: Path, made: Symmetry) -> Symmetry:
    """Return `made` if it is a group. If products of its operations are missing, add them."""
    known = {op.triplet(): op for op in made.operations}
    grown = dict(known)
    fresh = list(known.values())
    while fresh and len(grown) <= 192:
        products = [(a * b).wrap() for a in fresh for b in known.values()]
        fresh = [op for op in {p.triplet(): p for p in products}.values() if op.triplet() not in grown]
        grown.update((op.triplet(), op) for op in fresh)
    if len(grown) == len(known):
        return made
    if len(grown) > 192:
        raise SpecimenError(
            file,
            "the listed symmetry operations do not belong to one space group. Correct "
            "_space_group_symop_operation_xyz.",
        )
    note = (
        f"lists {len(known)} symmetry operations, which are no complete group: the {len(grown) - len(known)} products "
        "that are missing are added"
    )
    return Symmetry(tuple(grown.values()), made.origin, (note,))


def _triplet(text: str) -> str:
    """Reduce an operation to the form `x,y,z`, without a fourth part (time reversal), quotes, numbering and spaces."""
    parts = text.strip(" '\"").replace(" ", "").replace("*", "").split(",")
    return ",".join(part.lower() for part in parts[:3])


def _is_operation(text: str) -> bool:
    import gemmi

    try:
        gemmi.Op(_triplet(text))
    except (ValueError, RuntimeError):
        return False
    return True


def _from_hall(block: CifBlock) -> list[Symmetry]:
    import gemmi

    name = block.value(*HALL)
    if name is None:
        return []
    try:
        group = gemmi.symops_from_hall(name.replace("_", " "))
    except (ValueError, RuntimeError):
        return []
    made = _made([op.triplet() for op in group], f"Hall symbol {name}")
    return [Symmetry(made.operations, made.origin, number=_number_of(made))]


def _require_agreement(file: Path, block: CifBlock, found: Sequence[Symmetry]) -> None:
    """Raise SpecimenError if the symbol or the number names another space group than the Hall symbol."""
    symbol, number, hall = block.value(*HERMANN_MAUGUIN), block.number(*NUMBER), found[0].number
    numbers = {s.number for s in _by_symbol(symbol, None, None)} if symbol is not None else set()
    named: list[tuple[str, set[int | None]]] = [
        (repr(symbol), numbers),
        (f"number {number}", set() if number is None else {int(number)}),
    ]
    for name, others in named:
        if hall is not None and others and hall not in others:
            raise SpecimenError(
                file,
                f"contradicts itself: the {found[0].origin} is space group {hall}, but {name} is space group "
                f"{min(n or 0 for n in others)}. Correct one of them, or add the symmetry operations "
                "(_space_group_symop_operation_xyz).",
            )
    settings = [] if symbol is None else _by_symbol(symbol, None, None)
    has_own_origin = "(" in (block.value(*HALL) or "")
    if settings and not has_own_origin and all(s.key != found[0].key for s in settings):
        raise SpecimenError(
            file,
            f"contradicts itself: the {found[0].origin} and {symbol!r} are different settings of one space group. "
            "Correct one of them, or add the symmetry operations (_space_group_symop_operation_xyz).",
        )


def _from_symbol(file: Path, block: CifBlock, cell: Floats) -> list[Symmetry]:
    number = block.number(*NUMBER)
    code = block.value(*CODE)
    for tag in HERMANN_MAUGUIN:
        name = block.value(tag)
        found = [] if name is None else _by_symbol(name, cell, code)
        if not found:
            continue
        if number is not None and all(s.number not in (None, int(number)) for s in found):
            raise SpecimenError(
                file,
                f"contradicts itself: the symbol {name!r} is space group {found[0].number}, the stated number is "
                f"{number:g}. Correct one of them, or add the symmetry operations (_space_group_symop_operation_xyz).",
            )
        return found
    return []


def _by_symbol(name: str, cell: Floats | None, code: str | None) -> list[Symmetry]:
    """Settings that a Hermann-Mauguin symbol may mean; two if the symbol does not say the origin."""
    import gemmi

    text, extension = _split(name)
    extension = extension or _code_extension(code)
    angles = (90.0, 90.0) if cell is None else _angles(cell)
    group = gemmi.find_spacegroup_by_name(text, *angles)
    if group is None and _squeezed(text) in _full_symbols():
        group = gemmi.find_spacegroup_by_name(_full_symbols()[_squeezed(text)], *angles)
    if group is None:
        group = _any_axis(text, cell)
    if group is None:
        return []
    of_number = [s for s in gemmi.spacegroup_table() if s.number == group.number]
    named = [s for s in of_number if s.qualifier and s.qualifier.upper() == extension]
    if named:
        return [_of_group(named[0], f"symbol {name}")]
    settings = [s for s in of_number if s.hm == group.hm]
    known = {s.ext for s in settings}
    if extension in known:
        settings = [s for s in settings if s.ext == extension]
    elif {"H", "R"} & known:
        settings = [group]
    if len(settings) > 1:
        return [
            _of_group(s, f"symbol {name}", (f"does not say which origin of {name} it uses: choice {s.ext} is taken",))
            for s in settings
        ]
    return [_of_group(settings[0], f"symbol {name}")]


def _of_group(group: Any, origin: str, notes: tuple[str, ...] = ()) -> Symmetry:
    made = _made([op.triplet() for op in group.operations()], origin, notes)
    return Symmetry(made.operations, origin, notes, group.number, group.xhm())


def _split(name: str) -> tuple[str, str]:
    """Split a symbol from its extension: origin (1, 2), axes (H, R) or setting (b1, cab). Underscores are removed."""
    text = re.sub(r"\((\d)\)", r"\1", name.strip(" '\"").replace("_", "")).strip()
    match = re.search(
        r"(?::\s*|\(\s*origin choice\s*|\s+)(HR|RS|[12HRSZ]|(?<=:)-?[ABC][-ABC]*[123]?)\s*\)?$", text, re.IGNORECASE
    )
    if match is None:
        attached = re.fullmatch(r"([A-Z].*[a-z\d])(HR|RS|[ZSHR])", text) if " " not in text else None
        return (attached[1], ICSD_LETTERS.get(attached[2], attached[2])) if attached else (text, "")
    letter = match[1].upper()
    separated = match[0].strip()[0] in ":("
    if not separated and letter.isdigit():
        return text, ""  # the last part of a symbol such as `P 2 2 2`
    return text[: match.start()].strip(), ICSD_LETTERS.get(letter, letter)


def _code_extension(code: str | None) -> str:
    text = (code or "").strip().upper()
    return text if re.fullmatch(r"[12HR]|-?[ABC][-ABC]*[123]?", text) else ""


def _angles(cell: Floats) -> tuple[float, float]:
    from stemphony.specimen.lattice import angles

    found = angles(cell)
    return found[0], found[2]


def _any_axis(text: str, cell: Floats | None) -> Any:
    """The group of a short monoclinic symbol such as `P 21/b`. Its letter or the cell decides the unique axis."""
    import gemmi

    parts = text.split()
    short = "".join(parts[1:]) if len(parts) > 1 else text[1:]
    centring = text[:1].upper()
    options = [f"{centring} 1 {short} 1", f"{centring} 1 1 {short}", f"{centring} {short} 1 1"]
    for option in options:
        group = gemmi.find_spacegroup_by_name(option)
        if group is not None and (cell is None or _of_group(group, "").allows(cell)):
            return group
    return None


@cache
def _full_symbols() -> dict[str, str]:
    """Short symbol of each full symbol, such as `P 4/m -3 2/m`, from the tables of spglib."""
    import spglib

    found: dict[str, str] = {}
    for hall_number in range(1, 531):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # spglib warns that its error handling will change
            kind = spglib.get_spacegroup_type(hall_number)
        if kind is None:
            continue
        # In `P 2_1/c = P 1 2_1/n 1`, the text behind the sign is the symbol of this setting.
        short = kind.international.split("=")[-1].strip().replace("_", "")
        found.setdefault(_squeezed(kind.international_full), short)
    return found


def _squeezed(symbol: str) -> str:
    return re.sub(r"[\s_]", "", symbol).lower()


def _from_number(file: Path, block: CifBlock) -> list[Symmetry]:
    import gemmi

    value = block.number(*NUMBER)
    if value is None or block.value(*HERMANN_MAUGUIN, *HALL) is not None:
        return []
    number = int(value)
    settings = [s for s in gemmi.spacegroup_table_itb() if s.number == number]
    if not settings:
        raise SpecimenError(file, f"states the space group number {value:g}; 1 to 230 exist. Correct it.")
    settings = _coded(settings, block.value(*CODE))
    note = f"gives the space group by its number {number} alone"
    return [
        _of_group(s, f"number {number}", (f"{note}: the setting {s.xhm()} is taken",) if len(settings) > 1 else ())
        for s in settings
    ]


def _coded(settings: Sequence[Any], code: str | None) -> list[Any]:
    """The settings that a code such as `2`, `r`, `b1` or `b` (unique axis) names; all if it names none."""
    name = _code_extension(code)
    named = [s for s in settings if name and name in (s.ext.upper(), s.qualifier.upper())]
    return named or [s for s in settings if name and s.qualifier.upper().rstrip("123") == name] or list(settings)


def ase_operations(block: CifBlock) -> tuple[NDArray[np.int64], Floats] | None:
    """Rotations and translations that ASE takes from the `block`, in its order; None if ASE refuses the block.

    They are (G, 3, 3) and (G, 3) in fractions of the cell. The order decides the numbers of the atoms, and so the
    displacement that each atom draws. If ASE reads a structure correctly, this order is kept.
    """
    if _states_p1(block):
        return np.eye(3, dtype=np.int64)[None], np.zeros((1, 3))
    from ase.io.cif import CIFBlock

    names = (*OPERATIONS, *HERMANN_MAUGUIN, *NUMBER, "_symmetry_space_group_setting", "_symmetry_cell_setting")
    tags: dict[str, Any] = {}
    for name in (*names, "_space_group_crystal_system"):
        values = block.raw.get(name)
        if values:
            is_list = name in OPERATIONS
            tags[block.written[name]] = list(values) if is_list else values[0]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pairs = CIFBlock("x", tags).get_spacegroup(True).get_symop()
    except Exception:  # ASE raises many types
        return None
    rotations, translations = zip(*pairs, strict=True)
    return np.array(rotations), np.array(translations)


def _states_p1(block: CifBlock) -> bool:
    """Whether the block lists the identity alone and calls it P 1, by names that ASE reads.

    Most programs write structures so. What ASE finds is then known, and this process need not import it, which takes a
    third of a second.
    """
    listed, number = block.column(*OPERATIONS), block.column(*NUMBER)
    symbols = [block.written[name] for name in HERMANN_MAUGUIN if name in block.raw]
    return (
        listed is not None
        and ["".join(text.split()).lower() for text in listed] == ["x,y,z"]
        and symbols in (["_space_group_name_h-m_alt"], ["_symmetry_space_group_name_h-m"])
        and block.value(*HERMANN_MAUGUIN) in ("P 1", "P1")
        and number in (None, ["1"])
        and "_symmetry_space_group_setting" not in block.raw
    )


def triplets(rotations: NDArray[np.int64], translations: Floats) -> frozenset[str]:
    """The operations as a set of texts, comparable with `Symmetry.key`.

    `rotations` (M, 3, 3) and `translations` (M, 3) are in fractions of the cell.
    """
    import gemmi

    found = set()
    for rotation, translation in zip(rotations, translations, strict=True):
        op = gemmi.Op()
        op.rot = (24 * np.asarray(rotation)).astype(int).tolist()
        op.tran = np.rint(24 * np.asarray(translation)).astype(int).tolist()
        found.add(op.wrap().triplet())
    return frozenset(found)
