"""Merge job files into one result.

Everything is checked before anything is written, and nothing is ever deleted. The averages stream: memory holds one
block of the result, whatever the number of jobs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any, TypeVar

import netCDF4
import numpy as np

from .. import campaign, paths, provenance
from ..errors import DamagedResultError
from ..model import Experiment
from ..recorder import cbed_geometry
from .atomic import atomic_path
from .jobs import effective_blocks
from .result_file import (
    NM,
    STANDARD_ERROR,
    AtomTable,
    Axes,
    add_adf,
    add_atoms,
    add_attributes,
    add_cbed,
    add_params,
    add_standard_errors,
    add_texts,
    add_variable,
    put_frame,
)
from .source_size import blur

BLOCK_BYTES = 256e6  # of one accumulator
SHOWN = 20  # files listed in a refusal
# Attributes of a job's group `runtime` that the result keeps of each job.
RECORDED = (
    "time_start", "cpu_seconds", "wall_seconds", "peak_memory_mb", "host", "fft_plan_source", "git_commit", "versions",
)  # fmt: skip
# The same, where a job file has them: those of earlier versions do not, and not every job has windows.
RECORDED_IF_THERE = ("algorithm", "window_check")


@dataclass(frozen=True)
class Source:
    """One job file of the merge."""

    file: Path
    defocus_index: int
    defocus_nm: float
    configuration: int


@dataclass(frozen=True)
class Merge:
    """What is merged into what: the params of the rule, and the simulation's folder."""

    params: Mapping[str, Any]
    result: paths.ResultPaths

    @property
    def common(self) -> Mapping[str, Any]:
        """Params that all jobs share."""
        common: Mapping[str, Any] = self.params["common"]
        return common

    @cached_property
    def weights(self) -> list[float]:
        """Weight of each defocus; they sum to 1."""
        return list(self.params["weights"])

    @cached_property
    def sources(self) -> tuple[Source, ...]:
        """The job files, by order of defoci, then configuration."""
        return tuple(
            Source(self.result.job(paths.defocus_id(value), configuration), index, value, configuration)
            for index, value in enumerate(self.params["defoci_nm"])
            for configuration in range(self.params["configurations"])
        )

    def axes(self, block: str) -> Axes:
        """Axes of the group `block` (adf or cbed) after averaging."""
        averages = self.params[block]
        values = self.params["defoci_nm"]
        mean = math.fsum(w * v for w, v in zip(self.weights, values, strict=True))
        return Axes(
            [mean] if averages["average_defoci"] else values,
            [0] if averages["average_configurations"] else list(range(self.params["configurations"])),
        )


def merge(
    merge_params: Mapping[str, Any],
    result: paths.ResultPaths,
    output: Path,
    table: AtomTable,
    experiment: Experiment,
    root_attributes: Mapping[str, Any],
    runtime_attributes: Callable[[], Mapping[str, Any]],
    blocks: Mapping[str, Any],
    warn: Callable[[str], None],
) -> None:
    """Check all job files, then write the merged result atomically.

    Raises
    ------
    DamagedResultError
        Files are missing, foreign, mixed, truncated or damaged; all of them are listed with what to do.
    StorageError
        The result cannot be written.
    """
    task = Merge(merge_params, result)
    records = _checked(task)
    seed = records[0]["effective_seed"]
    with atomic_path(output) as temporary:
        with netCDF4.Dataset(temporary, "w", format="NETCDF4") as root:
            add_attributes(root, root_attributes)
            made = effective_blocks(experiment, blocks, seed)
            add_params(root, merge_params["defoci_nm"], task.weights, made, experiment.real_dtype)
            _write_atoms(root, task, table, records, experiment.real_dtype, warn)
            if experiment.adf:
                add_adf(root, experiment, task.axes("adf"))
                _Signals(task, experiment, root, warn).write()
            if experiment.cbed_max is not None:
                _write_cbed(root, task, experiment)
            # Last, because it says how long the merge took.
            _write_runtime(root, runtime_attributes(), task, records, experiment.real_dtype)
        _read_back(temporary)


# --- checks ---------------------------------------------------------------------------------------------------


def _checked(task: Merge) -> list[dict[str, Any]]:
    """Records of all job files, or an error that lists every file that cannot be merged."""
    wrong: list[tuple[Path, str]] = []
    records = []
    for source in task.sources:
        expected = provenance.digest(campaign.job_params(task.common, source.defocus_nm, source.configuration))
        try:
            records.append(_checked_file(source, expected))
        except DamagedResultError as error:
            wrong.append((source.file, str(error)))
    if not wrong:
        for key, what in (("effective_seed", "random seed"), ("physics_version", "physics_version")):
            values = {record[key] for record in records}
            if len(values) > 1:
                wrong += [
                    (task.result.root / "jobs", f"mixed: files with different {what}: {sorted(map(str, values))}")
                ]
    if wrong:
        listed = "\n".join(f"  {file}: {what}" for file, what in wrong[:SHOWN])
        more = f"\n  … and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else ""
        raise DamagedResultError(
            f"cannot merge {task.result.root}: {len(wrong)} of {len(task.sources)} job files are not usable.\n"
            f"{listed}{more}\nNothing was deleted. Delete (or move away) the files listed and run again: only they "
            "are computed again."
        )
    return records


def _checked_file(source: Source, expected: str) -> dict[str, Any]:
    file = source.file
    if not file.exists():
        raise DamagedResultError("missing")
    sidecar = paths.checksum(file)
    try:
        kept = sidecar.read_text(encoding="ascii").split()[0]
    except (OSError, IndexError, UnicodeDecodeError):
        # A single flipped byte in HDF5's own tables gives wrong numbers without an error, or ends the process.
        raise DamagedResultError(
            f"cannot be checked: {sidecar.name} is missing or unreadable (if you are sure of the file, write it: "
            f"sha256sum {file.name} > {sidecar.name}, in its folder)"
        ) from None
    try:
        if provenance.file_sha256(file) != kept:
            raise DamagedResultError(f"damaged: its bytes do not match {sidecar.name}")
        with netCDF4.Dataset(file) as root:
            if "job_digest" not in root.ncattrs():
                raise DamagedResultError("foreign: not a job file of this program")
            if int(root.physics_version) != provenance.PHYSICS_VERSION:
                raise DamagedResultError(
                    f"mixed: computed with physics_version {root.physics_version}, this is {provenance.PHYSICS_VERSION}"
                )
            if root.job_digest != expected:
                raise DamagedResultError("foreign: computed with another config or specimen (job_digest differs)")
            runtime = root["runtime"]
            return {
                "effective_seed": int(root.effective_seed) if "effective_seed" in root.ncattrs() else None,
                "physics_version": int(root.physics_version),
                "displaced": bool(root["AMBER"].displaced),
                **{name: runtime.getncattr(name) for name in RECORDED},
                **{name: getattr(runtime, name, "") for name in RECORDED_IF_THERE},
            }
    except (OSError, RuntimeError, KeyError, IndexError, AttributeError, ValueError) as error:
        raise DamagedResultError(f"truncated or damaged: {type(error).__name__}") from None


def _read_back(file: Path) -> None:
    """Open what was written once more, so that a finished result is known to be readable."""
    with netCDF4.Dataset(file) as root:
        groups = list(root.groups)
    if "params" not in groups:
        raise DamagedResultError(f"{file} could not be read back after writing; is the disk failing?")


# --- provenance and atoms ---------------------------------------------------------------------------------------


def _write_runtime(
    root: netCDF4.Dataset,
    attributes: Mapping[str, Any],
    task: Merge,
    records: Sequence[Mapping[str, Any]],
    real: np.dtype[Any],
) -> None:
    runtime = root.createGroup("runtime")
    starts = [str(record["time_start"]) for record in records]
    add_attributes(runtime, {**attributes, "time_start": min(starts)})
    runtime.createDimension("job", len(records))
    for name, dtype, units, long_name, values in (
        ("defocus", real, "nm", "defocus of the job", [source.defocus_nm for source in task.sources]),
        ("configuration", "i4", "1", "frozen-phonon configuration of the job", [s.configuration for s in task.sources]),
        ("cpu_seconds", real, "s", "processor time of the job", [record["cpu_seconds"] for record in records]),
        ("wall_seconds", real, "s", "elapsed time of the job", [record["wall_seconds"] for record in records]),
        ("peak_memory_mb", real, "MB", "peak memory of the job", [record["peak_memory_mb"] for record in records]),
    ):
        add_variable(runtime, name, dtype, ("job",), units, long_name, values)
    for name, long_name in (
        ("host", "machine of the job"),
        ("fft_plan_source", "where the FFT plans came from"),
        ("git_commit", "commit of the program that ran the job"),
        ("versions", "library versions of the job, JSON"),
        ("algorithm", "how the job's probes went through the specimen"),
        ("window_check", "error of the job's windows, measured on some positions, JSON; empty without windows"),
    ):
        add_texts(runtime, f"job_{name}", "job", long_name, [str(record[name]) for record in records])


def _write_atoms(
    root: netCDF4.Dataset,
    task: Merge,
    table: AtomTable,
    records: Sequence[Mapping[str, Any]],
    real: np.dtype[Any],
    warn: Callable[[str], None],
) -> None:
    wanted = task.params["save_coordinates"]
    keep = campaign.keeps_coordinates(wanted, len(task.sources), len(table.symbols))
    if keep and not all(record["displaced"] for record in records):
        if wanted is True:
            warn("save_coordinates: some jobs ran without keeping coordinates; the atoms at rest are stored instead.")
        keep = False
    add_atoms(root, table, len(task.sources) if keep else 0, real)
    for frame, source in enumerate(task.sources if keep else ()):
        # Already in nm, as stored.
        coordinates, slice_index = _read(source, lambda job: (job["AMBER"]["coordinates"][0], job["AMBER"]["slice"][0]))
        put_frame(root, frame, coordinates, slice_index)


# --- averages ---------------------------------------------------------------------------------------------------

Reader = Callable[[netCDF4.Dataset], np.ndarray]
Value = TypeVar("Value")


@dataclass(frozen=True)
class Averaging:
    """Which axes of a group are averaged, and with which weights."""

    task: Merge
    block: str

    @property
    def over_configurations(self) -> bool:
        """Whether configurations are averaged."""
        return bool(self.task.params[self.block]["average_configurations"])

    @property
    def over_defoci(self) -> bool:
        """Whether defoci are averaged."""
        return bool(self.task.params[self.block]["average_defoci"])

    def place(self, source: Source) -> tuple[int, int]:
        """Where a job's signals go: (defocus index, phonon index) in the result file."""
        return (
            0 if self.over_defoci else source.defocus_index,
            0 if self.over_configurations else source.configuration,
        )

    def __call__(self, read: Reader) -> Iterator[tuple[tuple[int, int], np.ndarray]]:
        """Averages of what `read` takes from each job, one `place` after the other."""
        # Sorted, so that one sum is in memory at a time, and in the same order whatever else is averaged.
        for place, sources in groupby(sorted(self.task.sources, key=self.place), self.place):
            total = np.zeros(())
            for source, value in _values(sources, read):
                weight = self.task.weights[source.defocus_index] if self.over_defoci else 1.0
                if self.over_configurations:
                    weight /= self.task.params["configurations"]
                total = total + weight * value
            yield place, total

    def with_standard_errors(
        self, read: Reader, first: int
    ) -> Iterator[tuple[tuple[int, int], np.ndarray, np.ndarray]]:
        """Averages over configurations, and the standard errors of their `first` quantities on the last axis.

        Independent defoci: √(Σ w² s²/N), from one reading of each job file. Else the same configurations serve all
        defoci, and it is the spread over configurations of the defocus-weighted sum.
        """
        number = int(self.task.params["configurations"])
        if self.over_defoci and not self._independent:
            ((place, total),) = self(read)
            yield place, total, np.sqrt(_variance(self._weighted_sums(read, first)) / number)
            return
        for place, sources in groupby(sorted(self.task.sources, key=self.place), self.place):
            total, squares = np.zeros(()), np.zeros(())
            for index, of_defocus in groupby(sources, lambda source: source.defocus_index):
                weight = self.task.weights[index] if self.over_defoci else 1.0
                spread = _Spread()
                for _, value in _values(of_defocus, read):
                    total = total + weight / number * value
                    spread.add(value[..., :first])
                squares = squares + weight**2 * spread.variance / number
            yield place, total, np.sqrt(squares)

    def _weighted_sums(self, read: Reader, first: int) -> Iterator[np.ndarray]:
        """The defocus-weighted sum of each configuration."""
        weights = self.task.weights
        for _, same in groupby(sorted(self.task.sources, key=_configuration), _configuration):
            yield sum((weights[s.defocus_index] * v[..., :first] for s, v in _values(same, read)), start=np.zeros(()))

    @property
    def _independent(self) -> bool:
        # Snapshots draw nothing: every defocus sees the same frames.
        drawn = self.task.common["simulation"]["random_seed"] is not None
        return drawn and bool(self.task.params["independent_defoci"])


class _Signals:
    """Bins, images and centre of mass of the result, block by block of depths (and bins)."""

    def __init__(self, task: Merge, experiment: Experiment, root: netCDF4.Dataset, warn: Callable[[str], None]) -> None:
        self.task, self.experiment, self.root = task, experiment, root
        self.average = Averaging(task, "adf")
        self.fwhm = task.params["source_fwhm_nm"] * NM
        scan = task.common["scan"]
        self.periodic = tuple([float(edge) for edge in scan[axis]] == [0.0, 1.0] for axis in "xy")
        if self.fwhm and not all(self.periodic):
            warn(
                "source_fwhm_nm: the scan window is not the whole cell, so it is continued by reflection at its edges; "
                "pixels within about one source width of the edges are approximate."
            )

    def write(self) -> None:
        """Fill the groups `adf` and `images`."""
        with_errors = self.average.over_configurations and self.task.params["configurations"] >= 2
        if with_errors:
            add_standard_errors(self.root, self.experiment)
        for depths, bins in self._blocks():
            self._write_block(depths, bins, with_errors)
        if self.fwhm:
            images = [variable for variable in self.root["images"].variables.values() if variable.ndim > 1]
            for variable in (*images, self.root["adf"]["adf_intensities"], *self._center_of_mass()):
                variable.source_fwhm_nm = self.task.params["source_fwhm_nm"]

    def _center_of_mass(self) -> list[netCDF4.Variable]:
        return [self.root["adf"]["center_of_mass"]] if self.experiment.center_of_mass else []

    def _blocks(self) -> Iterator[tuple[slice, slice]]:
        """Blocks of depths and bins. The images of a block of depths come with its first bins."""
        e, bins = self.experiment, len(self.experiment.bins) - 1
        images, numbers = len(e.rings) + 3, BLOCK_BYTES / (e.positions * 8)
        step = max(1, int(numbers / (images + bins)))
        for first in range(0, len(e.depth_slices), step):
            depths = slice(first, min(first + step, len(e.depth_slices)))
            some = max(1, int(numbers / (depths.stop - depths.start)) - images)
            for lower in range(0, bins, some):
                yield depths, slice(lower, min(lower + some, bins))

    def _write_block(self, depths: slice, bins: slice, with_errors: bool) -> None:
        """Bins, and with the first of them images, their standard errors, and ⟨Σ λk I⟩/⟨ΣI⟩, Eq. (P14).

        The moments are averaged, not the centres. All that is needed of a job is taken while its file is open: of
        small files, opening is what costs.
        """
        e = self.experiment
        names = [*e.rings, "total_intensity"] if bins.start == 0 else []
        moments = 2 if names and e.center_of_mass else 0

        def read(job: netCDF4.Dataset) -> np.ndarray:
            stack = [np.moveaxis(_array(job["images"][name][0, 0, depths]), 0, 2) for name in names]
            if moments:
                com = np.nan_to_num(_array(job["adf"]["center_of_mass"][0, :, :, 0, depths, 0, :]))
                total = stack[-1]
                stack += [com[..., axis] * total for axis in (0, 1)]
            per_bin = _array(job["adf"]["adf_intensities"][0, :, :, 0, depths, 0, bins])
            return self._blurred(np.concatenate([*(values[..., None] for values in stack), per_bin], axis=-1))

        images, adf = self.root["images"], self.root["adf"]

        def put(place: tuple[int, int], value: np.ndarray) -> None:
            d, c = place
            for index, name in enumerate(names):
                images[name][d, c, depths] = np.moveaxis(value[..., index], 2, 0)
            if moments:
                with np.errstate(divide="ignore", invalid="ignore"):
                    com = value[..., len(names) : len(names) + 2] / value[..., len(names) - 1, None]
                adf["center_of_mass"][d, :, :, c, depths, 0, :] = com
            adf["adf_intensities"][d, :, :, c, depths, 0, bins] = value[..., len(names) + moments :]

        if not (names and with_errors):
            for place, value in self.average(read):
                put(place, value)
            return
        for place, value, error in self.average.with_standard_errors(read, len(e.rings)):
            put(place, value)
            for index, name in enumerate(e.rings):
                images[name + STANDARD_ERROR][place[0], 0, depths] = np.moveaxis(error[..., index], 2, 0)

    def _blurred(self, values: np.ndarray) -> np.ndarray:
        if not self.fwhm:
            return values
        e = self.experiment
        spacing = tuple((s[1] - s[0]) if len(s) > 1 else 1.0 for s in (e.scan_x, e.scan_y))
        return blur(values, self.fwhm, (spacing[0], spacing[1]), (self.periodic[0], self.periodic[1]))


def _write_cbed(root: netCDF4.Dataset, task: Merge, experiment: Experiment) -> None:
    geometry = cbed_geometry(experiment)
    add_cbed(root, experiment, task.axes("cbed"), (geometry.angles_x, geometry.angles_y))
    target = root["cbed"]["cbed_intensities"]
    average = Averaging(task, "cbed")
    step = max(1, int(BLOCK_BYTES / (len(experiment.scan_y) * math.prod(geometry.shape) * 8)))
    for depth in range(len(experiment.depth_slices)):
        for first_x in range(0, len(experiment.scan_x), step):
            rows = slice(first_x, min(first_x + step, len(experiment.scan_x)))

            def read(job: netCDF4.Dataset, rows: slice = rows, depth: int = depth) -> np.ndarray:
                return _array(job["cbed"]["cbed_intensities"][0, rows, :, 0, depth, 0])

            for (d, c), value in average(read):
                target[d, rows, :, c, depth, 0] = value


def _array(values: Any) -> np.ndarray:
    return np.asarray(np.ma.filled(values, np.nan), dtype=float)


def _values(sources: Iterable[Source], read: Reader) -> Iterator[tuple[Source, np.ndarray]]:
    for source in sources:
        yield source, _read(source, read)


def _read(source: Source, read: Callable[[netCDF4.Dataset], Value]) -> Value:
    try:
        with closing(netCDF4.Dataset(source.file)) as job:
            return read(job)
    except (OSError, RuntimeError, LookupError, ValueError) as error:
        raise DamagedResultError(
            f"{source.file}: damaged, its data cannot be read ({type(error).__name__}). Nothing was deleted; "
            "delete this file and run again: only it is computed again."
        ) from None


def _configuration(source: Source) -> int:
    return source.configuration


class _Spread:
    """Sample variance (N − 1) of a stream of arrays, by Welford's recurrence."""

    def __init__(self) -> None:
        self.count, self.mean, self.squares = 0, np.zeros(()), np.zeros(())

    def add(self, value: np.ndarray) -> None:
        """Take one more array."""
        self.count += 1
        delta = value - self.mean
        self.mean = self.mean + delta / self.count
        self.squares = self.squares + delta * (value - self.mean)

    @property
    def variance(self) -> np.ndarray:
        """The variance of those taken, at least two."""
        return self.squares / (self.count - 1)


def _variance(values: Iterator[np.ndarray]) -> np.ndarray:
    """Sample variance of a stream of arrays."""
    spread = _Spread()
    for value in values:
        spread.add(value)
    return spread.variance
