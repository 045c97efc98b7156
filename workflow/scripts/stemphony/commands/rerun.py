"""`stemphony rerun`: compute the chosen pairs of a simulation again, and merge; compute nothing else."""

from __future__ import annotations

import errno
import fcntl
import os
import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from stemphony import paths
from stemphony.commands.locks import require_free
from stemphony.commands.run import run
from stemphony.commands.status import (
    PairState,
    PairStatus,
    SimulationStatus,
    by_defocus,
    planned_in,
    result_in,
    status_of,
)
from stemphony.contract import MERGE_RULE
from stemphony.counting import number_of
from stemphony.errors import ConfigError, StemphonyError, StorageError
from stemphony.experiment import configuration
from stemphony.experiment.campaign import Campaign
from stemphony.experiment.stopping import Goal
from stemphony.orchestration import preflight, sweep_inputs
from stemphony.orchestration.inputs import Inputs, read_inputs
from stemphony.paths import ResultPaths
from stemphony.store import members, own_runs

KEPT_SUFFIX = ".before-rerun"
"""Suffix of a second name of a job file, under which it stays until the new file is there."""


@dataclass(frozen=True)
class Choice:
    """Which pairs to compute again. Default: those that are not done.

    Attributes
    ----------
    failed : bool
        Choose pairs that failed, or whose files the merge refuses.
    defoci_nm, configurations : tuple
        Choose pairs with one of these defoci [nm] and one of these configurations. An empty tuple means all.
    """

    failed: bool = False
    defoci_nm: tuple[float, ...] = ()
    configurations: tuple[int, ...] = ()

    def pairs(self, found: SimulationStatus) -> list[PairStatus]:
        """Select the chosen pairs from all pairs of a simulation, whose status is `found`.

        Raises
        ------
        StemphonyError
            The simulation has no such defocus or configuration.
        """
        troubled = found.of(PairState.FAILED, PairState.INTERRUPTED, PairState.UNUSABLE)
        chosen = troubled if self.failed else list(found.pairs)
        if not (self.failed or self.defoci_nm or self.configurations):
            return found.not_done
        known = {paths.defocus_id(pair.defocus_nm): pair.defocus_nm for pair in found.pairs}
        wanted = [paths.defocus_id(value) for value in self.defoci_nm]
        for identifier, value in zip(wanted, self.defoci_nm, strict=True):
            if identifier not in known:
                listed = ", ".join(f"{value:g}" for value in known.values())
                raise StemphonyError(f"--defocus: got {value:g}; the simulation has {listed} nm.")
        number = 1 + max(pair.configuration for pair in found.pairs)
        for configuration_index in self.configurations:
            if not 0 <= configuration_index < number:
                raise StemphonyError(
                    f"--configuration: got {configuration_index}; the simulation has 0 to {number - 1}."
                )
        return [
            pair
            for pair in chosen
            if (not wanted or paths.defocus_id(pair.defocus_nm) in wanted)
            and (not self.configurations or pair.configuration in self.configurations)
        ]


@dataclass(frozen=True)
class Order:
    """The pairs that Snakemake will compute, and whether it merges.

    Attributes
    ----------
    result : ResultPaths
        The simulation.
    pairs : list of PairStatus
        The pairs to compute.
    waiting : list of PairStatus
        Other pairs that are not done. If there are any, nothing is merged.
    merged : str
        State of stem.nc, see `status.SimulationStatus`.
    figures : tuple of str
        Names of the figures of a result.
    """

    result: ResultPaths
    pairs: list[PairStatus]
    waiting: list[PairStatus]
    merged: str
    figures: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """Lines for the user: what will be computed."""
        replaced = [pair for pair in self.pairs if pair.state is PairState.DONE]
        lines = [
            f"computes {number_of(len(self.pairs), 'pair')} again, and no other:" if self.pairs else "computes no pair:"
        ]
        lines += [f"  {text}" for text in by_defocus(self.pairs)]
        if replaced:
            lines.append(
                "1 of them is done: its file is kept until the new one is there."
                if len(replaced) == 1
                else f"{len(replaced)} of them are done: their files are kept until the new ones are there."
            )
        if self.waiting:
            waiting = number_of(len(self.waiting), "other pair is", "other pairs are")
            lines.append(f"nothing is merged, because {waiting} not done:")
            lines += [f"  {text}" for text in by_defocus(self.waiting)]
        else:
            lines.append("then all pairs are merged again.")
        return lines

    @property
    def arguments(self) -> list[str]:
        """Targets and options for Snakemake."""
        files = [self._file(pair) for pair in self.pairs]
        # Snakemake computes a missing file without being forced. Without force, it would keep an existing file, even if
        # the merge refuses this file.
        there = [file for file in files if (self.result.directory / file).exists()]
        # Without force, Snakemake would also keep a damaged stem.nc, and a stem.nc that is older than a job file whose
        # content has not changed.
        is_member, own = self.result.is_member, ResultPaths.of(self.result.name)
        merge = [] if self.waiting or self.merged == "current" else [str(own.merged) if is_member else MERGE_RULE]
        forced = ["--forcerun", *there, *merge] if there or merge else []
        # Without targets, Snakemake would compute the other members of a sweep too. The pairs are also targets, because
        # a missing input file alone does not make Snakemake merge again.
        whole = [*files, str(own.merged), *(str(own.figure(name)) for name in self.figures)] if is_member else []
        return [*(files if self.waiting else whole), *forced]

    def _file(self, pair: PairStatus) -> str:
        # Snakemake names this file relative to its working directory.
        own = ResultPaths.of(self.result.name)
        return str(own.job(paths.defocus_id(pair.defocus_nm), pair.configuration))


def rerun(
    given: Path,
    choice: Choice,
    say: Callable[[str], None],
    *,
    snakefile: Path,
    config: Path | None = None,
    cores: int = 1,
    profile: str | None = None,
    verify: bool = False,
    dry_run: bool = False,
    extra: Sequence[str] = (),
) -> int:
    """Say which pairs will be computed, and compute them. Return the exit status.

    `given` is the folder of the simulation or a file in it, or a sweep for all its members. `choice` says which pairs
    to compute again. `say` prints one line. `config` is the config file; default: the one with which this user ran the
    simulation last. With `verify`, every byte of the job files is checked before pairs are chosen. With `dry_run`,
    nothing is computed. `snakefile`, `cores`, `profile` and `extra` are as for `run.started`.

    Raises
    ------
    StemphonyError
        There is no such simulation or pair. Or the config is missing or cannot be read, or it has changed so that more
        pairs would be computed. Or a run of the simulation is alive.
    """
    if parts := [part.root for part in members.members_of(given) if part.identity.exists()]:
        again = partial(rerun, snakefile=snakefile, config=config, cores=cores, profile=profile, verify=verify)
        return max(again(part, choice, say, dry_run=dry_run, extra=extra) for part in parts)
    result = result_in(given)
    if config is not None:
        configuration.load([config])  # a misspelt file name is an error even if there is nothing to compute
    found = status_of(result, verify)
    _require_in_place(result)
    pairs = choice.pairs(found)
    chosen = frozenset(pairs)
    order = Order(result, pairs, [pair for pair in found.not_done if pair not in chosen], found.merged,
        planned_in(result).figures,
    )  # fmt: skip
    if not pairs and (found.merged == "current" or order.waiting):
        say(f"{os.path.relpath(result.root)}: nothing to compute: {_why_nothing(choice, found)}")
        return 0
    file = config or _config_of(result)
    _require_same_plan(result, planned_in(result), file)
    if dry_run:
        for line in order.lines():
            say(line)
        return 0
    directory = result.directory
    # A run that is alive needs its kept files. So no file is changed before it is certain that there is no such run.
    require_free(directory, result.run_name)
    with _alone(result):
        for line in order.lines():
            say(line)
        with _kept(result, pairs):
            return run(snakefile, file, directory, cores, profile, [*order.arguments, *extra], may_replace=True)


def _require_in_place(result: ResultPaths) -> None:
    """Refuse a folder that Snakemake would not find."""
    if result.root.parents[1 if result.is_member else 0].name != paths.RESULTS:
        raise StorageError(
            f"{result.root} is not in a folder `{paths.RESULTS}`, so it is a copy, and a run would begin from nothing. "
            f"Give the original below the working directory: {paths.RESULTS}/{result.name}."
        )


@contextmanager
def _alone(result: ResultPaths) -> Iterator[None]:
    """Let only one rerun of a simulation work at a time, also before its Snakemake process can be found."""
    descriptor = os.open(result.root, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise StorageError(
            f"another `stemphony rerun` of {result.root} is at work. Wait for it, or end it first."
        ) from None
    except OSError:
        pass  # the file system has no locks
    try:
        yield
    finally:
        os.close(descriptor)


def _why_nothing(choice: Choice, found: SimulationStatus) -> str:
    if choice.failed:
        return "no pair has failed."
    if not found.not_done:
        all_pairs = "the only pair is" if len(found.pairs) == 1 else f"all {len(found.pairs)} pairs are"
        return f"{all_pairs} done and merged."
    return "no pair is chosen."


def _config_of(result: ResultPaths) -> Path:
    """The config with which this user ran a simulation last. The config that the plan names is not used."""
    files = own_runs.config_files_of(result)
    again = f"stemphony rerun --config FILE {shlex.quote(os.path.relpath(result.root))}"
    if not files:
        raise StemphonyError(
            f"there is no record that you ran {result.name}. The config that its folder names may be somebody else's, "
            f"and it decides where reports are sent, so it is not used. Give a config of yours: {again}."
        )
    if len(files) != 1:
        raise StemphonyError(f"the last run of {result.name} had {len(files)} config files. Give one: {again}.")
    file = files[0]
    if not file.is_file():
        raise StemphonyError(f"{file}, the config of the last run, is gone. If it was moved: {again}.")
    return file


def _require_same_plan(result: ResultPaths, planned: Campaign, file: Path) -> None:
    """Refuse a config with which Snakemake would compute more than the chosen pairs."""
    inputs = _inputs_of(result, file)
    if inputs.config["simulation"]["name"] != result.name:
        raise ConfigError(
            "simulation.name",
            f"got {inputs.config['simulation']['name']!r} in {file}; the result is {result.name!r}. Give the "
            "config of this result by --config.",
        )
    now = preflight.check(inputs, result.directory / paths.RESULTS).campaign
    edited = [
        what
        for what, differs in (
            ("physics, optics, specimen or scan", now.common_params != planned.common_params),
            ("defoci", [d.id for d in now.defoci] != [d.id for d in planned.defoci]),
            ("number of configurations", _configurations(now) != _configurations(planned)),
        )
        if differs
    ]
    if edited:
        raise StemphonyError(
            f"{file} was edited since the last run ({', '.join(edited)}), so more than the chosen pairs would be "
            f"computed. Compute all that the edit concerns: stemphony run {shlex.quote(str(file))}; or undo the edit."
        )


def _inputs_of(result: ResultPaths, file: Path) -> Inputs:
    """The inputs of a simulation from its config, or from the config of its sweep."""
    config = configuration.load([file])
    if not result.is_member:
        return read_inputs(config, [file])
    sweep, inputs = sweep_inputs.read_sweep(config, [file])
    return inputs[sweep.member(result.root.name).label]


def _configurations(planned: Campaign) -> int | Goal:
    """The number of configurations, or the goal that decides it."""
    return planned.configurations if planned.goal is None else planned.goal


# --- old results stay until new ones exist --------------------------------------------------------------------------


@contextmanager
def _kept(result: ResultPaths, pairs: Sequence[PairStatus]) -> Iterator[None]:
    """Keep job files under second names until the new files exist. Snakemake deletes a file before it runs the job."""
    _put_back(result)
    for pair in pairs:
        file = result.job(paths.defocus_id(pair.defocus_nm), pair.configuration)
        if not file.is_file():
            continue  # without a data file, the checksum is useless, and Snakemake may delete it
        for one in (file, paths.checksum(file)):
            if one.is_file():
                _link(one, one.with_name(f".{one.name}{KEPT_SUFFIX}"))
    try:
        yield
    finally:
        _put_back(result)


def _link(file: Path, second: Path) -> None:
    """Give a file a second name. An old file with the second name is replaced."""
    temporary = second.with_name(f"{second.name}.tmp")
    try:
        temporary.unlink(missing_ok=True)
        os.link(file, temporary)
        temporary.replace(second)
        # If both names belong to the same file, renaming has no effect and leaves both.
        temporary.unlink(missing_ok=True)
    except OSError as error:
        # Some network file systems, FAT and exFAT have no hard links. They report this with different errors.
        without = error.errno in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)
        why = "this file system gives no file a second name (hard link)" if without else error.strerror
        raise StorageError(
            f"{file} cannot be kept while it is computed again: {why}. Copy it if you want to keep it, then "
            "delete it to compute it again: stemphony rerun computes what is missing."
        ) from None


def _put_back(result: ResultPaths) -> None:
    """Give kept files their first names again if there is no new file. This includes files that a killed rerun kept."""
    jobs = result.root / "jobs"
    for kept in sorted(jobs.glob(f"*/.configuration_*.nc{KEPT_SUFFIX}")):
        file = kept.with_name(kept.name.removeprefix(".").removesuffix(KEPT_SUFFIX))
        kept_checksum = kept.with_name(f".{paths.checksum(file).name}{KEPT_SUFFIX}")
        if file.exists():
            kept_checksum.unlink(missing_ok=True)
            kept.unlink()
            continue
        # The checksum is renamed first, because a data file must never exist without its checksum.
        if kept_checksum.exists():
            kept_checksum.replace(paths.checksum(file))
            # If both names belong to the same file, renaming has no effect and leaves both.
            kept_checksum.unlink(missing_ok=True)
        kept.replace(file)
    # The rest belongs to no data file: single checksums, and temporary names of a killed rerun.
    for rest in sorted(jobs.glob(f"*/.configuration_*{KEPT_SUFFIX}*")):
        rest.unlink(missing_ok=True)
