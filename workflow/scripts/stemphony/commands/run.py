"""`stemphony run`: start Snakemake with the right options, show its progress, and say how it ended."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from stemphony.commands import profiles
from stemphony.commands.locks import free_lock, wait_for_leftovers
from stemphony.commands.outcome import Outcome
from stemphony.commands.snakemake_process import SnakemakeProcess
from stemphony.commands.sweep_outcome import SweepOutcome
from stemphony.contract import REPLACE_KEY
from stemphony.errors import ConfigError, StemphonyError, StorageError
from stemphony.experiment import configuration, overrides
from stemphony.orchestration.preflight import require_writable
from stemphony.paths import RESULTS, ResultPaths

DRY_RUN = frozenset({"-n", "--dry-run", "--dryrun"})
"""Options of Snakemake with which it only says what it would do."""


def run(
    snakefile: Path,
    config: Path,
    directory: Path,
    cores: int,
    profile: str | None,
    extra: Sequence[str],
    entries: Sequence[str] = (),
    may_replace: bool = False,
) -> int:
    """Run a simulation, and say how it ended.

    The parameters `snakefile`, `config`, `directory`, `cores`, `profile`, `extra`, `entries` and `may_replace`, and the
    errors, are as for `started`.

    Returns
    -------
    int
        Exit status of Snakemake, or 128 + the number of the signal that ended it.
    """
    outcome = started(snakefile, config, directory, cores, profile, extra, entries, may_replace)
    outcome.show()
    return outcome.exit_status


def started(
    snakefile: Path,
    config: Path,
    directory: Path,
    cores: int,
    profile: str | None,
    extra: Sequence[str],
    entries: Sequence[str] = (),
    may_replace: bool = False,
) -> Outcome:
    """Run Snakemake for a config until it ends. Return its end, of a sweep a `SweepOutcome`.

    Parameters
    ----------
    snakefile, config : Path
        Snakefile of Stemphony, and the file of the config.
    directory : Path
        Working directory, in which `results` and `logs` are made.
    cores : int
        Cores to use. With a profile, the profile decides.
    profile : str or None
        Snakemake profile: a name or a folder.
    extra : sequence of str
        Further arguments for Snakemake.
    entries : sequence of str
        Keys that override those of the config, for example `probe.energy_kev=100`.
    may_replace : bool
        Whether finished pairs of another config may be computed again and replaced.

    Raises
    ------
    ConfigError, StorageError
        The config cannot be read. Or the folder is not writable, or another run uses it.
    StemphonyError
        Snakemake is not installed beside this Python.
    """
    whole = overrides.overridden(configuration.load([config]), entries)
    name = whole.get("simulation", {})
    name = name.get("name") if isinstance(name, dict) else None
    if not isinstance(name, str):
        raise ConfigError("simulation.name", f"missing in {config}; it names the folder of the results.")
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"{directory} cannot be made: {error.strerror}. Choose another folder.") from None
    directory = directory.resolve()
    require_writable(directory / RESULTS / name)
    given = [*overrides.nested(entries), *([f"{REPLACE_KEY}=true"] if may_replace else [])]
    command = [
        str(_program()), "--snakefile", str(snakefile), "--directory", str(directory),
        # Without this option, Snakemake would use a profile `default` or `profiles/default` of the folder in which the
        # user calls the command. Such a profile can name commands that submit jobs.
        "--workflow-profile", str(snakefile.parent / "profiles" / "default"),
        "--configfile", str(config.resolve()), *(["--profile", _profile(profile, snakefile)] if profile else []),
        *([] if profile else ["--cores", str(cores)]), *extra,
        *(["--config", *given] if given else []),
    ]  # fmt: skip
    is_dry = bool(DRY_RUN & set(extra))
    free_lock(command, directory, name)
    if not is_dry:
        wait_for_leftovers(directory, name, uses_slurm=profile is not None)
        free_lock(command, directory, name)  # another run may have started meanwhile
    print(shlex.join(map(overrides.shown, command)), flush=True)
    result = ResultPaths(directory / RESULTS / name)
    process = SnakemakeProcess(command, directory, result, holds=not is_dry)
    status = process.wait()
    kind = SweepOutcome if configuration.is_swept(whole) else Outcome
    return kind(status, process.lines, process.log_file, directory, result, process.interrupted, process.elapsed_s)


def _program() -> Path:
    """Snakemake of this Python's environment. Another Snakemake in PATH may not have the packages of Stemphony."""
    program = Path(sys.executable).parent / "snakemake"
    if not program.exists():
        install = shlex.join([sys.executable, "-m", "pip", "install", "snakemake>=9.27"])
        raise StemphonyError(f"Snakemake is not installed beside {sys.executable}. Do: {install}")
    return program


def _profile(profile: str, snakefile: Path) -> str:
    """The given profile if Snakemake finds it, else the folder of Stemphony's profile with this name."""
    shipped = snakefile.parent / "profiles" / profile
    own = (Path(profile), *(folder / profile for folder in profiles.searched()))
    return str(shipped) if shipped.is_dir() and not any(place.exists() for place in own) else profile
