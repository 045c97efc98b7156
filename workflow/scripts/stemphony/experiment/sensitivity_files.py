"""Files with the sensitivity of a detector: CSV with a radial profile, NPY or TIFF with a map, Eq. (P29)."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from stemphony import ordinary_files
from stemphony.errors import ConfigError
from stemphony.experiment import tiff
from stemphony.experiment.model import sensitivity_of
from stemphony.provenance import file_sha256

LARGEST_BYTES = 256_000_000
"""Largest size of a file [bytes]. A map of 4096² numbers in double precision has half of this size."""

PROFILE, MAPS = (".csv", ".txt"), (".npy", ".tif", ".tiff")
"""Suffixes of files with a profile, and of files with a map."""


def named_files(adf: Mapping[str, Any]) -> dict[str, str]:
    """Return the file that each detector of the validated block `adf` names, by detector; empty if adf is off."""
    if not adf["enabled"]:
        return {}
    files = {name: sensitivity_of(entry) for name, entry in (adf["detectors"] or {}).items()}
    return {name: file for name, file in sorted(files.items()) if file is not None}


def read(files: Mapping[str, Path]) -> dict[str, np.ndarray]:
    """Read the sensitivity of each detector; `files` names its file. For results and errors see `read_one`."""
    return {name: read_one(name, file) for name, file in files.items()}


def read_planned(files: Mapping[str, Path], planned: Mapping[str, str]) -> dict[str, np.ndarray]:
    """Read the files of a plan, and check the SHA-256 of each.

    Parameters
    ----------
    files : mapping of str to Path
        File of each detector.
    planned : mapping of str to str
        SHA-256 of each file in the plan, by the name of the detector.

    Returns
    -------
    dict of str to ndarray
        Sensitivity of each detector, see `read_one`.

    Raises
    ------
    ConfigError
        A file was edited after the campaign was planned, or cannot be read.
    """
    for name, sha256 in planned.items():
        found = file_digest(name, files[name])
        if found != sha256:
            raise ConfigError(
                f"adf.detectors.{name}.sensitivity",
                f"{files[name]} was edited after the campaign was planned (SHA-256 {found[:12]}…, planned "
                f"{sha256[:12]}…). Run Snakemake again.",
            )
    return read({name: files[name] for name in planned})


def file_digest(name: str, file: Path) -> str:
    """Return the SHA-256 of `file`, that of the detector `name`; ConfigError if it cannot be read."""
    try:
        return file_sha256(file)
    except OSError as error:
        raise _unreadable(name, file, error.strerror or type(error).__name__) from None


def read_one(name: str, file: Path) -> np.ndarray:
    """Read the sensitivity of one detector.

    Parameters
    ----------
    name : str
        Name of the detector, for messages.
    file : Path
        CSV with two columns, angle [mrad] and sensitivity. NPY with axes kx, ky. TIFF as a picture: columns are kx,
        and the first row is the largest ky.

    Returns
    -------
    ndarray
        A profile (n, 2) with ascending angles [mrad], or a map (n_x, n_y) with ascending kx and ky.

    Raises
    ------
    ConfigError
        The file is too large, of another kind, damaged, or has values that no sensitivity has.
    """
    kind = file.suffix.lower()
    where = f"adf.detectors.{name}.sensitivity"
    if kind not in (*PROFILE, *MAPS):
        raise ConfigError(where, f"got {file.name}; allowed are {', '.join((*PROFILE, *MAPS))}.")
    try:
        if file.stat().st_size > LARGEST_BYTES:
            raise ConfigError(where, f"{file} has more than {LARGEST_BYTES // 1_000_000} MB; use a smaller map.")
        content = ordinary_files.read_bytes(file, LARGEST_BYTES)
        if kind in PROFILE:
            values = _profile(content)
        else:
            values = np.load(io.BytesIO(content), allow_pickle=False) if kind == ".npy" else _picture(content)
            values = _map(values)
    except OSError as error:
        raise _unreadable(name, file, error.strerror or type(error).__name__) from None
    except (ValueError, EOFError) as error:
        raise _unreadable(name, file, str(error).splitlines()[0].rstrip(".")) from None
    _require_sensitivity(where, file, values if kind in MAPS else values[:, 1])
    return values


def require_pixels(adf: Mapping[str, Any], files: Mapping[str, Path]) -> None:
    """Raise ConfigError for a map without `pixel_mrad`, and for a profile with it.

    `adf` is the validated block of the config, and `files` has the file of each detector that names one.
    """
    for name, file in files.items():
        is_map, given = file.suffix.lower() in MAPS, adf["detectors"][name].get("pixel_mrad")
        where = f"adf.detectors.{name}.pixel_mrad"
        if is_map and given is None:
            raise ConfigError(where, f"is missing. {file.name} is a map: give the width of its pixels in mrad.")
        if not is_map and given is not None:
            raise ConfigError(where, f"got {given:g}, but {file.name} is a profile, which names its angles. Remove it.")


def _unreadable(name: str, file: Path, reason: str) -> ConfigError:
    return ConfigError(f"adf.detectors.{name}.sensitivity", f"{file} cannot be read: {reason}. Correct the file.")


def _profile(content: bytes) -> np.ndarray:
    """Angles [mrad] and sensitivities of a CSV file. Its first line may be a heading, and # begins a comment."""
    rows: list[list[float]] = []
    has_heading = False
    for number, line in enumerate(content.decode("utf-8-sig").splitlines(), start=1):
        words = line.split("#")[0].replace(";", ",").replace("\t", ",").replace(" ", ",").split(",")
        words = [word for word in words if word]
        if not words:
            continue
        try:
            row = [float(word) for word in words]
        except ValueError:
            if rows or has_heading:
                raise ValueError(f"line {number} has text where two numbers are expected") from None
            has_heading = True
            continue
        if len(row) != 2:
            raise ValueError(f"line {number} has {len(row)} columns; expected are angle in mrad and sensitivity")
        rows.append(row)
    profile = np.array(rows, dtype=np.float64).reshape(-1, 2)
    if len(profile) < 2 or not (np.diff(profile[:, 0]) > 0).all() or profile[0, 0] < 0:
        raise ValueError("it needs two or more lines, with angles in mrad that are not negative and ascend")
    return profile


def _picture(content: bytes) -> np.ndarray:
    """A TIFF as a map: kx along its rows, ky from its last row upwards."""
    return tiff.image(content, LARGEST_BYTES)[::-1].T


def _map(values: Any) -> np.ndarray:
    if not isinstance(values, np.ndarray) or values.ndim != 2 or min(values.shape) < 2:
        shape = getattr(values, "shape", None)
        raise ValueError(f"it has the shape {shape}; expected is one array with two axes of at least 2 pixels")
    if values.dtype.kind not in "buif":
        raise ValueError(f"it has values of type {values.dtype}; expected are real numbers")
    return np.ascontiguousarray(values, dtype=np.float64)


def _require_sensitivity(where: str, file: Path, values: np.ndarray) -> None:
    if not np.isfinite(values).all() or values.min() < 0:
        raise ConfigError(
            where, f"{file} has sensitivities that are negative or not finite; allowed are numbers from 0."
        )
    if values.max() == 0:
        raise ConfigError(where, f"{file} has the sensitivity 0 everywhere, so the detector sees nothing. Correct it.")
