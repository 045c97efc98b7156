"""Write and read `specimen.nc`, the atoms of a simulation. It is written once, and every job reads it without ASE."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import netCDF4
import numpy as np

from stemphony.errors import DamagedResultError
from stemphony.physics.periods import Periods
from stemphony.physics.random_film import Film
from stemphony.specimen.specimen import Specimen
from stemphony.store.atomic import atomic_path

CONTENT = "stemphony specimen"
LAYOUT = 1
"""Number of the layout of the file. A version that reads another layout refuses the file."""
# The checksums of HDF5 cover the chunks, but not the index of the chunks. So a digest covers all that is read.
DIGEST = "content_sha256"
_TEXTS = ("reader", "formula", "u_source", "orientation")  # attributes that not every specimen has
_OWN = ("content", "layout", "source_format", "notes", "films", "periods", *_TEXTS, DIGEST)
# Upper triangle of a symmetric tensor, in the order of Voigt: xx, yy, zz, yz, xz, xy.
_TENSOR = (np.array([0, 1, 2, 1, 0, 0]), np.array([0, 1, 2, 2, 2, 1]))
# Variables that not every specimen has: kind, further dimensions, units, long name. A file without them keeps the
# digest that earlier versions gave it.
_OPTIONAL: dict[str, tuple[str, tuple[str, ...], str, str]] = {
    "u_aniso": (
        "f8", ("tensor",), "angstrom2",
        "mean square displacements xx, yy, zz, yz, xz, xy, NaN where u_iso alone is known",
    ),
    "occupancy": ("f8", (), "1", "probability that the site holds its atom"),
    "disorder": ("i8", (), "1", "sites of equal numbers exclude each other, -1 for independent ones"),
    "disorder_group": ("i8", (), "1", "sites of equal disorder and group are present together"),
    "slice_id": ("i8", (), "1", "slice of the atom that the structure file names"),
    "charge": ("i8", (), "1", "charge of the ion whose scattering factor is used, in elementary charges"),
}  # fmt: skip


_SENSITIVITY = "sensitivity_"
# Begin of the names of variables that hold the sensitivity of a detector.


def write_specimen(file: Path, specimen: Specimen, attributes: Mapping[str, str]) -> None:
    """Write a specimen as NetCDF-4, whole or not at all. The file gets its name only when it is complete.

    Root attributes: those given and `content`, `layout`, `source_format`, `content_sha256`. If the specimen has
    them, also `reader`, `formula`, `u_source`, `orientation`, `notes`, `films` and `periods` (JSON).

    Variables: `element(atom, label)`, `positions(atom, spatial)` [Å], `u_iso(atom)` [Å²], `radius(atom)` [Å],
    `cell(spatial)` [Å] and `vacuum(spatial)` [Å]. If the specimen has them, also `u_aniso(atom, tensor)` [Å²],
    `occupancy(atom)`, `disorder(atom)`, `disorder_group(atom)`, `slice_id(atom)`, `charge(atom)` and, with snapshots,
    `frames(frame, atom, spatial)` [Å], and for detectors with a sensitivity `sensitivity_<name>` with axes of its own.

    Parameters
    ----------
    file : Path
        The folder must exist. An existing file is replaced.
    specimen : Specimen
    attributes : mapping of str to str
        Provenance, such as `specimen_digest`.

    Raises
    ------
    StorageError
        The folder cannot be written or the disk is full.
    ValueError
        `attributes` has a name that the function writes itself.
    """
    reserved = sorted(set(attributes) & set(_OWN))
    if reserved:
        raise ValueError(f"attributes {reserved} are written by write_specimen itself")
    arrays = _arrays(specimen)
    with atomic_path(file) as temporary, netCDF4.Dataset(temporary, "w", format="NETCDF4") as dataset:
        dataset.setncatts(dict(attributes))
        dataset.setncatts({"content": CONTENT, "layout": LAYOUT, "source_format": specimen.format})
        texts = _texts(specimen)
        for name, text in texts.items():
            dataset.setncattr_string(name, text)
        dataset.setncattr(DIGEST, _digest(arrays, specimen.format, {**attributes, **texts}))
        dataset.createDimension("atom", len(specimen.positions))
        dataset.createDimension("spatial", 3)
        dataset.createDimension("label", 2)
        _create(dataset, "element", "S1", ("atom", "label"), "1", "chemical symbol", arrays)
        _create(dataset, "positions", "f8", ("atom", "spatial"), "angstrom", "coordinates at rest", arrays)
        _create(
            dataset, "u_iso", "f8", ("atom",), "angstrom2",
            "mean square displacement per Cartesian axis, NaN where unknown", arrays,
        )  # fmt: skip
        _create(dataset, "radius", "f8", ("atom",), "angstrom", "covalent radius, for viewers", arrays)
        _create(dataset, "cell", "f8", ("spatial",), "angstrom", "cell lengths along x, y, z", arrays)
        _create(dataset, "vacuum", "f8", ("spatial",), "angstrom", "part of the cell added as vacuum", arrays)
        if "u_aniso" in arrays:
            dataset.createDimension("tensor", len(_TENSOR[0]))
        for name, (kind, dimensions, units, long_name) in _OPTIONAL.items():
            if name in arrays:
                _create(dataset, name, kind, ("atom", *dimensions), units, long_name, arrays)
        if specimen.frames is not None:
            dataset.createDimension("frame", len(specimen.frames))
            axes = ("frame", "atom", "spatial")
            _create(dataset, "frames", "f8", axes, "angstrom", "coordinates of the snapshots", arrays)
        for name in (name for name in arrays if name.startswith(_SENSITIVITY)):
            own = (f"{name}_0", f"{name}_1")
            for axis, length in zip(own, arrays[name].shape, strict=True):
                dataset.createDimension(axis, length)
            _create(dataset, name, "f8", own, "1", "sensitivity of a detector: map, or angle [mrad] and value", arrays)


def read_specimen_file(file: Path) -> Specimen:
    """Read a specimen from a file that `write_specimen` wrote.

    Raises
    ------
    DamagedResultError
        The file is missing, truncated, damaged, or of another kind.
    """
    with _opened(file) as (dataset, found):
        arrays = {name: np.asarray(variable[:]) for name, variable in dataset.variables.items()}
        specimen = _specimen(arrays, found)
        digest = _digest(_arrays(specimen), specimen.format, {**_given(found), **_texts(specimen)})
        if digest != found.get(DIGEST):
            raise _damaged(file, "is damaged: its content does not have the digest it was written with")
    return specimen


def read_attributes(file: Path) -> dict[str, str]:
    """The attributes of `file` that were given to `write_specimen`.

    Raises
    ------
    DamagedResultError
        See `read_specimen_file`.
    """
    with _opened(file) as (_, found):
        return _given(found)


@contextmanager
def _opened(file: Path) -> Iterator[tuple[Any, dict[str, Any]]]:
    """Open a specimen file and read its attributes. Any failure inside becomes a DamagedResultError."""
    file = Path(file)
    if not file.is_file():
        raise DamagedResultError(f"{file}: there is no such file. Run again: rule prepare_specimen makes it.")
    try:
        with netCDF4.Dataset(file, "r") as dataset:
            dataset.set_auto_maskandscale(False)
            dataset.set_always_mask(False)
            found = {name: dataset.getncattr(name) for name in dataset.ncattrs()}
            if found.get("content") != CONTENT:
                raise _damaged(file, "is not a specimen file of this program")
            if int(found["layout"]) != LAYOUT:
                raise _damaged(file, f"has layout {found['layout']}, this version reads layout {LAYOUT}")
            yield dataset, found
    except DamagedResultError:
        raise
    except PermissionError as error:
        raise DamagedResultError(
            f"{file}: cannot be read ({error.strerror}). Make it readable (`chmod u+r`), and run again."
        ) from None
    except Exception as error:  # HDF5 raises many types, and a missing variable raises KeyError
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise _damaged(file, f"is truncated or damaged ({reason})") from error


def _given(found: Mapping[str, Any]) -> dict[str, str]:
    return {name: str(value) for name, value in found.items() if name not in _OWN}


def _texts(specimen: Specimen) -> dict[str, str]:
    """Attributes of the file that only some specimens have."""
    texts = {name: getattr(specimen, name) for name in _TEXTS}
    texts["notes"] = json.dumps(list(specimen.notes)) if specimen.notes else ""
    texts["films"] = json.dumps([asdict(film) for film in specimen.films]) if specimen.films else ""
    texts["periods"] = json.dumps(asdict(specimen.periods)) if specimen.periods is not None else ""
    return {name: text for name, text in texts.items() if text}


def _damaged(file: Path, what: str) -> DamagedResultError:
    return DamagedResultError(f"{file}: {what}. Delete it and run again: rule prepare_specimen makes it again.")


def _arrays(specimen: Specimen) -> dict[str, np.ndarray]:
    """Variables of the file, as they are stored."""
    arrays = {
        "element": np.array(specimen.symbols, dtype="S2").view("S1").reshape(-1, 2),
        "positions": np.ascontiguousarray(specimen.positions, dtype="<f8"),
        "u_iso": np.ascontiguousarray(specimen.u_iso, dtype="<f8"),
        "radius": np.ascontiguousarray(specimen.radius, dtype="<f8"),
        "cell": np.array(specimen.cell, dtype="<f8"),
        "vacuum": np.array(specimen.vacuum, dtype="<f8"),
    }
    if specimen.u_aniso is not None:
        arrays["u_aniso"] = np.ascontiguousarray(specimen.u_aniso[:, *_TENSOR], dtype="<f8")
    for name in ("occupancy", "disorder", "disorder_group", "slice_id", "charge"):
        values = getattr(specimen, name)
        if values is not None:
            arrays[name] = np.ascontiguousarray(values, dtype="<f8" if name == "occupancy" else "<i8")
    if specimen.frames is not None:
        arrays["frames"] = np.ascontiguousarray(specimen.frames, dtype="<f8")
    for name, values in specimen.sensitivities.items():
        arrays[_SENSITIVITY + name] = np.ascontiguousarray(values, dtype="<f8")
    return arrays


def _specimen(arrays: Mapping[str, np.ndarray], found: Mapping[str, Any]) -> Specimen:
    labels = np.ascontiguousarray(arrays["element"], dtype="S1")
    cell, vacuum = arrays["cell"].tolist(), arrays["vacuum"].tolist()
    u_aniso = None
    if "u_aniso" in arrays:
        u_aniso = np.empty((len(labels), 3, 3))
        u_aniso[:, *_TENSOR] = u_aniso[:, *_TENSOR[::-1]] = arrays["u_aniso"]
    return Specimen(
        symbols=labels.view("S2").ravel().astype("<U2"),
        positions=arrays["positions"],
        cell=(cell[0], cell[1], cell[2]),
        u_iso=arrays["u_iso"],
        slice_id=arrays.get("slice_id"),
        charge=arrays.get("charge"),
        format=str(found["source_format"]),
        frames=arrays.get("frames"),
        vacuum=(vacuum[0], vacuum[1], vacuum[2]),
        radius=arrays["radius"],
        u_aniso=u_aniso,
        occupancy=arrays.get("occupancy"),
        disorder=arrays.get("disorder"),
        disorder_group=arrays.get("disorder_group"),
        notes=tuple(json.loads(found.get("notes", "[]"))),
        reader=str(found.get("reader", "")),
        formula=str(found.get("formula", "")),
        u_source=str(found.get("u_source", "")),
        orientation=str(found.get("orientation", "")),
        films=tuple(Film(**film) for film in json.loads(found.get("films", "[]"))),
        periods=_periods(found.get("periods", "")),
        sensitivities={
            name.removeprefix(_SENSITIVITY): values for name, values in arrays.items() if name.startswith(_SENSITIVITY)
        },
    )


def _periods(text: str) -> Periods | None:
    if not text:
        return None
    values = json.loads(text)
    return Periods(**{**values, "columns": tuple(values["columns"])})


def _digest(arrays: Mapping[str, np.ndarray], source_format: str, attributes: Mapping[str, str]) -> str:
    digest = hashlib.sha256(repr((source_format, sorted(attributes.items()))).encode())
    for name in sorted(arrays):
        digest.update(f"{name}{arrays[name].shape}".encode())
        digest.update(np.ascontiguousarray(arrays[name]).data)
    return digest.hexdigest()


def _create(
    dataset: Any,
    name: str,
    kind: str,
    dimensions: tuple[str, ...],
    units: str,
    long_name: str,
    arrays: Mapping[str, np.ndarray],
) -> None:
    values = arrays[name]
    # Each chunk holds one frame, because a job reads one configuration.
    chunks = (1, *values.shape[1:]) if name == "frames" else None
    variable = dataset.createVariable(
        name, kind, dimensions, compression="zlib", complevel=4, fletcher32=True, chunksizes=chunks
    )
    variable.set_auto_maskandscale(False)
    variable.units = units
    variable.long_name = long_name
    variable[:] = values
