"""Build a block of whole cells from the cell of a structure file: orient, choose corner and first layer, repeat."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from stemphony.errors import SpecimenError
from stemphony.physics.constants import NM
from stemphony.specimen import cut_layers, lattice
from stemphony.specimen.lattice import SUPERCELL_LIMIT, Floats, orthogonal_supercell
from stemphony.specimen.orientation import LISTED, Candidate, Orientation, View, stretch, three_indices, written
from stemphony.specimen.primitive import Lattice, primitive_lattice
from stemphony.specimen.structure import Structure, chosen, copied, turned

SAME_LAYER = 0.05
"""Atoms up to this distance [Å] in front of `specimen.termination` belong to the layer that begins there, because
fractions in files are rounded."""
ROUNDING = 1e-6
"""If a size exceeds a whole number of cells by at most this fraction of a cell, no further cell is added."""
UNSTRAINED = 1e-9
"""Largest principal strain that counts as zero and is not reported."""


@dataclass(frozen=True, eq=False)
class Oriented:
    """A structure in an orthogonal cell, and the orientation of this cell in the lattice of its file.

    Attributes
    ----------
    structure : Structure
        The structure. Its cell is diagonal: edges along x, y and z.
    orientation : Orientation
    start : float
        Height [Å] in the oriented cell that was moved to z = 0, because the face at z = 0 cut a layer.
    """

    structure: Structure
    orientation: Orientation
    start: float = 0.0

    @property
    def lengths(self) -> Floats:
        """Edges along x, y, z [Å]."""
        return np.diagonal(self.structure.cell)


@dataclass(frozen=True)
class Build:
    """Keys of the block `specimen` that decide how a specimen is cut from the crystal. Defaults are neutral.

    If `repeat` is None, `size_nm` and `thickness_nm` decide. The schema describes each key.
    """

    supercell: Sequence[Sequence[int]] | None = None
    zone_axis: Sequence[int] | None = None
    up: Sequence[int] | None = None
    max_strain: float = 0.0
    origin: str | Sequence[float] | None = None
    termination: float | None = None
    repeat: Sequence[int] | None = (1, 1, 1)
    size_nm: Sequence[float] | None = None
    thickness_nm: float | None = None


def oriented(file: Path, structure: Structure, build: Build) -> Oriented:
    """The crystal in an orthogonal cell: along `zone_axis`, or along the rows of `supercell`, or as the file has it.

    `structure` is that of the `file`, and `build` has the keys of the config. Without `zone_axis` and `supercell`,
    there are two cases. If the edges of a cell run along x, y and z in any order or direction, it keeps its Cartesian
    coordinates, and the beam runs along z of the file. Any other orthogonal cell is turned until a, b, c run along x,
    y, z.

    Raises
    ------
    SpecimenError
        There is no such cell. The text lists the cells that come near.
    """
    if build.zone_axis is not None:
        return _along_zone_axis(file, structure, build)
    if build.supercell is not None:
        return _along_rows(file, structure, build.supercell)
    standard = lattice.orthogonal(structure.cell, structure.positions)
    if standard is None:
        raise SpecimenError(file, _not_orthogonal(structure.cell, structure.cell, "the cell"))
    orientation = Orientation(standard.rows.astype(float), standard.lengths, hexagonal=_is_hexagonal(structure.cell))
    # Edges along the axes in another order are only renamed. For other edges, the crystal is turned.
    rotation = np.eye(3)
    if (standard.rows == np.diag(np.diagonal(standard.rows))).all():
        rotation = _rotation(standard.rows @ structure.cell)
    return Oriented(turned(structure, standard.positions, np.diag(standard.lengths), rotation), orientation)


def _rotation(edges: Floats) -> Floats:
    """The proper rotation that turns right-handed orthogonal edges to x, y, z; the identity if they lie there."""
    rotation = stretch(edges)[0]
    return np.eye(3) if np.abs(rotation - np.eye(3)).max() < 1e-6 else rotation


def _along_rows(file: Path, structure: Structure, supercell: Sequence[Sequence[int]]) -> Oriented:
    """The rows of `supercell` along x, y and z."""
    matrix = np.asarray(supercell)
    if matrix.shape != (3, 3) or not np.array_equal(matrix, np.round(matrix.astype(float))):
        raise SpecimenError(file, f"`specimen.supercell` is {supercell}; three rows of three integers are needed.")
    matrix = matrix.astype(np.int64)
    if round(float(np.linalg.det(matrix))) == 0:
        raise SpecimenError(
            file,
            f"`specimen.supercell` {matrix.tolist()} has no volume (determinant 0). Its rows, the new edges "
            "in units of the file's, must not lie in one plane.",
        )
    cell, positions = lattice.supercell(structure.cell, structure.positions, matrix)
    standard = lattice.along_rows(cell, positions)
    if standard is None:
        raise SpecimenError(file, _not_orthogonal(structure.cell, cell, "the cell after `specimen.supercell`"))
    before = lattice.orthogonal(cell, positions)
    follows = before is not None and np.array_equal(before.rows, standard.rows)
    left_handed = standard.rows[1, 1] < 0
    orientation = Orientation(
        (standard.rows @ matrix).astype(float), standard.lengths, hexagonal=_is_hexagonal(structure.cell)
    )
    note = (
        f"the rows of `specimen.supercell` are left-handed: y runs against the second row, along "
        f"{orientation.direction(1)}. The crystal is turned, never mirrored."
    )
    block = copied(structure, standard.positions, np.diag(standard.lengths))
    block = turned(block, standard.positions, block.cell, _rotation(standard.rows @ cell))
    block = replace(
        block,
        notes=(*structure.notes, note) if left_handed else structure.notes,
        # Version 0.1 did not turn edges that run along other axes.
        revision=structure.revision if follows else max(2, structure.revision),
    )
    return Oriented(block, orientation)


def _along_zone_axis(file: Path, structure: Structure, build: Build) -> Oriented:
    """The smallest orthogonal cell with the zone axis along −z."""
    hexagonal = _is_hexagonal(structure.cell)
    zone = _direction(file, "zone_axis", build.zone_axis or (), hexagonal)
    up = None if build.up is None else _direction(file, "up", build.up, hexagonal)
    if up is not None and not np.cross(zone, up).any():
        raise SpecimenError(
            file,
            f"`specimen.up` {written(up.tolist())} lies along the zone axis, so its projection has no direction. "
            "Name a direction that is not parallel to the zone axis.",
        )
    found = primitive_lattice(structure)
    candidate = _accepted(file, found, zone, up, build)
    matrix = candidate.matrix
    cell, positions = lattice.supercell(found.cell, structure.positions[found.atoms], matrix, wrap_z=True)
    lengths = np.linalg.norm(cell, axis=1)
    rotation, strain = stretch(cell)
    block = copied(chosen(structure, found.atoms), positions, cell)
    block = turned(block, positions @ np.linalg.inv(cell) @ np.diag(lengths), np.diag(lengths), rotation)
    if found.note:
        note = f"{found.note}, translations shorter than its edges are not searched: a smaller oriented cell may exist"
        block = replace(block, notes=(*block.notes, note))
    rows = np.linalg.solve(found.index.T.astype(float), matrix.T.astype(float)).T
    small = np.abs(strain).max() <= UNSTRAINED
    return Oriented(block, Orientation(rows, lengths, None if small else strain, hexagonal))


def _direction(file: Path, key: str, given: Sequence[int], hexagonal: bool) -> np.ndarray:
    if len(given) == 4 and not hexagonal:
        raise SpecimenError(
            file,
            f"`specimen.{key}` {written(given)} has four indices, which only a hexagonal cell (a = b, γ = 120°) has. "
            "Give three.",
        )
    try:
        return np.array(three_indices(given), dtype=np.int64)
    except ValueError as error:
        raise SpecimenError(file, f"`specimen.{key}`: {error}. Correct it.") from None


def _accepted(file: Path, found: Lattice, zone: np.ndarray, up: np.ndarray | None, build: Build) -> Candidate:
    """The smallest cell within `max_strain`. If there is none, the error lists the cells that come near."""
    ideal = found.index @ found.ideal_cell
    primitive_zone = zone @ found.index
    primitive_zone = primitive_zone // math.gcd(*primitive_zone.tolist())
    primitive_up = None if up is None else up @ found.index
    upward = _upright(ideal, zone) if up is None else up @ ideal
    candidates = View(found.ideal_cell, primitive_zone, upward, primitive_up).candidates()
    for candidate in candidates:
        if candidate.strain <= max(build.max_strain, 0.0):
            return candidate
    named = written(zone.tolist())
    text = f"no orthogonal cell with the zone axis {named} lies within `specimen.max_strain` {build.max_strain:g}"
    text += ". " if up is None else f" and has y along the projection of `up` {written(up.tolist())}. "
    if not candidates:
        return _refused(file, f"{text}None comes near. Choose another zone axis{'' if up is None else ' or `up`'}.")
    atoms = len(found.atoms)
    best = sorted(_listed(candidates), key=lambda one: one.strain)
    lines = [
        f"  strain {candidate.strain:.5f}, {candidate.cells * atoms} atoms: "
        + ", ".join(f"{name} along {_named(candidate, found, axis)}" for axis, name in enumerate("xy"))
        for candidate in best
    ]
    return _refused(
        file,
        f"{text}The best are (largest principal strain, atoms of the cell):\n" + "\n".join(lines) + "\n"
        f"Accept one with `max_strain: {math.ceil(best[-1].strain * 1e3 + 1e-9) / 1e3:g}` or less, or choose another "
        "direction.",
    )


def _refused(file: Path, text: str) -> Candidate:
    raise SpecimenError(file, text)


def _listed(candidates: Sequence[Candidate]) -> list[Candidate]:
    """The three smallest cells with at most 5 % strain. If there are fewer than three, those with the least strain."""
    usable = [candidate for candidate in candidates if candidate.strain <= 0.05]
    return usable[:LISTED] if len(usable) >= LISTED else list(candidates[-LISTED:])


def _named(candidate: Candidate, found: Lattice, axis: int) -> str:
    rows = np.linalg.solve(found.index.T.astype(float), candidate.matrix.T.astype(float)).T
    return Orientation(rows, np.ones(3)).direction(axis)


def _upright(cell: Floats, zone: np.ndarray) -> Floats:
    """Direction that points up by default: c. If the zone axis is c: the normal of c and a (b of a cubic crystal)."""
    beam = zone @ cell
    along = abs(float(cell[2] @ beam)) / float(np.linalg.norm(cell[2]) * np.linalg.norm(beam))
    return np.asarray(cell[2] if along < 0.94 else np.cross(cell[2], cell[0]) * np.sign(np.linalg.det(cell)))


def _is_hexagonal(cell: Floats) -> bool:
    """Whether a = b, γ = 120° and α = β = 90°, within the rounding of files."""
    a, b, _ = np.linalg.norm(cell, axis=1)
    angles = np.array(lattice.angles(cell))
    return bool(abs(a - b) < 1e-3 and (np.abs(angles - [90, 90, 120]) < 0.02).all())


def _not_orthogonal(cell: Floats, edges: Floats, which: str) -> str:
    angles = ", ".join(f"{angle:.4g}" for angle in lattice.angles(edges))
    text = f"{which} is not orthogonal (angles {angles}°); the edges must be at right angles. "
    matrix = orthogonal_supercell(cell)
    if matrix is None:
        return text + (
            f"No orthogonal supercell with integers up to {SUPERCELL_LIMIT} was found. Name a zone axis instead "
            "(`zone_axis: [0, 0, 1]`): the message then lists the orthogonal cells that come nearest, and "
            "`max_strain` accepts one."
        )
    volume = round(float(np.linalg.det(matrix)))
    text += f"Put this line into the config's `specimen:` block:\n  supercell: {matrix.tolist()}\n"
    text += f"Its volume is {volume} times the file's cell: adapt `repeat`."
    if matrix[2, :2].any():
        text += f" The beam then runs along [{' '.join(str(n) for n in matrix[2])}] of the file's cell."
    return text + " Or name a zone axis (`zone_axis: [0, 0, 1]`) and the cell is found."


def shifted(file: Path, crystal: Oriented, raw: Structure, build: Build) -> Oriented:
    """The `crystal` with `origin` at x = y = 0 and the first layer behind `termination` at z = 0.

    Parameters
    ----------
    file : Path
        Structure file, for messages.
    raw : Structure
        The structure of the file. `origin` names one of its sites.
    build : Build
        Gives `origin` and `termination`.

    Returns
    -------
    Oriented
        A copy with other positions [Å].
    """
    positions = crystal.structure.positions
    if build.origin is not None:
        point = _origin(file, crystal, raw, build.origin)
        # Wrap the atoms, so that the crystal begins at x = y = 0 even if vacuum lies beside it.
        positions = lattice.wrapped(positions - np.array([point[0], point[1], 0.0]), crystal.lengths)
    shifted_block = replace(crystal, structure=replace(crystal.structure, positions=positions))
    if build.termination is None:
        return _with_whole_plane(_with_whole_layers(shifted_block, build), build)
    positions = _terminated(positions, float(crystal.lengths[2]), build.termination)
    return replace(crystal, structure=replace(crystal.structure, positions=positions))


def _with_whole_layers(crystal: Oriented, build: Build) -> Oriented:
    """Keep a layer of the crystal whole if the face at z = 0 cuts it and the cell is periodic along the beam.

    Programs that simulate a beam write z in the order in which the beam meets the atoms, and z outside the cell is
    never wrapped. Their structures stay as they are, with a note.
    """
    structure, period = crystal.structure, float(crystal.lengths[2])
    heights = structure.positions[:, 2]
    found = cut_layers.cut(heights, period)
    # If the atoms beyond one face lie outside the cell, beside their neighbours, the layer is whole already.
    if found is None or np.ptp(heights) <= period - found.empty + SAME_LAYER:
        return crystal
    what = (
        f"atoms on both sides of the cell's face at z = 0 are {found.across:.2f} Å apart across it, and the cell has "
        f"{found.empty:.2f} Å without atoms inside"
    )
    inside = heights.min() >= -lattice.EXACT and heights.max() <= period + lattice.EXACT
    if not ((structure.periodic and inside) or _mixes_z(build)):
        note = (
            f"{what}. If they are one layer, `specimen.termination: {found.middle:.2f}` keeps it together; now its "
            "parts lie at the entrance and at the exit"
        )
        return replace(crystal, structure=replace(structure, notes=(*structure.notes, note)))
    positions = structure.positions.copy()
    positions[:, 2] = cut_layers.begun(positions[:, 2], period, found.start)
    note = (
        f"{what}: the layer is kept together. Its first atoms, which were at z = {found.start:.4f} Å, are at z = 0; "
        "`specimen.termination: 0` cuts it at the face instead"
    )
    whole = replace(structure, positions=positions, notes=(*structure.notes, note), revision=max(2, structure.revision))
    return replace(crystal, structure=whole, start=found.start)


def _with_whole_plane(crystal: Oriented, build: Build) -> Oriented:
    """Keep the first plane of atoms whole if the rounding of fractions in the file split it.

    An oriented cell is wrapped along the beam. Then some atoms of one plane may lie at 0, and others just below the
    length of the cell.
    """
    positions, period = crystal.structure.positions, float(crystal.lengths[2])
    last = positions[:, 2] > period - SAME_LAYER
    if not _mixes_z(build) or not last.any() or not (positions[:, 2] < SAME_LAYER).any():
        return crystal
    positions = positions.copy()
    positions[:, 2] = cut_layers.begun(positions[:, 2], period, float(positions[last, 2].min()))
    return replace(
        crystal, structure=replace(crystal.structure, positions=positions, revision=max(2, crystal.structure.revision))
    )


def _mixes_z(build: Build) -> bool:
    """Whether the crystal is turned so that neither c nor −c runs along the beam."""
    matrix = np.asarray(build.supercell) if build.supercell is not None else np.eye(3)
    return build.zone_axis is not None or bool(matrix[2, :2].any() or matrix[:2, 2].any())


def _origin(file: Path, crystal: Oriented, raw: Structure, origin: str | Sequence[float]) -> Floats:
    """The point [Å] of the oriented cell that `origin` names: the first site of an element, or fractions of the cell.

    The edges D along x, y, z are the rows M in units of the edges of the file. So fractions f of the cell of the file
    become f M⁻¹ D.
    """
    if isinstance(origin, str):
        sites = np.flatnonzero(raw.symbols == origin)
        if not len(sites):
            raise SpecimenError(
                file,
                f"`specimen.origin` names {origin}, and the file holds "
                f"{', '.join(dict.fromkeys(raw.symbols.tolist()))}. Use one of these, or three fractions of the cell.",
            )
        fractions = raw.positions[sites[0]] @ np.linalg.inv(raw.cell)
    else:
        fractions = np.asarray(origin, dtype=float)
    return np.asarray(fractions @ np.linalg.inv(crystal.orientation.rows) * crystal.lengths)


def _terminated(positions: Floats, period: float, termination: float) -> Floats:
    """Coordinates moved so that the first layer at or behind this fraction of the cell is at z = 0."""
    start = termination * period
    height = np.mod(positions[:, 2] - start + SAME_LAYER, period)
    # If rounding puts a layer at the end of the cell, it is the first layer.
    height = np.where(height > period - lattice.EXACT, 0.0, height)
    result = positions.copy()
    result[:, 2] = height - height.min()
    return result


@dataclass(frozen=True, eq=False)
class Building:
    """How a specimen was built, for the plan and the drawing.

    Attributes
    ----------
    orientation : Orientation
    repeat : tuple of 3 ints
        Copies of the oriented cell along x, y, z.
    asked : tuple of 3 floats or None
        Size along x, y, z that the config gives [nm]; None along an axis without a size.
    origin, termination : str
        What lies at x = y = 0, and which layer comes first, in words; empty if the config does not say it.
    substitutions, films : tuple of str, str
        Dopants, vacancies and amorphous films, in words.
    start : float
        As in `Oriented`.
    """

    orientation: Orientation
    repeat: tuple[int, int, int]
    asked: tuple[float | None, float | None, float | None] = (None, None, None)
    origin: str = ""
    termination: str = ""
    substitutions: tuple[str, ...] = ()
    films: str = ""
    start: float = 0.0

    @classmethod
    def of(cls, crystal: Oriented, build: Build, repeat: tuple[int, int, int]) -> Building:
        """Summarise a specimen that was built from `repeat` copies of a `crystal` along x, y, z.

        `build` has the keys of the config.
        """
        origin = ""
        if build.origin is not None:
            where = f"the first {build.origin} of the file" if isinstance(build.origin, str) else list(build.origin)
            origin = f"{where} at x = y = 0"
        termination = ""
        if build.termination is not None:
            height = crystal.structure.positions[:, 2]
            first = sorted(set(crystal.structure.symbols[height < height.min() + SAME_LAYER].tolist()))
            termination = f"first layer {', '.join(first)}, behind {build.termination:g} of the cell"
        return cls(crystal.orientation, repeat, _asked(build), origin, termination, start=crystal.start)

    def lines(self) -> list[tuple[str, str]]:
        """Rows of the plan: name and text."""
        lengths, orientation = self.orientation.lengths, self.orientation
        rows = [("orientation", str(orientation))]
        cell = " × ".join(f"{length:.5g}" for length in lengths)
        text = f"{' × '.join(str(n) for n in self.repeat)} of {cell} Å"
        sizes = [
            f"{name} {n * length / NM:.4g} nm for {size:g} asked"
            for name, n, length, size in zip("xyz", self.repeat, lengths, self.asked, strict=True)
            if size is not None
        ]
        rows.append(("cells", text + (f"; whole cells: {', '.join(sizes)}" if sizes else "")))
        if orientation.strain is not None:
            rows.append(
                ("strain", f"largest principal {100 * orientation.largest_strain:.4g} %; {orientation.strain_text()}")
            )
        if self.origin:
            rows.append(("origin", self.origin))
        if self.termination:
            rows.append(("termination", self.termination))
        rows += [("substitution", line) for line in self.substitutions]
        if self.films:
            rows.append(("amorphous layers", self.films))
        return rows


def _asked(build: Build) -> tuple[float | None, float | None, float | None]:
    x, y = (None, None) if build.size_nm is None else (float(build.size_nm[0]), float(build.size_nm[1]))
    return x, y, build.thickness_nm


def whole_cells(file: Path, crystal: Oriented, build: Build) -> tuple[int, int, int]:
    """Number of copies of the oriented cell along x, y, z: `repeat`, or the smallest number that reaches the sizes.

    `crystal` is the oriented cell, `build` gives `repeat` and the sizes, and `file` is named in messages.

    Raises
    ------
    SpecimenError
        `repeat` is not three integers from 1.
    """
    repeat = build.repeat
    if repeat is not None and (len(repeat) != 3 or any(n != int(n) or n < 1 for n in repeat)):
        raise SpecimenError(file, f"`specimen.repeat` is {list(repeat)}; three integers from 1 are needed.")
    x, y, z = (int(n) for n in repeat or (1, 1, 1))
    given = [x, y, z]
    for axis, size in enumerate(_asked(build)):
        if size is not None:
            given[axis] = max(1, math.ceil(size * NM / crystal.lengths[axis] - ROUNDING))
    return given[0], given[1], given[2]


def repeated(crystal: Oriented, repeat: Sequence[int]) -> Structure:
    """Return `repeat` copies of the cell of `crystal` along x, y, z, side by side. The copy along z changes fastest."""
    positions = lattice.repeated(crystal.lengths, crystal.structure.positions, repeat)
    block = copied(crystal.structure, positions, np.diag(crystal.lengths * np.asarray(repeat)))
    if block.slice_id is None:
        return block
    # Each copy along the beam has slices of its own.
    copy = np.repeat(np.arange(math.prod(repeat)), len(crystal.structure.symbols)) % repeat[2]
    return replace(block, slice_id=block.slice_id + copy * (int(np.ptp(block.slice_id)) + 1))
