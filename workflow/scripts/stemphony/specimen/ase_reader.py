"""Read structures with ASE. Its exceptions, warnings and silent guesses become refusals and notes."""

from __future__ import annotations

import itertools
import re
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from stemphony.errors import SpecimenError
from stemphony.specimen import ase_gaps, columns, elements, source, table, xyz_columns
from stemphony.specimen.source import cannot_read
from stemphony.specimen.structure import Structure

MOST_LINES = 10**12
"""Most lines of a frame that are counted. No file has so many, and Python cannot count beyond its largest integer."""
MOST_COLUMNS = 1000
"""Most columns that an extended XYZ file without atoms may announce. With atoms, their lines decide."""
# Keys of extended XYZ that name a unit, and units that are not Å. The units `metal` and `real` mean Å.
UNIT_KEYS = ("unit", "units", "lengthunit", "lengthunits", "unitlength", "positionunit", "positionunits")
OTHER_LENGTHS = ("nm", "nanometer", "nanometre", "nanometers", "nanometres", "bohr", "au", "a.u.", "atomic", "pm", "m")
# Keys of extended XYZ that hold a shift of the corner of the cell, as OVITO writes it.
ORIGIN_KEYS = ("Origin", "origin", "cell_origin")


def known_format(file: Path) -> str | None:
    """ASE's name of the format; None if ASE does not know it. Raises SpecimenError if the file cannot be read."""
    from ase.io.formats import UnknownFileTypeError, filetype, get_ioformat

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with _as_plain_text(file) as plain:
                found = filetype(str(plain.absolute()))
            get_ioformat(found)
    except UnknownFileTypeError:
        return None
    except Exception as error:  # ASE raises many types
        raise SpecimenError(file, cannot_read(error)) from None
    return str(found)


def load() -> None:
    """Import the modules that reading needs."""
    import ase.io as _  # noqa: F401


def frames(file: Path, index: str, format_ase: str) -> Iterator[Structure]:
    """Structures of `file`, read in this process.

    `index` is a number or a slice in the syntax of ASE, and `format_ase` is ASE's name of the format.

    Raises
    ------
    SpecimenError
        A frame cannot be read. The text names the frame, counted from 0.
    MemoryError
        A frame needs more memory than is available.
    """
    import ase.io

    if format_ase == "extxyz":
        require_whole_xyz(file)
    said = ase_gaps.notes_of(file, format_ase)
    with _as_plain_text(file) as plain:
        # The path is absolute, because ASE would open a relative path that begins with postgres as a database.
        found = ase.io.iread(str(plain.absolute()), index, format_ase, parallel=False, do_not_split_by_at_sign=True)
        for structure in _structures(file, format_ase, found, index):
            yield replace(structure, notes=(*structure.notes, *said)) if said else structure


def _structures(file: Path, format_ase: str, found: Iterator[Any], index: str) -> Iterator[Structure]:
    """Yield the structures of ASE's reader. Its failures and warnings become refusals."""
    number = -1
    while True:
        number += 1
        # Catch warnings per frame: a generator that yields inside catch_warnings would change the caller's filters.
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                atoms = next(found, None)
            except MemoryError:
                raise
            except Exception as error:
                where = f"frame {number} (counted from 0): " if number or index == ":" else ""
                raise SpecimenError(file, where + _failure(file, format_ase, error)) from None
        if atoms is None:
            return
        for warning in caught:
            text = str(warning.message)
            # After these warnings, ASE goes on without the atom, or with a part of the number.
            if text.startswith(("Wrong number", "Badly formed number", "Length of")):
                raise SpecimenError(file, f"damaged: {text[:200]}. Correct the line.")
        yield _structure(file, atoms, format_ase)


def required_format(file: Path) -> str:
    """ASE's name of the format of `file`, see `known_format`.

    Raises
    ------
    SpecimenError
        The file cannot be read, or ASE does not know its format. The text says what to do.
    """
    found = known_format(file)
    if found is None:
        raise SpecimenError(
            file,
            "its format is not known to ASE, neither by its name nor by its content. Use a usual extension "
            "(.cif, .xyz, .vasp, .pdb …), or convert the file with `ase convert`.",
        )
    return found


@contextmanager
def _as_plain_text(file: Path) -> Iterator[Path]:
    """The file, or a copy that ASE can read: in UTF-8, without a byte order mark, in XYZ with C's exponents."""
    is_xyz = source.suffix(file) in (".xyz", ".extxyz")
    marked = source.is_marked(file) or (is_xyz and source.is_latin(file))
    fortran = is_xyz and table.has_fortran(source.head(file))
    if not marked and not fortran:
        yield file
        return
    text = source.read_text(file)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / source.unpacked_name(file)
        copy.write_text(table.in_c(text) if fortran else text, encoding="utf-8")
        yield copy


def has_frames(format_ase: str) -> bool:
    """Whether a file of the format `format_ase`, named as in ASE, may hold several structures."""
    from ase.io.formats import get_ioformat

    return not get_ioformat(format_ase).single


def _failure(file: Path, format_ase: str, error: Exception) -> str:
    """Text for any exception of an ASE reader. If an unknown symbol is the cause, the text names its line."""
    text = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    token = error.args[0] if isinstance(error, KeyError) and error.args else None
    if isinstance(token, str) and token.isdigit():
        return elements.unknown_symbol(token, "species")
    if isinstance(token, str) and re.fullmatch(r"[A-Z][a-z]?[a-z0-9+-]{0,5}", token):
        with source.text(file) as stream:
            for number, line in enumerate(stream, start=1):
                if "=" not in line:
                    for word in line.split():
                        capital = re.search(r"[A-Z][a-z]?", word)
                        if word.capitalize() == token or (capital is not None and capital[0] == token):
                            return elements.unknown_symbol(word, f"line {number}")
    if isinstance(error, UnicodeDecodeError):
        return f"is not a text file, as ASE's format '{format_ase}' should be. Name the structure file itself."
    cause = f"{type(error).__name__}: {text[:200]}" if text else type(error).__name__
    if isinstance(error, StopIteration | EOFError) or not text:
        cause = "it ends before a complete structure"
    return (
        f"ASE cannot read it as '{format_ase}' ({cause}). The file is truncated, damaged or of another kind: "
        "export it again, or give it the extension of its real format."
    )


def _structure(file: Path, atoms: Any, format_ase: str) -> Structure:
    numbers = np.asarray(atoms.numbers)
    unknown = np.flatnonzero((numbers < 1) | (numbers > len(elements.numbers())))
    if len(unknown):
        if format_ase == "extxyz":
            _require_species(file)
        symbol = "X" if numbers[unknown[0]] == 0 else f"Z = {numbers[unknown[0]]}"
        raise SpecimenError(file, elements.unknown_symbol(symbol, f"atom {unknown[0]} (counted from 0)"))
    _require_whole_sites(file, atoms)
    if format_ase == "extxyz":
        _require_angstroms(file, atoms)
    positions = np.array(atoms.get_positions(), dtype=np.float64)
    origin = np.asarray(atoms.get_celldisp(), dtype=np.float64).ravel()
    keyed = _origin(atoms) if format_ase == "extxyz" else np.zeros(3)
    if format_ase == "cube":
        keyed = ase_gaps.cube_origin(file)
    if origin.any() or keyed.any():
        positions = positions - origin - keyed
    quantities = columns.take({name: values for name, values in atoms.arrays.items() if name != "numbers"}, file)
    notes = list(quantities.notes)
    computed = getattr(atoms.calc, "results", {}).get("charges")  # where ASE keeps the columns charge and charges
    if computed is not None and quantities.charge is None and np.any(computed):
        notes.append(columns.CHARGES_NOTE)
    if format_ase == "extxyz":
        notes.extend(_columns_without_names(file))
    if keyed.any():
        corner = np.round(keyed, 6).tolist()
        notes.append(f"the corner of the cell lies at {corner} Å (Origin in the file); atoms count from it")
    return Structure(
        symbols=np.array(atoms.get_chemical_symbols(), dtype="<U2"),
        positions=positions,
        cell=np.array(atoms.cell[:], dtype=np.float64),
        u_iso=quantities.u_iso,
        u_aniso=quantities.u_aniso,
        occupancy=quantities.occupancy,
        charge=quantities.charge,
        format=format_ase,
        reader="ASE",
        periodic=bool(atoms.pbc[2]),
        notes=tuple(notes),
        revision=3 if format_ase == "cube" and keyed.any() else 2 if keyed.any() or quantities.changes_numbers else 1,
    )


def _require_species(file: Path) -> None:
    """Refuse a header without a column of elements. ASE would read every atom as the element X."""
    with source.text(file) as stream:
        header = "".join(itertools.islice(stream, 1, 2))
    names = [name for name, _, _ in xyz_columns.named(header)]
    if names and not {name.lower() for name in names} & {"species", "symbols", *xyz_columns.NUMBERS}:
        raise SpecimenError(
            file,
            f"line 2: Properties names no column species ({', '.join(names)}), so no atom has an element. Name the "
            "column of symbols species:S:1, or that of atomic numbers Z:I:1.",
        )


def _require_angstroms(file: Path, atoms: Any) -> None:
    """Refuse an extended XYZ file whose header names another unit of length. ASE silently takes Å."""
    for key, value in atoms.info.items():
        plain = key.lower().replace("_", "")
        if plain in UNIT_KEYS and str(value).strip().lower() in OTHER_LENGTHS:
            raise SpecimenError(
                file,
                f"line 2 says {key}={value}, but lengths of extended XYZ are in Å. Write them in Å, or remove {key} if "
                "they are.",
            )


def _origin(atoms: Any) -> np.ndarray:
    for key in ORIGIN_KEYS:
        value = np.asarray(atoms.info.get(key, ()))
        if value.shape == (3,) and value.dtype.kind in "if":
            return value.astype(float)
    return np.zeros(3)


def _columns_without_names(file: Path) -> list[str]:
    """Note on columns behind the coordinates of an XYZ file whose second line does not name them."""
    with source.text(file) as stream:
        lines = list(itertools.islice(stream, 4))
    if len(lines) < 3 or re.search(r"\bProperties\s*=", lines[1], re.IGNORECASE):
        return []
    words = lines[3 if len(lines) > 3 else 2].split()
    if len(words) <= 4:
        return []
    return [
        "what stands behind the coordinates (from the fifth column) has no name and is not used; "
        "name them in Properties=…, such as species:S:1:pos:R:3:u_iso:R:1"
    ]


def _require_whole_sites(file: Path, atoms: Any) -> None:
    """Refuse shared sites. ASE keeps their occupancies apart from the atoms, as in files written from a CIF."""
    sites = atoms.info.get("occupancy")
    for site in sites.values() if isinstance(sites, dict) else ():
        if isinstance(site, dict):
            parts = {symbol: 1.0 if value in (".", "?") else value for symbol, value in site.items()}
            if len(parts) > 1 or any(not isinstance(v, int | float) or not abs(v - 1) <= 1e-6 for v in parts.values()):
                text = " + ".join(f"{symbol} {value}" for symbol, value in parts.items())
                raise SpecimenError(
                    file,
                    f"a site has an occupancy of {text}, which this format cannot hold. Use the CIF that it was made "
                    "from, or write a supercell in which every site is one whole atom.",
                )


def _count_rows(file: Path, header: str, stream: Iterator[str], count: int, number: int) -> int:
    """Number of rows of atoms that follow a header, at most `count`. Line `number` announces `count`."""
    first = next(stream, "") if count else ""
    _require_columns(file, header, first, number + 2)
    stream = itertools.chain([first] if first else [], stream)
    names = {name.lower() for name, _, _ in xyz_columns.named(header)}
    if not names & set(xyz_columns.SYMBOLS) or not names & set(xyz_columns.NUMBERS):
        return sum(1 for _ in itertools.islice(stream, count))
    rows = list(itertools.islice(stream, count))
    xyz_columns.require_one_element(file, header, rows, number + 2)
    return len(rows)


def _require_columns(file: Path, header: str, first: str, number: int) -> None:
    """Refuse a header that names more columns than line `number` has. ASE would reserve memory for all of them."""
    from ase.io.extxyz import key_val_str_to_dict

    if "Properties" not in header:
        return
    try:
        counts = str(key_val_str_to_dict(header).get("Properties", "")).split(":")[2::3]
        named = sum(max(int(count), 0) for count in counts)
    except (ValueError, TypeError, KeyError, IndexError, RecursionError):
        return  # ASE will say what is wrong
    if named > (len(first.split()) if first.strip() else MOST_COLUMNS):
        raise SpecimenError(
            file,
            f"line {number}: has {len(first.split())} columns, but Properties in line {number - 1} names {named}. "
            "Correct one of them, or export the file again.",
        )


def require_whole_xyz(file: Path) -> int:
    """Number of frames of an XYZ file, whose lines are checked first.

    ASE silently stops at an empty line between frames, and believes any number of atoms.

    Raises
    ------
    SpecimenError
        An empty line stands between frames, or a number of atoms is wrong; the text names the line.
    """
    with source.text(file) as stream:
        number, frames = 1, 0
        for line in stream:
            if not line.strip():
                rest = next((i for i, text in enumerate(stream, number + 1) if text.strip()), None)
                if rest is not None:
                    raise SpecimenError(
                        file,
                        f"line {number} is empty, but line {rest} goes on. Frames of an XYZ file follow each "
                        "other without empty lines: remove it.",
                    )
                return frames
            if line.lstrip().startswith("VEC"):
                number += 1
                continue
            try:
                count = int(line)
            except ValueError:
                raise SpecimenError(
                    file,
                    f"line {number}: got {line.strip()[:40]!r}, expected a frame's number of atoms. "
                    "The file is damaged or no XYZ file: export it again.",
                ) from None
            header = next(stream, None)
            got = 0 if header is None else 1 + _count_rows(file, header, stream, min(max(count, 0), MOST_LINES), number)
            if got < count + 1:
                raise SpecimenError(
                    file,
                    f"line {number} announces {count} atoms, the file ends after {max(got - 1, 0)} "
                    f"(frame {frames}, counted from 0): it is truncated. Copy or export it again.",
                )
            number += max(count, 0) + 2
            frames += 1
        return frames
