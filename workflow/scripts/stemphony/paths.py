"""The names of the files of a simulation. Nothing here reads or writes the disk."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

RESULTS = "results"
"""Folder of all simulations, in the working directory."""
MEMBER = "{member}"
"""Wildcard in the paths of rules, for the label of any member of a sweep."""
MOST_MEMBERS = 200
"""Most simulations of one sweep. Their jobs get data through an environment variable, which holds at most 128 kB."""
# A label begins with a key of the config. No simulation has such a name, because a name has no dot.
_LABEL = re.compile(
    r"(simulation|probe|specimen|grating|scan|depths|adf|cbed|waves|frozen_phonon|plasmon_scattering)\.[^/]+"
)


def defocus_id(defocus_nm: float) -> str:
    """Id of the defocus `defocus_nm` [nm] in file names: +2.5 nm is `p2d500`, −10 nm `m10d000`, −0.0 `p0d000`."""
    rounded = round(defocus_nm, 3) + 0.0
    sign = "m" if rounded < 0 else "p"
    return f"{sign}{abs(rounded):.3f}".replace(".", "d")


def defocus_pm(defocus_nm: float) -> int:
    """The defocus `defocus_nm` [nm] in pm, rounded as in its id. Random seeds depend on this number."""
    return round(round(defocus_nm, 3) * 1000)


@dataclass(frozen=True)
class ResultPaths:
    """Files of one simulation. `root` is its folder: `results/<name>`, or `results/<sweep>/<label>` of a member.

    In all methods, `defocus` is an id of `defocus_id`, `configuration` counts from 0, and `run` counts the invocations
    of Snakemake from 1. Paths of rules have a wildcard in place of some of them.
    """

    root: Path

    @classmethod
    def of(cls, name: str, base: Path | str = RESULTS) -> ResultPaths:
        """Paths of the simulation `name` below `base`, the folder `results` of the working directory."""
        return cls(Path(base) / name)

    @classmethod
    def of_job_file(cls, job_file: Path) -> ResultPaths:
        """Paths of the simulation that the job file `job_file` belongs to."""
        return cls(job_file.parents[2])

    @property
    def is_member(self) -> bool:
        """Whether the simulation is a member of a sweep, as the name of its folder shows."""
        return is_label(self.root.name)

    @property
    def name(self) -> str:
        """Name of the simulation, or `<sweep>/<label>` for a member of a sweep."""
        return f"{self.root.parent.name}/{self.root.name}" if self.is_member else self.root.name

    @property
    def run_name(self) -> str:
        """Name of a run of the simulation: its own, or that of its sweep, because one run computes all members."""
        return self.root.parent.name if self.is_member else self.root.name

    @property
    def directory(self) -> Path:
        """Working directory of the runs. It contains the folder of results."""
        return self.root.parents[2 if self.is_member else 1]

    @property
    def identity(self) -> Path:
        """File with the UUID, the seed, the time of creation, and the place of the last run."""
        return self.root / "simulation.json"

    @property
    def plan(self) -> Path:
        """Plan of the last run: what it computes. Stemphony writes this file when the run starts."""
        return self.root / "plan.json"

    def plan_of(self, run: int) -> Path:
        """Plan of one run. Each run has its own, because two runs may compute the same simulation at once."""
        return self.run(run) / "plan.json"

    @property
    def specimen(self) -> Path:
        """The normalised atoms."""
        return self.root / "specimen.nc"

    def round(self, number: int | str) -> Path:
        """Decision after a round of configurations. `number` counts from 0, or is a wildcard."""
        text = number if isinstance(number, str) else f"{number:02d}"
        return self.root / "rounds" / f"round_{text}.json"

    @property
    def merged(self) -> Path:
        """The merged result."""
        return self.root / "stem.nc"

    @property
    def preview(self) -> Path:
        """Merged result of the pairs that were finished when `stemphony preview` ran."""
        return self.root / "preview.nc"

    @property
    def convergence(self) -> Path:
        """Picture of how the errors fall with the number of configurations."""
        return self.root / "convergence.png"

    @property
    def accuracy(self) -> Path:
        """The error budget of a config."""
        return self.root / "accuracy.json"

    @property
    def accuracy_figure(self) -> Path:
        """Picture of the error budget."""
        return self.root / "accuracy.png"

    @property
    def accuracy_folder(self) -> Path:
        """Folder with the parts of the error budget. A user may delete it at any time."""
        return self.root / "accuracy"

    @property
    def accuracy_plan(self) -> Path:
        """Plan of the last error budget. The file `plan` belongs to the last run and does not change."""
        return self.accuracy_folder / "plan.json"

    @property
    def accuracy_specimens(self) -> tuple[Path, Path]:
        """Atoms of the error budget in the cell of the config, and in a larger one."""
        return self.accuracy_folder / "specimen.nc", self.accuracy_folder / "larger_cell.nc"

    def variant(self, name: str) -> Path:
        """Signals of one variant of the error budget. `name` may be a wildcard."""
        return self.accuracy_folder / "variants" / f"{name}.json"

    @property
    def figures(self) -> Path:
        """Folder of the images."""
        return self.root / "figures"

    @property
    def reports(self) -> Path:
        """Folder of status events and progress files, one subfolder per run."""
        return self.root / "reports"

    def figure(self, name: str) -> Path:
        """Image `name`: that of a detector, `thickness_curves` or `cbed_mean`."""
        return self.figures / f"{name}.png"

    def job(self, defocus: str, configuration: int | str) -> Path:
        """Result of one pair of `defocus` and `configuration`. Either may be a wildcard."""
        number = configuration if isinstance(configuration, str) else f"{configuration:04d}"
        return self.root / "jobs" / f"defocus_{defocus}" / f"configuration_{number}.nc"

    @property
    def waves_folder(self) -> Path:
        """Folder of the waves that `probe_basis` shares between jobs. A user may delete it at any time."""
        return self.root / "waves"

    def waves(self, configuration: int) -> Path:
        """The waves of one `configuration`, which serve all its defoci."""
        return self.waves_folder / f"configuration_{configuration:04d}.npz"

    @property
    def checkpoints_folder(self) -> Path:
        """Folder of checkpoints and claims. It is empty once all jobs are merged."""
        return self.root / "checkpoints"

    def checkpoint(self, defocus: str, configuration: int) -> Path:
        """Checkpoint of the unfinished job of `defocus` and `configuration`: the waves that it has finished."""
        return self.checkpoints_folder / f"defocus_{defocus}" / f"configuration_{configuration:04d}.checkpoint"

    def waves_checkpoint(self, configuration: int) -> Path:
        """Checkpoint of the basis of a `configuration`, which all defoci share: the waves that are finished."""
        return self.checkpoints_folder / "waves" / f"configuration_{configuration:04d}.checkpoint"

    def claim(self, defocus: str, configuration: int) -> Path:
        """Claim of the process that computes the job of `defocus` and `configuration`."""
        return self.checkpoint(defocus, configuration).with_suffix(".claim")

    def aside(self, defocus: str, configuration: int) -> Path:
        """Second name of the finished job file of `defocus` and `configuration`.

        Snakemake deletes the first name if it did not see the job's end.
        """
        return self.checkpoint(defocus, configuration).with_suffix(".nc")

    def run(self, number: int) -> Path:
        """Reports of the invocation of Snakemake with this `number`."""
        return self.reports / f"run-{number}"

    def progress(self, run: int, defocus: str, configuration: int) -> Path:
        """State of the job of `defocus` and `configuration` in one `run`.

        It holds the done and all waves, and whether the job is running, finished or failed.
        """
        name = job_name(defocus, configuration)
        return self.run(run) / "progress" / job_folder(name) / f"{name}.json"

    def log(self, defocus: str, configuration: int | str) -> Path:
        """Log of the last attempt at the job of `defocus` and `configuration`. Either may be a wildcard.

        The folder of logs is beside the folder of results.
        """
        return self._beside("logs", defocus, configuration, "log")

    def benchmark(self, defocus: str, configuration: int | str) -> Path:
        """Time and memory of the job of `defocus` and `configuration`, beside the folder of results.

        Either may be a wildcard.
        """
        return self._beside("benchmarks", defocus, configuration, "tsv")

    def _beside(self, kind: str, defocus: str, configuration: int | str, suffix: str) -> Path:
        number = configuration if isinstance(configuration, str) else f"{configuration:04d}"
        folder = self.directory / kind / "run_multislice" / self.name / f"defocus_{defocus}"
        return folder / f"configuration_{number}.{suffix}"

    def events(self, run: int) -> Path:
        """Folder of the status events of one run. It has a folder per defocus, with a file per attempt at a job."""
        return self.run(run) / "events"

    @property
    def delivery_lock(self) -> Path:
        """File whose lock the one process holds that delivers the events."""
        return self.reports / "delivery.lock"

    @property
    def courier_log(self) -> Path:
        """Log of the process that delivers the events after the end of a run."""
        return self.reports / "courier.log"

    def hook_events(self, run: int) -> Path:
        """Status events sent by the hooks of one run."""
        return self.events(run) / "hooks.jsonl"

    def start_event(self, run: int) -> Path:
        """START_SIMULATION of a run in another workflow that uses Stemphony as a module. The first job sends it."""
        return self.events(run) / "start.jsonl"

    def defocus_claim(self, run: int, defocus: str) -> Path:
        """The START_DEFOCUS event of a `run` for this `defocus`. The job that makes this file sends the event."""
        return self.run(run) / f"defocus_{defocus}.START_DEFOCUS.json"

    def attempt(self, defocus: str, configuration: int, number: int) -> Path:
        """Claim of one attempt at the job of `defocus` and `configuration`.

        `number` counts the attempts of all runs from 1.
        """
        return self.reports / "attempts" / f"defocus_{defocus}" / f"configuration_{configuration:04d}.{number}"


@dataclass(frozen=True)
class SweepPaths:
    """Files that the members of a sweep share. `root` is `results/<name>`."""

    root: Path

    @property
    def record(self) -> Path:
        """The members of the last run and their values. Stemphony writes this file when the run starts."""
        return self.root / "sweep.json"

    @property
    def combined(self) -> Path:
        """The signals of all members in one file."""
        return self.root / "sweep.nc"

    @property
    def figure(self) -> Path:
        """Picture of the signals of all members."""
        return self.root / "sweep.png"

    def member(self, label: str) -> ResultPaths:
        """Files of one member. `label` may be the wildcard `MEMBER`."""
        return ResultPaths(self.root / label)


def snakemake_logs(directory: Path, name: str) -> Path:
    """Folder with a log of each `stemphony run` of the simulation or sweep `name`, in the working `directory`."""
    return directory / "logs" / "snakemake" / name


def is_label(name: str) -> bool:
    """Whether a folder of this name belongs to a member of a sweep."""
    return name == MEMBER or _LABEL.fullmatch(name) is not None


def checksum(file: Path) -> Path:
    """File beside `file` with the SHA-256 of its bytes."""
    return file.with_name(file.name + ".sha256")


def job_name(defocus: str, configuration: int) -> str:
    """Name of the job of `defocus` (an id) and `configuration` in reports, logs and messages."""
    return f"defocus_{defocus}_configuration_{configuration:04d}"


def job_folder(name: str) -> str:
    """Folder for the files of a job with this name. Each defocus has one, so that no folder has too many files."""
    return name.partition("_configuration_")[0] if "_configuration_" in name else ""


def pair_of_job(name: str) -> tuple[str, int]:
    """The defocus id and the configuration of a job with this name; the inverse of `job_name`."""
    defocus, _, configuration = name.removeprefix("defocus_").partition("_configuration_")
    return defocus, int(configuration)
