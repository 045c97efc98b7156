"""A real Slurm cluster on this machine, started and stopped by the scripts beside this file."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from support.campaign import PROGRAMS, make_clone, wait_for

HERE = Path(__file__).parent
NEEDED = ("munged", "slurmctld", "slurmd", "sbatch")
NEEDED_TO_ACCOUNT = ("mariadbd", "slurmdbd", "sacct", "sacctmgr")
NODES, CPUS, MEMORY_MB = 2, 4, 6000


def missing(accounting: bool = False) -> str:
    """Return why this machine cannot run the cluster (with accounting); empty if it can."""
    if os.geteuid() != 0:
        return "a Slurm cluster of our own needs root"
    absent = [name for name in (*NEEDED, *(NEEDED_TO_ACCOUNT if accounting else ())) if shutil.which(name) is None]
    return f"no Slurm here ({', '.join(absent)}): as root, tests/cluster/install.sh" if absent else ""


@dataclass(frozen=True)
class Cluster:
    """A running cluster; everything of it is in one folder.

    Attributes
    ----------
    env : mapping
        Environment for the commands that use the cluster.
    """

    folder: Path
    env: Mapping[str, str]

    @property
    def evidence(self) -> str:
        """All jobs, and the ends of the logs of Slurm's daemons."""
        logs = sorted((self.folder / "log").glob("slurm*.log"))
        ends = [f"{file}:\n" + "\n".join(file.read_text(errors="replace").splitlines()[-15:]) for file in logs]
        return "\n".join([self.run("squeue", "--states=all", "--format=%i %T %r %j", check=False), *ends])

    def run(self, *words: str | Path, check: bool = True) -> str:
        """Output of one of Slurm's commands."""
        line = [str(word) for word in words]
        done = subprocess.run(line, env=dict(self.env), capture_output=True, text=True, timeout=60)
        assert not check or done.returncode == 0, f"{line}: {done.stderr}"
        return done.stdout

    def jobs(self, form: str, states: str = "all") -> list[list[str]]:
        """Columns that squeue shows of all jobs, the oldest first."""
        listed = self.run("squeue", "--noheader", f"--states={states}", "--sort=i", f"--format={form}")
        return [line.split("|") for line in listed.splitlines()]

    def living(self, directory: Path) -> list[str]:
        """Ids of jobs of a working directory that are in the queue."""
        places = self.jobs("%i|%Z", "PENDING,RUNNING,COMPLETING,SUSPENDED")
        return [number for number, place in places if place == str(directory)]

    def job_of(self, pid: int) -> str:
        """Id of the Slurm job that a process belongs to."""
        words = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        (number,) = [word.partition(b"=")[2].decode() for word in words if word.startswith(b"SLURM_JOB_ID=")]
        return number

    def node_of(self, job: str) -> str:
        """Where a job runs."""
        return self.run("squeue", "--noheader", f"--jobs={job}", "--format=%N").strip()

    def kill_node(self, node: str) -> None:
        """Let a node die, and tell the controller at once."""
        self.run(HERE / "kill-node.sh", self.folder, node)
        self.run("scontrol", "update", f"nodename={node}", "state=down", "reason=died")

    def start_node(self, node: str) -> None:
        """The node comes back."""
        self.run(HERE / "start-node.sh", self.folder, node)

    def stop_controller(self) -> None:
        """Stop Slurm's central daemon, as a restart does."""
        self._stop("slurmctld")

    def start_controller(self, *, forgets: bool = False) -> None:
        """Start it again, with its jobs or without any."""
        self._begin("slurmctld", "-D", *(["-c"] if forgets else []), "-f", self.folder / "etc" / "slurm.conf")
        self.wait_until_it_answers()

    @contextmanager
    def without_database(self) -> Iterator[None]:
        """Stop and start Slurm's accounting; only with `started(…, SLURM_ACCOUNTING="1")`."""
        self._stop("slurmdbd")
        try:
            yield
        finally:
            self._begin("slurmdbd", "-D")

    def accounted(self, directory: Path) -> list[list[str]]:
        """Number and state of the jobs of a working directory, from the accounting."""
        listed = self.run(
            "sacct", "--allocations", "--duplicates", "--noheader", "--parsable2", "--format=JobIDRaw,State,WorkDir",
            check=False,
        )  # fmt: skip
        rows = [line.split("|") for line in listed.splitlines()]
        return [row[:2] for row in rows if row[2] == str(directory)]

    def _stop(self, daemon: str) -> None:
        file = self.folder / "pids" / daemon
        pid = int(file.read_text())
        os.kill(pid, signal.SIGTERM)
        wait_for(lambda: gone(pid), f"{daemon} to end")
        file.unlink()

    def _begin(self, daemon: str, *words: str | Path) -> None:
        # As in up.sh, the shell ends at once, so this process need not wait for the daemon's end.
        begin = 'out=$1; shift; setsid "$@" </dev/null >>"$out" 2>&1 & echo $!'
        pid = self.run("sh", "-c", begin, "sh", self.folder / "log" / f"{daemon}.out", daemon, *words)
        (self.folder / "pids" / daemon).write_text(pid)

    def wait_until_it_answers(self) -> None:
        """Until squeue succeeds."""
        command = ["squeue", "--noheader"]
        wait_for(lambda: subprocess.run(command, env=dict(self.env), capture_output=True).returncode == 0, "squeue")


def gone(pid: int) -> bool:
    """Whether a process has ended. A zombie, whose parent has not read its exit status yet, counts as ended."""
    return state_of(pid) in "ZX"


def state_of(pid: int) -> str:
    """Return the kernel's letter for the state of a process; X if there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return "X"


@contextmanager
def started(env: Mapping[str, str], **options: str) -> Iterator[Cluster]:
    """A cluster of two nodes, torn down by process id."""
    # Not below pytest's folder: the path of munge's socket may have 108 characters.
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))
    size = {"SLURM_NODES": str(NODES), "SLURM_CPUS": str(CPUS), "SLURM_MEM_MB": str(MEMORY_MB), **options}
    try:
        up = subprocess.run([HERE / "up.sh", folder], env={**env, **size}, capture_output=True, text=True, timeout=120)
        assert up.returncode == 0, up.stderr
        path = os.pathsep.join((str(folder / "bin"), str(PROGRAMS), env["PATH"]))
        yield Cluster(folder, {**env, "SLURM_CONF": str(folder / "etc" / "slurm.conf"), "PATH": path})
    finally:
        subprocess.run([HERE / "down.sh", folder], env=dict(env), timeout=120)
        shutil.rmtree(folder, ignore_errors=True)


def make_quick_clone(folder: Path) -> Path:
    """A clone whose Slurm profile asks for states each second; all else is as shipped."""
    clone = make_clone(folder)
    file = clone / "profiles" / "slurm" / "config.v9+.yaml"
    text = file.read_text(encoding="utf-8")
    assert text.count("seconds-between-status-checks: 20") == 1
    file.write_text(text.replace("seconds-between-status-checks: 20", "seconds-between-status-checks: 1"), "utf-8")
    return clone
