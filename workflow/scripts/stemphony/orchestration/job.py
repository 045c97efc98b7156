"""The frame of a job's computation: its place in the campaign, progress, status events, claims, a clean end."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stemphony import contract, paths
from stemphony.errors import StemphonyError, TimeLimitError
from stemphony.orchestration import stop_signals
from stemphony.orchestration.attempt import Attempt
from stemphony.orchestration.job_log import say
from stemphony.orchestration.time_limit import TimeLimit
from stemphony.status import settings as status_settings
from stemphony.status.reporter import JobReporter
from stemphony.store import checkpoints, claims, ledger, progress
from stemphony.store.claims import TIMING, Timing

if TYPE_CHECKING:
    from stemphony.compute.keeper import Keeper

QUICK_S = 2.0
"""Longest time for a checkpoint after SIGTERM [s]. Batch systems send SIGKILL soon after SIGTERM."""


def limit_threads(threads: int) -> None:
    """Limit the threads of numerical libraries. Call it before numpy is imported."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(threads)


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

    Yields
    ------
    JobScope
        The announced job.

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
