"""`make soak`: simulations on a real Slurm cluster whose processes are killed, one after another, at random.

    python tests/cluster/soak.py [--kills N] [--seed N]

Whatever is killed (the scheduler, `stemphony run`, a job's Snakemake, its computation), the same command is given
again, as the documentation says, until the simulation is finished. Each finished `stem.nc` must then hold the values of
an undisturbed one, bit for bit, in every variable of every group but `runtime` (times and hosts).

Jobs keep a checkpoint as often as its cost allows. Among many processes few are computations, and a job that is killed
before its first checkpoint shows nothing of it; so every fifth victim, from the first on, is a computation that has
kept one. Over all simulations at least one result must come from a job that went on from a checkpoint.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS), str(TESTS.parent / "workflow" / "scripts")]

from stemphony.job import CHECKPOINT_VARIABLE  # noqa: E402
from stemphony.store import claims  # noqa: E402
from support.campaign import TINY, Campaign, attributes, changed, contents, wait_for  # noqa: E402

from cluster import cluster as clusters  # noqa: E402

MARK = "STEMPHONY_SOAK"
LONGEST_PAUSE_S = 4.0
KEPT_EVERY = 5
"""Of so many victims one is a computation that has kept a checkpoint."""
COMPUTATION = "computation"
FURTHER = 3
"""So many simulations more, at most, until a job goes on from a checkpoint: of few kills none may have led to one."""
IDLE = 3
"""So many simulations in a row of which nothing was killed: no job keeps a checkpoint."""
LIFETIME_S = 300.0
"""A simulation that is not finished after this is one that hangs."""
CONFIG = changed(
    TINY,
    simulation={"name": "soak", "title": "Soak"},
    # So that a job computes for about as long as Snakemake takes to start in it, and keeps several checkpoints.
    grating={"gpts": [96, 96], "slice_thickness_angstrom": 0.08},
    scan={"points": [40, 40]},
    adf={"detectors": {}},
    cbed={"enabled": False},
)
ALIVE = re.compile(r"in use by a run that is alive \(process (\d+)\)")


def processes(mark: str) -> dict[int, str]:
    """Living processes that carry a mark in their environment, and what they are."""
    wanted = f"{MARK}={mark}".encode()
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            if wanted in (entry / "environ").read_bytes().split(b"\0"):
                words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
                if role := role_of(words):
                    found[int(entry.name)] = role
        except OSError:
            continue
    return found


def role_of(words: list[str]) -> str:
    """What a process of a simulation is, by its command line."""
    line = " ".join(words)
    for sign, role in (
        ("run_multislice.py", "shell of a computation" if words[0].endswith("sh") else COMPUTATION),
        ("merge_results.py", "merge"),
        ("prepare_specimen.py", "specimen"),
        ("-m stemphony", "stemphony run"),
        ("srun", "srun"),
        ("slurm_script", "batch script"),
        ("--executor slurm-jobstep", "Snakemake around a job"),
        ("--mode remote", "Snakemake in a job"),
        ("snakemake", "scheduler"),
    ):
        if sign in line:
            return role
    return Path(words[0]).name


class Soak:
    """Simulations that are killed and started again until enough was killed."""

    def __init__(self, kills: int, seed: int, folder: Path) -> None:
        self.kills, self.folder = kills, folder
        self.random = random.Random(seed)
        self.killed: Counter[str] = Counter()
        self.starts = self.simulations = 0
        self.resumed: list[float] = []
        """Where jobs whose results are merged went on from a checkpoint, as done parts."""

    def run(self, clone: Path, env: Mapping[str, str], expected: Mapping[str, bytes]) -> None:
        """Kill so many, and compare each result."""
        idle = further = 0
        while self.killed.total() < self.kills or not self.resumed:
            further += self.killed.total() >= self.kills
            if further > FURTHER:
                raise SystemExit("soak: no job went on from a checkpoint")
            self.simulations, before = self.simulations + 1, self.killed.total()
            mark = f"{os.getpid()}.{self.simulations}"
            campaign = Campaign.make(clone, self.folder / f"simulation {self.simulations}", CONFIG, {**env, MARK: mark})
            self.finish(campaign, mark, max(self.kills, before + 1))
            runtimes = [attributes(file, "runtime") for file in sorted(campaign.result.root.glob("jobs/*/*.nc"))]
            resumed = [float(runtime["resumed_at"]) for runtime in runtimes if "resumed_at" in runtime]
            self.resumed += resumed
            found = contents(campaign.result.merged)
            different = sorted(name for name in found.keys() | expected if found.get(name) != expected.get(name))
            if different:
                raise SystemExit(f"soak: {campaign.result.merged} differs in {', '.join(different)}")
            print(
                f"simulation {self.simulations}: {len(found)} variables as undisturbed, bit for bit; {len(resumed)} of "
                f"{len(runtimes)} jobs went on from a checkpoint",
                flush=True,
            )
            idle = idle + 1 if self.killed.total() == before else 0
            if idle == IDLE:
                raise SystemExit(f"soak: in {IDLE} simulations no job kept a checkpoint before it ended")

    def finish(self, campaign: Campaign, mark: str, kills: int) -> None:
        """Give the same command until the simulation is finished; kill until so many are killed in all."""
        deadline = time.monotonic() + LIFETIME_S
        while True:
            self.starts += 1
            with campaign.start_stemphony("--profile", "slurm") as running:
                while running.process.poll() is None:
                    if time.monotonic() > deadline:
                        raise SystemExit(f"soak: hangs\n{running.log.read_text()}")
                    if self.killed.total() < kills:
                        self.kill_one(mark, running.process.pid, campaign)
                    else:
                        time.sleep(0.2)
                outcome = running.end()
            if outcome.status == 0:
                return
            if "Traceback" in outcome.output:
                raise SystemExit(f"soak: a traceback\n{outcome.output}")
            if alive := ALIVE.search(outcome.output):
                # `stemphony run` was killed, the Snakemake below it was not.
                wait_for(lambda pid=int(alive[1]): clusters.gone(pid), "the run that is alive", LIFETIME_S)

    def kill_one(self, mark: str, root: int, campaign: Campaign) -> None:
        """At a random moment, a random process; every so often, as soon as there is one, a job with a checkpoint."""
        until = time.monotonic() + self.random.uniform(0.2, LONGEST_PAUSE_S)
        while time.monotonic() < until and not clusters.gone(root):
            time.sleep(0.05)
        living = processes(mark)
        if self.killed.total() % KEPT_EVERY == 0 or self.killed.total() >= self.kills:
            # The run goes on meanwhile; if it ends before, the next one is asked.
            living = {pid: COMPUTATION for pid in with_checkpoint(campaign) if living.get(pid) == COMPUTATION}
        if not living:
            return
        victim = self.random.choice(sorted(living))
        try:
            os.kill(victim, signal.SIGKILL)
        except ProcessLookupError:
            return
        self.killed[living[victim]] += 1
        print(f"{self.killed.total():3d}  {living[victim]} (process {victim})", flush=True)


def with_checkpoint(campaign: Campaign) -> list[int]:
    """Processes that hold the claim of a job of which there is a checkpoint."""
    kept = campaign.result.checkpoints_folder.glob("defocus_*/*.checkpoint")
    holders = (claims.holder_of(file.with_suffix(".claim")) for file in kept)
    return [holder.pid for holder in holders if holder is not None]


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder that stays if something went wrong."""
    folder = Path(tempfile.mkdtemp(prefix="soak-"))
    print(f"in {folder}", flush=True)
    yield folder
    shutil.rmtree(folder)


def main() -> None:
    """From the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50, metavar="N")
    parser.add_argument("--seed", type=int, default=1, metavar="N")
    parsed = parser.parse_args()
    if why := clusters.missing():
        raise SystemExit(f"soak: {why}")
    began = time.monotonic()
    with scratch() as folder:
        cache = {"STEMPHONY_CACHE_DIR": str(folder / "cache"), "XDG_CACHE_HOME": str(folder / "cache")}
        env = {**os.environ, **cache, "OMP_NUM_THREADS": "1"}
        clone = clusters.make_quick_clone(folder / "clone")
        undisturbed = Campaign.make(clone, folder / "undisturbed", CONFIG, env)
        undisturbed.succeed()
        with clusters.started(env) as cluster:
            soak = Soak(parsed.kills, parsed.seed, folder)
            # Every checkpoint that its cost allows, not one a minute.
            soak.run(clone, {**cluster.env, CHECKPOINT_VARIABLE: "0"}, contents(undisturbed.result.merged))
    what = ", ".join(f"{number} {role}" for role, number in soak.killed.most_common())
    print(
        f"soak: {soak.killed.total()} processes killed (seed {parsed.seed}): {what}; {soak.starts} starts of "
        f"{soak.simulations} simulations, every result as undisturbed; {len(soak.resumed)} jobs went on from a "
        f"checkpoint ({', '.join(f'{100 * share:.0f}' for share in sorted(soak.resumed))} %); "
        f"{time.monotonic() - began:.0f} s"
    )


if __name__ == "__main__":
    main()
