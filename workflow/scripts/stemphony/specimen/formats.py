"""Structure files in, atoms as the file gives them out. The only importer of ASE.

ASE is imported inside functions: jobs and merge read `specimen.nc` and never load it.
"""

from __future__ import annotations

import io
import itertools
import lzma
import re
import warnings
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np

from stemphony.errors import SpecimenError
from stemphony.specimen.lammps import require_lammps_elements, require_whole_lammps, scaled_lammps
from stemphony.specimen.lattice import Floats
from stemphony.specimen.sites import require_clear_cif, require_full_occupancy, unknown_symbol
from stemphony.specimen.structure import Structure


def detect_format(file: Path, requested: str) -> str:
    """`ase` or `stemsalabim`; `auto` looks at the name, then at the second and third line."""
    if requested in ("ase", "stemsalabim"):
        return requested
    if requested != "auto":
        raise SpecimenError(file, f"format '{requested}' is unknown. Use auto, ase or stemsalabim.")
    if _stem_suffix(file) != ".xyz":
        return "ase"
    with _text(file) as stream:
        _, header, atom = (stream.readline(4096) for _ in range(3))
    lattice = _lattice_values(header)
    if len(atom.split()) in (5, 6) and (_numbers(header, 3) is not None or lattice is not None):
        return "stemsalabim"
    return "ase"


def read_stemsalabim(file: Path) -> Structure:
    """STEMsalabim's file: number of atoms; cell [nm]; element, x, y, z [nm], ⟨u_x²⟩ [nm²] per atom."""
    elements = _elements()
    layout = "STEMsalabim's lines are `element x y z msd` in nm and nm²."
    with _text(file) as stream:
        lines = stream.read().splitlines()
    try:
        count = int(lines[0]) if lines else -1
    except ValueError:
        count = -1
    if count < 1:
        got = lines[0].strip()[:40] if lines else ""
        raise SpecimenError(
            file,
            f"line 1: got {got!r}, expected the number of atoms, at least 1. {layout} Another kind of file "
            "needs `specimen.format: ase`.",
        )
    header = lines[1] if len(lines) > 1 else ""
    lengths, lattice = _numbers(header, 3), _lattice_values(header)
    if lengths is None and lattice is None:
        raise SpecimenError(
            file,
            f"line 2: got {header.strip()[:60]!r}, expected the cell's three lengths in nm, or "
            'Lattice="lx 0 0 0 ly 0 0 0 lz" in nm without Properties. Correct the line, or set '
            "`specimen.format: ase` if the file is in Å.",
        )
    cell = np.diag(lengths) if lengths is not None else np.reshape(np.asarray(lattice, dtype=float), (3, 3))

    symbols: list[str] = []
    rows = np.empty((min(count, max(len(lines) - 2, 0)), 4))
    for row, line in enumerate(lines[2 : 2 + len(rows)]):
        words, number = line.split(), row + 3
        if len(words) == 6:
            raise SpecimenError(
                file,
                f"line {number}: a sixth column (custom slicing) is not available in this version. "
                "Remove it; slices follow from `grating.slice_thickness_angstrom`.",
            )
        values = _numbers(" ".join(words[1:]), 4)
        if values is None:
            raise SpecimenError(
                file,
                f"line {number}: got {line.strip()[:60]!r}, expected five columns. {layout} Correct the line.",
            )
        if words[0] not in elements:
            raise SpecimenError(file, unknown_symbol(words[0], f"line {number}"))
        if not np.isfinite(values).all() or values[3] < 0:
            what = "a coordinate" if not np.isfinite(values[:3]).all() else "the msd"
            raise SpecimenError(
                file,
                f"line {number}: {what} of {words[0]} is out of range in {line.strip()[:60]!r}; coordinates "
                "are finite, an msd is finite and at least 0. Correct the line.",
            )
        symbols.append(words[0])
        rows[row] = values
    if len(rows) < count:
        raise SpecimenError(
            file,
            f"line 1 announces {count} atoms, the file ends after {len(rows)}: it is truncated. "
            "Copy or export it again.",
        )
    for number, line in enumerate(lines[2 + count :], start=3 + count):
        if line.strip():
            raise SpecimenError(
                file, f"line {number}: more than the {count} atoms that line 1 announces. Correct line 1."
            )
    return Structure(np.array(symbols, dtype="<U2"), 10.0 * rows[:, :3], 10.0 * cell, 100.0 * rows[:, 3])


def read_first(file: Path) -> Structure:
    """The first structure of a file through ASE."""
    for structure in read_frames(file, 0):
        return structure
    raise SpecimenError(file, "ASE finds no structure in it. Export the structure again.")


def read_frames(file: Path, index: int | str) -> Iterator[Structure]:
    """Structures of a file through ASE, whose exceptions and warnings end here."""
    import ase.io

    format_ase = _ase_format(file)
    if format_ase == "extxyz":
        _require_whole_xyz(file)
    if format_ase in ("lammps-data", "lammps-dump-text"):
        with _text(file) as stream:
            require_lammps_elements(file, stream, format_ase)
    options: dict[str, Any] = {"store_tags": True} if format_ase == "cif" else {}
    # An absolute path: a relative one named postgres… would be opened as a database.
    frames = ase.io.iread(
        str(file.absolute()), index, format_ase, parallel=False, do_not_split_by_at_sign=True, **options
    )
    number = -1
    while True:
        number += 1
        # Per frame, since a generator that yields inside catch_warnings would change its caller's filters.
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                atoms = next(frames, None)
            except Exception as error:
                where = f"frame {number} (counted from 0): " if number or index == ":" else ""
                raise SpecimenError(file, where + _ase_failure(file, format_ase, error)) from None
        if atoms is None:
            return
        for warning in caught:
            text = str(warning.message)
            # ASE goes on without the atom, or with half of the number
            if text.startswith(("Wrong number", "Badly formed number", "Length of")):
                raise SpecimenError(file, f"damaged: {text[:200]}. Correct the line.")
        yield _from_ase(file, atoms, format_ase)


def covalent_radii(symbols: Sequence[str]) -> Floats:
    """Covalent radius [Å] of each symbol."""
    from ase.data import atomic_numbers, covalent_radii

    return np.array([covalent_radii[atomic_numbers[symbol]] for symbol in symbols])


def _elements() -> frozenset[str]:
    from ase.data import chemical_symbols

    return frozenset(chemical_symbols[1:])  # without X, which stands for no element


def cannot_read(error: Exception) -> str:
    """What is told about a file whose bytes cannot be had."""
    if isinstance(error, OSError) and error.errno is not None:
        return f"cannot be read ({error.strerror}). Check the path and its permissions."
    return f"cannot be read ({error}). It is damaged or truncated: copy it again."


@contextmanager
def _text(file: Path) -> Iterator[IO[str]]:
    """Text of a file, unpacked if its name says so."""
    from ase.io.formats import open_with_compression

    try:
        # latin-1 never fails: whether a file is text is for its reader to say
        with io.TextIOWrapper(open_with_compression(str(file), "rb"), encoding="latin-1") as stream:
            yield stream
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise SpecimenError(file, cannot_read(error)) from None


def _stem_suffix(file: Path) -> str:
    suffixes = [suffix.lower() for suffix in file.suffixes]
    if suffixes and suffixes[-1] in (".gz", ".bz2", ".xz"):
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def _numbers(text: str, count: int) -> list[float] | None:
    words = text.replace(",", " ").split()
    if len(words) != count:
        return None
    try:
        return [float(word) for word in words]
    except ValueError:
        return None


def _lattice_values(header: str) -> list[float] | None:
    """The nine numbers of a `Lattice="…"` that stands without Properties."""
    match = re.search(r"\bLattice\s*=\s*[\"'{\[]([^\"'}\]]*)[\"'}\]]", header, re.IGNORECASE)
    if match is None or re.search(r"\bProperties\s*=", header, re.IGNORECASE):
        return None
    return _numbers(match.group(1), 9)


def _ase_format(file: Path) -> str:
    from ase.io.formats import UnknownFileTypeError, filetype, get_ioformat

    with _text(file) as stream:
        head = stream.read(2000)
    # ASE tells a LAMMPS data file by nothing but an explicit format
    if re.search(r"^\s*\d+\s+atoms\b", head, re.MULTILINE) and re.search(r"\bxlo\s+xhi\b", head):
        return "lammps-data"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = filetype(str(file.absolute()))
            get_ioformat(found)
    except UnknownFileTypeError:
        raise SpecimenError(
            file,
            "its format is not known to ASE, neither by its name nor by its content. Use a usual extension "
            "(.cif, .xyz, .vasp, .pdb …), or convert the file with `ase convert`.",
        ) from None
    except Exception as error:
        raise SpecimenError(file, cannot_read(error)) from None
    return found


def _ase_failure(file: Path, format_ase: str, error: Exception) -> str:
    """Text for whatever an ASE reader raised, with the line of an unknown symbol if that was the cause."""
    text = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    token = error.args[0] if isinstance(error, KeyError) and error.args else None
    if isinstance(token, str) and re.fullmatch(r"[A-Z][a-z]?[a-z0-9+-]{0,5}", token):
        with _text(file) as stream:
            for number, line in enumerate(stream, start=1):
                if "=" not in line:
                    for word in line.split():
                        capital = re.search(r"[A-Z][a-z]?", word)
                        if word.capitalize() == token or (capital is not None and capital[0] == token):
                            return unknown_symbol(word, f"line {number}")
    if isinstance(error, UnicodeDecodeError):
        return f"is not a text file, as ASE's format '{format_ase}' should be. Name the structure file itself."
    cause = f"{type(error).__name__}: {text[:200]}" if text else type(error).__name__
    if isinstance(error, StopIteration | EOFError) or not text:
        cause = "it ends before a complete structure"
    return (
        f"ASE cannot read it as '{format_ase}' ({cause}). The file is truncated, damaged or of another kind: "
        "export it again, or give it the extension of its real format."
    )


def _from_ase(file: Path, atoms: Any, format_ase: str) -> Structure:
    from ase.data import chemical_symbols

    numbers = np.asarray(atoms.numbers)
    unknown = np.flatnonzero((numbers < 1) | (numbers >= len(chemical_symbols)))
    if len(unknown):
        symbol = "X" if numbers[unknown[0]] == 0 else f"Z = {numbers[unknown[0]]}"
        raise SpecimenError(file, unknown_symbol(symbol, f"atom {unknown[0]} (counted from 0)"))
    if format_ase == "cif":
        require_clear_cif(file, atoms, _elements())
    if format_ase == "lammps-dump-text":
        with _text(file) as stream:
            require_whole_lammps(file, stream, len(atoms))
    require_full_occupancy(file, atoms)
    symbols = np.array(atoms.get_chemical_symbols(), dtype="<U2")
    positions = np.array(atoms.get_positions(), dtype=np.float64)
    cell = np.array(atoms.cell[:], dtype=np.float64)
    if format_ase == "cif" and np.linalg.matrix_rank(cell) == 3:
        # ASE takes CIF fractions modulo 1, so that rounding puts an atom of z = 0 at the far end of the cell.
        fractions = positions @ np.linalg.inv(cell)
        positions -= np.where(np.abs(fractions - 1) < 1e-9, 1.0, 0.0) @ cell
    origin = np.asarray(atoms.get_celldisp(), dtype=np.float64).ravel()
    if origin.any() and not (format_ase == "lammps-dump-text" and _scaled(file)):
        positions = positions - origin
    u_iso = None
    if "u_iso" in atoms.arrays:
        try:
            u_iso = np.array(atoms.arrays["u_iso"], dtype=np.float64)
        except (TypeError, ValueError):
            u_iso = np.empty(0)
        if u_iso.shape != (len(symbols),):
            raise SpecimenError(
                file,
                "column u_iso: one number per atom (Å²) is expected. Declare it as u_iso:R:1 in Properties.",
            )
    return Structure(symbols, positions, cell, u_iso)


def _scaled(file: Path) -> bool:
    with _text(file) as stream:
        return scaled_lammps(stream)


def _require_whole_xyz(file: Path) -> None:
    """ASE stops in silence at an empty line between frames, and trusts any number of atoms it reads."""
    with _text(file) as stream:
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
                return
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
            got = sum(1 for _ in itertools.islice(stream, max(count, 0) + 1))
            if got < count + 1:
                raise SpecimenError(
                    file,
                    f"line {number} announces {count} atoms, the file ends after {max(got - 1, 0)} "
                    f"(frame {frames}, counted from 0): it is truncated. Copy or export it again.",
                )
            number += max(count, 0) + 2
            frames += 1
