"""Layout of the NetCDF-4 files: a job file and the merged result have the same groups.

The groups are those of STEMsalabim (`AMBER`, `runtime`, `params`, `adf`, `cbed`) and `images`. Lengths are in nm and
angles in mrad, as users of STEMsalabim expect. Floats have 4 bytes in single precision and 8 in double precision.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import netCDF4
import numpy as np

from stemphony import provenance
from stemphony.experiment.model import Experiment
from stemphony.experiment.scan import LINE, LIST, WINDOW
from stemphony.physics.constants import MRAD, NM
from stemphony.physics.segments import SegmentedDetector

NM_PER_ANGSTROM = 1 / NM
"""One ångström [nm]. It converts internal lengths to those of the files."""

MRAD_PER_RAD = 1 / MRAD
"""One radian [mrad]. It converts internal angles to those of the files."""

AMBER_PROGRAM = {"program": provenance.PROGRAM, "programVersion": provenance.VERSION}
"""Attributes of the AMBER convention that name the program."""

FILTERS: dict[str, Any] = {"zlib": True, "complevel": 1, "shuffle": True, "fletcher32": True}
"""Filters of numeric variables. Level 1 is the fastest compression."""

TEXT_FILTERS: dict[str, Any] = {"zlib": True, "fletcher32": True}
"""Filters of text variables. `shuffle` does not help if values are single bytes."""

CHUNK_BYTES = 4_000_000
"""Largest size of a chunk [bytes]. HDF5 always reads whole chunks, so this limits the memory for reading a small
part."""

LOSS_SPECTRUM = "energy_loss_spectrum"
"""Variable of the group `adf` with plasmons: the intensity of each energy loss."""

CHUNK_POSITIONS, UNDIVIDED_PIXELS = 4, 32
"""Number of positions along each axis of a chunk of patterns, and largest number of pixels along an axis of a pattern
that is not divided. docs/performance-more.md has the measurements."""

STANDARD_ERROR = "_standard_error"
"""End of the names of variables that hold standard errors."""


SOURCE_IS_CUT = "source_is_cut"
"""Variable of `images` that marks pixels whose source reaches over the edge of the computed positions."""


ORBIT = "orbit"
"""Variable that says which positions share their signals. It is in `images`, or in `cbed` if there are no images."""


@dataclass(frozen=True)
class Axes:
    """The axes of the signals in one file.

    Attributes
    ----------
    defocus_nm : sequence of float
        Values of the defocus axis. If defoci are averaged, it has one value, their weighted mean.
    configurations : sequence of int
        Indices of the phonon axis. If configurations are averaged, it has one index, 0.
    """

    defocus_nm: Sequence[float]
    configurations: Sequence[int]


def add_attributes(group: netCDF4.Dataset, values: Mapping[str, Any]) -> None:
    """Write `values` as attributes of `group`: bool as 0 or 1, lists and mappings as JSON text. None is not written."""
    for key, value in values.items():
        if value is None:
            continue
        if isinstance(value, bool):
            group.setncattr(key, np.int32(value))
        elif isinstance(value, dict | list | tuple):
            group.setncattr_string(key, json.dumps(value, ensure_ascii=False))
        elif isinstance(value, str):
            group.setncattr_string(key, value)
        elif isinstance(value, int):
            group.setncattr(key, np.int64(value))
        else:
            group.setncattr(key, value)


def add_characters(group: netCDF4.Dataset, texts: Mapping[str, str]) -> None:
    """Write text attributes of `group` as characters, because viewers of the AMBER convention cannot read strings.

    `texts` are the texts by name of the attribute.
    """
    for name, text in texts.items():
        group.setncattr(name, np.bytes_(text.encode()) if text else "")


def add_variable(
    group: netCDF4.Dataset,
    name: str,
    dtype: Any,
    dimensions: tuple[str, ...],
    units: str,
    long_name: str,
    values: Any = None,
    chunks: Sequence[int] | None = None,
) -> netCDF4.Variable:
    """Create a compressed variable with checksums, and fill it if `values` are given.

    Parameters
    ----------
    group : Dataset or Group
        Where the variable is created. It has the dimensions, or one of its parents has them.
    name : str
    dtype : dtype or str
        Type of the numbers, as netCDF4 takes it, for example `f8`.
    dimensions : tuple of str
        Names of the dimensions, outermost first.
    units, long_name : str
        Attributes of the variable; the unit `1` is for numbers without one.
    values : array_like or None
        Values of the whole variable.
    chunks : sequence of int or None
        Shape of the parts that HDF5 compresses and reads. By default, the library chooses it.

    Returns
    -------
    netCDF4.Variable
        The new variable.
    """
    variable = group.createVariable(name, dtype, dimensions, chunksizes=chunks, fill_value=False, **FILTERS)
    variable.units = units
    variable.long_name = long_name
    if values is not None:
        variable[...] = values
    return variable


def add_texts(group: netCDF4.Dataset, name: str, dimension: str, long_name: str, texts: Sequence[str]) -> None:
    """Write texts as a character array of fixed length, because variable-length strings cannot have checksums.

    Parameters
    ----------
    group : Dataset or Group
        Where the variable is created.
    name, dimension, long_name : str
        Name of the variable, name of its dimension, and its meaning.
    texts : sequence of str
        One text for each index of `dimension`.
    """
    encoded = [text.encode() for text in texts]
    length = max([1, *map(len, encoded)])
    group.createDimension(f"{name}_length", length)
    variable = group.createVariable(name, "S1", (dimension, f"{name}_length"), **TEXT_FILTERS)
    variable.units = "1"
    variable.long_name = long_name
    variable._Encoding = "utf-8"
    variable.set_auto_chartostring(False)
    variable[...] = np.array(encoded, dtype=f"S{length}").view("S1").reshape(len(texts), length)


def read_texts(variable: netCDF4.Variable) -> list[str]:
    """Read the texts of `variable`, which `add_texts` wrote, as a list with one text for each index."""
    variable.set_auto_chartostring(False)
    return [b"".join(row.tolist()).rstrip(b"\0").decode() for row in np.ma.filled(variable[...], b"")]


def add_adf(root: netCDF4.Dataset, experiment: Experiment, axes: Axes) -> None:
    """Create the groups `adf` and `images` of `root` with their axes; the caller fills the signals.

    `experiment` has detectors, positions and depths, and `axes` has defoci and configurations.
    """
    real = experiment.real_dtype
    adf = root.createGroup("adf")
    _adf_axes(adf, experiment, axes)
    bins = np.asarray(experiment.bins) * MRAD_PER_RAD
    adf.createDimension("adf_plasmon_energies", len(experiment.energies))
    adf.createDimension("adf_detector_angle", len(bins) - 1)
    _add_energies(adf, "adf_plasmon_energies", experiment)
    for name, long_name in (
        ("adf_detector_angle", "lower edge of the radial bin"),
        ("adf_detector_grid", "lower edges of the radial bins"),
    ):
        add_variable(adf, name, real, ("adf_detector_angle",), "mrad", long_name, bins[:-1])
    add_variable(
        adf, "adf_detector_upper_edge", real, ("adf_detector_angle",), "mrad", "upper edge of the radial bin", bins[1:]
    )
    dimensions = (
        "adf_defocus", "adf_position_x", "adf_position_y", "adf_phonon", "adf_slice", "adf_plasmon_energies",
        "adf_detector_angle",
    )  # fmt: skip
    x, y = len(experiment.scan_x), len(experiment.scan_y)
    per_bin = add_variable(
        adf, "adf_intensities", real, dimensions, "1", "fraction of the incident intensity in each radial bin",
        chunks=chunk_shape((1, x, y, 1, 1, 1, len(bins) - 1), real.itemsize),
    )  # fmt: skip
    per_bin.edges = experiment.edges
    if experiment.center_of_mass:
        adf.createDimension("coordinate_dim", 2)
        add_variable(
            adf, "center_of_mass", real, (*dimensions[:-1], "coordinate_dim"), "mrad",
            "centre of mass of the diffraction pattern along x and y (P14)",
            chunks=chunk_shape((1, x, y, 1, 1, 1, 2), real.itemsize),
        )  # fmt: skip
    if experiment.plasmons is not None:
        add_variable(
            adf, LOSS_SPECTRUM, real, dimensions[:-1], "1",
            "fraction of the incident intensity inside the band limit for each energy loss (P35)",
            chunks=chunk_shape((1, x, y, 1, 1, len(experiment.energies)), real.itemsize),
        )  # fmt: skip
    images = root.createGroup("images")
    _adf_axes(images, experiment, axes)
    for name, (inner, outer) in experiment.rings.items():
        variable = _add_image(images, experiment, name, f"fraction of the incident intensity on detector {name}")
        variable.inner_mrad, variable.outer_mrad = inner * MRAD_PER_RAD, outer * MRAD_PER_RAD
        variable.edges = experiment.edges
    for name, one in experiment.sensitive.items():
        variable = _add_image(images, experiment, name, f"signal of detector {name}, weighted by its sensitivity (P29)")
        variable.setncatts({
            "inner_mrad": one.inner * MRAD_PER_RAD, "outer_mrad": one.outer * MRAD_PER_RAD, "edges": experiment.edges,
            "sensitivity_sha256": one.digest,
        })  # fmt: skip
        if one.pixel is not None:
            variable.pixel_mrad = one.pixel * MRAD_PER_RAD
    for name, detector in experiment.segmented.items():
        _add_segments(images, experiment, name, detector)
    _add_image(images, experiment, "total_intensity", "fraction of the incident intensity inside the band limit")


def _add_energies(group: netCDF4.Dataset, name: str, experiment: Experiment) -> None:
    """Fill the axis of energy losses. Without plasmons, its only value is 0."""
    long_name = "energy loss"
    if experiment.plasmons is not None:
        long_name = "energy loss; 0 is no loss, the last entry counts all larger losses too"
    add_variable(group, name, experiment.real_dtype, (name,), "eV", long_name, experiment.energies)


def _add_segments(images: netCDF4.Dataset, experiment: Experiment, name: str, detector: SegmentedDetector) -> None:
    """Create the images of the segments of one detector, Eq. (P17)."""
    step = 360.0 / detector.segments
    for number in range(detector.number):
        ring, sector = divmod(number, detector.segments)
        text = f"fraction of the incident intensity on sector {sector} of ring {ring} of detector {name} (P17)"
        variable = _add_image(images, experiment, f"{name}_{number}", text)
        inner, outer = detector.edges[ring : ring + 2] * MRAD_PER_RAD
        begin = math.degrees(detector.rotation) + sector * step
        variable.setncatts({
            "inner_mrad": inner, "outer_mrad": outer, "begin_deg": begin, "end_deg": begin + step,
            "offset_mrad": np.asarray(detector.offset) * MRAD_PER_RAD, "edges": experiment.edges,
        })  # fmt: skip


def add_phase_images(root: netCDF4.Dataset, experiment: Experiment, images: Mapping[str, tuple[str, str, str]]) -> None:
    """Create the images of deflection and phase in the group `images` of `root`.

    `experiment` decides their axes. `images` gives units, long name and boundary conditions for each name; empty
    conditions are not written.
    """
    for name, (units, long_name, boundaries) in images.items():
        variable = _add_image(root["images"], experiment, name, long_name)
        variable.units = units
        if boundaries:
            variable.boundary_conditions = boundaries


def add_standard_errors(root: netCDF4.Dataset, experiment: Experiment, phase_images: Sequence[str] = ()) -> None:
    """Create `<image>_standard_error` in the group `images` of `root` for each image of `experiment`.

    `phase_images` are the names of further images, of deflection and phase. All images must exist.
    """
    for name in (*experiment.images, *phase_images):
        variable = _add_image(
            root["images"],
            experiment,
            name + STANDARD_ERROR,
            f"standard error of {name} over frozen-phonon configurations",
        )
        variable.units = root["images"][name].units


def add_source_is_cut(root: netCDF4.Dataset, cut: np.ndarray) -> None:
    """Create the marks of edge pixels in the group `images` of `root`.

    `cut` (nx, ny) is true where the source reaches over the computed positions.
    """
    mark_cut(root["images"], SOURCE_IS_CUT, "adf", cut)


def mark_cut(group: netCDF4.Dataset, name: str, prefix: str, cut: np.ndarray) -> None:
    """Create the marks of `add_source_is_cut` as the variable `name` of `group`.

    `prefix` begins the names of the group's dimensions, `adf` or `cbed`. `cut` (nx, ny) is true where the source
    reaches over the computed positions.
    """
    variable = add_variable(
        group, name, "i1", (f"{prefix}_position_x", f"{prefix}_position_y"), "1",
        "1 where the source reaches over the edge of the computed positions, so blurred values are approximate",
        cut.astype(np.int8),
    )  # fmt: skip
    variable.flag_values = np.array([0, 1], dtype=np.int8)
    variable.flag_meanings = "complete approximate"


def add_orbit(root: netCDF4.Dataset, orbit: np.ndarray) -> None:
    """Store in `root` which computed position the signals of each position come from.

    `orbit` (nx, ny) are the numbers of the computed positions. The variable is in the group `images`, or in `cbed` if
    there are no images.
    """
    name, prefix = ("images", "adf") if "images" in root.groups else ("cbed", "cbed")
    add_variable(
        root[name], ORBIT, "i4", (f"{prefix}_position_x", f"{prefix}_position_y"), "1",
        "number of the computed position that the signals come from; equal numbers share their statistical error",
        orbit,
    )  # fmt: skip


def _add_image(images: netCDF4.Dataset, experiment: Experiment, name: str, long_name: str) -> netCDF4.Variable:
    dimensions = ("adf_defocus", "adf_phonon", "adf_slice", "adf_position_x", "adf_position_y")
    real = experiment.real_dtype
    chunks = chunk_shape((1, 1, 1, len(experiment.scan_x), len(experiment.scan_y)), real.itemsize)
    return add_variable(images, name, real, dimensions, "1", long_name, chunks=chunks)


_AXIS_NAMES = {
    WINDOW: (("nm", "probe position along x"), ("nm", "probe position along y")),
    LINE: (("nm", "distance along the line"), ("nm", "distance across the line")),
    LIST: (("1", "number of the position in the list"), ("1", "not used")),
}
"""Units and long names of the two axes of each kind of scan."""


def _adf_axes(group: netCDF4.Dataset, experiment: Experiment, axes: Axes) -> None:
    _scan_axes(group, experiment, axes, "adf")


def _scan_axes(group: netCDF4.Dataset, experiment: Experiment, axes: Axes, prefix: str) -> None:
    real = experiment.real_dtype
    # The axis of a list counts its positions.
    scale = 1.0 if experiment.scan_kind == LIST else NM_PER_ANGSTROM
    x, y = np.asarray(experiment.scan_x) * scale, np.asarray(experiment.scan_y) * scale
    depths = np.asarray(experiment.depths) * NM_PER_ANGSTROM
    for axis, values, units, long_name in (
        ("defocus", axes.defocus_nm, "nm", "defocus, positive is underfocus"),
        ("position_x", x, *_AXIS_NAMES[experiment.scan_kind][0]),
        ("position_y", y, *_AXIS_NAMES[experiment.scan_kind][1]),
        ("slice", depths, "nm", "depth below the entrance surface"),
    ):
        name = f"{prefix}_{axis}"
        group.createDimension(name, len(values))
        add_variable(group, name, real, (name,), units, long_name, values)
    name = f"{prefix}_phonon"
    group.createDimension(name, len(axes.configurations))
    add_variable(group, name, "i4", (name,), "1", "index of the frozen-phonon configuration", axes.configurations)
    for grid, axis, values in (
        ("probe_x_grid", "position_x", x),
        ("probe_y_grid", "position_y", y),
        ("slice_coords", "slice", depths),
    ):
        add_variable(
            group, f"{prefix}_{grid}", real, (f"{prefix}_{axis}",), group[f"{prefix}_{axis}"].units,
            f"values of {prefix}_{axis}", values,
        )  # fmt: skip
    if experiment.places is not None:
        places = experiment.probe_positions * NM_PER_ANGSTROM
        dimensions = (f"{prefix}_position_x", f"{prefix}_position_y")
        for index, axis in enumerate("xy"):
            add_variable(
                group, f"{prefix}_probe_{axis}", real, dimensions, "nm", f"probe position along {axis}",
                places[..., index],
            )  # fmt: skip


def add_cbed(
    root: netCDF4.Dataset,
    experiment: Experiment,
    axes: Axes,
    angles: tuple[np.ndarray, np.ndarray],
    merged: bool = False,
) -> None:
    """Create the group `cbed` with its axes, Eq. (P15).

    In a job file, a chunk is one pattern, because jobs write and the merge reads whole patterns. In a merged result, a
    chunk is a part of the patterns of some neighbouring positions. So images of a virtual detector are also read fast.

    Parameters
    ----------
    root : Dataset
        The file, open for writing.
    experiment : Experiment
        The experiment of the patterns, see `Experiment.patterns`.
    axes : Axes
        Defoci and configurations.
    angles : ((n_kx,) ndarray, (n_ky,) ndarray)
        kx and ky of the pixels as angles [rad].
    merged : bool
        Whether the file is a merged result.
    """
    real = experiment.real_dtype
    cbed = root.createGroup("cbed")
    _scan_axes(cbed, experiment, axes, "cbed")
    cbed.createDimension("cbed_plasmon_energies", len(experiment.energies))
    _add_energies(cbed, "cbed_plasmon_energies", experiment)
    for axis, values in zip("xy", angles, strict=True):
        cbed.createDimension(f"cbed_k_{axis}", len(values))
        for name in (f"cbed_k_{axis}", f"cbed_{axis}_grid"):
            add_variable(
                cbed, name, real, (f"cbed_k_{axis}",), "mrad", f"scattering angle along {axis}", values * MRAD_PER_RAD
            )
    dimensions = (
        "cbed_defocus", "cbed_position_x", "cbed_position_y", "cbed_phonon", "cbed_slice", "cbed_plasmon_energies",
        "cbed_k_x", "cbed_k_y",
    )  # fmt: skip
    pattern = (len(angles[0]), len(angles[1]))
    add_variable(
        cbed, "cbed_intensities", real, dimensions, "1", "fraction of the incident intensity per pixel (P15)",
        chunks=pattern_chunk(experiment, pattern) if merged else chunk_shape((1,) * 6 + pattern, real.itemsize),
    )  # fmt: skip


def pattern_chunk(experiment: Experiment, pattern: tuple[int, int]) -> tuple[int, ...]:
    """Shape of a chunk of the patterns of a result, one number for each of the eight axes of `cbed_intensities`.

    `experiment` has the positions and the type of the numbers, and `pattern` is the number of pixels (n_kx, n_ky).
    docs/performance-more.md has the measurements.
    """
    x, y = (min(CHUNK_POSITIONS, len(axis)) for axis in (experiment.scan_x, experiment.scan_y))
    kx, ky = (size if size <= UNDIVIDED_PIXELS else (size + 1) // 2 for size in pattern)
    return chunk_shape((1, x, y, 1, 1, 1, kx, ky), experiment.real_dtype.itemsize)


def chunk_shape(shape: tuple[int, ...], itemsize: int) -> tuple[int, ...]:
    """Shape of a chunk: `shape`, whose longest axis is halved again and again until the size is at most CHUNK_BYTES.

    `itemsize` is the size of one number [bytes].
    """
    chunk = list(shape)
    while int(np.prod(chunk)) * itemsize > CHUNK_BYTES:
        longest = max(range(len(chunk)), key=lambda axis: chunk[axis])
        chunk[longest] = (chunk[longest] + 1) // 2
    return tuple(chunk)


@dataclass(frozen=True)
class AtomTable:
    """Atoms at rest for the group `AMBER`. Lengths are in Å here and in nm in the file.

    Attributes
    ----------
    cell : (float, float, float)
        Lengths of the cell [Å].
    symbols, positions, slice_index, u_iso, radius : (N,), (N, 3), (N,), (N,), (N,)
        Elements, positions, slices, mean square displacement per axis [Å²], covalent radius [Å].
    faces : (S,) ndarray
        Upper face of each slice [Å].
    u_aniso : (N, 3, 3) array or None
        Tensors of the mean square displacements [Å²], NaN for atoms without one.
    occupancy : (N,) array or None
        Probability that each site holds its atom; None if every site is full, so that nothing is drawn.
    texts : mapping
        Attributes that say where the atoms come from. Empty attributes are not written.
    """

    cell: tuple[float, float, float]
    symbols: np.ndarray
    positions: np.ndarray
    slice_index: np.ndarray
    u_iso: np.ndarray
    radius: np.ndarray
    faces: np.ndarray
    u_aniso: np.ndarray | None = None
    occupancy: np.ndarray | None = None
    texts: Mapping[str, Any] = field(default_factory=dict)


def add_atoms(root: netCDF4.Dataset, table: AtomTable, frames: int, real: np.dtype[Any]) -> None:
    """Create the group `AMBER` and fill all variables except coordinates and slices, see `put_frame`.

    Parameters
    ----------
    root : Dataset
        The file, open for writing.
    table : AtomTable
        The atoms at rest.
    frames : int
        Number of frames of displaced atoms. With 0, the only frame holds the atoms at rest, and the attribute
        `displaced` is 0.
    real : dtype
        Type of the floats in the file.
    """
    displaced, frames = frames > 0, max(1, frames)
    amber = root.createGroup("AMBER")
    add_attributes(amber, {"displaced": displaced})
    add_characters(amber, {"Conventions": "AMBER", "ConventionVersion": "1.0", **AMBER_PROGRAM})
    add_characters(amber, {name: str(text) for name, text in table.texts.items() if text})
    number = len(table.symbols)
    types, element = _elements(table)
    for name, size in (
        ("frame", frames), ("atom", number), ("spatial", 3), ("cell_spatial", 3), ("cell_angular", 3),
        ("slices", len(table.faces)), ("elements", len(types)),
    ):  # fmt: skip
        amber.createDimension(name, size)
    add_texts(amber, "atom_types", "elements", "element symbols that `element` refers to", list(types))
    add_texts(amber, "spatial", "spatial", "names of the coordinates", ["x", "y", "z"])
    add_texts(amber, "cell_spatial", "cell_spatial", "names of the cell lengths", ["a", "b", "c"])
    add_texts(amber, "cell_angular", "cell_angular", "names of the cell angles", ["alpha", "beta", "gamma"])
    add_variable(
        amber,
        "slice_coordinates",
        real,
        ("slices",),
        "nm",
        "upper face of each slice",
        table.faces * NM_PER_ANGSTROM,
    )
    lengths = np.broadcast_to(np.asarray(table.cell) * NM_PER_ANGSTROM, (frames, 3))
    add_variable(amber, "cell_lengths", real, ("frame", "cell_spatial"), "nm", "cell lengths", lengths)
    add_variable(
        amber, "cell_angles", real, ("frame", "cell_angular"), "degree", "cell angles", np.full((frames, 3), 90.0)
    )
    per_atom = ("frame", "atom")
    chunk = (1, number)
    for name, dtype, units, long_name, values in (
        ("radius", real, "nm", "covalent radius, for viewers", table.radius * NM_PER_ANGSTROM),
        ("msd", real, "nm2", "mean square displacement per axis", table.u_iso * NM_PER_ANGSTROM**2),
        ("element", "i4", "1", "index into atom_types", element),
    ):
        add_variable(amber, name, dtype, per_atom, units, long_name, np.broadcast_to(values, (frames, number)), chunk)
    add_variable(amber, "slice", "i4", per_atom, "1", "slice that the atom belongs to", chunks=chunk)
    add_variable(
        amber, "coordinates", real, ("frame", "atom", "spatial"), "nm", "atom positions", chunks=(1, number, 3)
    )
    _add_sites(amber, table, real)
    if not displaced:
        put_frame(root, 0, table.positions * NM_PER_ANGSTROM, table.slice_index)


def add_lattice(root: netCDF4.Dataset, table: AtomTable, title: str, real: np.dtype[Any]) -> None:
    """Add the variables that STEMsalabim adds to the AMBER convention: atoms at rest in each frame, and the cell.

    Parameters
    ----------
    root : Dataset
        A file with the group `AMBER`, see `add_atoms`.
    table : AtomTable
        The atoms at rest.
    title : str
        Title of the simulation.
    real : dtype
        Type of the floats in the file.
    """
    amber, cell = root["AMBER"], np.asarray(table.cell) * NM_PER_ANGSTROM
    add_characters(amber, {"title": title})
    add_variable(amber, "system_lengths", real, ("cell_spatial",), "nm", "cell lengths of the specimen", cell)
    add_variable(amber, "system_angles", real, ("cell_angular",), "degree", "cell angles", np.full(3, 90.0))
    dimensions, number = ("frame", "atom", "spatial"), len(table.symbols)
    rest = add_variable(
        amber, "lattice_coordinates", real, dimensions, "nm", "positions of the atoms at rest", chunks=(1, number, 3)
    )
    for frame in range(len(amber.dimensions["frame"])):
        rest[frame] = table.positions * NM_PER_ANGSTROM


VACANT = "vacant"
"""Name that `element` 0 refers to if occupancies are drawn."""


def _elements(table: AtomTable) -> tuple[list[str], np.ndarray]:
    """Names that the variable `element` refers to, and its values (N,). If sites are drawn, 0 is a vacant site."""
    types, element = np.unique(np.asarray(table.symbols, dtype=str), return_inverse=True)
    if table.occupancy is None:
        return list(types), element
    return [VACANT, *types], element + 1


def _add_sites(amber: netCDF4.Dataset, table: AtomTable, real: np.dtype[Any]) -> None:
    """Create occupancies and tensors of the mean square displacements, if the specimen has them."""
    if table.occupancy is not None:
        add_variable(
            amber, "occupancy", real, ("atom",), "1", "probability that the site holds its atom", table.occupancy
        )
    if table.u_aniso is not None:
        amber.createDimension("tensor", 6)
        upper = table.u_aniso[:, [0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]] * NM_PER_ANGSTROM**2
        add_variable(
            amber, "msd_tensor", real, ("atom", "tensor"), "nm2",
            "mean square displacements xx, yy, zz, yz, xz, xy; NaN for atoms that move isotropically", upper,
        )  # fmt: skip


def elements_of_frame(table: AtomTable, present: np.ndarray | None) -> np.ndarray | None:
    """Return the values (N,) of the variable `element` for one frame; None if no site is drawn.

    `table` are the atoms at rest. `present` (N,) is false for vacant sites, and None if no site is drawn.
    """
    return None if present is None else np.where(present, _elements(table)[1], 0)


def put_frame(
    root: netCDF4.Dataset,
    frame: int,
    coordinates_nm: np.ndarray,
    slice_index: np.ndarray,
    element: np.ndarray | None = None,
) -> None:
    """Fill one frame of `AMBER`.

    Parameters
    ----------
    root : Dataset
        A file with the group `AMBER`, see `add_atoms`.
    frame : int
        Index of the frame.
    coordinates_nm, slice_index : (N, 3), (N,) ndarray
        Positions [nm] and slices of the atoms.
    element : (N,) ndarray or None
        Values of `element`, see `elements_of_frame`; None if no occupancy is drawn.
    """
    root["AMBER"]["coordinates"][frame] = coordinates_nm
    root["AMBER"]["slice"][frame] = slice_index
    if element is not None:
        root["AMBER"]["element"][frame] = element


def add_params(
    root: netCDF4.Dataset,
    defocus_nm: Sequence[float],
    weights: Sequence[float],
    blocks: Mapping[str, Any],
    real: np.dtype[Any],
    attributes: Mapping[str, Any] | None = None,
) -> None:
    """Create the group `params`: defoci, their weights, and a subgroup of attributes per block of the config.

    Parameters
    ----------
    root : Dataset
        The file, open for writing.
    defocus_nm, weights : sequence of float
        All computed defoci [nm], and their weights in averages.
    blocks : mapping
        Blocks of the config, by name.
    real : dtype
        Type of the floats in the file.
    attributes : mapping or None
        Attributes of the group itself.
    """
    params = root.createGroup("params")
    add_attributes(params, attributes or {})
    params.createDimension("defocus", len(defocus_nm))
    add_variable(params, "defocus", real, ("defocus",), "nm", "defocus, positive is underfocus", defocus_nm)
    add_variable(params, "defocus_weights", real, ("defocus",), "1", "weight of the defocus in averages", weights)
    for block, values in blocks.items():
        add_attributes(params.createGroup(block), values)
