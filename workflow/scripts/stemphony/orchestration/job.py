"""What every job needs around its computation: its number in the campaign, progress, status events, a clean end."""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Self

from stemphony import paths, provenance
from stemphony.contract import (
    BEGAN_VARIABLE,
    CHECKPOINT_VARIABLE,
    CONFIG_VARIABLE,
    NOTE_PREFIX,
    PROGRESS_SUFFIX,
    RUN_VARIABLE,
    RUNTIME_VARIABLE,
    TRY_VARIABLE,
)
from stemphony.errors import StemphonyError, TimeLimitError
from stemphony.paths import ResultPaths
from stemphony.status import settings as status_settings
from stemphony.status.reporter import JobReporter
from stemphony.store import checkpoints, claims, ledger, progress

if TYPE_CHECKING:
    from stemphony.compute.keeper import Keeper

QUICK_S = 2.0
"""Longest time that a checkpoint may take after SIGTERM: SIGKILL is not far behind."""


STOPPING = (signal.SIGTERM, signal.SIGHUP)
"""What stops a job in good order, beside Ctrl-C: `kill`, a cluster, and a terminal that is closed."""


class Terminated(SystemExit):
    """A signal that stops the job, turned into an exception so that the job's end is reported."""

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)
        self.signal = signal.Signals(number)


@dataclass(frozen=True)
class TimeLimit:
    """The time after which a cluster ends a job.

    Attributes
    ----------
    minutes : float
    ends : float
        In seconds of the monotonic clock, which no correction of the time moves.
    """

    minutes: float
    ends: float

    @classmethod
    def of_environment(cls) -> Self | None:
        """The limit of this job, None where nobody imposes one."""
        try:
            minutes, began = float(os.environ[RUNTIME_VARIABLE]), float(os.environ[BEGAN_VARIABLE])
        except (KeyError, ValueError):
            return None
        now = time.monotonic()
        # From another machine's clock, if the job was moved.
        began = began if now - 60 * minutes < began <= now else now
        return cls(minutes, began + 60 * minutes) if minutes > 0 else None

    def check(self, reserve_s: float = 0.0) -> None:
        """Raise TimeLimitError when only a tenth or 60 s remain, or not thrice the time for a last checkpoint."""
        if self.ends - time.monotonic() < max(min(6 * self.minutes, 60.0), 3 * reserve_s):
            raise self.error("the job has waited for what another process computes")

    def error(self, what: str) -> TimeLimitError:
        """The message with which a job ends."""
        return TimeLimitError(
            f"The time limit of {self.minutes:g} min is near; {what}. Another attempt goes on from there: "
            "Snakemake's retries start one, else the same command does."
        )


def limit_threads(threads: int) -> None:
    """Keep libraries from starting threads of their own; must come before numpy is imported."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(threads)


@dataclass
class JobScope:
    """One attempt of one (defocus, configuration), as the rest of the campaign sees it."""

    result: ResultPaths
    defocus: str
    configuration: int
    identity: ledger.Identity
    plan: Mapping[str, Any]
    run: int
    attempt: int
    progress_file: progress.ProgressFile
    reporter: JobReporter
    tenths: progress.Tenths
    limit: TimeLimit | None = None
    checkpoint_file: Path = Path()
    checkpoint_key: str = ""
    may_be_done: bool = False
    """Whether another process may have made the result since this job was started."""
    resumed_at: float | None = None
    checkpoint_seconds: float | None = None
    wants_preview: bool = False
    preview: Mapping[str, Any] = field(default_factory=dict)

    def progress(self, done: int, total: int) -> None:
        """Note and report how far the job is."""
        self.progress_file.update(done, total)
        self.reporter.progress(done / total if total else 1.0)
        self.tenths.reached(done / total if total else 1.0, f"{100 * done / max(1, total):.0f}{PROGRESS_SUFFIX}")

    @property
    def aside(self) -> Path:
        """See `paths.ResultPaths.aside`."""
        return self.result.aside(self.defocus, self.configuration)

    def check(self) -> None:
        """Raise TimeLimitError when the cluster is about to end the job."""
        if self.limit is not None:
            self.limit.check()

    @contextmanager
    def keeping(self) -> Iterator[Keeper]:
        """Keeper of a computation, with what an earlier attempt has left; keeps what is done if it is stopped."""
        from stemphony.compute.keeper import INTERVAL_S, Keeper

        file, limit = self.checkpoint_file, self.limit
        found, refused = checkpoints.read_checkpoint(file, self.checkpoint_key)
        if refused:
            say(f"checkpoint {file.name} is not used: {refused}. The job starts from the beginning.")
        if found is not None:
            self.resumed_at = round(found.share, 4)
            say(f"goes on from the checkpoint of an earlier attempt, at {100 * found.share:.0f} %")
        keeper = Keeper(
            found=None if found is None else found.arrays,
            write=lambda parts, done, total: checkpoints.write_checkpoint(
                file, self.checkpoint_key, parts, done, total
            ),
            check=(lambda reserve_s: None) if limit is None else limit.check,
            progress=self.progress,
            say=say,
            interval_s=_seconds(CHECKPOINT_VARIABLE, INTERVAL_S),
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
        except (Terminated, KeyboardInterrupt):
            keeper.save(within_s=QUICK_S)
            raise
        finally:
            self.checkpoint_seconds = round(keeper.seconds, 3) if keeper.written else None

    def settle(self, output: Path) -> None:
        """After the result is in place: forget checkpoints, and keep the result from a run that has begun since."""
        _ignore_stopping()  # one that comes now must not make Snakemake delete the result
        aside = self.aside
        checkpoints.discard(self.checkpoint_file, self.result.checkpoint(self.defocus, self.configuration))
        if ledger.latest_run(self.result) > self.run:
            # Its Snakemake did not see this job end and deletes what it left.
            checkpoints.put_aside(output, aside)
        else:
            checkpoints.discard(aside, paths.checksum(aside))

    def show(self, make: Callable[[], Mapping[str, Any]]) -> None:
        """Have an image sent with the job's end, if the config wants that. Trouble with it does not fail the job."""
        if not self.wants_preview:
            return
        try:
            self.preview = make()
        except Exception as error:
            say(f"no preview is sent ({type(error).__name__})")


@contextmanager
def scope(output: Path, params: Mapping[str, Any], threads: int) -> Iterator[JobScope]:
    """Announce a job, and see that its end is known: FINISH_FP_CONFIGURATION, or ERROR with the reason.

    Parameters
    ----------
    output : Path
        The job's result file; it tells which simulation this is.
    params : mapping
        The job's params.

    Notes
    -----
    Reports are sent after the result is in place, and nothing that a receiver does fails the job.
    """
    result = ResultPaths.of_job_file(output)
    seed = params["simulation"]["random_seed"]
    identity = ledger.identity(result, seed or 0)
    run = run_number(result)
    plan = ledger.read_plan(result, run)
    plan = {**plan, "shared_waves": _shares_waves(plan, params)}
    identifier, configuration = paths.defocus_id(params["defocus_nm"]), int(params["configuration"])
    attempt = ledger.claim_attempt(result, identifier, configuration)
    name = paths.job_name(identifier, configuration)
    progress_file = progress.ProgressFile(
        result.progress(run, identifier, configuration),
        defocus_nm=params["defocus_nm"], configuration=configuration, attempt=attempt,
        another_try=_has_another_try(plan),
    )  # fmt: skip
    progress_file.file.parent.mkdir(parents=True, exist_ok=True)
    defoci = plan.get("defoci_ids", [])
    settings = _settings(plan)
    reporter = JobReporter(
        settings,
        {
            "id": identity.id,
            "num_threads": threads,
            "num_processors": plan.get("num_processors", 1),
            "num_defoci": plan.get("num_defoci", 1),
            "num_configurations": plan.get("num_configurations", 1),
        },
        defocus_nm=params["defocus_nm"],
        defocus_index=defoci.index(identifier) if identifier in defoci else 0,
        configuration_index=configuration,
        run=run,
        attempt=attempt,
        job=name,
        reports_dir=result.events(run),
        marker_file=result.defocus_claim(run, identifier),
        warn=say,
    )
    tenths = progress.Tenths(lambda text: print(f"{ledger.now()}  {text}", flush=True))
    # `nohup` has SIGHUP ignored, and it stays so.
    heeded = [number for number in STOPPING if signal.getsignal(number) is not signal.SIG_IGN]
    handlers = {number: signal.signal(number, _terminate) for number in heeded}
    limit, claim = TimeLimit.of_environment(), None
    # Snakemake has deleted the output before it started this job: one that is there now is another process'.
    may_be_done = TRY_VARIABLE in os.environ
    try:
        # Once this file is there, whatever ends the job is noted in it.
        progress_file.write()
        reporter.start(None)
        claim, waited = _claimed(result.claim(identifier, configuration), limit)
        kept_in, key = _checkpoint_of(result, identifier, params, identity, plan)
        kept, _ = checkpoints.read_checkpoint(kept_in, key, with_arrays=False)
        if kept is not None:
            progress_file.update(kept.done, kept.total)
            progress_file.write()
            tenths.next = int(10 * kept.share) + 1
        reporter.progress(0.0 if kept is None else kept.share)
        wants_preview = settings is not None and settings.preview
        this = JobScope(
            result, identifier, configuration, identity, plan, run, attempt, progress_file, reporter, tenths, limit,
            kept_in, key, may_be_done or waited, wants_preview=wants_preview,
        )  # fmt: skip
        yield this
    except BaseException as error:
        message = _reason(error)
        progress_file.end(progress.FAILED, message)
        reporter.error(message, _will_retry(error, plan))
        raise
    else:
        progress_file.end(progress.FINISHED)
        reporter.finish(**this.preview)
    finally:
        if claim is not None:
            claim.release()
        reporter.close()
        for number, handler in handlers.items():
            signal.signal(number, handler)


def run_number(result: ResultPaths) -> int:
    """Number of the run that has started this process, the last one where the environment does not tell."""
    told = os.environ.get(RUN_VARIABLE, "")
    return int(told) if told.isdigit() else ledger.latest_run(result)


def _claimed(file: Path, limit: TimeLimit | None) -> tuple[claims.Claim | None, bool]:
    """Claim of a job, and whether another process had it before; None where claims cannot be made or removed.

    Snakemake may start a job twice: a new one does not know of the jobs that a killed one had started.
    """
    waited = False
    while True:
        try:
            claim = claims.take(file)
        except OSError as error:
            say(f"the job cannot be claimed ({error.strerror}): another process may compute it as well")
            return None, waited
        if claim is not None:
            return claim, waited
        if not waited:
            say(f"{claims.holder_of(file) or 'another process'} computes this job already; waiting for its result")
            waited = True
        if not claims.wait(file, (lambda: None) if limit is None else limit.check):
            say(claims.left_over(file))
            return None, waited


def _shares_waves(plan: Mapping[str, Any], params: Mapping[str, Any]) -> bool:
    """Whether this job's waves are to serve all defoci of the plan.

    Where a job does not know its run, the plan may be that of another one, with other defoci or another algorithm. A
    job that the plan does not know computes its own waves.
    """
    return (
        bool(plan.get("shared_waves"))
        and params["simulation"].get("algorithm", "multislice") != "multislice"
        and not params["frozen_phonon"]["independent_defoci"]
        and paths.defocus_id(params["defocus_nm"]) in plan.get("defoci_ids", [])
    )


def _checkpoint_of(
    result: ResultPaths,
    identifier: str,
    params: Mapping[str, Any],
    identity: ledger.Identity,
    plan: Mapping[str, Any],
) -> tuple[Path, str]:
    """File of a job's checkpoint, and the digest of everything that decides what may stand in it."""
    seed = params["simulation"]["random_seed"]
    shared, of_job = bool(plan.get("shared_waves")), dict(params)
    if shared:
        # The waves serve all defoci: whichever job computes them goes on from there.
        del of_job["defocus_nm"]
    decides = {
        "params": of_job,
        "defoci_nm": plan["defoci_nm"] if shared else None,
        "seed": None if seed is None else identity.effective_seed(seed),
        "budget_mb": plan.get("budget_mb"),
        "version": provenance.VERSION,
    }
    configuration = int(params["configuration"])
    file = result.waves_checkpoint(configuration) if shared else result.checkpoint(identifier, configuration)
    return file, provenance.digest(decides)


def _seconds(variable: str, default: float) -> float:
    try:
        return max(0.0, float(os.environ.get(variable) or default))
    except ValueError:
        return default


def _settings(plan: Mapping[str, Any]) -> status_settings.ReportingSettings | None:
    """Url, credentials and custom parameters, read here from the config file and kept nowhere."""
    files = os.environ.get(CONFIG_VARIABLE)
    listed = json.loads(files) if files else plan.get("config_files", [])
    if not listed or not plan.get("reporting"):
        return None
    return status_settings.load_in_job([Path(file) for file in listed], say)


def _will_retry(error: BaseException, plan: Mapping[str, Any]) -> bool | None:
    """Whether Snakemake will try the job again; None where that is not known."""
    another = _has_another_try(plan)
    # A signal may have ended the whole run.
    return None if another and isinstance(error, Terminated | KeyboardInterrupt) else another


def _has_another_try(plan: Mapping[str, Any]) -> bool | None:
    """Whether a run that goes on tries the job again if this try fails; None where that is not known."""
    number, retries = os.environ.get(TRY_VARIABLE, ""), plan.get("retries")
    if not number.isdigit() or not isinstance(retries, int):
        return None
    return int(number) <= retries


def _reason(error: BaseException) -> str:
    if isinstance(error, Terminated):
        return f"terminated ({error.signal.name})"
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    if isinstance(error, MemoryError):
        return "out of memory"
    return f"{type(error).__name__}: {error}" if not isinstance(error, StemphonyError) else str(error)


def _terminate(number: int, _frame: FrameType | None) -> None:
    _ignore_stopping()  # once is enough; the end must not be interrupted
    raise Terminated(number)


def _ignore_stopping() -> None:
    for number in STOPPING:
        signal.signal(number, signal.SIG_IGN)


def say(text: str) -> None:
    """A line for the job's log."""
    print(f"{NOTE_PREFIX}{text}", file=sys.stderr, flush=True)


def last_word(log: Path) -> str:
    """The message that a job's log ends with; empty where it ends with a note, the progress, or nothing.

    For a job that could note its end nowhere else: its disk was full, or it failed before it began.
    """
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").rstrip().splitlines()
    except OSError:
        return ""
    last = lines[-1] if lines else ""
    return "" if last[:1].isspace() or last.startswith(NOTE_PREFIX) or last.endswith(PROGRESS_SUFFIX) else last


class Stopwatch:
    """CPU and elapsed time since it was made, and the process' peak memory."""

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
    """Peak resident memory of this process alone: `ru_maxrss` begins with that of the process that started it."""
    try:
        for line in Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1])
    except (OSError, ValueError, IndexError):
        pass
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
