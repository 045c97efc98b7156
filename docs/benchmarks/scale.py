"""A campaign of 10,000 jobs on one machine: `make bench-scale` (about 5 minutes of CPU).

In a copy of this repository the physics is replaced: `workflow/scripts/run_multislice.py` copies a job file that was
computed once and puts the job's own digest into it. Everything around it is the real thing: attempts, progress, events,
atomic files with checksums, Snakemake, the courier, the merge.

All 10,000 jobs are planned, reported and merged. Through Snakemake's scheduler go the first RUN_JOBS of them; the files
and events of the others are written directly, because 10,000 processes cost a quarter of an hour.
Stages can be run one by one in a folder that is kept: `scale.py --folder DIR plan run fill status report merge`.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import page
import yaml

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "workflow" / "scripts"))

from stemphony import campaign, paths, provenance  # noqa: E402
from stemphony.campaign import Campaign, InputFiles  # noqa: E402
from stemphony.status.reporter import JobReporter  # noqa: E402
from stemphony.status.settings import ReportingSettings  # noqa: E402
from stemphony.store import ledger  # noqa: E402
from stemphony.store.atomic import atomic_path, write_text_atomic  # noqa: E402

DEFOCI, CONFIGURATIONS, RUN_JOBS = 100, 100, 500
NAME = "scale"
STAGES = ("plan", "run", "fill", "status", "report", "merge")
NOT_CLONED = shutil.ignore_patterns(".*", "results", "logs", "benchmarks", "build", "__pycache__", "tests", "docs")
TEMPLATE, DIGEST = "STEMPHONY_SCALE_TEMPLATE", "STEMPHONY_SCALE_DIGEST"
STAND_IN = f'''"""In place of the physics: a copy of a job file that was computed, with this job's digest."""

import json
import os
import sys
from pathlib import Path

from stemphony import job, provenance
from stemphony.store.atomic import atomic_path, write_text_atomic

params, _, output, threads = sys.argv[1:]
params, file = json.loads(params), Path(output)
with job.scope(file, params, int(threads)) as scope:
    digest = provenance.digest(params)
    content = Path(os.environ["{TEMPLATE}"]).read_bytes().replace(os.environ["{DIGEST}"].encode(), digest.encode())
    with atomic_path(file) as temporary:
        temporary.write_bytes(content)
        checksum = f"{{provenance.file_sha256(temporary)}}  {{file.name}}\\n# job_digest {{digest}}\\n"
        write_text_atomic(file.with_name(file.name + ".sha256"), checksum)
    scope.progress(1, 1)
'''


class Bench:
    """The campaign in a folder: a clone, a config, a working directory."""

    def __init__(self, folder: Path, defoci: int = DEFOCI, configurations: int = CONFIGURATIONS) -> None:
        self.folder, self.defoci, self.configurations = folder, defoci, configurations
        self.clone, self.work = folder / "clone", folder / "work"
        self.config = folder / "config.yaml"
        self.template = folder / "template.nc"
        self.result = paths.ResultPaths.of(NAME, self.work / "results")

    # --- the campaign ----------------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Compute one pair with the real physics, then replace it."""
        if self.template.exists():
            return
        shutil.copytree(ROOT, self.clone, symlinks=True, ignore=NOT_CLONED)
        self.write_config()
        first = self.job_files()[0]
        self.stemphony("run", str(self.config), "--directory", str(self.work), "--cores", "1", first)
        shutil.move(self.work / first, self.template)
        (self.clone / "workflow" / "scripts" / "run_multislice.py").write_text(STAND_IN, encoding="utf-8")
        shutil.rmtree(self.result.reports)

    def write_config(self, url: str = "") -> None:
        """Config of the whole campaign; with a url, jobs report and the main process sends."""
        config = {
            "simulation": {"name": NAME},
            "probe": {"defoci_nm": [float(value) for value in range(self.defoci)]},
            "specimen": {
                "file": str(ROOT / "config" / "srtio3.cif"), "repeat": [3, 3, 1],
                "u_iso_angstrom2": {"Sr": 0.00787, "Ti": 0.00557, "O": 0.009275},
            },
            "grating": {"gpts": [64, 64]},
            "scan": {"points": [16, 16]},
            "depths": {"at_angstrom": [2.0, 3.905]},
            "adf": {"detectors": {"bf": [0.0, 10.0], "haadf": [25.0, 40.0]}},
            "frozen_phonon": {"configurations": self.configurations, "save_coordinates": False},
            "http_reporting": {"reporting": bool(url), "url": url, "via": "submit_host"},
        }  # fmt: skip
        self.config.write_text(yaml.safe_dump(config), encoding="utf-8")

    @property
    def planned(self) -> Campaign:
        """The campaign as the last run planned it."""
        plan = ledger.read_plan(self.result)
        return campaign.plan(plan["config"], InputFiles(**plan["files"]))

    def job_files(self) -> list[str]:
        """Job files below the working directory, one defocus after the other."""
        own = paths.ResultPaths.of(NAME)
        ids = [paths.defocus_id(float(value)) for value in range(self.defoci)]
        return [str(own.job(identifier, number)) for identifier in ids for number in range(self.configurations)]

    @property
    def environment(self) -> dict[str, str]:
        """Of all processes."""
        digest = _digest_in(self.template) if self.template.exists() else ""
        return {
            **os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(self.clone / "workflow" / "scripts"),
            TEMPLATE: str(self.template), DIGEST: digest,
        }  # fmt: skip

    def stemphony(self, *arguments: str) -> Measured:
        """Run the clone's command to its end."""
        return measured([sys.executable, "-m", "stemphony", *arguments], self.environment, self.folder)

    # --- stages ----------------------------------------------------------------------------------------------------

    def plan(self) -> Measured:
        """A dry run of all jobs."""
        return measured([*self._snakemake, "--dry-run", "--quiet", "all"], self.environment, self.folder)

    @property
    def _snakemake(self) -> list[str]:
        return [
            str(Path(sys.executable).parent / "snakemake"), "--snakefile", str(self.clone / "Snakefile"),
            "--directory", str(self.work), "--configfile", str(self.config), "--cores", "2", "--scheduler", "greedy",
        ]  # fmt: skip

    def run(self, jobs: int) -> Measured:
        """Some of the jobs through Snakemake, reporting to a receiver here."""
        with receiver() as (url, arrived):
            self.write_config(url)
            done = measured(
                [*self._snakemake, *self.job_files()[:jobs], "--quiet", "all"], self.environment, self.folder
            )
            self.write_config()
        done.events = arrived[0]
        return done

    def fill(self) -> tuple[()]:
        """Write files, attempts and events of the jobs that did not run, as the stand-in would; measures nothing."""
        template, own = self.template.read_bytes(), _digest_in(self.template).encode()
        run = ledger.latest_run(self.result) or ledger.claim_run(self.result)
        identity = ledger.identity(self.result, 1)
        planned = self.planned
        for defocus in planned.defoci:
            for number in range(planned.configurations):
                file = self.result.job(defocus.id, number)
                if file.exists():
                    continue
                file.parent.mkdir(parents=True, exist_ok=True)
                digest = provenance.digest(planned.job_params(defocus.id, number))
                with atomic_path(file) as temporary:
                    temporary.write_bytes(template.replace(own, digest.encode()))
                    checksum = f"{provenance.file_sha256(temporary)}  {file.name}\n# job_digest {digest}\n"
                    write_text_atomic(paths.checksum(file), checksum)
                attempt = ledger.claim_attempt(self.result, defocus.id, number)
                reporter = JobReporter(
                    ReportingSettings(reporting=True, url="http://127.0.0.1:9/", via="submit_host"),
                    {"id": identity.id, "num_threads": 1, "num_processors": 1, "num_defoci": self.defoci,
                     "num_configurations": self.configurations},
                    defocus_nm=defocus.value_nm, defocus_index=defocus.index, configuration_index=number, run=run,
                    attempt=attempt, job=paths.job_name(defocus.id, number), reports_dir=self.result.events(run),
                    marker_file=self.result.defocus_claim(run, defocus.id), warn=print,
                )  # fmt: skip
                reporter.start()
                reporter.progress(1.0)
                reporter.finish()
                reporter.close()
        return ()

    def status(self) -> Measured:
        """`stemphony status`."""
        return self.stemphony("status", str(self.result.root), "--json")

    def report(self) -> Measured:
        """Deliver the events of all jobs."""
        with receiver() as (url, arrived):
            self.write_config(url)
            done = self.stemphony("report", "replay", str(self.result.root), "--config", str(self.config))
            self.write_config()
        done.events = arrived[0]
        return done

    def merge(self, processes: int) -> Measured:
        """The rule's own script on all job files."""
        params = provenance.canonical_json(self.planned.merge_params)
        script = self.clone / "workflow" / "scripts" / "merge_results.py"
        words = [params, str(self.result.specimen), str(self.result.merged), str(processes)]
        return measured([sys.executable, str(script), *words], self.environment, self.folder)

    def largest_folders(self) -> list[tuple[str, int]]:
        """Entries of the largest folder of each kind, below the working directory."""
        found: dict[str, int] = {}
        for folder, names, files in os.walk(self.work):
            kind = re.sub(r"defocus_\w+", "defocus_…", str(Path(folder).relative_to(self.work)))
            kind = re.sub(r"run-\d+", "run-…", kind)
            found[kind] = max(len(names) + len(files), found.get(kind, 0))
        return sorted(found.items(), key=lambda entry: -entry[1])


def _digest_in(template: Path) -> str:
    import netCDF4

    with netCDF4.Dataset(template) as root:
        return str(root.job_digest)


# --- measuring ----------------------------------------------------------------------------------------------------


class Measured:
    """A process that has ended: seconds, CPU seconds with its children, peak memory and open files of itself."""

    def __init__(self, wall_s: float, cpu_s: float, peak_mb: float, open_files: int, output: str) -> None:
        self.wall_s, self.cpu_s, self.peak_mb, self.open_files = wall_s, cpu_s, peak_mb, open_files
        self.output, self.events = output, 0

    def row(self, name: str, jobs: int) -> list[str]:
        """Line of the table."""
        return [
            name, str(jobs), f"{self.wall_s:.1f}", f"{self.cpu_s:.1f}", f"{1000 * self.cpu_s / jobs:.1f}",
            f"{self.peak_mb:.0f}", str(self.open_files), str(self.events or ""),
        ]  # fmt: skip


def measured(command: Sequence[str], environment: dict[str, str], folder: Path) -> Measured:
    """Run a command, which must succeed."""
    log = folder / "command.log"
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    peak_kib = open_files = 0
    with log.open("w") as stream:
        process = subprocess.Popen(command, env=environment, cwd=folder, stdout=stream, stderr=subprocess.STDOUT)
        while process.poll() is None:
            try:
                status = Path(f"/proc/{process.pid}/status").read_text()
                peak_kib = max(peak_kib, int((re.search(r"VmHWM:\s+(\d+)", status) or [0, 0])[1]))
                open_files = max(open_files, len(os.listdir(f"/proc/{process.pid}/fd")))  # noqa: PTH208
            except OSError:
                pass
            time.sleep(0.1)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    output = log.read_text(errors="replace")
    if process.returncode:
        raise SystemExit(f"{' '.join(command[:4])} … ended with {process.returncode}:\n{output[-3000:]}")
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Measured(time.monotonic() - begin, cpu_s, peak_kib / 1024, open_files, output)


@contextmanager
def receiver() -> Iterator[tuple[str, list[int]]]:
    """A receiver that takes everything, batches too, and counts events."""
    arrived = [0]

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            content: Any = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            number = len(content) if isinstance(content, list) else 1
            arrived[0] += number
            reply = json.dumps({"stored": number, "duplicates": 0}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(reply)))
            self.end_headers()
            self.wfile.write(reply)

        def log_message(self, *_: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/", arrived
    finally:
        server.shutdown()
        server.server_close()


HEAD = ["stage", "jobs", "s", "CPU s", "CPU ms per job", "peak MB", "open files", "events"]


def rows(bench: Bench, stages: Sequence[str], run_jobs: int) -> Iterator[list[str]]:
    """Measure stage after stage."""
    jobs = bench.defoci * bench.configurations
    steps: dict[str, Callable[[], Iterator[list[str]]]] = {
        "plan": lambda: iter([bench.plan().row("plan: `snakemake -n -q`", jobs)]),
        "run": lambda: iter([bench.run(run_jobs).row("run through Snakemake, reporting", run_jobs)]),
        "fill": lambda: iter(bench.fill()),
        "status": lambda: iter([bench.status().row("`stemphony status`", jobs)]),
        "report": lambda: iter([bench.report().row("`stemphony report replay`", jobs)]),
        "merge": lambda: (
            bench.merge(number).row(f"merge, {number} process{'es' if number > 1 else ''}", jobs) for number in (1, 2)
        ),
    }
    for stage in stages:
        yield from steps[stage]()


def main() -> None:
    """Measure; with all stages, rewrite the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stages", nargs="*", default=STAGES, metavar="STAGE", help=", ".join(STAGES))
    parser.add_argument("--folder", type=Path, help="kept; default: a temporary one")
    parser.add_argument("--run-jobs", type=int, default=RUN_JOBS)
    parsed = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        bench = Bench(parsed.folder or Path(temporary))
        bench.folder.mkdir(parents=True, exist_ok=True)
        bench.prepare()
        kept = bench.folder / "rows.json"
        found = json.loads(kept.read_text()) if kept.exists() else []
        for row in rows(bench, parsed.stages, parsed.run_jobs):
            print(" | ".join(row), flush=True)
            found.append(row)
            kept.write_text(json.dumps(found))
        if parsed.stages[-1] == STAGES[-1]:
            folders = "; ".join(f"`{kind}` {number}" for kind, number in bench.largest_folders()[:8])
            circumstances = page.circumstances(
                _cpu_model(), f"job files of {bench.template.stat().st_size / 1e3:.0f} kB"
            )
            page.rewrite("make bench-scale", [circumstances, "", *page.table(HEAD, found), "", f"Entries: {folders}."])


def _cpu_model() -> str:
    found = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace"))
    return found[1] if found else "an unknown processor"


if __name__ == "__main__":
    main()
