"""Small configs, campaigns and job files, and processes that start together."""

from __future__ import annotations

import atexit
import copy
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from stemphony import provenance
from stemphony.compute.atoms import Atoms
from stemphony.compute.recorder import JobSignals, cbed_geometry, patterns_shape
from stemphony.compute.stored_waves import empty_waves
from stemphony.experiment import campaign, configuration
from stemphony.experiment.campaign import Campaign, InputFiles
from stemphony.experiment.model import Experiment
from stemphony.experiment.scan_edges import ScanEdges
from stemphony.paths import ResultPaths
from stemphony.results import job_file
from stemphony.results.merge import merge
from stemphony.results.merge_task import MergeTask
from stemphony.specimen.specimen import Specimen

from support.specimens import srtio3

SCRIPTS = Path(__file__).parents[2] / "workflow/scripts"
CELL = (7.81, 7.81, 7.81)
FILES = InputFiles("5" * 64)
_FOLDER = tempfile.TemporaryDirectory(prefix="stemphony-jobs-")
atexit.register(_FOLDER.cleanup)
WRITTEN = Path(_FOLDER.name)
"""Job files of all campaigns that `FakeCampaign.write_all` wrote in this process."""

# 64 points on 7.81 Å carry angles up to 68.5 mrad.
TINY: dict[str, dict[str, Any]] = {
    "simulation": {"name": "tiny"},
    "specimen": {"file": "tiny.xyz"},
    "grating": {"gpts": [64, 64], "slice_thickness_angstrom": 1.96},
    "scan": {"points": [3, 4]},
    "depths": {"every_angstrom": 3.9},
    "adf": {"bins": 5, "max_mrad": 60.0, "detectors": {"bf": [0.0, 10.0], "haadf": [40.0, 60.0]}},
}

PLASMONS: dict[str, Any] = {
    "enabled": True, "mean_free_path_nm": 128.0, "plasmon_energy_ev": 16.9, "plasmon_fwhm_ev": 4.0,
    "energy_grid_density_per_ev": 0.1, "max_energy_ev": 30.0,
}  # fmt: skip
"""A block `plasmon_scattering`: four energy losses up to 30 eV."""


def minimal(**blocks: Mapping[str, Any]) -> dict[str, Any]:
    """The shortest config there is, with `blocks` added to it."""
    return _joined({"simulation": {"name": "x"}, "specimen": {"file": "x.cif"}}, blocks)


def tiny(**blocks: Mapping[str, Any]) -> dict[str, Any]:
    """A validated config of a tiny campaign; `blocks` override single keys."""
    return configuration.validate(_joined(TINY, blocks))


def _joined(base: Mapping[str, Any], blocks: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    joined: dict[str, Any] = copy.deepcopy(dict(base))
    for block, values in blocks.items():
        joined[block] = {**joined.get(block, {}), **values}
    return joined


def planned(files: InputFiles = FILES, **blocks: Mapping[str, Any]) -> Campaign:
    """The campaign of `tiny(**blocks)`."""
    return campaign.plan(tiny(**blocks), files)


def experiment(cell: Sequence[float] = CELL, **blocks: Mapping[str, Any]) -> Experiment:
    """The experiment of `tiny(**blocks)` on a cell."""
    return Experiment.of(tiny(**blocks), cell, None)


class WithSlit(Experiment):
    """An experiment with an image of a kind of detector that the product does not have. This image comes first."""

    @classmethod
    def of_experiment(cls, other: Experiment) -> WithSlit:
        """The other experiment with this image."""
        return cls(**{part.name: getattr(other, part.name) for part in fields(other)})

    @property
    def images(self) -> tuple[str, ...]:
        return ("slit", *super().images)


def signals(of: Experiment, seed: int | Sequence[int]) -> JobSignals:
    """Random signals with everything that the experiment asks for."""
    rng = np.random.default_rng(seed)
    shape: tuple[int, ...] = (len(of.scan_x), len(of.scan_y), len(of.depth_slices))
    resolved = shape if of.plasmons is None else (*shape, len(of.energies))
    cbed = angles = None
    if of.cbed_max is not None:
        geometry = cbed_geometry(of)
        angles = (geometry.angles_x, geometry.angles_y)
        cbed = rng.random(patterns_shape(of))
    stored = None
    if of.waves is not None:
        stored = empty_waves(of)
        stored.exit_wave[...] = rng.normal(size=stored.exit_wave.shape) + 1j * rng.normal(size=stored.exit_wave.shape)
        for values in (stored.profile, stored.section, stored.columns):
            if values is not None:
                values[...] = rng.random(values.shape)
    made = JobSignals(
        stored=stored,
        bins=rng.random((*resolved, max(0, len(of.bins) - 1))),
        rings=rng.random((*shape, len(of.images))),
        total=0.5 + 0.5 * rng.random(shape),
        center_of_mass=1e-3 * rng.normal(size=(*resolved, 2 if of.center_of_mass else 0)),
        cbed=cbed,
        cbed_angles=angles,
    )
    if of.plasmons is not None:
        shares = rng.random(resolved)
        made.spectrum = made.total[..., None] * shares / shares.sum(axis=-1, keepdims=True)
    return made


@dataclass
class FakeCampaign:
    """Job files with made-up signals, and what is needed to merge them."""

    campaign: Campaign
    experiment: Experiment
    specimen: Specimen
    result: ResultPaths

    @classmethod
    def of(cls, folder: Path, edges: ScanEdges | None = None, **blocks: Mapping[str, Any]) -> FakeCampaign:
        """A campaign whose results are below `folder`; nothing is written yet."""
        made, specimen = replace(planned(**blocks), edges=edges or ScanEdges()), srtio3((2, 2, 2))
        return cls(
            made,
            Experiment.of(made.common_params, specimen.cell, specimen.layers),
            specimen,
            ResultPaths.of("tiny", folder),
        )

    @property
    def pairs(self) -> list[tuple[str, int]]:
        """(Defocus id, configuration) of all jobs."""
        return [(d.id, c) for d in self.campaign.defoci for c in range(self.campaign.configurations)]

    def signals(self, defocus: str, configuration: int) -> JobSignals:
        """The signals of one job."""
        return signals(self.experiment.computed, [self.campaign.defocus(defocus).index, configuration])

    def write(
        self,
        defocus: str,
        configuration: int,
        *,
        seed: int | None = 1,
        coordinates: bool = True,
        params: Mapping[str, Any] | None = None,
        runtime: Mapping[str, Any] | None = None,
    ) -> Path:
        """Write one job file; `params` and `runtime` override single entries."""
        file = self.result.job(defocus, configuration)
        file.parent.mkdir(parents=True, exist_ok=True)
        record = job_file.JobRecord(
            params={**self.campaign.job_params(defocus, configuration), **(params or {})},
            effective_seed=seed,
            root={"title": "a title", "id": "an id", "program": provenance.PROGRAM},
            runtime={
                "UUID": "an id",
                "time_start": f"2026-01-01T00:00:0{configuration}+00:00",
                "time_stop": "2026-01-01T00:01:00+00:00",
                "cpu_seconds": 1.5,
                "wall_seconds": 2.5,
                "peak_memory_mb": 100.0,
                "host": "here",
                "cpu_model": "A processor",
                "instruction_sets": "X86_V2 X86_V3",
                "fft_plan_source": "cache",
                "git_commit": "abc",
                "versions": "{}",
                "algorithm": "multislice",
                **(runtime or {}),
            },
        )
        atoms = None
        if coordinates:
            moved = self.specimen.positions + 0.01 * (1 + configuration)
            atoms = Atoms(self.specimen.symbols, moved, self.table.slice_index)
        job_file.write_job(
            file, self.experiment.computed, record, self.signals(defocus, configuration), self.table, atoms
        )
        return file

    def write_all(self, **settings: Any) -> list[Path]:
        """Write all job files. Those of a campaign that this process wrote before are copied."""
        params = [self.campaign.job_params(*pair) for pair in self.pairs]
        kept = WRITTEN / provenance.digest([params, settings, provenance.PHYSICS_VERSION])
        if not kept.exists():
            elsewhere = replace(self, result=ResultPaths(kept))
            for pair in self.pairs:
                elsewhere.write(*pair, **settings)
        shutil.copytree(kept, self.result.root, copy_function=shutil.copyfile, dirs_exist_ok=True)
        return [self.result.job(*pair) for pair in self.pairs]

    @property
    def table(self) -> job_file.AtomTable:
        """The atoms at rest."""
        return job_file.atom_table(self.specimen, self.experiment)

    def merge(self, warnings: list[str] | None = None, processes: int = 1) -> Path:
        """Merge the job files into stem.nc."""
        blocks = {name: value for name, value in self.campaign.config.items() if isinstance(value, dict)}
        merge(
            MergeTask(self.campaign.merge_params, self.result),
            self.result.merged,
            self.table,
            self.experiment,
            root_attributes={"title": "a title", "id": "an id"},
            runtime_attributes=lambda: {"UUID": "an id", "time_start": "2026-01-02T00:00:00+00:00"},
            blocks=blocks,
            warn=(warnings if warnings is not None else []).append,
            processes=processes,
        )
        return self.result.merged


def start(code: str, **environment: str) -> subprocess.Popen[str]:
    """Start a Python process that can import the package."""
    return subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(SCRIPTS), "OMP_NUM_THREADS": "1", **environment},
    )


def finish(process: subprocess.Popen[str]) -> str:
    """Return what a process prints. It raises an error if the process fails."""
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return out.strip()


def race(imports: str, action: str, number: int, folder: Path) -> list[str]:
    """Start `number` equal processes at the same moment, and return what they print."""
    code = f"""
import pathlib, os, time
{imports}
pathlib.Path({str(folder)!r}, f"ready-{{os.getpid()}}").touch()
while not pathlib.Path({str(folder)!r}, "go").exists():
    time.sleep(0.0005)
{action}
"""
    processes = [start(code) for _ in range(number)]
    deadline = time.monotonic() + 60
    while len(list(folder.glob("ready-*"))) < number and time.monotonic() < deadline:
        time.sleep(0.01)
    (folder / "go").touch()
    return [finish(process) for process in processes]
