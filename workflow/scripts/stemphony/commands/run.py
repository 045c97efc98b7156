"""`stemphony run`: Snakemake with the right flags, one live line, and messages instead of Snakemake's own output."""

from __future__ import annotations

import errno
import math
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

from stemphony.commands import profiles
from stemphony.commands.status import PairState, overview
from stemphony.contract import LIVE_VARIABLE, REFUSAL, RUN_PREFIX, signal_received
from stemphony.errors import ConfigError, StemphonyError, StorageError
from stemphony.experiment import configuration, overrides
from stemphony.orchestration import slurm
from stemphony.orchestration.preflight import require_writable
from stemphony.paths import RESULTS, ResultPaths
from stemphony.status.courier import left_in
from stemphony.store import ledger, progress
from stemphony.store.holders import RunHolder, forget_run, holders, note_run

REPOSITORY = Path(__file__).resolve().parents[4]
POLL_S = 0.5
READ_S = 0.1
LEFTOVERS_S = 3.0
HEARD_S = 2.0
"""Snakemake says of a signal that it has got it, and does so much sooner."""
LATE_HOLDER_S = 5.0
"""A run that has taken the lock notes its process that much later at most."""
DRY_RUN = frozenset({"-n", "--dry-run", "--dryrun"})
IN_USE = "{directory} is in use by a run that is alive (process {pid}). Wait for it, or end it first: kill {pid}"
SHOWN_LOGS = 3
SHOWN_LINES = 12
FAILED_RULE_LOG = re.compile(r"^\s+log: (.+?) \(check log file")
UNKNOWN_EXECUTOR = re.compile(r"argument --executor/-e: invalid choice: '([^']*)'")
COMPLAINT = re.compile(r"error: |Error: |Exception: |Exception in |\[Errno|clock skew|sbatch")
# The message that Python makes of ENOSPC and EDQUOT; the last file that it names is the one being written.
NO_ROOM = re.compile(rf"\[Errno (?:{errno.ENOSPC}|{errno.EDQUOT})\]")
FULL_DISK = re.compile(rf"\[Errno (?:{errno.ENOSPC}|{errno.EDQUOT})\] .*'(.+)'$")
# Snakemake's chatter around what matters, when it stops before the first job: its banner, and what it always says.
NOISE = re.compile(
    r"SNAKEMAKE$|=+$"
    r"|  (Date|Workflow ID|Platform|Host|User|Snakemake version|Python version|Command|Snakefile|Base directory"
    r"|Run directory|Working directory|Config file\(s\)|Config MD5): "
    r"|(Using profile|Using workflow specific profile|Config file|host:|Building DAG|Assuming unrestricted|Using shell"
    r"|Provided cores|Rules claiming)"
)


def run(
    snakefile: Path,
    config: Path,
    directory: Path,
    cores: int,
    profile: str | None,
    extra: Sequence[str],
    entries: Sequence[str] = (),
) -> int:
    """Run a simulation and return Snakemake's exit status.

    `entries` override keys of the config, as `probe.energy_kev=100`.

    Raises
    ------
    ConfigError, StorageError
        The config cannot be read; the folder is in use by another run.
    """
    name = overrides.overridden(configuration.load([config]), entries).get("simulation", {})
    name = name.get("name") if isinstance(name, dict) else None
    if not isinstance(name, str):
        raise ConfigError("simulation.name", f"missing in {config}; it names the folder of the results.")
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"{directory} cannot be made: {error.strerror}. Choose another folder.") from None
    directory = directory.resolve()
    require_writable(directory / RESULTS / name)
    command = [
        str(Path(sys.executable).parent / "snakemake"), "--snakefile", str(snakefile), "--directory", str(directory),
        "--configfile", str(config.resolve()), *(["--profile", _profile(profile, snakefile)] if profile else []),
        *([] if profile else ["--cores", str(cores)]), *extra,
        *(["--config", *overrides.nested(entries)] if entries else []),
    ]  # fmt: skip
    _free_lock(command, directory, name)
    if not DRY_RUN & set(extra):
        _wait_for_leftovers(directory, name, uses_slurm=profile is not None)
        _free_lock(command, directory, name)  # another run may have begun meanwhile
    print(shlex.join(command), flush=True)
    holds = not DRY_RUN & set(extra)
    return _Child(command, directory, ResultPaths(directory / RESULTS / name), holds).wait()


def _profile(profile: str, snakefile: Path) -> str:
    """A profile's own place if Snakemake finds it by its name, else that of the one we ship."""
    shipped = snakefile.parent / "profiles" / profile
    own = (Path(profile), *(folder / profile for folder in profiles.searched()))
    return str(shipped) if shipped.is_dir() and not any(place.exists() for place in own) else profile


def _wait_for_leftovers(directory: Path, name: str, uses_slurm: bool) -> None:
    """Wait for Slurm's jobs of a run that was killed: started now, their configurations would be computed twice."""
    try:
        left = slurm.leftovers(directory, name)
    except slurm.SlurmIsSilentError:
        # Its commands may be there without a cluster behind them.
        if uses_slurm or (directory / ".snakemake" / "slurm_logs").is_dir():
            print("Slurm does not answer (squeue): whether jobs of an earlier run are left is not known.", flush=True)
        return

    def say(text: str) -> None:
        print(text, flush=True)

    told: set[str] = set()

    def look() -> list[slurm.QueuedJob]:
        found = slurm.leftovers(directory, name)
        waiting = {job.id for job in found if job.state == "PENDING"}
        if waiting:
            slurm.end_stuck(waiting, say, told)  # or they would be waited for, for good
        return found

    slurm.wait_for(left, look, lambda: time.sleep(LEFTOVERS_S), say)


def _free_lock(command: Sequence[str], directory: Path, name: str) -> None:
    """Remove Snakemake's lock of runs that were killed, and only when all that may hold it are certainly gone.

    Raises
    ------
    StorageError
        See `require_free`.
    """
    killed = require_free(directory, name)
    if not killed:
        return
    # A mistake in the config fails this as well; the run itself says what it is.
    if subprocess.run([*command, "--unlock"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0:
        pids = ", ".join(str(holder.pid) for holder in killed)
        print(f"the last run here (process {pids}) was killed; its lock is removed and the work goes on.", flush=True)
        for holder in killed:
            holder.file.unlink(missing_ok=True)


def require_free(directory: Path, name: str) -> list[RunHolder]:
    """Refuse a working directory in which a run of a simulation may be alive; changes nothing.

    Returns
    -------
    list of RunHolder
        The killed runs whose lock is still there and may be removed.

    Raises
    ------
    StorageError
        A run of this simulation is alive or may be, or nobody knows whose lock it is.
    """
    locks = directory / ".snakemake" / "locks"
    deadline = time.monotonic() + LATE_HOLDER_S  # by the clock alone a lock may come from the future
    while not (found := holders(directory)) and _seconds_since(locks) < LATE_HOLDER_S and time.monotonic() < deadline:
        time.sleep(POLL_S)
    alive = [holder for holder in found if holder.is_alive]
    for holder in alive:
        if holder.simulation == name:
            raise StorageError(IN_USE.format(directory=directory, pid=holder.pid))
    if not locks.is_dir() or not any(locks.iterdir()):
        return []
    by_hand = (
        f"snakemake --unlock --directory {shlex.quote(str(directory))} (with the same --snakefile and --configfile)"
    )
    if not found:
        raise StorageError(
            f"{directory} is locked by a run of Snakemake that left no trace of its process. If you are sure that none "
            f"runs there, unlock it: {by_hand}."
        )
    for holder in found:
        if holder.is_elsewhere:
            raise StorageError(
                f"{directory} is in use by a run on {holder.host} (process {holder.pid}). Wait for it, or, if it is "
                "gone, run there: stemphony run with the same arguments. "
                f"If {holder.host} is gone, unlock it: {by_hand}."
            )
    # One that is alive is of another simulation: Snakemake knows which files are whose, and refuses by itself.
    return [] if alive else found


def _seconds_since(locks: Path) -> float:
    """Age of Snakemake's youngest lock."""
    try:
        return min((time.time() - lock.stat().st_mtime for lock in locks.iterdir()), default=math.inf)
    except OSError:
        return math.inf


class _Child:
    """The running Snakemake: its output goes to a log, ours to the terminal."""

    def __init__(self, command: Sequence[str], directory: Path, result: ResultPaths, holds: bool) -> None:
        self.directory, self.result = directory, result
        self.begin = time.monotonic()
        self.earlier = ledger.latest_run(result)
        self.live = sys.stderr.isatty()
        self.tenths = progress.Tenths(lambda text: print(text, flush=True))
        self.watch: progress.Watch | None = None
        self.drawn = 0
        self.interrupted = False
        self.not_passed_on: signal.Signals | None = None
        self.signalled = 0.0
        self.lines: list[str] = []
        self.screen = threading.Lock()
        stamp = time.strftime("%Y-%m-%dT%H%M%S")
        self.log_file = directory / "logs" / "snakemake" / result.name / f"{stamp}.{os.getpid()}.log"
        self.log_file.parent.mkdir(parents=True, exist_ok=True)
        self.ended = threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            # One that is ignored stays so, for Snakemake and its jobs too: what a shell's script starts with `&` is not
            # to be hit by a Ctrl-C at the script.
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._note_signal)
        # Into a file and not through a pipe: a Snakemake whose reader was killed would wait for its jobs for good.
        with self.log_file.open("wb") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=subprocess.STDOUT, env={**os.environ, LIVE_VARIABLE: "1"}
            )
        if holds:
            # It does so itself, but a little later than it takes the lock; it might be killed between.
            with suppress(StorageError):
                note_run(result.name, directory, self.process.pid)

    def wait(self) -> int:
        """Show the progress until the end, then say what came out."""
        reader = threading.Thread(target=self._read, daemon=True)
        reader.start()
        while True:
            try:
                status = self.process.wait(POLL_S)
                break
            except subprocess.TimeoutExpired:
                self._pass_on_signal()
                self._show()
        if status >= 0:
            # Where it ended before it began. Of one that was killed the note stays.
            forget_run(self.directory, self.process.pid)
        self.ended.set()
        reader.join(5)
        self._show(last=True)
        if status == 0:
            self._say_results()
        else:
            self._say_failure(status)
        return status if status >= 0 else 128 - status

    def _note_signal(self, number: int, _frame: FrameType | None) -> None:
        self.interrupted = True
        self.not_passed_on, self.signalled = signal.Signals(number), time.monotonic()

    def _pass_on_signal(self) -> None:
        """Hand on what only this process has got. We stay, to say what becomes of it.

        Ctrl-C goes to all processes of a terminal's foreground group, as `kill %1` does to those of a job: then
        Snakemake and its jobs have it already. Twice, it would come in the midst of Snakemake's putting in order.
        """
        number = self.not_passed_on
        if number is None or time.monotonic() - self.signalled < HEARD_S:
            return
        self.not_passed_on = None
        if any(signal_received(number) in line for line in self.lines):
            return
        # Of SIGINT to it alone Snakemake would wait for its jobs, and then delete what they have computed.
        for pid in _with_all_below(self.process.pid) if number == signal.SIGINT else [self.process.pid]:
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def _read(self) -> None:
        """Follow Snakemake's log."""
        with self.log_file.open("rb") as log:
            rest, ended = b"", False
            while not ended:
                ended = self.ended.wait(READ_S)  # before reading: what was written until then is read
                *lines, rest = (rest + log.read()).split(b"\n")
                for line in [*lines, *([rest] if ended and rest else [])]:
                    self._take(line.decode("utf-8", errors="replace"))

    def _take(self, line: str) -> None:
        self.lines.append(line)
        if line.startswith(RUN_PREFIX):
            self._print(line[len(RUN_PREFIX) :])

    def _print(self, text: str) -> None:
        with self.screen:
            self._clear()
            print(text, flush=True)

    def _clear(self) -> None:
        if self.drawn:
            sys.stderr.write("\r" + " " * self.drawn + "\r")
            sys.stderr.flush()
            self.drawn = 0

    def _show(self, last: bool = False) -> None:
        number = ledger.latest_run(self.result)
        if number <= self.earlier:
            return
        jobs = ledger.read_plan(self.result, number).get("jobs_to_run", 0)
        if not jobs:
            return
        if self.watch is None:
            self.watch = progress.Watch(self.result, number)
        now = self.watch.overall(jobs)
        line = now.line(time.monotonic() - self.begin)
        if not self.live:
            self.tenths.reached(now.share, line)
            return
        with self.screen:
            self._clear()
            line = line[: max(20, os.get_terminal_size(sys.stderr.fileno()).columns - 1)]
            sys.stderr.write(line + ("\n" if last else ""))
            sys.stderr.flush()
            self.drawn = 0 if last else len(line)

    def _say_results(self) -> None:
        if any("Nothing to be done" in line for line in self.lines):
            print("nothing to compute: all results are up to date.")
            self._say_what_is_not_usable()
            # No hook has run, so nobody else says or sends this.
            if left := left_in(self.result):
                print(
                    f"{left} status reports are not delivered: stemphony report replay {self._quoted(self.result.root)}"
                )
        elif not self._has_begun:
            # Something else was asked for, such as --dry-run.
            print(self._what_snakemake_says())
            return
        elif not self.result.merged.exists():
            return
        else:
            print(f"finished in {progress.duration(time.monotonic() - self.begin)}.")
        for name, place in (("result", self.result.merged), ("images", self.result.figures), ("log", self.log_file)):
            if place.exists():
                print(f"{name:<8}{self._relative(place)}")

    def _say_failure(self, status: int) -> None:
        if any("Directory cannot be locked" in line for line in self.lines):
            print(f"{RUN_PREFIX}{self._who_has_the_lock()}", file=sys.stderr)
            return
        if self.interrupted:
            print(
                "\ncancelled. Nothing that was finished is lost: run the same command to go on.\n"
                f"whole log: {self._relative(self.log_file)}",
                file=sys.stderr,
            )
            return
        if unknown := next(filter(None, map(UNKNOWN_EXECUTOR.search, self.lines)), None):
            print(f"{RUN_PREFIX}{profiles.missing_plugin(REPOSITORY, unknown[1])}", file=sys.stderr)
            return
        if not self._has_begun:
            # Before the first job: a mistake in the config, or Snakemake's own message.
            is_full = any(map(NO_ROOM.search, self.lines))
            print(self._no_room() if is_full else self._what_snakemake_says() or self._silence(), file=sys.stderr)
            return
        number = ledger.latest_run(self.result)
        failed = [state for state in progress.states(self.result, number) if state["state"] == progress.FAILED]
        for state in failed[:20]:
            pair = f"defocus {state['defocus_nm']:g} nm, configuration {state['configuration']}"
            print(f"failed: {pair}: {_first_line(state)}", file=sys.stderr)
        for log in [log for log in self._failed_logs() if log.stat().st_size][:SHOWN_LOGS]:
            print(f"\nend of {self._relative(log)}:", file=sys.stderr)
            text = log.read_text(encoding="utf-8", errors="replace").rstrip().splitlines()
            print("\n".join(f"  {line}" for line in text[-SHOWN_LINES:]), file=sys.stderr)
        if not failed and not any(log.stat().st_size for log in self._failed_logs()):
            complaints = self._complaints()
            for line in [self._full_disk(complaints)] if any(map(FULL_DISK.search, complaints)) else complaints:
                print(line, file=sys.stderr)
        if status < 0 or status > 128:
            print("\nSnakemake was killed.", file=sys.stderr)
        print(
            f"\nNothing that was computed is lost. {self._what_to_do()}\nwhole log: {self._relative(self.log_file)}",
            file=sys.stderr,
        )

    def _what_to_do(self) -> str:
        """After a run that failed."""
        if any(REFUSAL in log.read_text(encoding="utf-8", errors="replace") for log in self._failed_logs()):
            # The same command alone would have the same files refused.
            command = f"stemphony rerun --verify {self._quoted(self.result.root)}"
            return f"To have the files computed again that the merge refuses, and merge: {command}"
        return "Run the same command again: only what is missing is computed."

    def _say_what_is_not_usable(self) -> None:
        """Snakemake goes by dates; a job file may be younger than all it hangs on, and damaged."""
        with suppress(StemphonyError):
            found = overview(self.result)
            if bad := len(found.of(PairState.UNUSABLE)):
                place = self._quoted(self.result.root)
                print(
                    f"But {bad} of {len(found.pairs)} job files are not usable: stemphony status {place} says why, "
                    f"stemphony rerun {place} computes them again."
                )

    def _who_has_the_lock(self) -> str:
        """Another run took the lock after we had looked for it."""
        deadline = time.monotonic() + LATE_HOLDER_S
        while time.monotonic() < deadline:
            alive = [holder for holder in holders(self.directory) if holder.is_alive]
            if alive:
                return IN_USE.format(directory=self.directory, pid=alive[0].pid)
            time.sleep(POLL_S)
        return f"{self.directory} is in use by another run. Wait for it, then run the same command again."

    @property
    def _has_begun(self) -> bool:
        """Whether the hook onstart of this very run has spoken; another run may have begun meanwhile."""
        return any(line.startswith(RUN_PREFIX) for line in self.lines)

    def _what_snakemake_says(self) -> str:
        return "\n".join(line for line in self.lines if line.strip() and not NOISE.match(line))

    def _complaints(self) -> list[str]:
        """Lines in which Snakemake, or what submits its jobs, says what is wrong; for want of a job's own word."""
        found = [line.strip() for line in self.lines if COMPLAINT.search(line) and not line.startswith(RUN_PREFIX)]
        return [f"Snakemake says: {line}" for line in dict.fromkeys(found)][-SHOWN_LINES:]

    def _full_disk(self, complaints: Sequence[str]) -> str:
        """What to do where Snakemake itself could not write, above all its copy of stem.nc before a merge."""
        (*_, file) = [self.directory / match[1] for line in complaints if (match := FULL_DISK.search(line))]
        folder = next(folder for folder in file.parents if folder.is_dir())
        disk = f"{folder} ({shutil.disk_usage(folder).free / 1e6:.1f} MB left)"
        full = f"the disk of {disk}, or your quota on it, is full"
        merged = self.result.merged
        if file.name != merged.name or not merged.exists():
            return f"{full}: Snakemake could not write {file.name}. Make room there."
        return (
            f"{full}: Snakemake could not copy the present {merged.name} there, as it does before each merge. "
            f"That one and all job files are as they were. Make room for {merged.stat().st_size / 1e6:.1f} MB there, "
            f"and as much beside {self._relative(merged)}."
        )

    def _no_room(self) -> str:
        """What to say where not even the lock, or the note of the run, could be written."""
        own = self.directory / ".snakemake"
        folder = own if own.is_dir() else self.directory
        return (
            f"The run could not begin: the disk of {folder}, or your quota on it, is full "
            f"({shutil.disk_usage(folder).free / 1e6:.1f} MB left). Nothing is lost. Make room there and run the same "
            "command again."
        )

    def _silence(self) -> str:
        """What to say of a Snakemake that ended without a word: its log is on the disk of the working directory."""
        free = shutil.disk_usage(self.directory).free
        return (
            f"Snakemake ended before the first job and left no word. The disk of {self.directory} has "
            f"{free / 1e6:.1f} MB left; if that is nothing, make room and run the same command again."
        )

    def _failed_logs(self) -> list[Path]:
        found = (FAILED_RULE_LOG.match(line) for line in self.lines)
        logs = dict.fromkeys(self.directory / match[1] for match in found if match)
        return [log for log in logs if log.is_file()]

    def _quoted(self, path: Path) -> str:
        return shlex.quote(self._relative(path))

    def _relative(self, path: Path) -> str:
        return os.path.relpath(path)


def _with_all_below(pid: int) -> list[int]:
    """A process of this process group, then its children in the group, theirs, and so on; others have left it."""
    below: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            # Behind the name, which may hold spaces and brackets: state, parent, process group.
            _, parent, group, *_ = entry.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        except (OSError, ValueError):
            continue  # it has ended meanwhile
        if int(group) == os.getpgrp():
            below.setdefault(int(parent), []).append(int(entry.parent.name))
    found = [pid]
    for one in found:  # it grows meanwhile
        found += below.get(one, [])
    return found


def _first_line(state: dict[str, Any]) -> str:
    return (str(state.get("message") or "no message").splitlines() or [""])[0]
