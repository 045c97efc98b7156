"""Describe what is exported and in which format, and call the module of this format."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from stemphony.errors import ResultError, StorageError
from stemphony.experiment.scan import WINDOW
from stemphony.export import csv_table, emd, hspy, mrc, tiff, waves, zarr_store
from stemphony.export.contents import PATTERNS, Image, facts, images_of, pattern_depths, patterns_of
from stemphony.export.counting import NO_NOISE, Counting
from stemphony.results.opened import Detector, OpenedResult
from stemphony.store.atomic import atomic_path, temporary_beside
from stemphony.store.unfinished import sweep_exports

IMAGES_ONLY, PATTERNS_ONLY, WAVES_ONLY = "images", "patterns", "waves"


@dataclass(frozen=True)
class Format:
    """One format.

    Attributes
    ----------
    ending : str
        Ending of the file name.
    packages : tuple of str
        Packages that must be installed. `MODULES` has the names of their modules if these differ.
    image : callable or None
        Writes one image into a file: `image(path, image, facts)` with the facts of the result, see `contents.facts`.
        None: the format holds all images in one file, or no images.
    patterns : callable or None
        Writes the patterns of one depth into a file: `patterns(path, patterns, facts)`. It may return a note.
    needs_window : bool
        Whether the scan of an image must be a window, not a line or a list.
    """

    ending: str
    packages: tuple[str, ...]
    image: Callable[[Path, Image, dict[str, Any]], None] | None = None
    patterns: Callable[..., Any] | None = None
    needs_window: bool = False


FORMATS: dict[str, Format] = {
    "zarr": Format(".zarr", ("xarray", "zarr", "dask")),
    "hspy": Format(".hspy", ("rosettasciio", "h5py"), hspy.write_image, hspy.write_patterns),
    "emd": Format(".emd", ("emdfile",), emd.write_image, emd.write_patterns),
    "tiff": Format(".tif", (), image=tiff.write_image, needs_window=True),
    "mrc": Format(".mrc", ("mrcfile",), mrc.write_image, mrc.write_patterns, needs_window=True),
    "csv": Format(".csv", ()),
}
ONE_FILE = ("zarr", "csv")
"""Formats that hold all images and depths in one file."""

WITH_WAVES = ("zarr", "hspy")
"""Formats that hold complex numbers, so they can hold waves."""

WITH_PATTERNS = ("zarr", "hspy", "emd", "mrc")
MODULES = {"rosettasciio": "rsciio"}
"""For each package whose module has another name, the name of the module."""


@dataclass(frozen=True)
class ExportRequest:
    """What is exported.

    Attributes
    ----------
    format : str
        One of `FORMATS`.
    only : str or None
        `images`, `patterns` or `waves`. None: all that the result contains and the format can hold.
    detectors : sequence of Detector
        Detectors whose images are exported. Empty: all images.
    depths_nm : sequence of float or None
        Empty: the exit surface. None: all stored depths.
    defocus_nm : float or None
        None: the mean over the defoci.
    counting : Counting
        Noise of a dose.
    replaces : bool
        Overwrite files of an earlier export.
    """

    format: str
    only: str | None = None
    detectors: Sequence[Detector] = ()
    depths_nm: Sequence[float] | None = ()
    defocus_nm: float | None = None
    counting: Counting = NO_NOISE
    replaces: bool = False


def export(
    result: OpenedResult, request: ExportRequest, folder: Path, name: str, say: Callable[[str], None]
) -> list[Path]:
    """Write what `request` asks of `result` into files of a `folder`, named after `name`.

    Parameters
    ----------
    result : OpenedResult
        Images, patterns and waves that can be exported.
    request : ExportRequest
        The format, what is exported, and noise.
    folder : Path
        Where the files are written.
    name : str
        Begin of the names of the files.
    say : callable
        Takes one line for each file, and notes on what a file does not hold.

    Returns
    -------
    list of Path
        The files that were written.

    Raises
    ------
    StemphonyError
        The result lacks the requested data, a package is missing, or a file exists already or cannot be written.
    """
    if request.format not in FORMATS:
        raise ResultError(f"--to: got {request.format!r}; formats are {', '.join(FORMATS)}.")
    _require(FORMATS[request.format])
    takes_waves = _takes_waves(result, request, say)
    alone = takes_waves and (request.only == WAVES_ONLY or not (len(result.depths_nm) or result.has_patterns))
    takes_images, takes_patterns = (False, False) if alone else _kinds(result, request)
    if removed := sweep_exports(folder, name):
        say(f"removed {len(removed)} unfinished files of an export that was killed")
    if request.counting.electrons or request.counting.dose:
        say("noise is added to what detectors count; phases, deflections and standard errors are left out")
    if result.preview:
        say(result.preview)
    if request.format in ONE_FILE:
        return [_one_file(result, request, folder, name, say, takes_images, takes_patterns, takes_waves)]
    written: list[Path] = []
    if takes_images:
        written += _images(result, request, folder, name, say)
    if takes_patterns:
        written += _patterns(result, request, folder, name, say)
    if takes_waves:
        written += _waves(result, request, folder, name, say)
    return written


def _require(form: Format) -> None:
    """Check that the packages of a format are installed."""
    missing = [package for package in form.packages if find_spec(MODULES.get(package, package)) is None]
    if missing:
        names = " ".join(missing)
        raise ResultError(
            f"this format needs {' and '.join(missing)}, which this environment does not have. Install them there: "
            f"python -m pip install {names}   (with conda: conda install -c conda-forge {names})"
        )


def _takes_waves(result: OpenedResult, request: ExportRequest, say: Callable[[str], None]) -> bool:
    """Whether waves are exported."""
    holds, chosen = request.format in WITH_WAVES, request.only == WAVES_ONLY
    if chosen and not holds:
        raise ResultError(f"--only: {request.format} holds no complex waves. They go to {' and '.join(WITH_WAVES)}.")
    has = waves.has_waves(result)
    if chosen and not has:
        raise ResultError(f"{result.file} has no waves. The block `waves` of the config asks for them.")
    # These options select from images and patterns. Waves are written with all defoci and positions, and without noise.
    counts = bool(request.counting.electrons or request.counting.dose)
    selects = bool(request.detectors or request.depths_nm != () or request.defocus_nm is not None or counts)
    if chosen and selects:
        raise ResultError(
            "--only: waves are written whole. Leave out --detector, --depth, --defocus, --dose and "
            "--electrons-per-position."
        )
    if not has or request.only not in (None, WAVES_ONLY) or (selects and not chosen):
        return False
    if not holds:
        say(
            f"the waves of this result are left out: {request.format} does not hold them, {' and '.join(WITH_WAVES)} do"
        )
    return holds


def _kinds(result: OpenedResult, request: ExportRequest) -> tuple[bool, bool]:
    """Whether images and patterns are exported."""
    has_images, has_patterns = bool(len(result.depths_nm)), result.has_patterns
    holds_patterns = request.format in WITH_PATTERNS
    if request.only == PATTERNS_ONLY and not holds_patterns:
        raise ResultError(f"--only: {request.format} holds images only. Patterns go to {', '.join(WITH_PATTERNS)}.")
    if request.only == PATTERNS_ONLY and request.detectors:
        raise ResultError("--detector has no effect on patterns. Leave it out, or leave out --only.")
    wants_images = request.only != PATTERNS_ONLY and (has_images or request.only == IMAGES_ONLY)
    wants_patterns = request.only != IMAGES_ONLY and holds_patterns and (has_patterns or request.only == PATTERNS_ONLY)
    if request.detectors and request.only is None:
        wants_images, wants_patterns = True, False
    if wants_images and not has_images:
        raise ResultError(f"{result.file} has diffraction patterns only. Images need `adf: {{enabled: true}}`.")
    if not (wants_images or wants_patterns):
        raise ResultError(
            f"{result.file} has diffraction patterns only, and {request.format} holds images only. Patterns go to "
            f"{', '.join(WITH_PATTERNS)}."
        )
    return wants_images, wants_patterns


def _depths(result: OpenedResult, request: ExportRequest, stored: Sequence[float]) -> list[float]:
    """The stored depths that the request names, each once and in the order of the file."""
    if request.depths_nm is None:
        return [*stored]
    wanted: list[float | None] = [*request.depths_nm] or [None]
    return [stored[index] for index in sorted({result.depth(depth, np.asarray(stored)) for depth in wanted})]


def _one_file(
    result: OpenedResult, request: ExportRequest, folder: Path, name: str, say: Callable[[str], None],
    takes_images: bool, takes_patterns: bool, takes_waves: bool,
) -> Path:  # fmt: skip
    path = folder / f"{name}{FORMATS[request.format].ending}"
    depths = _depths(result, request, [float(depth) for depth in result.depths_nm]) if takes_images else []
    # The generator reads one depth after the other, so the images of all depths need not fit into memory.
    images = (images_of(result, request.detectors, depth, request.defocus_nm, request.counting) for depth in depths)
    if request.format == "csv":
        with _new(path, request.replaces, say) as temporary:
            csv_table.write(temporary, images, facts(result))
        return path
    with ExitStack() as stack:
        patterns = [
            stack.enter_context(patterns_of(result, depth, request.defocus_nm, request.counting))
            for depth in (_depths(result, request, pattern_depths(result)) if takes_patterns else [])
        ]
        with _new_folder(path, request.replaces, say) as temporary:
            if takes_images or takes_patterns:
                zarr_store.write(temporary, images, patterns, facts(result))
            if takes_waves:
                waves.write_store(temporary, result, facts(result))
    return path


def _images(
    result: OpenedResult, request: ExportRequest, folder: Path, name: str, say: Callable[[str], None]
) -> Iterator[Path]:
    """Write each image at each depth into a separate file."""
    form = FORMATS[request.format]
    assert form.image is not None
    depths = _depths(result, request, [float(depth) for depth in result.depths_nm])
    for depth in depths:
        for image in images_of(result, request.detectors, depth, request.defocus_nm, request.counting):
            if form.needs_window and image.scan.kind != WINDOW:
                raise ResultError(
                    f"the scan is a line or a list, not a window: it has no image for {request.format}. Use --to "
                    "csv, zarr, hspy or emd."
                )
            path = folder / f"{name}_{image.name}{_at(image.depth_nm, depths)}{form.ending}"
            with _new(path, request.replaces, say) as temporary:
                form.image(temporary, image, facts(result))
            yield path


def _patterns(
    result: OpenedResult, request: ExportRequest, folder: Path, name: str, say: Callable[[str], None]
) -> Iterator[Path]:
    """Write the patterns of each depth into a separate file."""
    form = FORMATS[request.format]
    assert form.patterns is not None
    depths = _depths(result, request, pattern_depths(result))
    for depth in depths:
        with patterns_of(result, depth, request.defocus_nm, request.counting) as patterns:
            path = folder / f"{name}_{PATTERNS}{_at(patterns.depth_nm, depths)}{form.ending}"
            with _new(path, request.replaces, say) as temporary:
                note = form.patterns(temporary, patterns, facts(result))
            if note:
                say(note)
            yield path


def _waves(
    result: OpenedResult, request: ExportRequest, folder: Path, name: str, say: Callable[[str], None]
) -> Iterator[Path]:
    """Write each variable of the group `waves` into a separate file."""
    with waves.waves_of(result) as found:
        if numbered := waves.uneven(found):
            say(f"axes with unequal steps have numbers in place of values: {', '.join(numbered)}")
        for wave in found:
            path = folder / f"{name}_{wave.name}{FORMATS[request.format].ending}"
            with _new(path, request.replaces, say) as temporary:
                waves.write_hspy(temporary, wave, facts(result))
            yield path


def _at(depth_nm: float, depths: Sequence[float]) -> str:
    """Part of a file name that names the depth, if there are several."""
    return f"_{depth_nm:.6g}nm" if len(depths) > 1 else ""


@contextmanager
def _new(path: Path, replaces: bool, say: Callable[[str], None]) -> Iterator[Path]:
    _refuse_existing(path, replaces)
    with atomic_path(path) as temporary:
        try:
            yield temporary
        except RuntimeError as error:
            raise _of_disk(error) from error
    say(f"wrote {path}")


def _of_disk(error: RuntimeError) -> Exception:
    """Turn an error of h5py whose text has an error number of the disk into an OSError. Return others unchanged."""
    told = re.search(r"errno = (\d+)", str(error))
    return OSError(int(told[1]), os.strerror(int(told[1]))) if told else error


@contextmanager
def _new_folder(path: Path, replaces: bool, say: Callable[[str], None]) -> Iterator[Path]:
    """The same as `_new`, for a format whose file is a folder."""
    _refuse_existing(path, replaces)
    if path.exists() and not (path / ".zgroup").is_file():
        raise StorageError(f"{path} is no folder of an earlier export, so it is not replaced. Choose another --output.")
    temporary = temporary_beside(path)
    try:
        yield temporary
        if path.exists():
            shutil.rmtree(path)
        temporary.replace(path)
    except OSError as error:
        if error.filename is not None and str(temporary) not in str(error.filename):
            raise
        raise StorageError(f"{path}: cannot be written: {error.strerror}.") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    say(f"wrote {path}")


def _refuse_existing(path: Path, replaces: bool) -> None:
    if path.exists() and not replaces:
        raise StorageError(f"{path} exists already. Give --replace to overwrite it, or --output for another folder.")
    if not path.parent.is_dir():
        raise StorageError(f"{path.parent} is no folder. Create it, or choose another --output.")
