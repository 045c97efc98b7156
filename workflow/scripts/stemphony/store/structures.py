"""Structure and trajectory files in, atoms in an orthogonal cell out. The only importer of ASE.

ASE is imported inside functions: jobs and merge read `specimen.nc` and never load it.
"""

from __future__ import annotations

import io
import itertools
import lzma
import math
import re
import warnings
import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import SpecimenError
from ..provenance import file_sha256

Floats = NDArray[np.float64]

CLIP_Z = 1.0  # Å an atom may lie outside the cell along the beam
MIN_DISTANCE = 0.3  # Å between two atoms
MIN_AXIS = 1.0  # Å; a shorter cell edge is a file in another unit or without a cell
CELL_TOLERANCE = 1e-3  # Å by which a cell edge may miss the orthogonal one,
CELL_TOLERANCE_RELATIVE = 1e-5  # or this share of the edge, for cells of 100 Å and more
EXACT = 1e-9  # Å; coordinates that differ by less are rounding of one number
SUPERCELL_LIMIT = 6  # largest integer tried in a suggested supercell


@dataclass(frozen=True, eq=False)
class Specimen:
    """Atoms at rest in an orthogonal cell, the beam along +z from z = 0.

    Attributes
    ----------
    symbols : (N,) array of str
        Element symbols.
    positions : (N, 3) array
        Cartesian coordinates [Å]; x and y in [0, Lx) and [0, Ly), z in [0, Lz].
    cell : tuple of 3 floats
        Lengths Lx, Ly, Lz [Å], vacuum included.
    u_iso : (N,) array
        Mean square displacement per Cartesian axis [Å²], Eq. (P12); NaN where none is known.
    slice_id : None
        STEMsalabim's custom slicing; no file that asks for it is accepted in this version.
    format : str
        What the file was read as, `ase` or `stemsalabim`.
    frames : (F, N, 3) array or None
        Complete configurations [Å] in the order of the trajectory.
    vacuum : tuple of 3 floats
        The part of `cell` that the config added [Å].
    radius : (N,) array
        Covalent radius [Å], for viewers of the result; zeros if not given.
    """

    symbols: NDArray[np.str_]
    positions: Floats
    cell: tuple[float, float, float]
    u_iso: Floats
    slice_id: NDArray[np.int64] | None
    format: str
    frames: Floats | None = None
    vacuum: tuple[float, float, float] = (0.0, 0.0, 0.0)
    radius: Floats = field(default_factory=lambda: np.empty(0))

    def __post_init__(self) -> None:
        if not self.radius.size:
            object.__setattr__(self, "radius", np.zeros(len(self.positions)))


@dataclass(frozen=True, eq=False)
class _Structure:
    """One structure as its file gives it: any cell, nothing wrapped; `u_iso` None without a column."""

    symbols: NDArray[np.str_]
    positions: Floats
    cell: Floats
    u_iso: Floats | None


def read_specimen(
    file: Path,
    *,
    format: str = "auto",
    supercell: Sequence[Sequence[int]] | None = None,
    repeat: Sequence[int] = (1, 1, 1),
    vacuum_angstrom: Sequence[float] = (0.0, 0.0, 0.0),
    u_iso_angstrom2: Mapping[str, float] | None = None,
) -> Specimen:
    """Atoms of a structure file in an orthogonal cell: supercell, then repeat, then vacuum.

    A supercell's atoms are wrapped into it (along z only if it mixes c with a or b). A cell whose edges run
    along x, y and z in any order or direction keeps its Cartesian coordinates, so the beam runs along the
    file's z; any other orthogonal cell is turned until a, b, c run along x, y, z. `repeat` then counts along
    x, y, z. Vacuum lengthens the cell behind the atoms, whose coordinates stay: along z it lies at the exit,
    along x and y it does not matter where, the cell being periodic. Last, x and y are wrapped; z is clipped
    where it lies less than 1 Å outside.

    Parameters
    ----------
    file : Path
        Any structure file that ASE reads (Å), or STEMsalabim's crystal file (nm, nm²). Of several frames the
        first is the specimen. CIF coordinates are fractions of a lattice, so ASE places them in the cell.
    format : {'auto', 'ase', 'stemsalabim'}
        `auto` takes stemsalabim only for an .xyz file with 5 or 6 columns whose second line is three numbers
        or a Lattice without Properties.
    supercell : 3 × 3 integers or None
        Rows are the new a, b, c in units of the file's.
    repeat : 3 integers
        Copies along x, y, z.
    vacuum_angstrom : 3 floats
        Added to the cell's lengths [Å].
    u_iso_angstrom2 : mapping
        Element symbol to U [Å²]. STEMsalabim's column, or `u_iso` (Å²) of an extended XYZ file, wins.
        Other thermal columns (CIF, PDB, muSTEM) are not read.

    Raises
    ------
    SpecimenError
        The file cannot be read or cannot serve as a specimen; the text says why and what to do.
    """
    from ase.data import atomic_numbers, covalent_radii

    file = Path(file)
    u_by_element = _checked_u_iso(file, u_iso_angstrom2 or {})
    _require_numbers(file, repeat, vacuum_angstrom)
    require_readable(file)
    detected = _detect_format(file, format)
    raw = _read_stemsalabim(file) if detected == "stemsalabim" else _read_first(file)
    _require_sound(file, raw, detected)

    structure = raw if supercell is None else _apply_supercell(file, raw, supercell)
    standard = _orthogonal(structure.cell, structure.positions)
    if standard is None:
        raise SpecimenError(file, _not_orthogonal(raw, structure, supercell))
    lengths, positions = standard

    u_iso = structure.u_iso
    if u_iso is None:
        u_iso = np.array([u_by_element.get(symbol, np.nan) for symbol in structure.symbols.tolist()])
    copies = np.stack(np.meshgrid(*(np.arange(n) for n in repeat), indexing="ij"), axis=-1).reshape(-1, 3)
    positions = (copies[:, None, :] * lengths + positions).reshape(-1, 3)
    cell = lengths * np.asarray(repeat) + np.asarray(vacuum_angstrom, dtype=float)
    symbols = np.tile(structure.symbols, len(copies))
    specimen = Specimen(
        symbols=symbols,
        positions=_placed(file, symbols, positions, cell),
        cell=(float(cell[0]), float(cell[1]), float(cell[2])),
        u_iso=np.tile(u_iso, len(copies)),
        slice_id=None,
        format=detected,
        vacuum=(float(vacuum_angstrom[0]), float(vacuum_angstrom[1]), float(vacuum_angstrom[2])),
        radius=np.array([covalent_radii[atomic_numbers[symbol]] for symbol in symbols.tolist()]),
    )
    require_distances(specimen, file=file)
    return specimen


def read_snapshots(file: Path, specimen: Specimen) -> Floats:
    """Configurations of a trajectory, (F, N, 3) in Å, wrapped in x and y and clipped in z like the specimen.

    Every frame must hold the specimen's atoms in the specimen's order and the specimen's cell, with or
    without the vacuum that the config adds. Atoms that a periodic z has carried to the other end stay there.

    Parameters
    ----------
    file : Path
        Any multi-frame format that ASE reads [Å].
    specimen : Specimen
        From `read_specimen` with neutral `repeat` and `supercell`.

    Raises
    ------
    SpecimenError
        The file cannot be read, or a frame does not fit; the text names the frame, counted from 0.
    """
    file = Path(file)
    require_readable(file)
    full = np.asarray(specimen.cell)
    bare = full - np.asarray(specimen.vacuum)
    frames: list[Floats] = []
    for number, frame in enumerate(_read_frames(file, ":")):
        where = f"frame {number} (counted from 0)"
        _require_same_atoms(file, where, frame.symbols, specimen.symbols)
        _require_finite(file, frame, where)
        if not (np.linalg.norm(frame.cell, axis=1) >= MIN_AXIS).all():
            raise SpecimenError(
                file,
                f"{where} has no cell. Every frame needs the specimen's, {_lengths(bare)} Å: "
                "write the trajectory in a format that keeps it, such as extended XYZ.",
            )
        standard = _orthogonal(frame.cell, frame.positions)
        if standard is None or not any(_same_cell(standard[0], cell) for cell in (bare, full)):
            got = _lengths(np.linalg.norm(frame.cell, axis=1)) if standard is None else _lengths(standard[0])
            skew = " and edges that are not at right angles" if standard is None else ""
            raise SpecimenError(
                file,
                f"{where} has a cell of {got} Å{skew}, the specimen one of {_lengths(bare)} Å. "
                "All frames need the specimen's cell: use a trajectory at constant volume, or take the "
                "specimen from the same run.",
            )
        frames.append(_placed(file, specimen.symbols, standard[1], full, where))
    if not frames:
        raise SpecimenError(file, "holds no frame. A trajectory with at least one configuration is needed.")
    return np.stack(frames)


def require_elements(
    specimen: Specimen, supported: Collection[str], parametrization: str, file: Path | str = ""
) -> None:
    """Raise SpecimenError naming the elements that have no scattering factors in `parametrization`."""
    missing = sorted(set(specimen.symbols.tolist()) - set(supported))
    if missing:
        raise SpecimenError(
            file or "atoms",
            f"{_listed(missing)}: no scattering factors in the parametrization '{parametrization}', which "
            f"has {len(supported)} elements. Choose another `grating.parametrization` or replace the "
            "element.",
        )


def require_u_iso(specimen: Specimen, file: Path | str = "") -> None:
    """Raise SpecimenError naming the elements without a mean square displacement U."""
    missing = sorted(set(specimen.symbols[np.isnan(specimen.u_iso)].tolist()))
    if missing:
        raise SpecimenError(
            file or "atoms",
            f"no mean square displacement U for {_listed(missing)}. Frozen phonons need one for every "
            f"element: add {_listed([f'{symbol}: <Å²>' for symbol in missing])} to "
            "`specimen.u_iso_angstrom2` (0 is allowed), or give each atom its own in a column u_iso of an "
            "extended XYZ file.",
        )


def require_distances(specimen: Specimen, minimum: float = MIN_DISTANCE, file: Path | str = "") -> None:
    """Raise SpecimenError with the first pair of atoms closer than `minimum` [Å], periodic in x and y."""
    from scipy.spatial import cKDTree

    symbols, positions, cell = specimen.symbols, specimen.positions, np.asarray(specimen.cell)
    tree = cKDTree(positions, boxsize=[cell[0], cell[1], 0.0])  # 0: not periodic
    pairs = tree.query_pairs(minimum, output_type="ndarray")
    difference = positions[pairs[:, 0]] - positions[pairs[:, 1]]
    difference[:, :2] -= cell[:2] * np.round(difference[:, :2] / cell[:2])
    distance = np.linalg.norm(difference, axis=1)
    close = np.flatnonzero(distance < minimum)
    if not len(close):
        return
    first = close[np.lexsort((pairs[close, 1], pairs[close, 0]))[0]]
    i, j = pairs[first]
    raise SpecimenError(
        file or "atoms",
        f"atoms {i} ({symbols[i]}) and {j} ({symbols[j]}), counted from 0, are {distance[first]:.3f} Å apart "
        f"at {_lengths(positions[i])} Å (pairs closer than {minimum:g} Å in all {len(symbols)} atoms: "
        f"{len(close)}; x and y are periodic). Remove doubled atoms, or correct the cell or the unit (Å; "
        "STEMsalabim: nm).",
    )


def content_sha256(file: Path) -> str:
    """SHA-256 of a structure or trajectory file's bytes, hexadecimal; SpecimenError if it cannot be read."""
    require_readable(file)
    try:
        return file_sha256(file)
    except OSError as error:
        raise SpecimenError(file, _cannot_read(error)) from None


def require_readable(file: Path) -> None:
    """Raise SpecimenError unless `file` is an ordinary file that is not empty and may be read."""
    file = Path(file)
    try:
        if file.is_dir():
            raise SpecimenError(file, "is a folder. Name the structure file inside it.")
        if not file.exists():
            raise SpecimenError(file, "there is no such file. Check the path and the working directory.")
        if not file.is_file():
            raise SpecimenError(file, "is not an ordinary file. Copy the structure into one.")
        with file.open("rb") as stream:
            if not stream.read(1):
                raise SpecimenError(file, "is empty. Export the structure again.")
    except (OSError, ValueError) as error:
        raise SpecimenError(file, _cannot_read(error)) from None


def _cannot_read(error: Exception) -> str:
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
        raise SpecimenError(file, _cannot_read(error)) from None


def _stem_suffix(file: Path) -> str:
    suffixes = [suffix.lower() for suffix in file.suffixes]
    if suffixes and suffixes[-1] in (".gz", ".bz2", ".xz"):
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def _detect_format(file: Path, requested: str) -> str:
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


def _read_stemsalabim(file: Path) -> _Structure:
    """STEMsalabim's file: number of atoms; cell [nm]; element, x, y, z [nm], ⟨u_x²⟩ [nm²] per atom."""
    from ase.data import atomic_numbers

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
                f"line {number}: got {line.strip()[:60]!r}, expected five columns. {layout} Correct the "
                "line.",
            )
        if atomic_numbers.get(words[0], 0) < 1:
            raise SpecimenError(file, _unknown_symbol(words[0], f"line {number}"))
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
    return _Structure(np.array(symbols, dtype="<U2"), 10.0 * rows[:, :3], 10.0 * cell, 100.0 * rows[:, 3])


def _read_first(file: Path) -> _Structure:
    for structure in _read_frames(file, 0):
        return structure
    raise SpecimenError(file, "ASE finds no structure in it. Export the structure again.")


def _read_frames(file: Path, index: int | str) -> Iterator[_Structure]:
    """Structures of a file through ASE, whose exceptions and warnings end here."""
    import ase.io

    format_ase = _ase_format(file)
    if format_ase == "extxyz":
        _require_whole_xyz(file)
    if format_ase in ("lammps-data", "lammps-dump-text"):
        _require_lammps_elements(file, format_ase)
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
        raise SpecimenError(file, _cannot_read(error)) from None
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
                            return _unknown_symbol(word, f"line {number}")
    if isinstance(error, UnicodeDecodeError):
        return (
            f"is not a text file, as ASE's format '{format_ase}' should be. Name the structure file itself."
        )
    cause = f"{type(error).__name__}: {text[:200]}" if text else type(error).__name__
    if isinstance(error, StopIteration | EOFError) or not text:
        cause = "it ends before a complete structure"
    return (
        f"ASE cannot read it as '{format_ase}' ({cause}). The file is truncated, damaged or of another kind: "
        "export it again, or give it the extension of its real format."
    )


def _from_ase(file: Path, atoms: Any, format_ase: str) -> _Structure:
    if format_ase == "cif":
        _require_clear_cif(file, atoms)
    if format_ase == "lammps-dump-text":
        _require_whole_lammps(file, len(atoms))
    _require_full_occupancy(file, atoms)
    symbols = np.array(atoms.get_chemical_symbols(), dtype="<U2")
    unknown = np.flatnonzero(symbols == "X")
    if len(unknown):
        raise SpecimenError(file, _unknown_symbol("X", f"atom {unknown[0]} (counted from 0)"))
    positions = np.array(atoms.get_positions(), dtype=np.float64)
    cell = np.array(atoms.cell[:], dtype=np.float64)
    if format_ase == "cif" and np.linalg.matrix_rank(cell) == 3:
        # ASE takes CIF fractions modulo 1, so that rounding puts an atom of z = 0 at the far end of the cell.
        fractions = positions @ np.linalg.inv(cell)
        positions -= np.where(np.abs(fractions - 1) < 1e-9, 1.0, 0.0) @ cell
    origin = np.asarray(atoms.get_celldisp(), dtype=np.float64).ravel()
    if origin.any() and not (format_ase == "lammps-dump-text" and _scaled_lammps(file)):
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
    return _Structure(symbols, positions, cell, u_iso)


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


def _require_lammps_elements(file: Path, format_ase: str) -> None:
    """ASE takes LAMMPS' atom types for atomic numbers (1 = H, 2 = He) if the file does not name them."""
    with _text(file) as stream:
        if format_ase == "lammps-data":
            found = any(re.match(r"\s*(Masses|Atom Type Labels)\b", line) for line in stream)
            need = "a section Masses"
        else:
            columns = _lammps_columns(stream)
            found, need = not columns or bool({"element", "mass"} & set(columns)), "a column element"
    if not found:
        raise SpecimenError(
            file,
            f"does not say which element an atom type is: a LAMMPS file needs {need}. Add it and write the "
            "file again.",
        )


def _require_whole_lammps(file: Path, count: int) -> None:
    """ASE reads a dump that ends early as one with fewer atoms."""
    with _text(file) as stream:
        for line in stream:
            if line.startswith("ITEM: NUMBER OF ATOMS"):
                stated = next(stream, "").strip()
                if stated != str(count):
                    raise SpecimenError(
                        file,
                        f"announces {stated} atoms, but a frame has {count}: it is truncated, or the number "
                        "of atoms changes. Export it again.",
                    )
                return


def _lammps_columns(stream: IO[str]) -> list[str]:
    return next((line.split()[2:] for line in stream if line.startswith("ITEM: ATOMS")), [])


def _scaled_lammps(file: Path) -> bool:
    """Whether ASE made a dump's coordinates of fractions, which do not count from the box's origin."""
    with _text(file) as stream:
        columns = _lammps_columns(stream)
    return "x" not in columns and ("xs" in columns or "xu" not in columns)


def _require_clear_cif(file: Path, atoms: Any) -> None:
    """Refuse CIF content that ASE resolves in silence: deuterium, disorder, doubled sites, lost atoms."""
    tags = atoms.info
    types, labels = _column(tags, "_atom_site_type_symbol"), _column(tags, "_atom_site_label")
    names = types or labels
    for site, name in enumerate(names):
        label = labels[site] if site < len(labels) else name
        _require_clear_symbol(file, str(name), f"site {label}", is_label=not types)
    for site, value in enumerate(_column(tags, "_atom_site_occupancy")):
        label = labels[site] if site < len(labels) else f"number {site + 1}"
        occupancy = 1.0 if value in (".", "?") else value
        if not isinstance(occupancy, int | float) or not abs(occupancy - 1) <= 1e-6:
            raise SpecimenError(file, _partial(f"site {label}", occupancy))
    kinds = atoms.arrays.get("spacegroup_kinds")
    if kinds is not None:
        lost = sorted(set(range(len(names))) - set(np.asarray(kinds).tolist()))
        if lost:
            label = labels[lost[0]] if lost[0] < len(labels) else f"number {lost[0] + 1}"
            raise SpecimenError(
                file,
                f"site {label} is the same position as another one. Sites shared by elements and doubled "
                "sites are not available: keep one line per atom, each with an occupancy of 1.",
            )
    _require_formula(file, atoms)


def _column(tags: Mapping[str, Any], name: str) -> list[Any]:
    value = tags.get(name)
    if value is None:
        return []
    return list(value) if isinstance(value, list | tuple | np.ndarray) else [value]


def _require_clear_symbol(file: Path, name: str, where: str, *, is_label: bool) -> None:
    """ASE takes a CIF symbol's capital and the small letter after it, so SR is sulphur and D hydrogen."""
    from ase.data import atomic_numbers

    match = re.match(r"[A-Za-z]+", name)
    letters = match.group(0) if match else name
    taken = re.search(r"[A-Z][a-z]?", name)
    symbol = taken.group(0) if taken else letters
    if atomic_numbers.get(symbol, 0) < 1:
        raise SpecimenError(file, _unknown_symbol(symbol if taken else name, where))
    if not is_label and letters != symbol:
        raise SpecimenError(file, _unknown_symbol(name, where))
    other = letters[:2].capitalize()
    if is_label and other != symbol and atomic_numbers.get(other, 0) > 0:
        raise SpecimenError(
            file,
            f"{where}: the label {name!r} could be {symbol} or {other}. Add the column "
            "_atom_site_type_symbol.",
        )


def _require_formula(file: Path, atoms: Any) -> None:
    """A CIF that states its formula shows by it that atoms were lost, or made in a wrong setting."""
    formula = str(atoms.info.get("_chemical_formula_sum", "")).strip("'\" ")
    terms = [re.fullmatch(r"([A-Z][a-z]?)(\d*\.?\d*)", word) for word in formula.split()]
    if not terms or None in terms:
        return
    stated: dict[str, float] = {}
    for term in terms:
        if term is not None:
            stated[term[1]] = stated.get(term[1], 0.0) + float(term[2] or 1)
    symbols = atoms.get_chemical_symbols()
    found = {symbol: symbols.count(symbol) for symbol in dict.fromkeys(symbols)}
    # Only proportions: programs disagree on whether the sum counts the cell or the formula unit.
    ratio = len(symbols) / (sum(stated.values()) or 1)
    if set(stated) != set(found) or any(
        abs(found[s] - ratio * n) > 0.01 * found[s] for s, n in stated.items()
    ):
        got = " ".join(f"{symbol}{n}" for symbol, n in found.items())
        raise SpecimenError(
            file,
            f"its formula is {formula}, but its atoms are {got}: sites are missing or the symmetry is not "
            "clear. Export it again with all symmetry operations, or correct _chemical_formula_sum.",
        )


def _require_full_occupancy(file: Path, atoms: Any) -> None:
    for site in (atoms.info.get("occupancy") or {}).values() if isinstance(atoms.info, dict) else ():
        if isinstance(site, dict):
            parts = {symbol: 1.0 if value in (".", "?") else value for symbol, value in site.items()}
            if len(parts) > 1 or any(
                not isinstance(v, int | float) or not abs(v - 1) <= 1e-6 for v in parts.values()
            ):
                text = " + ".join(f"{symbol} {value}" for symbol, value in parts.items())
                raise SpecimenError(file, _partial("a site", text))
    for name in ("occupancy", "occupancies"):
        if name in atoms.arrays:
            values = np.asarray(atoms.arrays[name])
            partial = [
                i for i, v in enumerate(values.ravel().tolist()) if not isinstance(v, int | float) or v != 1
            ]
            if partial:
                where = f"atom {partial[0]} (counted from 0, {atoms.get_chemical_symbols()[partial[0]]})"
                raise SpecimenError(file, _partial(where, values.ravel()[partial[0]]))


def _partial(where: str, occupancy: object) -> str:
    return (
        f"{where} has an occupancy of {occupancy}, only 1 is available. Write a supercell in which every "
        "site is one whole atom."
    )


def _unknown_symbol(symbol: str, where: str) -> str:
    place = f"{where}: " if where else ""
    hint = {
        "D": "deuterium scatters electrons as hydrogen: write H",
        "T": "tritium scatters electrons as hydrogen: write H",
        "X": "X is no element: replace it or delete the atom",
    }.get(symbol, "use the symbols of the periodic table, such as Sr")
    return f"{place}unknown element symbol '{symbol}'; {hint}."


def _checked_u_iso(file: Path, u_iso: Mapping[str, float]) -> dict[str, float]:
    for symbol, value in u_iso.items():
        if not math.isfinite(value) or value < 0:
            raise SpecimenError(
                file,
                f"`specimen.u_iso_angstrom2`: U of {symbol} is {value} Å², allowed are finite values from 0. "
                "Correct it.",
            )
    return dict(u_iso)


def _require_numbers(file: Path, repeat: Sequence[int], vacuum: Sequence[float]) -> None:
    if len(repeat) != 3 or any(n != int(n) or n < 1 for n in repeat):
        raise SpecimenError(file, f"`specimen.repeat` is {list(repeat)}; three integers from 1 are needed.")
    if len(vacuum) != 3 or any(not math.isfinite(v) or v < 0 for v in vacuum):
        raise SpecimenError(
            file, f"`specimen.vacuum_angstrom` is {list(vacuum)}; three lengths in Å from 0 are needed."
        )


def _require_sound(file: Path, structure: _Structure, detected: str) -> None:
    """Atoms, finite coordinates, a cell with volume, and no negative U."""
    if len(structure.symbols) == 0:
        raise SpecimenError(file, "holds no atoms. A specimen needs at least one.")
    _require_finite(file, structure)
    cell = structure.cell
    unit = " (the file was read in nm)" if detected == "stemsalabim" else ""
    if not np.isfinite(cell).all():
        raise SpecimenError(file, "its cell is not finite. Correct the cell's lengths and angles.")
    if not cell.any():
        raise SpecimenError(
            file,
            "has no cell. Write it in a format that keeps one (CIF, extended XYZ with Lattice=…, POSCAR)"
            + (
                "."
                if detected == "stemsalabim"
                else ", or set `specimen.format: stemsalabim` for STEMsalabim's file."
            ),
        )
    lengths = np.linalg.norm(cell, axis=1)
    short = np.flatnonzero(lengths < MIN_AXIS)
    if len(short):
        raise SpecimenError(
            file,
            f"cell edge {'abc'[short[0]]} is {lengths[short[0]]:g} Å long{unit}; at least {MIN_AXIS:g} Å is "
            "needed along all three axes. Give the cell three edges, in the unit of the format.",
        )
    if abs(np.linalg.det(cell)) < 1e-3 * np.prod(lengths):
        raise SpecimenError(file, "its cell is flat: the three edges lie in one plane. Correct the cell.")
    if structure.u_iso is not None:
        bad = np.flatnonzero(~(np.isfinite(structure.u_iso) & (structure.u_iso >= 0)))
        if len(bad):
            raise SpecimenError(
                file,
                f"column u_iso: atom {bad[0]} (counted from 0, {structure.symbols[bad[0]]}) has "
                f"{structure.u_iso[bad[0]]:g} Å², allowed are finite values from 0. Correct it.",
            )


def _require_finite(file: Path, structure: _Structure, where: str = "") -> None:
    bad = np.flatnonzero(~np.isfinite(structure.positions).all(axis=1))
    if len(bad):
        first = bad[0]
        place = f"{where}: " if where else ""
        raise SpecimenError(
            file,
            f"{place}atom {first} (counted from 0, {structure.symbols[first]}) has the coordinates "
            f"{_lengths(structure.positions[first])}, which are not finite. Correct or remove the atom.",
        )


def _require_same_atoms(file: Path, where: str, got: NDArray[np.str_], expected: NDArray[np.str_]) -> None:
    do = (
        "A snapshot needs the specimen file's atoms in the same order, with neutral `repeat` and `supercell`."
    )
    if len(got) != len(expected):
        raise SpecimenError(file, f"{where} has {len(got)} atoms, the specimen {len(expected)}. {do}")
    other = np.flatnonzero(got != expected)
    if len(other):
        first = other[0]
        raise SpecimenError(
            file,
            f"{where}: atom {first} (counted from 0) is {got[first]}, in the specimen {expected[first]}; "
            f"{len(other)} of {len(got)} differ. {do}",
        )


def _apply_supercell(file: Path, raw: _Structure, supercell: Sequence[Sequence[int]]) -> _Structure:
    matrix = np.asarray(supercell)
    if matrix.shape != (3, 3) or not np.array_equal(matrix, np.round(matrix.astype(float))):
        raise SpecimenError(
            file, f"`specimen.supercell` is {supercell}; three rows of three integers are needed."
        )
    matrix = matrix.astype(int)
    volume = abs(round(float(np.linalg.det(matrix))))
    if volume == 0:
        raise SpecimenError(
            file,
            f"`specimen.supercell` {matrix.tolist()} has no volume (determinant 0). Its rows, the new edges "
            "in units of the file's, must not lie in one plane.",
        )
    points = _lattice_points(matrix)
    positions = ((points @ raw.cell)[:, None, :] + raw.positions).reshape(-1, 3)
    cell = matrix @ raw.cell
    mixes_z = bool(matrix[2, :2].any() or matrix[:2, 2].any() or matrix[2, 2] < 0)
    fractions = positions @ np.linalg.inv(cell)
    whole = np.floor(fractions + 1e-7)
    if not mixes_z:
        whole[:, 2] = 0.0
    return _Structure(
        np.tile(raw.symbols, len(points)),
        positions - whole @ cell,
        cell,
        None if raw.u_iso is None else np.tile(raw.u_iso, len(points)),
    )


def _lattice_points(matrix: NDArray[np.int64]) -> NDArray[np.int64]:
    """Integer points inside the parallelepiped that the rows of `matrix` span: one per cell, |det| in all."""
    corners = np.array(list(itertools.product((0, 1), repeat=3))) @ matrix
    ranges = (np.arange(low, high + 1) for low, high in zip(corners.min(0), corners.max(0), strict=True))
    points = np.stack(np.meshgrid(*ranges, indexing="ij"), axis=-1).reshape(-1, 3)
    fractions = points @ np.linalg.inv(matrix)
    return points[((fractions > -1e-9) & (fractions < 1 - 1e-9)).all(axis=1)]


def _shear(first: Floats, second: Floats) -> float:
    """How far the longer edge's end lies from where a right angle would put it [Å], less the tolerance."""
    short, long = sorted((float(np.linalg.norm(first)), float(np.linalg.norm(second))))
    return abs(float(first @ second)) / short - max(CELL_TOLERANCE, CELL_TOLERANCE_RELATIVE * long)


def _orthogonal(cell: Floats, positions: Floats) -> tuple[Floats, Floats] | None:
    """Lengths [Å] along x, y, z and coordinates [Å] of an orthogonal cell in standard form, None of another.

    A lattice does not know the order or the sign of its edges, so edges along the axes leave the coordinates
    alone; only an edge along −z moves the atoms, by its length. Else a proper rotation, never a mirror.
    """
    if any(_shear(cell[i], cell[j]) > 0 for i, j in ((0, 1), (0, 2), (1, 2))):
        return None
    edges = np.linalg.norm(cell, axis=1)
    axes = np.abs(cell).argmax(axis=1)
    off_axis = np.abs(cell).copy()
    off_axis[np.arange(3), axes] = 0.0
    if sorted(axes) == [0, 1, 2] and (off_axis <= np.maximum(CELL_TOLERANCE, 1e-5 * edges)[:, None]).all():
        target = np.zeros((3, 3))
        target[np.arange(3), axes] = np.sign(cell[np.arange(3), axes]) * edges
        if off_axis.max() > EXACT:
            positions = positions @ np.linalg.inv(cell) @ target
        backwards = target[:, 2].min()
        if backwards < 0:
            positions = positions - np.array([0.0, 0.0, backwards])
        return edges[np.argsort(axes)], positions
    if np.linalg.det(cell) < 0:
        cell = cell * np.array([[1.0], [-1.0], [1.0]])
    return edges, positions @ np.linalg.inv(cell) @ np.diag(edges)


def _not_orthogonal(raw: _Structure, structure: _Structure, supercell: object) -> str:
    edges = structure.cell
    angles = []
    for i, j in ((1, 2), (0, 2), (0, 1)):
        cosine = edges[i] @ edges[j] / np.linalg.norm(edges[i]) / np.linalg.norm(edges[j])
        angles.append(f"{np.degrees(np.arccos(np.clip(cosine, -1, 1))):.4g}")
    which = "the cell" if supercell is None else "the cell after `specimen.supercell`"
    text = f"{which} is not orthogonal (angles {', '.join(angles)}°); the edges must be at right angles. "
    matrix = orthogonal_supercell(raw.cell)
    if matrix is None:
        return text + (
            f"No orthogonal supercell with integers up to {SUPERCELL_LIMIT} was found: write one with "
            "another program, or build the specimen as a block in an orthogonal cell."
        )
    volume = round(float(np.linalg.det(matrix)))
    text += f"Put this line into the config's `specimen:` block:\n  supercell: {matrix.tolist()}\n"
    text += f"Its volume is {volume} times the file's cell: adapt `repeat`."
    if matrix[2, :2].any():
        text += f" The beam then runs along [{' '.join(str(n) for n in matrix[2])}] of the file's cell."
    return text


def orthogonal_supercell(cell: Floats, limit: int = SUPERCELL_LIMIT) -> NDArray[np.int64] | None:
    """Rows of integers that make `cell` orthogonal with the smallest volume, or None within ±`limit`.

    Of equal volumes the one is taken that keeps c along the beam, then a along x, then the smallest integers.

    Parameters
    ----------
    cell : (3, 3) array
        Edges a, b, c as rows [Å].

    Returns
    -------
    (3, 3) array of int with a positive determinant, or None.
    """
    span = range(-limit, limit + 1)
    triples = [
        v for v in itertools.product(span, repeat=3) if math.gcd(*v) == 1 and next(n for n in v if n) > 0
    ]
    integers = np.array(triples)
    vectors = integers @ cell
    lengths = np.linalg.norm(vectors, axis=1)
    short, long = np.minimum.outer(lengths, lengths), np.maximum.outer(lengths, lengths)
    allowed = np.maximum(CELL_TOLERANCE, CELL_TOLERANCE_RELATIVE * long)
    right = np.abs(vectors @ vectors.T) / short <= allowed
    candidates: list[tuple[int, int, int]] = []
    for i in range(len(integers)):
        neighbours = np.flatnonzero(right[i, i + 1 :]) + i + 1
        block = right[np.ix_(neighbours, neighbours)]
        for j, k in np.argwhere(np.triu(block, 1)):
            candidates.append((i, int(neighbours[j]), int(neighbours[k])))
    if not candidates:
        return None
    rows = integers[np.array(candidates)]
    volumes = np.abs(np.rint(np.linalg.det(rows)).astype(int))
    smallest = rows[volumes == volumes[volumes > 0].min()]
    return min((_ordered(matrix, cell) for matrix in smallest), key=_preference)


def _ordered(matrix: NDArray[np.int64], cell: Floats) -> NDArray[np.int64]:
    """The same edges with the one nearest to c last, the one nearest to a first, all to the right hand."""
    vectors = matrix @ cell
    lengths = np.linalg.norm(vectors, axis=1)
    along_c = vectors @ cell[2] / lengths
    along_a = vectors @ cell[0] / lengths
    last = max(range(3), key=lambda row: (round(abs(along_c[row]), 6), -row))
    first = max((row for row in range(3) if row != last), key=lambda row: (round(abs(along_a[row]), 6), -row))
    ordered = matrix[[first, 3 - first - last, last]].copy()
    ordered[0] *= 1 if along_a[first] >= 0 else -1
    ordered[2] *= 1 if along_c[last] >= 0 else -1
    if np.linalg.det(ordered) < 0:
        ordered[1] *= -1
    return ordered


def _preference(matrix: NDArray[np.int64]) -> tuple[Any, ...]:
    keeps_c = matrix[2].tolist() == [0, 0, 1]
    keeps_a = matrix[0].tolist() == [1, 0, 0]
    return (not keeps_c, not keeps_a, int(np.abs(matrix).sum()), (-matrix).ravel().tolist())


def _wrapped(positions: Floats, cell: Floats) -> Floats:
    """x and y in [0, L); a coordinate that rounding alone keeps below L becomes 0."""
    result = positions.copy()
    result[:, :2] = np.mod(result[:, :2], cell[:2])
    result[:, :2][result[:, :2] >= cell[:2] - EXACT] = 0.0
    return result


def _placed(
    file: Path, symbols: NDArray[np.str_], positions: Floats, cell: Floats, where: str = ""
) -> Floats:
    """Coordinates wrapped in x and y, and clipped in z where they lie less than 1 Å outside the cell."""
    result = _wrapped(positions, cell)
    z = result[:, 2]
    outside = np.flatnonzero((z < -CLIP_Z) | (z > cell[2] + CLIP_Z))
    if len(outside):
        first = outside[0]
        place = f"{where}: " if where else ""
        raise SpecimenError(
            file,
            f"{place}atom {first} (counted from 0, {symbols[first]}) lies at z = {z[first]:.3f} Å, outside the "
            f"cell from 0 to {cell[2]:.3f} Å, as do {len(outside)} atoms in all; z is never wrapped (up to "
            f"{CLIP_Z:g} Å is clipped). Shift the atoms along z, wrap them into the cell with the program that "
            "wrote the file, or make room with the third number of `specimen.vacuum_angstrom`.",
        )
    result[:, 2] = np.clip(z, 0.0, cell[2])
    return result


def _same_cell(first: Floats, second: Floats) -> bool:
    return bool(
        (np.abs(first - second) <= np.maximum(CELL_TOLERANCE, CELL_TOLERANCE_RELATIVE * second)).all()
    )


def _lengths(values: Floats) -> str:
    return ", ".join(f"{value:.4f}" for value in np.asarray(values).tolist())


def _listed(items: Sequence[str]) -> str:
    return ", ".join(items)
