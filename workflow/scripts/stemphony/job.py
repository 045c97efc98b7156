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
from typing import Any

from . import paths, progress
from .errors import StemphonyError
from .paths import ResultPaths
from .status import settings as status_settings
from .status.reporter import JobReporter
from .store import ledger

RUN_VARIABLE = "STEMPHONY_RUN"
TRY_VARIABLE = "STEMPHONY_TRY"
CONFIG_VARIABLE = "STEMPHONY_CONFIG_FILES"


class Terminated(SystemExit):
    """SIGTERM, turned into an exception so that the job's end is reported."""

    def __init__(self) -> None:
        super().__init__(143)


def limit_threads(threads: int) -> None:
    """Keep libraries from starting threads of their own; must come before numpy is imported."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(threads)


@dataclass
class JobScope:
    """One attempt of one (defocus, configuration), as the rest of the campaign sees it."""

    result: ResultPaths
    identity: ledger.Identity
    plan: Mapping[str, Any]
    run: int
    attempt: int
    progress_file: progress.ProgressFile
    reporter: JobReporter
    tenths: progress.Tenths
    wants_preview: bool = False
    preview: Mapping[str, Any] = field(default_factory=dict)

    def progress(self, done: int, total: int) -> None:
        """Note and report how far the job is."""
        self.progress_file.update(done, total)
        self.reporter.progress(done / total if total else 1.0)
        self.tenths.reached(done / total if total else 1.0, f"{100 * done / max(1, total):.0f} % of the waves")

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
    plan = ledger.read_plan(result)
    run = int(os.environ.get(RUN_VARIABLE) or ledger.latest_run(result))
    identifier, configuration = paths.defocus_id(params["defocus_nm"]), int(params["configuration"])
    attempt = ledger.claim_attempt(result, identifier, configuration)
    name = paths.job_name(identifier, configuration)
    progress_file = progress.ProgressFile(
        result.progress(run, identifier, configuration),
        defocus_nm=params["defocus_nm"], configuration=configuration, attempt=attempt,
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
    handler = signal.signal(signal.SIGTERM, _terminate)
    try:
        # Once this file is there, whatever ends the job is noted in it.
        progress_file.write()
        reporter.start()
        wants_preview = settings is not None and settings.preview
        this = JobScope(result, identity, plan, run, attempt, progress_file, reporter, tenths, wants_preview)
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
        signal.signal(signal.SIGTERM, handler)
        reporter.close()


def _settings(plan: Mapping[str, Any]) -> status_settings.ReportingSettings | None:
    """Url, credentials and custom parameters, read here from the config file and kept nowhere."""
    files = os.environ.get(CONFIG_VARIABLE)
    listed = json.loads(files) if files else plan.get("config_files", [])
    if not listed or not plan.get("reporting"):
        return None
    return status_settings.load_in_job([Path(file) for file in listed], say)


def _will_retry(error: BaseException, plan: Mapping[str, Any]) -> bool | None:
    """Whether Snakemake will try the job again; None where that is not known."""
    number, retries = os.environ.get(TRY_VARIABLE, ""), plan.get("retries")
    if not number.isdigit() or not isinstance(retries, int):
        return None
    if int(number) > retries:
        return False
    # A signal may have ended the whole run.
    return None if isinstance(error, Terminated | KeyboardInterrupt) else True


def _reason(error: BaseException) -> str:
    if isinstance(error, Terminated):
        return "terminated (SIGTERM)"
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    if isinstance(error, MemoryError):
        return "out of memory"
    return f"{type(error).__name__}: {error}" if not isinstance(error, StemphonyError) else str(error)


def _terminate(_signal: int, _frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # once is enough; the end must not be interrupted
    raise Terminated


def say(text: str) -> None:
    """A line for the job's log."""
    print(f"Stemphony: {text}", file=sys.stderr, flush=True)


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
