"""The frame of a job's computation: its place in the campaign, progress, status events, claims, a clean end."""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from stemphony import contract, ordinary_files, paths, provenance
from stemphony.errors import StemphonyError, TimeLimitError
from stemphony.orchestration import stop_signals
from stemphony.paths import ResultPaths
from stemphony.status import settings as status_settings
from stemphony.status.reporter import JobReporter
from stemphony.store import checkpoints, claims, ledger, progress
from stemphony.store.claims import TIMING, Timing

if TYPE_CHECKING:
    from stemphony.compute.keeper import Keeper

QUICK_S = 2.0
"""Longest time for a checkpoint after SIGTERM [s]. Batch systems send SIGKILL soon after SIGTERM."""


@dataclass(frozen=True)
class TimeLimit:
    """The time after which a batch system ends a job.

    Attributes
    ----------
    minutes : float
        Length of the limit [min].
    ends : float
        End of the limit [s] on the monotonic clock, which is never set.
    """

    minutes: float
    ends: float

    @classmethod
    def of_environment(cls) -> Self | None:
        """The limit of this job, None without a batch system."""
        try:
            minutes, began = float(os.environ[contract.RUNTIME_VARIABLE]), float(os.environ[contract.BEGAN_VARIABLE])
        except (KeyError, ValueError):
            return None
        now = time.monotonic()
        # If the job was moved, the value comes from the clock of another machine and is useless here.
        began = began if now - 60 * minutes < began <= now else now
        return cls(minutes, began + 60 * minutes) if minutes > 0 else None

    def check(self, reserve_s: float = 0.0) -> None:
        """Raise TimeLimitError if the remaining time is below a tenth of the limit (at most 60 s) or three checkpoints.

        Parameters
        ----------
        reserve_s : float
            Time that one checkpoint takes [s].
        """
        if self.ends - time.monotonic() < max(min(6 * self.minutes, 60.0), 3 * reserve_s):
            raise self.error("the job was waiting for another process that computes it")

    def error(self, what: str) -> TimeLimitError:
        """Make the error that ends a job. `what` is the part of its text that says what is kept."""
        return TimeLimitError(
            f"The time limit of {self.minutes:g} min is near; {what}. Another attempt goes on from there: "
            "Snakemake's retries start it, or you start it with the same command."
        )


def limit_threads(threads: int) -> None:
    """Limit the threads of numerical libraries. Call it before numpy is imported."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(threads)


@dataclass(frozen=True)
class Attempt:
    """One attempt of one job: which job it is, which run started it, and what that run planned.

    Attributes
    ----------
    result : ResultPaths
        Paths of the simulation of the job.
    params : mapping
        The params of rule run_multislice.
    identity, plan : Identity, mapping
        Identity of the simulation, and plan of the run that started the job.
    run : int
        Number of this run.
    number : int
        Number of this attempt. Attempts at a job are counted over all runs, from 1.
    """

    result: ResultPaths
    params: Mapping[str, Any]
    identity: ledger.Identity
    plan: Mapping[str, Any]
    run: int
    number: int

    @classmethod
    def begin(cls, output: Path, params: Mapping[str, Any]) -> Self:
        """Claim the next number of an attempt at the job that makes the file `output`.

        `params` are those of rule run_multislice.

        Raises
        ------
        StorageError, DamagedResultError
            The results folder cannot be written, or simulation.json is damaged.
        """
        result = ResultPaths.of_job_file(output)
        run = run_number(result)
        plan = ledger.read_plan(result, run)
        margin_nm = (plan.get("scan_edges") or {}).get("margin_nm")
        identity = ledger.identity(result, params["simulation"]["random_seed"] or 0, margin_nm=margin_nm, plan=plan)
        number = ledger.claim_attempt(result, paths.defocus_id(params["defocus_nm"]), int(params["configuration"]))
        return cls(result, params, identity, {**plan, "shared_waves": _shares_waves(plan, params)}, run, number)

    @property
    def defocus(self) -> str:
        """Id of the defocus."""
        return paths.defocus_id(self.params["defocus_nm"])

    @property
    def configuration(self) -> int:
        """Number of the configuration."""
        return int(self.params["configuration"])

    @property
    def aside(self) -> Path:
        """See `paths.ResultPaths.aside`."""
        return self.result.aside(self.defocus, self.configuration)

    @property
    def effective_seed(self) -> int | None:
        """Seed of the displacements, None without displacements."""
        seed = self.params["simulation"]["random_seed"]
        return None if seed is None else self.identity.effective_seed(seed)

    @property
    def has_another_try(self) -> bool | None:
        """Whether Snakemake would try the job again after this try; None if that is unknown."""
        number, retries = os.environ.get(contract.TRY_VARIABLE, ""), self.plan.get("retries")
        return int(number) <= retries if number.isdigit() and isinstance(retries, int) else None

    @property
    def checkpoint_file(self) -> Path:
        """File of the job's checkpoint. Jobs that share the waves of a configuration share this file."""
        if self.plan["shared_waves"]:
            return self.result.waves_checkpoint(self.configuration)
        return self.result.checkpoint(self.defocus, self.configuration)

    @property
    def checkpoint_key(self) -> str:
        """Digest of everything that decides the content of the checkpoint."""
        shared, of_job = self.plan["shared_waves"], dict(self.params)
        if shared:
            del of_job["defocus_nm"]  # the waves serve all defoci, so a job of any defocus may use the checkpoint
        return provenance.digest(
            {
                "params": of_job,
                "defoci_nm": self.plan["defoci_nm"] if shared else None,
                "seed": self.effective_seed,
                "budget_mb": self.plan.get("budget_mb"),
                "version": provenance.VERSION,
            }
        )

    def progress_file(self) -> progress.ProgressFile:
        """Make the file from which other processes read the progress of this job, and how it ended."""
        file = self.result.progress(self.run, self.defocus, self.configuration)
        file.parent.mkdir(parents=True, exist_ok=True)
        return progress.ProgressFile(
            file, defocus_nm=self.params["defocus_nm"], configuration=self.configuration, attempt=self.number,
            another_try=self.has_another_try,
        )  # fmt: skip

    def reporter(self, settings: status_settings.ReportingSettings | None, threads: int) -> JobReporter:
        """Make the reporter of this job; without `settings` it reports nothing.

        `threads` is the number of threads of the job, which its events contain.
        """
        defoci = self.plan.get("defoci_ids", [])
        keys = ("num_processors", "num_defoci", "num_configurations")
        return JobReporter(
            settings,
            {
                "id": self.identity.id, "instance": self.identity.instance, "num_threads": threads,
                **{key: self.plan.get(key, 1) for key in keys},
            },
            defocus_nm=self.params["defocus_nm"],
            defocus_index=defoci.index(self.defocus) if self.defocus in defoci else 0,
            configuration_index=self.configuration, run=self.run, attempt=self.number,
            job=paths.job_name(self.defocus, self.configuration), reports_dir=self.result.events(self.run),
            marker_file=self.result.defocus_claim(self.run, self.defocus), warn=say,
        )  # fmt: skip


@dataclass
class JobScope:
    """A job while it computes, for the script of the job.

    Attributes
    ----------
    attempt : Attempt
    progress_file, reporter, tenths
        Where the progress goes: to a file of the run, to a receiver, and to the log of the job at each tenth.
    limit : TimeLimit or None
    may_be_done : bool
        Whether another process may have made the result since Snakemake started this job.
    wants_preview : bool
        Whether the receiver gets small images of the finished job.
    resumed_at : float or None
        Share of the job that came from a checkpoint, 0 to 1.
    checkpoint_seconds : float or None
        Time that checkpoints took [s].
    previews : sequence of mapping
        Keys of the small images that are sent before FINISH_FP_CONFIGURATION.
    """

    attempt: Attempt
    progress_file: progress.ProgressFile
    reporter: JobReporter
    tenths: progress.Tenths
    limit: TimeLimit | None
    may_be_done: bool
    wants_preview: bool
    resumed_at: float | None = None
    checkpoint_seconds: float | None = None
    previews: Sequence[Mapping[str, Any]] = ()

    def progress(self, done: int, total: int) -> None:
        """Note and report that `done` of `total` waves are finished."""
        self.progress_file.update(done, total)
        self.reporter.progress(done / total if total else 1.0)
        self.tenths.reached(
            done / total if total else 1.0, f"{100 * done / max(1, total):.0f}{contract.PROGRESS_SUFFIX}"
        )

    def check(self) -> None:
        """Raise TimeLimitError if the batch system will soon end the job."""
        if self.limit is not None:
            self.limit.check()

    def show_earlier_progress(self) -> None:
        """Report the progress of the checkpoint that an earlier attempt left."""
        kept, _ = checkpoints.read_checkpoint(
            self.attempt.checkpoint_file, self.attempt.checkpoint_key, with_arrays=False
        )
        if kept is not None:
            self.progress_file.update(kept.done, kept.total)
            self.progress_file.write()
            self.tenths.next = int(10 * kept.share) + 1
        self.reporter.progress(0.0 if kept is None else kept.share)

    @contextmanager
    def keeping(self) -> Iterator[Keeper]:
        """Yield the keeper of a computation. It holds the checkpoint of an earlier attempt, if there is one.

        If the computation is stopped, its finished waves are kept.

        Raises
        ------
        TimeLimitError
            The time limit is near. The message says what is kept.
        """
        from stemphony.compute.keeper import INTERVAL_S, Keeper

        file, key, limit = self.attempt.checkpoint_file, self.attempt.checkpoint_key, self.limit
        found, refused = checkpoints.read_checkpoint(file, key)
        if refused:
            say(f"checkpoint {file.name} is not used: {refused}. The job starts from the beginning.")
        if found is not None:
            self.resumed_at = round(found.share, 4)
            say(f"goes on from the checkpoint of an earlier attempt, at {100 * found.share:.0f} %")
        keeper = Keeper(
            found=None if found is None else found.arrays,
            write=lambda parts, done, total: checkpoints.write_checkpoint(file, key, parts, done, total),
            check=(lambda reserve_s: None) if limit is None else limit.check,
            progress=self.progress,
            say=say,
            interval_s=_seconds(contract.CHECKPOINT_VARIABLE, INTERVAL_S),
        )
        del found
        try:
            yield keeper
        except TimeLimitError:
            assert limit is not None
            before = file.exists()
            share = f"{100 * keeper.done / max(1, keeper.total):.0f} % of the waves are"
            if keeper.save():
                raise limit.error(f"{share} kept in {file.name}") from None
            raise limit.error(f"{share} done, of which {'a part is' if before else 'none could be'} kept") from None
        except (stop_signals.Terminated, KeyboardInterrupt):
            stop_signals.caught()
            keeper.save(within_s=QUICK_S)
            raise
        finally:
            self.checkpoint_seconds = round(keeper.seconds, 3) if keeper.written else None

    def settle(self, output: Path) -> None:
        """Clean up after the result is in place, the file `output`.

        Remove checkpoints, and keep the result under a second name if a newer run has begun.
        """
        stop_signals.ignore()  # after a signal, the job would count as failed, and Snakemake would delete its result
        this, aside = self.attempt, self.attempt.aside
        checkpoints.discard(this.checkpoint_file, this.result.checkpoint(this.defocus, this.configuration))
        if ledger.latest_run(this.result) > this.run:
            # The newer Snakemake does not see this job end, so it deletes the output. The second name stays.
            checkpoints.put_aside(output, aside)
        else:
            checkpoints.discard(aside, paths.checksum(aside))

    def show(self, make: Callable[[], Sequence[Mapping[str, Any]]]) -> None:
        """Send images with the end of the job, if the config asks for them. Errors here do not make the job fail."""
        if not self.wants_preview:
            return
        try:
            self.previews = make()
        except Exception as error:
            say(f"no preview is sent ({type(error).__name__})")


@contextmanager
def scope(output: Path, params: Mapping[str, Any], threads: int) -> Iterator[JobScope]:
    """Announce a job, and report how it ends: FINISH_FP_CONFIGURATION, or ERROR with the reason.

    Parameters
    ----------
    output : Path
        The job's result file. Its folder says which simulation this is.
    params : mapping
        The params of rule run_multislice.
    threads : int

    Notes
    -----
    The end is reported after the result is in place. Errors of the receiver do not make the job fail.
    """
    attempt = Attempt.begin(output, params)
    progress_file = attempt.progress_file()
    settings = _settings(attempt.plan)
    reporter = attempt.reporter(settings, threads)
    tenths = progress.Tenths(lambda text: print(f"{ledger.now()}  {text}", flush=True))
    limit, claim = TimeLimit.of_environment(), None
    with stop_signals.as_exceptions():
        try:
            # From here on, the progress file says how the job ended, whatever ends the job.
            progress_file.write()
            reporter.start(None)
            claim, waited = _claimed(attempt.result.claim(attempt.defocus, attempt.configuration), limit)
            # Snakemake deletes the output before it starts a job. If the file exists now, another process made it.
            may_be_done = contract.TRY_VARIABLE in os.environ or waited
            wants_preview = settings is not None and settings.preview
            this = JobScope(attempt, progress_file, reporter, tenths, limit, may_be_done, wants_preview)
            this.show_earlier_progress()
            yield this
        except BaseException as error:
            stop_signals.caught()
            message = _reason(error)
            # Ctrl-C ends the whole run, so this job has not failed.
            ended = progress.INTERRUPTED if isinstance(error, KeyboardInterrupt) else progress.FAILED
            progress_file.end(ended, message)
            reporter.error(message, _will_retry(error, attempt))
            raise
        else:
            progress_file.end(progress.FINISHED)
            reporter.finish(this.previews)
        finally:
            if claim is not None:
                claim.release()
            reporter.close()


def run_number(result: ResultPaths) -> int:
    """Number of the run that started this process, from the environment; without the variable, of the last run.

    `result` has the paths of the simulation. A member of a sweep may have a number of its own.
    """
    told = contract.variable(contract.RUN_VARIABLE, result.root.name if result.is_member else "")
    return int(told) if told.isdigit() else ledger.latest_run(result)


def _claimed(file: Path, limit: TimeLimit | None, timing: Timing = TIMING) -> tuple[claims.Claim | None, bool]:
    """Claim a job. Wait while another process holds the claim.

    A job may run twice at once: a new Snakemake does not know the jobs that a killed Snakemake started.

    Returns
    -------
    claim : Claim or None
        None if claims cannot be made or removed here.
    waited : bool
        Whether another process held the claim before.
    """
    waited = False
    while True:
        try:
            claim = claims.take(file, timing)
        except OSError as error:
            say(f"the job cannot be claimed ({error.strerror}): another process may compute it as well")
            return None, waited
        if claim is not None:
            return claim, waited
        if not waited:
            say(f"{claims.holder_of(file) or 'another process'} computes this job already; waiting for its result")
            waited = True
        if not claims.wait(file, (lambda: None) if limit is None else limit.check, timing):
            say(claims.left_over(file))
            return None, waited


def _shares_waves(plan: Mapping[str, Any], params: Mapping[str, Any]) -> bool:
    """Whether this job's waves serve all defoci of the plan.

    A job that does not know its run may read the plan of another run, with other defoci or another algorithm. If that
    plan does not contain the job, the job computes its own waves.
    """
    return (
        bool(plan.get("shared_waves"))
        and params["simulation"].get("algorithm", "multislice") != "multislice"
        and not params["frozen_phonon"]["independent_defoci"]
        and paths.defocus_id(params["defocus_nm"]) in plan.get("defoci_ids", [])
    )


def _seconds(variable: str, default: float) -> float:
    try:
        return max(0.0, float(os.environ.get(variable) or default))
    except ValueError:
        return default


def _settings(plan: Mapping[str, Any]) -> status_settings.ReportingSettings | None:
    """Url, credentials and custom parameters from the config files; None if the run does not report."""
    files = os.environ.get(contract.CONFIG_VARIABLE)
    # The files that the plan names are not used, because a results folder may come from somebody else.
    listed = json.loads(files) if files else []
    if not listed or not plan.get("reporting"):
        return None
    return status_settings.load_in_job([Path(file) for file in listed], say)


def _will_retry(error: BaseException, attempt: Attempt) -> bool | None:
    """Whether Snakemake will try the job again; None if that is unknown."""
    another = attempt.has_another_try
    # A signal may have ended the whole run. Then there is no other try.
    return None if another and isinstance(error, stop_signals.Terminated | KeyboardInterrupt) else another


def _reason(error: BaseException) -> str:
    if isinstance(error, stop_signals.Terminated):
        return f"terminated ({error.signal.name})"
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    if isinstance(error, MemoryError):
        return "out of memory"
    return f"{type(error).__name__}: {error}" if not isinstance(error, StemphonyError) else str(error)


def say(text: str) -> None:
    """Write `text` as a note into the job's log."""
    print(f"{contract.NOTE_PREFIX}{text}", file=sys.stderr, flush=True)


def last_word(log: Path) -> str:
    """The error message at the end of a job's log; empty if the last line is a note, progress or part of a traceback.

    If a job failed before it began, or if its disk was full, this message is its only trace.
    """
    try:
        lines = ordinary_files.read_end(log).rstrip().splitlines()
    except OSError:
        return ""
    last = lines[-1] if lines else ""
    return (
        ""
        if last[:1].isspace() or last.startswith(contract.NOTE_PREFIX) or last.endswith(contract.PROGRESS_SUFFIX)
        else last
    )


class Stopwatch:
    """Elapsed time since this object was made, and CPU time and peak memory of the process."""

    def __init__(self) -> None:
        self.wall = time.monotonic()
        self.started = ledger.now()

    def record(self) -> dict[str, Any]:
        """Attributes of a result file's group `runtime`."""
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return {
            "time_start": self.started,
            "time_stop": ledger.now(),
            "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 3),
            "wall_seconds": round(time.monotonic() - self.wall, 3),
            "peak_memory_mb": round(_peak_memory_kib() / 1024, 1),
        }


def _peak_memory_kib() -> int:
    """Peak resident memory of this process [KiB]. `ru_maxrss` is worse: it starts from that of the parent process."""
    try:
        for line in Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1])
    except (OSError, ValueError, IndexError):
        pass
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
