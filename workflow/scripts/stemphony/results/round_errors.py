"""The error of each image after a round of configurations, and the decision that follows; `store.rounds` reads it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from stemphony.contract import REFUSAL
from stemphony.errors import DamagedResultError
from stemphony.experiment.blurring import Blurring
from stemphony.experiment.model import Experiment
from stemphony.experiment.stopping import Goal
from stemphony.physics.constants import NM
from stemphony.results.averages import BlockAverage, batches_of
from stemphony.results.batch_processes import batch_reader
from stemphony.results.batches import BatchRequest
from stemphony.results.merge_task import Averaging, MergeTask, Place
from stemphony.results.precision import relative_error
from stemphony.results.signal_blocks import BLOCK_BYTES, AdfBlock


@dataclass(frozen=True)
class ImageError:
    """Error of one image.

    Attributes
    ----------
    detector : str
    depth_nm, defocus_nm : float
        Depth below the entrance surface, and defocus (the weighted mean if defoci are averaged) [nm].
    relative : float
        See `precision.relative_error`; infinite if the image has no intensity.
    """

    detector: str
    depth_nm: float
    defocus_nm: float
    relative: float


def image_errors(
    task: MergeTask, experiment: Experiment, blurring: Blurring, detectors: Sequence[str], processes: int = 1
) -> list[ImageError]:
    """Compute the error of each image over the configurations of a task, from its job files.

    The images are those of the merged result: averaged over defoci if the config says so, and blurred with the source.
    They are averaged over configurations even if the result keeps every configuration.

    Parameters
    ----------
    task : MergeTask
        The job files, of at least two configurations.
    experiment : Experiment
        The experiment of the jobs.
    blurring : Blurring
        Convolution with the source.
    detectors : sequence of str
        Names of the images.
    processes : int
        Number of processes that read job files.

    Returns
    -------
    list of ImageError
        One error for each detector, depth and defocus of the images.

    Raises
    ------
    DamagedResultError
        Job files are missing, damaged, or of another config. The message lists them.
    """
    averaged = {**task.params["adf"], "average_configurations": True}
    task = replace(task, params={**task.params, "adf": averaged})
    averaging = Averaging.of_groups(task)["adf"]
    errors = _Errors(task, experiment, detectors, [])
    with batch_reader(processes) as read:
        for block in _blocks(experiment, blurring):
            average = BlockAverage(averaging, block.first, partial(errors.add, block))
            batches = batches_of([averaging], 0)
            request = BatchRequest(task, (block,), averaging.by_configuration, check=True, frames=False)
            for batch, reading in zip(batches, read(request, batches), strict=True):
                if reading.wrong:
                    listed = "\n".join(f"  {source.file}: {what}" for source, what in reading.wrong)
                    number = f"{len(reading.wrong)} of {len(task.sources)}"
                    raise DamagedResultError(
                        f"cannot judge {task.result.root}: {number} {REFUSAL}.\n{listed}\nNothing was deleted. Delete "
                        "(or move away) the files listed and run again: only they are computed again."
                    )
                average.add(batch, reading.sums[0])
            average.end()
    return errors.found


@dataclass(frozen=True)
class _Errors:
    """The errors of all images so far, in `found`. Blocks of means and their standard errors are added to them."""

    task: MergeTask
    experiment: Experiment
    detectors: Sequence[str]
    found: list[ImageError]

    def add(self, block: AdfBlock, place: Place, value: np.ndarray, error: np.ndarray | None) -> None:
        assert error is not None  # there are at least two configurations
        defocus = self.task.axes("adf").defocus_nm[place[0]]
        for detector in self.detectors:
            index = block.names.index(detector)
            for at, depth in enumerate(self.experiment.depths[block.depths]):
                relative = float(relative_error(value[:, :, at, index], error[:, :, at, index]))
                shown = relative if math.isfinite(relative) else math.inf
                self.found.append(ImageError(detector, float(depth) / NM, float(defocus), shown))


def _blocks(experiment: Experiment, blurring: Blurring) -> Iterator[AdfBlock]:
    """Blocks with all images at some depths. Each block also reads the first radial bin."""
    images = len(experiment.images) + 4
    step = max(1, int(BLOCK_BYTES / (experiment.positions * 8 * images)))
    for first in range(0, len(experiment.depth_slices), step):
        yield AdfBlock(experiment, blurring, slice(first, min(first + step, len(experiment.depth_slices))), slice(0, 1))


def decision(
    goal: Goal, number: int, configurations: int, positions: int, errors: Sequence[ImageError]
) -> dict[str, Any]:
    """Return the content of a round's file: the errors, and the number of configurations of the next round.

    Parameters
    ----------
    goal : Goal
        The wanted accuracy.
    number : int
        Number of the round, from 0.
    configurations : int
        Configurations per defocus so far.
    positions : int
        Number of scan positions of an image whose signals are not copies of each other.
    errors : sequence of ImageError
        Error of each image; at least one.

    Returns
    -------
    dict
        It can be written as JSON. `next` is None if no round follows.
    """
    worst = max(errors, key=lambda error: error.relative)
    return {
        "round": number,
        "configurations": configurations,
        "until": goal.until,
        "reached": worst.relative <= goal.until,
        "next": goal.next_total(configurations, worst.relative),
        "positions": positions,
        "largest": _entry(worst),
        "images": [_entry(error) for error in errors],
    }


def _entry(error: ImageError) -> dict[str, Any]:
    relative = error.relative if math.isfinite(error.relative) else None
    return {
        "detector": error.detector, "depth_nm": round(error.depth_nm, 9), "defocus_nm": error.defocus_nm,
        "relative_error": relative,
    }  # fmt: skip
