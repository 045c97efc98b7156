"""`make soak`: simulations on a real Slurm cluster whose processes are killed, one after another, at random.

    python tests/cluster/soak.py [--kills N] [--seed N]

What is hit, by which signal and after what pause is drawn from the seed before anything runs; so is how each simulation
is run: by `stemphony run` or by Snakemake itself, with `multislice` or with `probe_basis` whose waves jobs share. The
same command is given again, as docs/cluster.md says, until the simulation is finished. Each finished `stem.nc` must
then hold the values of an undisturbed one of its algorithm, bit for bit, in every variable of every group but `runtime`
(times and hosts).

Every EACH-th victim is a computation that has kept a checkpoint, the last one of its simulation. The last of all is
such a computation too, and alone in a simulation: nothing else can take away what it has kept, so the result must hold
a job that went on from there. (Elsewhere a job that went on may fall with what was hit before; the next attempt then
finds finished waves, or nothing.)
"""

from __future__ import annotations

import argparse
import math
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS), str(TESTS.parent / "workflow" / "scripts")]

from stemphony.contract import CHECKPOINT_VARIABLE  # noqa: E402
from stemphony.paths import ResultPaths  # noqa: E402
from stemphony.store import claims  # noqa: E402
from support.campaign import (  # noqa: E402
    PROGRAMS,
    TINY,
    Campaign,
    Outcome,
    Running,
    attributes,
    changed,
    contents,
    wait_for,
)

from cluster import cluster as clusters  # noqa: E402

MARK = "STEMPHONY_SOAK"
LONGEST_PAUSE_S = 4.0
EACH = 5
"""Of so many blows, at most, a simulation has its share."""
LIFETIME_S = 600.0
"""A start, or a wait for what the start before it left, that has not ended after this hangs [s]."""
MOST_IN_VAIN = 5
"""So many starts in a row may fail with nothing hit: a run may be alive or the folder locked, but not for ever."""
IDLE = 3
"""So many simulations in a row in which there was nothing of what is to be hit: it will never come."""

COMPUTATION, SCHEDULER, WRAPPER = "computation", "scheduler", "stemphony run"
ROLES = {
    SCHEDULER: 4,
    WRAPPER: 2,  # where Snakemake runs by itself, the scheduler
    "batch script": 2,
    "Snakemake around a job": 2,
    "srun": 1,
    "Snakemake in a job": 2,
    "shell of a computation": 1,
    COMPUTATION: 2,
}
"""What is hit, and how often in proportion."""
SIGNALS = {signal.SIGKILL: 3, signal.SIGTERM: 1}

# So that a job computes for about as long as Snakemake takes to start in it, and keeps several checkpoints.
COMMON = changed(TINY, simulation={"name": "soak", "title": "Soak"}, adf={"detectors": {}}, cbed={"enabled": False})
CONFIGS = {
    "multislice": changed(
        COMMON, grating={"gpts": [96, 96], "slice_thickness_angstrom": 0.08}, scan={"points": [40, 40]}
    ),
    "probe_basis": changed(
        COMMON,
        simulation={"algorithm": "probe_basis"},
        specimen={"repeat": [3, 3, 2]},
        grating={"slice_thickness_angstrom": 0.01},
        depths={"at_angstrom": [3.905, 7.81]},
        scan={"points": [20, 20]},
        frozen_phonon={"independent_defoci": False},
    ),
}
ALIVE = re.compile(r"in use by a run that is alive \(process (\d+)\)")
LOCKED = "cannot be locked"


# --- what is drawn ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Blow:
    """One kill: the kind of process, the signal, and the pause since the last kill."""

    role: str
    signal: signal.Signals
    pause_s: float
    is_kept: bool
    """Whether the victim must have kept a checkpoint."""
    is_last: bool
    """Whether it is the last one of its simulation."""


def blows(kills: int, seed: int) -> list[Blow]:
    """All kills of a soak."""
    drawn, chosen = random.Random(seed), []
    for number in range(1, kills + 1):
        (role,) = drawn.choices(list(ROLES), list(ROLES.values()))
        (sent,) = drawn.choices(list(SIGNALS), list(SIGNALS.values()))
        pause_s = drawn.uniform(0.2, LONGEST_PAUSE_S)
        if number % EACH == 0 or number == kills:
            # SIGKILL, because after SIGTERM the process might just finish.
            chosen.append(Blow(COMPUTATION, signal.SIGKILL, 0.0, is_kept=True, is_last=True))
        else:
            chosen.append(Blow(role, sent, pause_s, is_kept=False, is_last=number == kills - 1))
    return chosen


@dataclass(frozen=True)
class Way:
    """How a simulation is run."""

    algorithm: str
    command: str
    cancels: bool
    """Whether Slurm jobs that a killed Snakemake left are cancelled before the next one, or waited for."""


def ways(seed: int) -> list[Way]:
    """Ways in turn; two successive ways differ in everything."""
    drawn = random.Random(f"{seed} ways")
    algorithms, commands = drawn.sample(sorted(CONFIGS), 2), drawn.sample((WRAPPER, "snakemake"), 2)
    cancels = drawn.sample((False, True), 2)
    pairs = ((0, 0), (1, 1), (0, 1), (1, 0))
    return [Way(algorithms[a], commands[c], cancels[(a + number // 2) % 2]) for number, (a, c) in enumerate(pairs)]


# --- processes ----------------------------------------------------------------------------------------------------


def processes(mark: str) -> dict[int, str]:
    """Living processes with a mark in their environment, and their kinds."""
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
    """Kind of a process of a simulation, from its command line."""
    line = " ".join(words)
    for sign, role in (
        ("run_multislice.py", "shell of a computation" if words[0].endswith("sh") else COMPUTATION),
        ("merge_results.py", "merge"),
        ("prepare_specimen.py", "specimen"),
        ("-m stemphony", WRAPPER),
        ("srun", "srun"),
        ("slurm_script", "batch script"),
        ("--executor slurm-jobstep", "Snakemake around a job"),
        ("--mode remote", "Snakemake in a job"),
        ("snakemake", SCHEDULER),
    ):
        if sign in line:
            return role
    return Path(words[0]).name


def command_line(pid: int) -> str:
    """The words of a process, the first 300 characters."""
    return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")[:300]


def with_checkpoint(result: ResultPaths) -> list[int]:
    """Processes whose computation has a checkpoint and is not finished."""
    found = []
    for file in result.checkpoints_folder.glob("*/*.checkpoint"):
        claim = file.with_suffix(".claim")
        if file.parent.name == "waves":
            waves = result.waves_folder / f"{file.stem}.npz"
            if waves.exists():
                continue
            claim = waves.with_name(f".{waves.name}.claim")
        holder = claims.holder_of(claim)
        if holder is not None and not clusters.gone(holder.pid):
            found.append(holder.pid)
    return found


def hit_with_checkpoint(result: ResultPaths, pid: int) -> bool:
    """Kill a computation if, with nothing moving any more, there is still something for the next one to go on from."""
    os.kill(pid, signal.SIGSTOP)
    wait_for(lambda: clusters.state_of(pid) in "TZX", f"process {pid} to stop")
    if pid in with_checkpoint(result):
        os.kill(pid, signal.SIGKILL)
        return True
    os.kill(pid, signal.SIGCONT)
    return False


# --- the soak -----------------------------------------------------------------------------------------------------


class Soak:
    """Simulations that are killed and started again until all kills have happened."""

    def __init__(self, to_fall: Sequence[Blow], cluster: clusters.Cluster, clone: Path, folder: Path) -> None:
        self.to_fall, self.cluster, self.clone, self.folder = list(to_fall), cluster, clone, folder
        self.began = time.monotonic()
        self.killed: Counter[str] = Counter()
        self.starts = self.simulations = 0
        self.resumed: list[float] = []
        """Where jobs whose results are merged went on from a checkpoint, as done parts."""

    def run(self, in_turns: Sequence[Way], expected: Mapping[str, Mapping[str, bytes]]) -> None:
        """Carry out all kills, and compare each result."""
        idle = 0
        while self.to_fall:
            way = in_turns[self.simulations % len(in_turns)]
            self.simulations, before = self.simulations + 1, len(self.to_fall)
            one = Simulation(self, way)
            one.finish()
            one.sweep()
            self.compare(one, expected[way.algorithm])
            idle = idle + 1 if len(self.to_fall) == before else 0
            if idle == IDLE:
                raise SystemExit(f"soak: in {IDLE} simulations there was none of: {self.to_fall[0]}")

    def compare(self, one: Simulation, expected: Mapping[str, bytes]) -> None:
        """The result is as undisturbed, and a job went on from a checkpoint if one was to."""
        campaign = one.campaign
        found = contents(campaign.result.merged)
        different = sorted(name for name in found.keys() | expected if found.get(name) != expected.get(name))
        if different:
            raise SystemExit(f"soak: {campaign.result.merged} differs in {', '.join(different)}")
        runtimes = [attributes(file, "runtime") for file in sorted(campaign.result.root.glob("jobs/*/*.nc"))]
        resumed = [float(runtime["resumed_at"]) for runtime in runtimes if "resumed_at" in runtime]
        if [blow.is_kept for blow in one.fallen] == [True] and not resumed:
            raise SystemExit(f"soak: no job of {campaign.result.root} went on from the checkpoint that was there")
        self.resumed += resumed
        self.say(
            f"simulation {self.simulations} ({one.way.algorithm}, {one.way.command}): {len(found)} variables as "
            f"undisturbed, bit for bit; {len(resumed)} of {len(runtimes)} jobs went on from a checkpoint"
        )

    def say(self, text: str) -> None:
        """Print a line with the time since the beginning."""
        print(f"{time.monotonic() - self.began:4.0f} s  {text}", flush=True)


class Simulation:
    """One simulation of a soak."""

    def __init__(self, soak: Soak, way: Way) -> None:
        self.soak, self.way = soak, way
        self.mark = f"{os.getpid()}.{soak.simulations}"
        # Every checkpoint that its cost allows, not one a minute.
        env = {**soak.cluster.env, CHECKPOINT_VARIABLE: "0", MARK: self.mark}
        folder = soak.folder / f"simulation {soak.simulations}"
        self.campaign = Campaign.make(soak.clone, folder, CONFIGS[way.algorithm], env)
        self.deadline = math.inf
        self.fallen: list[Blow] = []

    @property
    def is_left_alone(self) -> bool:
        """Whether the last allowed kill has happened."""
        return bool(self.fallen) and self.fallen[-1].is_last

    def start(self, *arguments: str) -> Running:
        """The command, as a user types it in the clone."""
        if self.way.command == WRAPPER:
            return self.campaign.start_stemphony("--profile", "slurm", *arguments)
        one = self.campaign
        words = ["--profile", "slurm", "--configfile", one.config, "--directory", one.directory, *arguments]
        return Running([PROGRAMS / "snakemake", *words], one.folder / "snakemake.out", one.env, cwd=one.clone)

    def finish(self) -> None:
        """Give the same command until the simulation is finished."""
        in_vain = 0
        while True:
            self.soak.starts += 1
            before = len(self.fallen)
            self.deadline = time.monotonic() + LIFETIME_S
            with self.start() as running:
                while running.process.poll() is None:
                    if time.monotonic() > self.deadline:
                        raise SystemExit(f"soak: hangs\n{self.picture()}\n{running.log.read_text()}")
                    if self.soak.to_fall and not self.is_left_alone:
                        self.strike(running.process.pid)
                    else:
                        time.sleep(0.2)
                outcome = running.end()
            if outcome.status == 0:
                return
            if "Traceback" in outcome.output:
                raise SystemExit(f"soak: a traceback\n{outcome.output}")
            in_vain = in_vain + 1 if len(self.fallen) == before else 0
            if in_vain == MOST_IN_VAIN:
                status = f"the last exit status is {outcome.status}"
                raise SystemExit(f"soak: does not go on, {status}\n{self.picture()}\n{outcome.output}")
            self.restart(outcome)

    def picture(self) -> str:
        """Processes and Slurm jobs, for a person who looks for the reason why a simulation hangs."""
        lines = [f"next to fall: {self.soak.to_fall[:1]}; fallen: {self.fallen}"]
        for pid, role in sorted(processes(self.mark).items()):
            with suppress(OSError):
                state = clusters.state_of(pid)
                where = Path(f"/proc/{pid}/wchan").read_text()
                lines.append(f"{pid} {role}: {state}, in {where}: {command_line(pid)}")
        lines.append(self.soak.cluster.run("squeue", check=False))
        return "\n".join(lines)

    def sweep(self) -> None:
        """End what is left of this simulation: without cgroups, Slurm loses what has left a job's process group."""
        for pid in processes(self.mark):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def restart(self, outcome: Outcome) -> None:
        """Do what docs/cluster.md asks for before the same command."""
        if alive := ALIVE.search(outcome.output):
            # `stemphony run` was killed, the Snakemake below it was not.
            self.soak.say(f"     waits for the run that is alive (process {alive[1]})")
            wait_for(lambda: clusters.gone(int(alive[1])), "the run that is alive", LIFETIME_S)
        if LOCKED in outcome.output:
            directory, cluster = self.campaign.directory, self.soak.cluster
            if self.way.cancels and (left := cluster.living(directory)):
                cluster.run("scancel", *left, check=False)
            if left := cluster.living(directory):
                self.soak.say(f"     waits for Slurm jobs {', '.join(left)}, which were left")
            wait_for(lambda: not cluster.living(directory), "the jobs that were left", LIFETIME_S)
            with self.start("--unlock") as unlocking:
                unlocked = unlocking.end()
            if unlocked.status:
                raise SystemExit(f"soak: cannot be unlocked\n{unlocked.output}")

    def strike(self, root: int) -> None:
        """Carry out the next kill in this run, or in the next run if this one ends too early."""
        blow = self.soak.to_fall[0]
        role = SCHEDULER if blow.role == WRAPPER and self.way.command != WRAPPER else blow.role
        earliest = time.monotonic() + blow.pause_s
        while not clusters.gone(root) and time.monotonic() < self.deadline:
            time.sleep(0.05)
            if time.monotonic() < earliest:
                continue
            try:
                if (victim := self.hit(role, blow)) is None:
                    continue
            except ProcessLookupError:
                continue  # it has just ended by itself
            self.fallen.append(self.soak.to_fall.pop(0))
            self.soak.killed[f"{role} with a checkpoint" if blow.is_kept else role] += 1
            self.soak.say(f"{self.soak.killed.total():3d}  {blow.signal.name} {role} (process {victim})")
            return

    def hit(self, role: str, blow: Blow) -> int | None:
        """Hit the oldest process of a kind, if there is one."""
        living = sorted(pid for pid, kind in processes(self.mark).items() if kind == role)
        if blow.is_kept:
            kept = (pid for pid in with_checkpoint(self.campaign.result) if pid in living)
            return next((pid for pid in kept if hit_with_checkpoint(self.campaign.result, pid)), None)
        if not living:
            return None
        os.kill(living[0], blow.signal)
        return living[0]


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder that stays if something went wrong."""
    folder = Path(tempfile.mkdtemp(prefix="soak-"))
    print(f"in {folder}", flush=True)
    yield folder
    shutil.rmtree(folder)


def undisturbed(clone: Path, folder: Path, config: Mapping[str, Any], env: Mapping[str, str]) -> dict[str, bytes]:
    """Contents of a result that nothing has disturbed, computed on this machine without Slurm."""
    campaign = Campaign.make(clone, folder, config, env)
    campaign.succeed()
    return contents(campaign.result.merged)


def main() -> None:
    """From the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50, metavar="N")
    parser.add_argument("--seed", type=int, default=1, metavar="N")
    parsed = parser.parse_args()
    if why := clusters.missing():
        raise SystemExit(f"soak: {why}")
    began = time.monotonic()
    to_fall = blows(parsed.kills, parsed.seed)
    signals = Counter(blow.signal.name for blow in to_fall)
    with scratch() as folder:
        cache = {"STEMPHONY_CACHE_DIR": str(folder / "cache"), "XDG_CACHE_HOME": str(folder / "cache")}
        env = {**os.environ, **cache, "OMP_NUM_THREADS": "1"}
        clone = clusters.make_quick_clone(folder / "clone")
        expected = {name: undisturbed(clone, folder / name, config, env) for name, config in CONFIGS.items()}
        with clusters.started(env) as cluster:
            soak = Soak(to_fall, cluster, clone, folder)
            soak.run(ways(parsed.seed), expected)
    what = ", ".join(f"{number} {role}" for role, number in soak.killed.most_common())
    print(
        f"soak: {soak.killed.total()} processes killed (seed {parsed.seed}; {signals['SIGTERM']} by SIGTERM, the "
        f"others by SIGKILL): {what}; {soak.starts} starts of {soak.simulations} simulations, every result as "
        f"undisturbed; {len(soak.resumed)} jobs went on from a checkpoint "
        f"({', '.join(f'{100 * share:.0f}' for share in sorted(soak.resumed))} %); {time.monotonic() - began:.0f} s"
    )


if __name__ == "__main__":
    main()
