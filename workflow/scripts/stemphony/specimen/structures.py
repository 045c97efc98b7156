"""Make specimens from structure files: atoms in an orthogonal cell, or a refusal that says what to do.

`formats` reads the files, `building` orients and repeats the cell.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemphony.counting import number_of
from stemphony.errors import SpecimenError
from stemphony.physics.periods import Periods
from stemphony.physics.random_film import Film
from stemphony.physics.scattering import FactorChoice, elements
from stemphony.provenance import file_sha256
from stemphony.specimen import cut_layers, lattice, source
from stemphony.specimen.amorphous import with_films
from stemphony.specimen.building import Build, Building, oriented, repeated, shifted, whole_cells
from stemphony.specimen.charges import FROM_FILE, NEUTRAL, with_charges
from stemphony.specimen.columns import CHARGES_NOTE
from stemphony.specimen.crystal import formula, require_distances
from stemphony.specimen.formats import covalent_radii, read_frames, read_structure
from stemphony.specimen.joint_sites import with_joint_sites
from stemphony.specimen.lattice import Floats
from stemphony.specimen.periodicity import block_periods
from stemphony.specimen.specimen import Specimen
from stemphony.specimen.structure import Structure
from stemphony.specimen.substitutions import substituted
from stemphony.specimen.thermal import ThermalSettings, lines_to_paste, with_displacements

MOTION_Z = 1.0
"""Distance [Å] by which an atom of a snapshot may lie outside of the cell along the beam: thermal motion moves it so
far."""
CHECKS = ("density", "distance")  # checks that `specimen.accept` may switch off
MAX_ATOMS = 50_000_000
"""Most atoms of a specimen. So many need about 10 GB while they are checked."""
MIN_AXIS = 1.0
"""Smallest edge of a cell [Å]. If an edge is shorter, the file has another unit or no cell."""
MAX_AXIS = 1e6
"""Largest edge of a cell [Å]. If an edge is longer, the number is damaged."""


def read_specimen(
    file: Path,
    *,
    format: str = "auto",
    vacuum_angstrom: Sequence[float] = (0.0, 0.0, 0.0),
    u_iso_angstrom2: Mapping[str, float] | None = None,
    u_source: str = "file",
    temperature_k: float | None = None,
    debye_temperature_k: float | Mapping[str, float] | None = None,
    occupancy: str = "random",
    accept: Collection[str] = (),
    substitutions: Sequence[Mapping[str, Any]] = (),
    amorphous_layers: Mapping[str, Any] | None = None,
    charges: str = NEUTRAL,
    **build: Any,
) -> Specimen:
    """Build the atoms of a structure file in an orthogonal cell, in stages.

    1. Read the file.
    2. Orient: `zone_axis`, or the rows of `supercell` along x, y, z. Without both, a cell with edges along x, y and z
       in any order keeps its coordinates, and any other orthogonal cell is turned until a, b, c run along x, y, z.
    3. Shift: `origin` to x = y = 0, the first layer behind `termination` to z = 0.
    4. Repeat along x, y, z, as `repeat` says or as often as `size_nm` and `thickness_nm` need.
    5. Put in `substitutions`, and `amorphous_layers` on the faces. Add U for atoms for which the file has none.
    6. Place: vacuum lengthens the cell behind the atoms, x and y are wrapped. Then check distances.

    Parameters
    ----------
    file : Path
        Any structure file of `formats`. If it has several frames, the first is the specimen, with a note.
    format : str
        One of `formats.FORMATS`. `auto` lets name and content decide; `ase` does the same and never takes nm.
    vacuum_angstrom : 3 floats
        Vacuum that is added to the lengths of the cell [Å].
    u_iso_angstrom2 : mapping
        Element symbol to U [Å²]. A value of the file wins, unless `u_source` is `config`.
    occupancy, accept
        With `occupancy` `refuse`, only full sites are accepted. `accept` lists the checks of CHECKS that are left out.
    charges : str
        `neutral`, or `file`: atoms with a charge in the file scatter as ions.
    u_source, temperature_k, debye_temperature_k, substitutions, amorphous_layers, **build
        See `thermal.ThermalSettings`, `substitutions.substituted`, `amorphous.with_films` and `building.Build`.

    Raises
    ------
    SpecimenError
        The file cannot be read or cannot be a specimen. The text says why and what to do.
    """
    file, wanted = Path(file), Build(**build)
    u_iso = _checked_u_iso(file, u_iso_angstrom2 or {})
    settings = ThermalSettings(u_iso, u_source, temperature_k, debye_temperature_k)
    _require_vacuum(file, vacuum_angstrom)
    with source.memory(file):
        raw = _read(file, format, charges)
        block, building, films, periods = _built(file, raw, wanted, substitutions, amorphous_layers, vacuum_angstrom)
        thermal = with_displacements(file, block, settings)
        specimen = replace(
            _in_cell(file, thermal.structure, vacuum_angstrom, thermal.notes),
            formula=formula(raw),
            u_source=thermal.source,
            orientation=building.orientation.recorded(),
            building=building,
            films=films,
        )
        specimen = replace(specimen, periods=periods.moved(specimen.shift_z) if periods.slab else periods)
        specimen = with_joint_sites(file, specimen, occupancy)
        if "distance" not in accept:
            require_distances(specimen, file=file)
        return with_charges(file, specimen, thermal.structure.charge) if charges == FROM_FILE else specimen


def _read(file: Path, format: str, charges: str) -> Structure:
    """The structure as the file has it."""
    require_readable(file)
    raw = read_structure(file, format)
    _require_sound(file, raw, raw.format)
    if charges == NEUTRAL and raw.charge is not None and np.nan_to_num(raw.charge).any():
        raw = replace(raw, notes=(*raw.notes, CHARGES_NOTE))
    return raw


def _built(
    file: Path,
    raw: Structure,
    wanted: Build,
    substitutions: Sequence[Mapping[str, Any]],
    amorphous_layers: Mapping[str, Any] | None,
    vacuum: Sequence[float],
) -> tuple[Structure, Building, tuple[Film, ...], Periods]:
    """Stages 2 to 5 of `read_specimen`: the block of atoms, how it was built, its films and its periods."""
    crystal = shifted(file, oriented(file, raw, wanted), raw, wanted)
    repeat = whole_cells(file, crystal, wanted)
    _require_possible(file, len(crystal.structure.symbols), repeat)
    block, dopants = substituted(file, repeated(crystal, repeat), substitutions)
    block, films, film = with_films(file, block, amorphous_layers)
    building = replace(Building.of(crystal, wanted, repeat), substitutions=tuple(dopants), films=film)
    entrance = max((film.top for film in films if film.bottom == 0.0), default=0.0)
    return block, building, films, block_periods(crystal.structure, repeat, entrance, vacuum)


def _in_cell(file: Path, block: Structure, vacuum_angstrom: Sequence[float], notes: Sequence[str]) -> Specimen:
    """The atoms of a block, with all known U, in their cell with its vacuum."""
    cell = np.diagonal(block.cell) + np.asarray(vacuum_angstrom, dtype=float)
    notes = [*notes, *_beside_vacuum(block, vacuum_angstrom)]
    placed = _placed(file, block.symbols, block.positions, cell)
    return Specimen(
        symbols=block.symbols,
        positions=placed.positions,
        cell=(float(cell[0]), float(cell[1]), placed.length_z),
        u_iso=np.asarray(block.u_iso),
        slice_id=_slices(block),
        format=block.format,
        vacuum=(float(vacuum_angstrom[0]), float(vacuum_angstrom[1]), float(vacuum_angstrom[2])),
        radius=covalent_radii(block.symbols.tolist()),
        u_aniso=block.u_aniso,
        occupancy=block.occupancy,
        disorder=block.disorder,
        disorder_group=block.disorder_group,
        revision=max(2, block.revision) if placed.note else block.revision,
        notes=(*block.notes, *notes, *([placed.note] if placed.note else [])),
        reader=block.reader,
        shift_z=placed.shift,
        grown_z=placed.grown,
    )


def _beside_vacuum(block: Structure, vacuum_angstrom: Sequence[float]) -> list[str]:
    """Notes on atoms that vacuum beside the crystal separates from their neighbours, or moves to the other side."""
    notes = []
    for axis, name in enumerate("xy"):
        length, places = float(block.cell[axis, axis]), block.positions[:, axis]
        if vacuum_angstrom[axis] <= 0:
            continue
        outside = int(((places < -lattice.CELL_TOLERANCE) | (places >= length + lattice.CELL_TOLERANCE)).sum())
        if outside:
            notes.append(
                f"{number_of(outside, 'atom lies', 'atoms lie')} outside the cell along {name}: "
                f"{'it stays beside its' if outside == 1 else 'they stay beside their'} neighbours, in the "
                f"{vacuum_angstrom[axis]:g} Å that specimen.vacuum_angstrom adds, or at the other end of the cell, "
                "which is periodic"
            )
            continue
        found = cut_layers.cut(places, length)
        if found is not None:
            notes.append(
                f"specimen.vacuum_angstrom puts {vacuum_angstrom[axis]:g} Å between atoms that are {found.across:.2f} "
                f"Å apart across {name} = 0, though the cell has {found.empty:.2f} Å without atoms inside: a particle "
                f"or a layer may be torn. Leave out this vacuum, or move {name} = 0 into the empty part with "
                "specimen.origin"
            )
    return notes


def _slices(block: Structure) -> NDArray[np.int64] | None:
    """Slice of each atom that the file names, from 0; None if some atoms have no slice."""
    if block.slice_id is None or block.slice_id.min() < 0:
        return None
    return block.slice_id - block.slice_id.min()


def read_snapshots(file: Path, specimen: Specimen) -> Floats:
    """Configurations of a trajectory, (F, N, 3) in Å, wrapped in x and y and moved along z like the specimen.

    Every frame must hold the atoms of the specimen, in the same order, and the cell of the specimen, with or without
    the vacuum that the config adds. If a periodic z has moved an atom to the other end of the cell, it stays there.

    Parameters
    ----------
    file : Path
        Any multi-frame format that ASE reads [Å].
    specimen : Specimen
        Result of `read_specimen` with neutral `repeat` and `supercell`.

    Returns
    -------
    (F, N, 3) array
        Positions [Å].

    Raises
    ------
    SpecimenError
        The file cannot be read, or a frame does not fit. The text names the frame, counted from 0.
    """
    file = Path(file)
    require_readable(file)
    full = np.asarray(specimen.cell) - np.array([0.0, 0.0, specimen.grown_z])
    bare = full - np.asarray(specimen.vacuum)
    frames: list[Floats] = []
    with source.memory(file):
        for number, frame in enumerate(read_frames(file)):
            where = f"frame {number} (counted from 0)"
            _require_same_atoms(file, where, frame.symbols, specimen.symbols)
            _require_finite(file, frame, where)
            _require_cell(file, frame.cell, where=where)
            standard = lattice.orthogonal(frame.cell, frame.positions)
            if standard is None or not any(lattice.same_lengths(standard[0], cell) for cell in (bare, full)):
                got = _lengths(np.linalg.norm(frame.cell, axis=1)) if standard is None else _lengths(standard[0])
                skew = " and edges that are not at right angles" if standard is None else ""
                raise SpecimenError(
                    file,
                    f"{where} has a cell of {got} Å{skew}, the specimen one of {_lengths(bare)} Å. "
                    "All frames need the specimen's cell: use a trajectory at constant volume, or take the "
                    "specimen from the same run.",
                )
            frames.append(_placed_frame(file, specimen.symbols, standard[1], specimen, where))
        if not frames:
            raise SpecimenError(file, "holds no frame. A trajectory with at least one configuration is needed.")
        return np.stack(frames)


def require_elements(specimen: Specimen, factors: FactorChoice, file: Path | str = "") -> None:
    """Refuse elements of a `specimen` that have no scattering factors in their parametrization, which `factors` choose.

    `file` is named in the message. Ions are not looked at.

    Raises
    ------
    SpecimenError
        Such elements exist. The text names them.
    """
    neutral = specimen.symbols if specimen.charge is None else specimen.symbols[specimen.charge == 0]
    for table in dict.fromkeys([factors.default, *factors.of.values()]):
        supported = elements(table)
        missing = sorted({name for name in neutral.tolist() if factors[name] == table} - supported)
        if missing:
            raise SpecimenError(
                file or "atoms",
                f"{_listed(missing)}: no scattering factors in the parametrization '{table}', which "
                f"has {len(supported)} elements. Choose another `grating.parametrization`, or one for this element "
                "in `grating.parametrization_of`, or replace the element.",
            )


def require_u_iso(specimen: Specimen, file: Path | str = "") -> None:
    """Refuse elements of a `specimen` without a mean square displacement U. `file` is named in the message.

    Raises
    ------
    SpecimenError
        Such elements exist. The text names them.
    """
    missing = sorted(set(specimen.symbols[np.isnan(specimen.u_iso)].tolist()))
    if missing:
        raise SpecimenError(
            file or "atoms",
            f"no mean square displacement U for {_listed(missing)}. Frozen phonons need one for every "
            "element. Put a line like this into the config's block `specimen:` (0 is allowed):\n"
            f"{lines_to_paste(missing)}\n"
            "or give each atom its own in the file (CIF: U or B; extended XYZ: a column u_iso in Å²).",
        )


def content_sha256(file: Path) -> str:
    """Return `provenance.file_sha256`. If the file cannot be read, raise a SpecimenError that says why."""
    require_readable(file)
    try:
        return file_sha256(file)
    except OSError as error:
        raise SpecimenError(file, source.cannot_read(error)) from None


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
        raise SpecimenError(file, source.cannot_read(error)) from None


def _checked_u_iso(file: Path, u_iso: Mapping[str, float]) -> dict[str, float]:
    for symbol, value in u_iso.items():
        if not math.isfinite(value) or value < 0:
            raise SpecimenError(
                file,
                f"`specimen.u_iso_angstrom2`: U of {symbol} is {value} Å², allowed are finite values from 0. "
                "Correct it.",
            )
    return dict(u_iso)


def _require_vacuum(file: Path, vacuum: Sequence[float]) -> None:
    if len(vacuum) != 3 or any(not math.isfinite(v) or v < 0 for v in vacuum):
        raise SpecimenError(
            file, f"`specimen.vacuum_angstrom` is {list(vacuum)}; three lengths in Å from 0 are needed."
        )


def _require_possible(file: Path, atoms: int, repeat: Sequence[int]) -> None:
    number = atoms * math.prod(int(n) for n in repeat)
    if number > MAX_ATOMS:
        raise SpecimenError(
            file,
            f"`specimen.repeat` {list(repeat)} makes {number:,} atoms; at most {MAX_ATOMS:,} are possible. "
            "Repeat it less often, or ask for a smaller size.",
        )


def _require_sound(file: Path, structure: Structure, detected: str) -> None:
    """Refuse a structure without atoms, with coordinates that are not finite, or with an impossible cell."""
    if len(structure.symbols) == 0:
        raise SpecimenError(file, "holds no atoms. A specimen needs at least one.")
    _require_finite(file, structure)
    _require_cell(file, structure.cell, " (the file was read in nm)" if detected == "stemsalabim" else "")


def _require_cell(file: Path, cell: Floats, unit: str = "", where: str = "") -> None:
    """Refuse a cell unless its three edges have possible lengths [Å] and span a volume."""
    place = f"{where}: " if where else ""
    if not np.isfinite(cell).all() or np.abs(cell).max() > MAX_AXIS:
        raise SpecimenError(
            file,
            f"{place}its cell is not finite, or longer than {MAX_AXIS:g} Å. Correct the cell's lengths and angles.",
        )
    if not cell.any():
        raise SpecimenError(
            file,
            f"{place}has no cell. Write it in a format that keeps one (CIF, extended XYZ with Lattice=…, "
            "POSCAR); for STEMsalabim's file set `specimen.format: stemsalabim`.",
        )
    lengths = np.linalg.norm(cell, axis=1)
    short = np.flatnonzero(lengths < MIN_AXIS)
    if len(short):
        raise SpecimenError(
            file,
            f"{place}cell edge {'abc'[short[0]]} is {lengths[short[0]]:g} Å long{unit}; at least "
            f"{MIN_AXIS:g} Å is needed along all three axes. Give the cell three edges, in the unit of the "
            "format.",
        )
    if abs(np.linalg.det(cell)) < 1e-3 * np.prod(lengths):
        raise SpecimenError(file, f"{place}its cell is flat: the edges lie in one plane. Correct the cell.")


def _require_finite(file: Path, structure: Structure, where: str = "") -> None:
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
    do = "A snapshot needs the specimen file's atoms in the same order, with neutral `repeat` and `supercell`."
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


LEAST_SHOWN = 5e-5
"""Smallest shift [Å] that is shown. A smaller shift would be shown as 0.0000."""


@dataclass(frozen=True, eq=False)
class _Placed:
    """Atoms inside the cell.

    All atoms were moved along z by `shift` [Å], and the cell was lengthened by `grown` [Å]. `note` says so.
    """

    positions: Floats
    length_z: float
    shift: float = 0.0
    grown: float = 0.0
    note: str = ""


def _placed(file: Path, symbols: NDArray[np.str_], positions: Floats, cell: Floats) -> _Placed:
    """Wrap atoms in x and y. If z lies outside the cell, all atoms move together, or the cell grows.

    z is never wrapped and never clipped, so distances along the beam stay as in the file.
    """
    result = lattice.wrapped(positions, cell)
    z = result[:, 2]
    length = float(cell[2])
    low, high = float(z.min()), float(z.max())
    if low >= -lattice.EXACT and high <= length + lattice.EXACT:
        result[:, 2] = np.clip(z, 0.0, length)  # this removes only rounding
        return _Placed(result, length)
    outside = int(((z < -lattice.EXACT) | (z > length + lattice.EXACT)).sum())
    shift = -low if low < 0 else max(length - high, -low)
    grown = max(0.0, high + shift - length)
    if grown > length:
        first = int(np.flatnonzero((z < 0) | (z > length))[0])
        raise SpecimenError(
            file,
            f"atom {first} (counted from 0, {symbols[first]}) lies at z = {z[first]:.3f} Å, outside "
            f"the cell from 0 to {length:.3f} Å, as do {int(((z < 0) | (z > length)).sum())} atoms in all, which span "
            f"{high - low:.3f} Å; z is never wrapped. Shift the atoms along z, wrap them into the cell with the "
            "program that wrote the file, or make room with the third number of `specimen.vacuum_angstrom`.",
        )
    result[:, 2] = np.clip(z + shift, 0.0, length + grown)  # this removes only rounding
    note = f"{number_of(outside, 'atom lies', 'atoms lie')} outside the cell in z"
    if shift:
        by = f"{shift:+.4f}" if abs(shift) >= LEAST_SHOWN else f"{shift:+.1g}"
        note += f": all atoms are moved by {by} Å along z, their distances stay"
    if grown > lattice.EXACT:
        note += f"{' and' if shift else ':'} the cell is lengthened from {length:.4f} to {length + grown:.4f} Å"
    return _Placed(result, length + grown, shift, grown, note)


def _placed_frame(file: Path, symbols: NDArray[np.str_], positions: Floats, specimen: Specimen, where: str) -> Floats:
    """Wrap the atoms of a frame in x and y, and move them along z as the specimen. z may leave the cell."""
    result = lattice.wrapped(positions, np.asarray(specimen.cell))
    result[:, 2] += specimen.shift_z
    if specimen.building is not None and specimen.building.start:
        # The cell of the specimen begins at another height. So take the image of each atom beside its place in the
        # specimen.
        period = specimen.building.orientation.lengths[2]
        result[:, 2] -= specimen.building.start
        result[:, 2] -= period * np.rint((result[:, 2] - specimen.positions[:, 2]) / period)
    z = result[:, 2]
    outside = np.flatnonzero((z < -MOTION_Z) | (z > specimen.cell[2] + MOTION_Z))
    if len(outside):
        first = outside[0]
        raise SpecimenError(
            file,
            f"{where}: atom {first} (counted from 0, {symbols[first]}) lies at z = {z[first]:.3f} Å, outside "
            f"the cell from 0 to {specimen.cell[2]:.3f} Å by more than {MOTION_Z:g} Å, as do {len(outside)} atoms in "
            "all; z is never wrapped. Shift the atoms along z, wrap them into the cell with the program that wrote the "
            "file, or make room with the third number of `specimen.vacuum_angstrom`.",
        )
    return result


def _lengths(values: Floats) -> str:
    return ", ".join(f"{value:.4f}" for value in np.asarray(values).tolist())


def _listed(items: Sequence[str]) -> str:
    return ", ".join(items)
