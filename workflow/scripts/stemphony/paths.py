"""Every file name of a simulation, used by rules, scripts and tests. Pure: nothing here touches the disk."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

RESULTS = "results"


def defocus_id(defocus_nm: float) -> str:
    """Name of a defocus made from its value: +2.5 nm is `p2d500`, −10 nm `m10d000`, −0.0 `p0d000`."""
    rounded = round(defocus_nm, 3) + 0.0
    sign = "m" if rounded < 0 else "p"
    return f"{sign}{abs(rounded):.3f}".replace(".", "d")


def defocus_pm(defocus_nm: float) -> int:
    """The defocus in whole picometres, the same rounding as its id; seeds are made from it."""
    return round(round(defocus_nm, 3) * 1000)


@dataclass(frozen=True)
class ResultPaths:
    """Files of one simulation below its result folder, `results/<name>`."""

    root: Path

    @classmethod
    def of(cls, name: str, base: Path | str = RESULTS) -> ResultPaths:
        """Paths of the simulation `name` below `base`, the folder `results` of the working directory."""
        return cls(Path(base) / name)

    @classmethod
    def of_job_file(cls, job_file: Path) -> ResultPaths:
        """Paths of the simulation that a job file belongs to."""
        return cls(job_file.parents[2])

    @property
    def name(self) -> str:
        """Name of the simulation."""
        return self.root.name

    @property
    def identity(self) -> Path:
        """UUID, seed, time of creation; made once, never changed."""
        return self.root / "simulation.json"

    @property
    def plan(self) -> Path:
        """What the last run computes, frozen when it started."""
        return self.root / "plan.json"

    def plan_of(self, run: int) -> Path:
        """What one run computes: two runs of Snakemake by itself may work in one simulation at once."""
        return self.run(run) / "plan.json"

    @property
    def specimen(self) -> Path:
        """The normalised atoms."""
        return self.root / "specimen.nc"

    @property
    def merged(self) -> Path:
        """The merged result."""
        return self.root / "stem.nc"

    @property
    def preview(self) -> Path:
        """What was finished when `stemphony preview` was called."""
        return self.root / "preview.nc"

    @property
    def figures(self) -> Path:
        """Folder of the images."""
        return self.root / "figures"

    @property
    def reports(self) -> Path:
        """Folder of status events and progress files, one subfolder per run."""
        return self.root / "reports"

    def figure(self, name: str) -> Path:
        """One image."""
        return self.figures / f"{name}.png"

    def job(self, defocus: str, configuration: int | str) -> Path:
        """Result of one (defocus id, configuration)."""
        number = configuration if isinstance(configuration, str) else f"{configuration:04d}"
        return self.root / "jobs" / f"defocus_{defocus}" / f"configuration_{number}.nc"

    @property
    def waves_folder(self) -> Path:
        """What `probe_basis` keeps between the jobs of one configuration; may be deleted at any time."""
        return self.root / "waves"

    def waves(self, configuration: int) -> Path:
        """The waves of one configuration that serve all its defoci."""
        return self.waves_folder / f"configuration_{configuration:04d}.npz"

    @property
    def checkpoints_folder(self) -> Path:
        """What attempts at jobs keep on their way; empty once all is merged."""
        return self.root / "checkpoints"

    def checkpoint(self, defocus: str, configuration: int) -> Path:
        """Finished waves of a job that is not done yet."""
        return self.checkpoints_folder / f"defocus_{defocus}" / f"configuration_{configuration:04d}.checkpoint"

    def waves_checkpoint(self, configuration: int) -> Path:
        """Finished waves of a configuration's basis that serves all its defoci."""
        return self.checkpoints_folder / "waves" / f"configuration_{configuration:04d}.checkpoint"

    def claim(self, defocus: str, configuration: int) -> Path:
        """Claim of the process that computes a job."""
        return self.checkpoint(defocus, configuration).with_suffix(".claim")

    def aside(self, defocus: str, configuration: int) -> Path:
        """Second name of a finished job file that Snakemake is about to delete: it did not see the job's end."""
        return self.checkpoint(defocus, configuration).with_suffix(".nc")

    def run(self, number: int) -> Path:
        """Reports of one invocation of Snakemake."""
        return self.reports / f"run-{number}"

    def progress(self, run: int, defocus: str, configuration: int) -> Path:
        """State of one job in one run: done, total, running | finished | failed."""
        name = job_name(defocus, configuration)
        return self.run(run) / "progress" / job_folder(name) / f"{name}.json"

    def log(self, defocus: str, configuration: int | str) -> Path:
        """What one job said, beside the folder of results; written anew by each attempt."""
        return self._beside("logs", defocus, configuration, "log")

    def benchmark(self, defocus: str, configuration: int | str) -> Path:
        """Time and memory of one job, beside the folder of results."""
        return self._beside("benchmarks", defocus, configuration, "tsv")

    def _beside(self, kind: str, defocus: str, configuration: int | str, suffix: str) -> Path:
        number = configuration if isinstance(configuration, str) else f"{configuration:04d}"
        folder = self.root.parents[1] / kind / "run_multislice" / self.name / f"defocus_{defocus}"
        return folder / f"configuration_{number}.{suffix}"

    def events(self, run: int) -> Path:
        """Folder of the status events of one run, one file per attempt of a job, in a folder for each defocus."""
        return self.run(run) / "events"

    def hook_events(self, run: int) -> Path:
        """Status events sent by the hooks of one run."""
        return self.events(run) / "hooks.jsonl"

    def defocus_claim(self, run: int, defocus: str) -> Path:
        """The START_DEFOCUS event of a run; whoever links it first sends it."""
        return self.run(run) / f"defocus_{defocus}.START_DEFOCUS.json"

    def attempt(self, defocus: str, configuration: int, number: int) -> Path:
        """Claim of one attempt of one job, over all runs."""
        return self.reports / "attempts" / f"defocus_{defocus}" / f"configuration_{configuration:04d}.{number}"


def checksum(file: Path) -> Path:
    """File beside `file` that holds the SHA-256 of its bytes."""
    return file.with_name(file.name + ".sha256")


def job_name(defocus: str, configuration: int) -> str:
    """Name of a job in reports, logs and messages."""
    return f"defocus_{defocus}_configuration_{configuration:04d}"


def job_folder(name: str) -> str:
    """Folder for the files of a job with this name, one for each defocus, so that none of them grows without end."""
    return name.partition("_configuration_")[0] if "_configuration_" in name else ""


def pair_of_job(name: str) -> tuple[str, int]:
    """The defocus id and configuration that `job_name` made a name of."""
    defocus, _, configuration = name.removeprefix("defocus_").partition("_configuration_")
    return defocus, int(configuration)
