"""The command `stemphony`: check a config, write one to start from, and run Snakemake with the right flags."""

from __future__ import annotations

import argparse
import io
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from . import __version__
from .errors import StemphonyError, StorageError
from .monitor import command as monitor_command

REPOSITORY = Path(__file__).resolve().parents[3]
SNAKEFILE = REPOSITORY / "Snakefile"
DEMO = REPOSITORY / "config"
DEMO_FILES = ("config.yaml", "srtio3.cif")


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status, and prints a message instead of a traceback for a user's mistake."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # Å and × on a terminal that has only ASCII
    parsed, rest = _parser().parse_known_args(arguments)
    if rest and parsed.command is not _run:
        _parser().error(f"unknown arguments: {' '.join(rest)}")
    try:
        return int(parsed.command(parsed, rest))
    except StemphonyError as error:
        print(f"stemphony: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="stemphony", description=__doc__)
    parser.add_argument("--version", action="version", version=f"stemphony {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    check = commands.add_parser("check", help="validate a config and say what it would compute")
    check.set_defaults(command=_check)
    check.add_argument("config", type=Path, metavar="CONFIG")
    check.add_argument("--directory", type=Path, default=Path(), help="where `results` would be (default: here)")
    check.add_argument("--no-calibration", action="store_true", help="estimate times without measuring this machine")

    init = commands.add_parser("init", help="write a commented config and a crystal to start from")
    init.set_defaults(command=_init)
    init.add_argument("folder", type=Path, metavar="DIR")

    run = commands.add_parser(
        "run", help="run a simulation", description="Runs Snakemake; further arguments are handed to it as they are."
    )
    run.set_defaults(command=_run)
    run.add_argument("config", type=Path, metavar="CONFIG")
    run.add_argument("--cores", type=int, default=None, metavar="N", help="cores to use (default: all of this machine)")
    run.add_argument("--directory", type=Path, default=Path(), help="where `results` and `logs` go (default: here)")
    run.add_argument("--profile", default=None, help="Snakemake profile, for example slurm")

    monitor_command.add_parser(commands)
    return parser


def _check(parsed: argparse.Namespace, _rest: Sequence[str]) -> int:
    from . import configuration, paths, preflight
    from .store import calibration

    files = [parsed.config]
    inputs = preflight.read_inputs(configuration.load(files), files)
    if not parsed.no_calibration:
        calibration.calibrate()
    for line in preflight.check(inputs, parsed.directory / paths.RESULTS).lines():
        print(line)
    return 0


def _init(parsed: argparse.Namespace, _rest: Sequence[str]) -> int:
    folder: Path = parsed.folder
    there = [name for name in DEMO_FILES if (folder / name).exists()]
    if there:
        raise StorageError(
            f"{folder} has {' and '.join(there)} already, and nothing is overwritten. Choose another folder."
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in DEMO_FILES:
            (folder / name).write_bytes((DEMO / name).read_bytes())
    except OSError as error:
        raise StorageError(f"{folder} cannot be written: {error.strerror}. Choose another folder.") from None
    config = folder / "config.yaml"
    print(f"wrote {config} and the crystal it uses. Edit it, then:")
    print(f"  stemphony check {shlex.quote(str(config))}")
    print(f"  stemphony run {shlex.quote(str(config))}")
    return 0


def _run(parsed: argparse.Namespace, rest: Sequence[str]) -> int:
    from . import runner

    if parsed.cores is not None and parsed.cores < 1:
        raise StemphonyError(f"--cores: got {parsed.cores}; at least 1 is needed.")
    cores = parsed.cores or len(os.sched_getaffinity(0))
    extra = [argument for argument in rest if argument != "--"]
    return runner.run(SNAKEFILE, parsed.config, parsed.directory, cores, parsed.profile, extra)


if __name__ == "__main__":
    sys.exit(main())
