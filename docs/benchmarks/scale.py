"""Measure a campaign of 10,000 jobs on one machine: `make bench-scale` (about half an hour on two cores).

The script replaces the physics in a copy of this repository. There, `workflow/scripts/run_multislice.py` copies a job
file that was computed once, and puts the job's own digest into it. Everything else is real: Snakemake with all jobs,
merge and figures, attempts, claims, progress, events, atomic files with checksums, the courier, and a monitor that
receives. Each event must arrive there once.

To run the stages one by one, give a folder that is kept: `scale.py --folder DIR plan run status report merge`.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import page
import yaml

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "workflow" / "scripts"))

from stemphony import paths, provenance  # noqa: E402
from stemphony.experiment import campaign  # noqa: E402
from stemphony.experiment.campaign import Campaign  # noqa: E402
from stemphony.status.backlog import spools_of  # noqa: E402
from stemphony.status.delivery import read_events  # noqa: E402
from stemphony.store import ledger  # noqa: E402

DEFOCI, CONFIGURATIONS = 100, 100
NAME = "scale"
STAGES = ("plan", "run", "status", "report", "merge")
# Files and folders of the repository that a run needs.
CLONED = ("Snakefile", "config", "envs", "profiles", "workflow")
TEMPLATE, DIGEST = "STEMPHONY_SCALE_TEMPLATE", "STEMPHONY_SCALE_DIGEST"
STAND_IN = f'''"""In place of the physics: a copy of a job file that was computed, with this job's digest."""

import json
import os
import sys
from pathlib import Path

from stemphony import provenance
from stemphony.orchestration import job
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
    """The campaign in a folder, which has a clone, a config and a working directory."""

    def __init__(self, folder: Path, defoci: int = DEFOCI, configurations: int = CONFIGURATIONS) -> None:
        self.folder, self.defoci, self.configurations = folder, defoci, configurations
        self.clone, self.work = folder / "clone", folder / "work"
        self.config = folder / "config.yaml"
        self.template = folder / "template.nc"
        self.result = paths.ResultPaths.of(NAME, self.work / "results")

    # --- the campaign ----------------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Compute one pair with the real physics. Then replace the physics."""
        if self.template.exists():
            return
        for name in CLONED:
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
            self.clone.mkdir(exist_ok=True)
            copy(ROOT / name, self.clone / name)
        self.write_config()
        first = str(paths.ResultPaths.of(NAME).job(paths.defocus_id(0.0), 0))
        self.stemphony("run", str(self.config), "--directory", str(self.work), "--cores", "1", first)
        shutil.move(self.work / first, self.template)
        (self.clone / "workflow" / "scripts" / "run_multislice.py").write_text(STAND_IN, encoding="utf-8")
        shutil.rmtree(self.result.reports)

    def write_config(self, url: str = "") -> None:
        """Write the config of the whole campaign. With a url, jobs report, and the main process sends the reports."""
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
        return campaign.of_plan(plan)

    @property
    def environment(self) -> dict[str, str]:
        """The environment of all processes."""
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
        return measured([*self._snakemake, "--dry-run"], self.environment, self.folder)

    @property
    def _snakemake(self) -> list[str]:
        return [
            str(Path(sys.executable).parent / "snakemake"), "--snakefile", str(self.clone / "Snakefile"),
            "--directory", str(self.work), "--configfile", str(self.config), "--cores", "2", "--quiet", "all",
        ]  # fmt: skip

    def run(self) -> tuple[Measured, Process]:
        """Run the whole campaign with Snakemake, which reports to a monitor."""
        with monitor(self) as receiving:
            self.write_config(receiving.url)
            done = measured(self._snakemake, self.environment, self.folder, receiving.process)
            self.write_config()
            done.events = receiving.stored(self.events_written())
        return done, receiving.process

    def events_written(self) -> int:
        """Number of events in all spool files."""
        return sum(event is not None for spool in spools_of(self.result) for event, _ in read_events(spool.path))

    def status(self) -> Measured:
        """`stemphony status`."""
        return self.stemphony("status", str(self.result.root), "--json")

    def report(self) -> Measured:
        """Deliver the events of all jobs again to an empty monitor."""
        with monitor(self) as receiving:
            self.write_config(receiving.url)
            words = ["report", "replay", "--everything", str(self.result.root), "--config", str(self.config)]
            done = self.stemphony(*words)
            self.write_config()
            done.events = receiving.stored(self.events_written())
        return done

    def merge(self, processes: int) -> Measured:
        """Run the script of the rule on all job files."""
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

    def pace(self, part: int = 1000) -> str:
        """A sentence on how fast jobs ended at the begin and at the end of the run, from the dates of the job files."""
        dates = sorted(file.stat().st_mtime for file in self.result.root.glob("jobs/*/*.nc"))
        steps = [1000 * (after - before) for before, after in pairwise(dates)]
        # Medians are used, because other programs use the machine too.
        first, last = statistics.median(steps[:part]), statistics.median(steps[-part:])
        return (
            f"The run ended {len(steps) / (dates[-1] - dates[0]):.1f} jobs per second. The median time between the "
            f"ends of two jobs was {first:.0f} ms for the first {part} jobs, and {last:.0f} ms for the last {part}."
        )


def _digest_in(template: Path) -> str:
    import netCDF4

    with netCDF4.Dataset(template) as root:
        return str(root.job_digest)


# --- measuring ----------------------------------------------------------------------------------------------------


class Process:
    """Peak memory [MB] and open files of a running process."""

    def __init__(self, pid: int) -> None:
        self.folder = Path(f"/proc/{pid}")
        self.peak_mb, self.open_files = 0.0, 0

    def look(self) -> None:
        """Read memory and open files, and record them if they are larger than before."""
        try:
            peak_kib = re.search(r"VmHWM:\s+(\d+)", (self.folder / "status").read_text())
            self.peak_mb = max(self.peak_mb, int(peak_kib[1]) / 1024 if peak_kib else 0.0)
            self.open_files = max(self.open_files, len(list((self.folder / "fd").iterdir())))
        except OSError:
            pass  # the process has ended

    def row(self, name: str, jobs: int) -> list[str]:
        """Line of the table."""
        return [name, str(jobs), "", "", "", f"{self.peak_mb:.0f}", str(self.open_files), ""]


class Measured:
    """A process that has ended: seconds, CPU seconds with its children, and its own peak memory and open files."""

    def __init__(self, wall_s: float, cpu_s: float, process: Process, output: str) -> None:
        self.wall_s, self.cpu_s, self.process, self.output = wall_s, cpu_s, process, output
        self.events = 0

    def row(self, name: str, jobs: int) -> list[str]:
        """Line of the table."""
        *_, peak_mb, open_files, _ = self.process.row(name, jobs)
        return [
            name, str(jobs), f"{self.wall_s:.1f}", f"{self.cpu_s:.1f}", f"{1000 * self.cpu_s / jobs:.1f}",
            peak_mb, open_files, str(self.events or ""),
        ]  # fmt: skip


def measured(command: Sequence[str], environment: dict[str, str], folder: Path, *others: Process) -> Measured:
    """Run a command, which must succeed. Meanwhile, read memory and open files of other processes."""
    log = folder / "command.log"
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    with log.open("w") as stream:
        process = subprocess.Popen(command, env=environment, cwd=folder, stdout=stream, stderr=subprocess.STDOUT)
        own = Process(process.pid)
        while process.poll() is None:
            for one in (own, *others):
                one.look()
            time.sleep(0.1)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    output = log.read_text(errors="replace")
    if process.returncode:
        raise SystemExit(f"{' '.join(command[:4])} … ended with {process.returncode}:\n{output[-3000:]}")
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Measured(time.monotonic() - begin, cpu_s, own, output)


class Monitor:
    """A monitor that receives the events."""

    def __init__(self, url: str, pid: int) -> None:
        self.url, self.process = url, Process(pid)

    def stored(self, written: int) -> int:
        """Number of events that the monitor has stored. End the script unless each written event arrived once."""
        with urllib.request.urlopen(f"{self.url}metrics") as reply:
            counts = dict(
                re.findall(r"^stemphony_monitor_events_(\w+)_total (\d+)", reply.read().decode(), re.MULTILINE)
            )
        stored, duplicates = int(counts["stored"]), int(counts["duplicate"])
        if stored != written or duplicates:
            raise SystemExit(f"{written} events were written, {stored} arrived and {duplicates} of them again")
        return stored


@contextmanager
def monitor(bench: Bench) -> Iterator[Monitor]:
    """`stemphony monitor` on a free port, with an empty database."""
    with tempfile.TemporaryDirectory(dir=bench.folder) as own:
        log = Path(own, "log")
        command = [
            sys.executable,
            "-m",
            "stemphony",
            "monitor",
            "--port",
            "0",
            "--db",
            str(Path(own, "monitor.sqlite")),
        ]
        with log.open("w") as stream:
            process = subprocess.Popen(command, env=bench.environment, stdout=stream, stderr=subprocess.STDOUT)
        try:
            while not (found := re.search(r"(http://\S+/) shows", log.read_text())):
                if process.poll() is not None:
                    raise SystemExit(f"the monitor has ended:\n{log.read_text()}")
                time.sleep(0.1)
            yield Monitor(found[1], process.pid)
        finally:
            process.terminate()
            process.wait()


HEAD = ["stage", "jobs", "s", "CPU s", "CPU ms per job", "peak MB", "open files", "events"]


def rows(bench: Bench, stages: Sequence[str]) -> Iterator[list[str]]:
    """Measure one stage after the other, and yield the lines of the table."""
    jobs = bench.defoci * bench.configurations

    def run() -> Iterator[list[str]]:
        done, receiving = bench.run()
        yield done.row("run: all through Snakemake, merge and figures too", jobs)
        yield receiving.row("the monitor that received its reports", jobs)

    steps: dict[str, Callable[[], Iterator[list[str]]]] = {
        "plan": lambda: iter([bench.plan().row("plan: `snakemake -n -q`", jobs)]),
        "run": run,
        "status": lambda: iter([bench.status().row("`stemphony status`", jobs)]),
        "report": lambda: iter([bench.report().row("`stemphony report replay --everything`", jobs)]),
        "merge": lambda: (
            bench.merge(number).row(f"merge, {number} process{'es' if number > 1 else ''}", jobs) for number in (1, 2)
        ),
    }
    for stage in stages:
        yield from steps[stage]()


def main() -> None:
    """Measure. With all stages, also rewrite the pages."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stages", nargs="*", default=STAGES, metavar="STAGE", help=", ".join(STAGES))
    parser.add_argument("--folder", type=Path, help="kept; default: a temporary one")
    parser.add_argument(
        "--defoci", type=int, default=DEFOCI, help=f"of {CONFIGURATIONS} jobs each; default: %(default)s"
    )
    parsed = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        bench = Bench(parsed.folder or Path(temporary), parsed.defoci)
        bench.folder.mkdir(parents=True, exist_ok=True)
        # If the stages run one by one, one busy stage is enough to mark the table.
        busy = bench.folder / "busy"
        busy.write_text((busy.read_text() if busy.exists() else "") or page.busy_mark())
        bench.prepare()
        kept = bench.folder / "rows.json"
        found = json.loads(kept.read_text()) if kept.exists() else []
        for row in rows(bench, parsed.stages):
            print(" | ".join(row), flush=True)
            found.append(row)
            kept.write_text(json.dumps(found))
        if parsed.stages[-1] == STAGES[-1]:
            made = page.circumstances(_cpu_model(), f"job files of {bench.template.stat().st_size / 1e3:.0f} kB")
            lines = [made + busy.read_text(), "", *page.table(HEAD, found), "", bench.pace()]
            page.rewrite("make bench-scale", lines)
            folders = [[f"`{kind}`", str(number)] for kind, number in bench.largest_folders()[:8]]
            page.rewrite("make bench-scale", [made, "", *page.table(["folder", "entries"], folders)], page.MORE)


def _cpu_model() -> str:
    found = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace"))
    return found[1] if found else "an unknown processor"


if __name__ == "__main__":
    main()
