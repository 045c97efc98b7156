"""The command `stemphony`: write and check a config, run it, show how far it is, compute parts of it again."""

from __future__ import annotations

import argparse
import io
import json
import os
import re
import shlex
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stemphony.contract import RUN_PREFIX
from stemphony.errors import StemphonyError, StorageError
from stemphony.interpreters import import_nothing_from_here
from stemphony.monitor import command as monitor_command
from stemphony.store import hdf5_locks
from stemphony.terminal import write_plainly
from stemphony.version import __version__

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

REPOSITORY = Path(__file__).resolve().parents[3]
SNAKEFILE = REPOSITORY / "Snakefile"
DEMO = REPOSITORY / "config"
PATIENCE_S = 3.0
"""Time after which `stemphony check` says that it is still at work [s]."""
CONFIG_OPTION: dict[str, Any] = {
    "dest": "entries", "nargs": "+", "action": "extend", "default": [], "metavar": "KEY=VALUE",
    "help": "override keys of the config, for example probe.energy_kev=100",
}  # fmt: skip
CONFIG_HELP = "config (YAML), or parameter file of STEMsalabim"
DEMO_FILES = ("config.yaml", "srtio3.cif")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. A user's mistake ends with a message, not with a traceback.

    Parameters
    ----------
    arguments : sequence of str or None
        Arguments of the command line, by default those of this process.

    Returns
    -------
    int
        Exit status.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that knows only ASCII then shows ? for Å and ×
            write_plainly(stream)
    hdf5_locks.do_without()
    import_nothing_from_here()
    parsed, rest = _parser().parse_known_args(arguments)
    if rest and parsed.command not in (_run, _rerun, _accuracy):
        _parser().error(f"unknown arguments: {' '.join(rest)}")
    try:
        status = int(parsed.command(parsed, rest))
        sys.stdout.flush()
        return status
    except BrokenPipeError:
        # The program that reads the output has ended, for example `head`. Without this line, Python would print an
        # error when it flushes stdout at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except StemphonyError as error:
        print(f"{RUN_PREFIX}{error}", file=sys.stderr)
        return 1
    except PermissionError as error:
        if error.filename is None:
            raise  # the error does not say which file, so a message could not name it
        print(f"{RUN_PREFIX}{_no_permission(error)}", file=sys.stderr)
        return 1
    except RuntimeError as error:
        if (text := _about_paths(error)) is None:
            raise
        print(f"{RUN_PREFIX}{text}", file=sys.stderr)
        return 1
    except MemoryError as error:
        # A file of a few MB may announce arrays that are larger than any memory.
        print(f"{RUN_PREFIX}{_no_memory(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _about_paths(error: RuntimeError) -> str | None:
    """Message for two errors of `pathlib`; None for any other error. The two differ only in their text."""
    if "Symlink loop" in str(error):
        return f"{error}: it is linked to itself. Give the folder or file itself, or correct the link."
    if "home directory" in str(error):
        return "this user has no home folder. Set the environment variable HOME to a folder of yours."
    return None


def _no_memory(error: MemoryError) -> str:
    what = str(error) or "no more of it is free"
    return f"this needs more memory than this machine, or a limit of it, gives: {what}. Use another machine or limit."


def _no_permission(error: PermissionError) -> str:
    return (
        f"{error.filename}: permission denied: this user may not read or write it. Ask its owner for "
        "access, or work as its owner."
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="stemphony", description="Simulates images of a scanning transmission electron microscope."
    )
    parser.add_argument("--version", action="version", version=f"stemphony {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_config_commands(commands)
    _add_running_commands(commands)
    _add_result_commands(commands)
    _add_profile(commands)
    _add_bench(commands)
    _add_report(commands)
    monitor_command.add_parser(commands)
    return parser


def _add_config_commands(commands: Commands) -> None:
    """Commands that take or write a config: check, convert, show, init."""
    check = commands.add_parser("check", help="check a config and show what it would compute")
    check.set_defaults(command=_check)
    check.add_argument("config", type=Path, metavar="CONFIG", help=CONFIG_HELP)
    check.add_argument(
        "--directory", type=Path, default=Path(), help="folder that would contain `results` (default: here)"
    )
    check.add_argument("--config", **CONFIG_OPTION)
    measuring = check.add_mutually_exclusive_group()
    measuring.add_argument(
        "--no-calibration", action="store_true", help="estimate times without measuring this machine"
    )
    measuring.add_argument("--measure", action="store_true", help="measure this machine again (default: once)")

    conversion = commands.add_parser("convert", help="print a parameter file of STEMsalabim as a config")
    conversion.set_defaults(command=_convert)
    conversion.add_argument("file", type=Path, metavar="FILE.cfg", help="parameter file of STEMsalabim")

    show = commands.add_parser("show", help="draw the specimen of a config: atoms, cell, scan and probe")
    show.set_defaults(command=_show)
    show.add_argument("config", type=Path, metavar="CONFIG", help=CONFIG_HELP)
    show.add_argument("--config", **CONFIG_OPTION)
    show.add_argument(
        "--output", type=Path, metavar="PNG", help="picture (default: CONFIG_specimen.png in this folder)"
    )
    show.add_argument("--xyz", action="store_true", help="also write the atoms, as extended XYZ beside the picture")

    init = commands.add_parser("init", help="write a commented config and an example crystal")
    init.set_defaults(command=_init)
    init.add_argument(
        "folder", type=Path, metavar="DIR", help="folder for both files; its name becomes simulation.name"
    )


def _add_running_commands(commands: Commands) -> None:
    """Commands that run Snakemake with a config: run, accuracy."""
    run = commands.add_parser(
        "run",
        help="run a simulation",
        description="Runs Snakemake. Arguments that are not listed here go to Snakemake.",
    )
    run.set_defaults(command=_run)
    run.add_argument("config", type=Path, metavar="CONFIG", help=CONFIG_HELP)
    run.add_argument(
        "--cores", type=int, default=None, metavar="N", help="number of cores (default: all of this machine)"
    )
    run.add_argument("--directory", type=Path, default=Path(), help="folder for `results` and `logs` (default: here)")
    run.add_argument("--profile", default=None, help="Snakemake profile, for example slurm")
    run.add_argument(
        "--replace", action="store_true", help="compute finished pairs of another config again, and replace them"
    )
    run.add_argument("--config", **CONFIG_OPTION)

    accuracy = commands.add_parser(
        "accuracy",
        help="say how much each choice of a config changes its result",
        description="Computes a few positions as the config says, then once more for each numerical choice, with this "
        "choice refined. Prints an error budget. Arguments that are not listed here go to Snakemake.",
    )
    accuracy.set_defaults(command=_accuracy)
    accuracy.add_argument("config", type=Path, metavar="CONFIG", help=CONFIG_HELP)
    accuracy.add_argument(
        "--target",
        type=_share,
        default=None,
        metavar="PERCENT",
        help="recommend a config of this accuracy, such as 1%%",
    )
    accuracy.add_argument("--json", action="store_true", help="print one JSON object")
    accuracy.add_argument("--cores", type=int, default=None, metavar="N", help="number of cores (default: all)")
    accuracy.add_argument("--directory", type=Path, default=Path(), help="folder for `results` (default: here)")
    accuracy.add_argument("--profile", default=None, help="Snakemake profile, for example slurm")
    accuracy.add_argument("--config", **CONFIG_OPTION)


def _share(text: str) -> float:
    """A share that is written in per cent: `1%` or `1`."""
    try:
        value = float(text.strip().removesuffix("%")) / 100
    except ValueError:
        value = 0.0
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"got {text!r}; write per cent above 0 and below 100, for example 1%")
    return value


def _add_result_commands(commands: Commands) -> None:
    """Commands that take a result: status, rerun, preview, converge, plot, export, clean."""
    status = commands.add_parser(
        "status", help="show which pairs are done, running, failed or missing",
        description="Shows the state of all pairs. A pair is one defocus and one configuration.",
    )  # fmt: skip
    status.set_defaults(command=_status)
    status.add_argument("result", type=Path, metavar="RESULT", help="results/<name>")
    status.add_argument("--json", action="store_true", help="print one JSON object with all pairs")
    status.add_argument("--verify", action="store_true", help="check every byte of the job files, as the merge does")

    rerun = commands.add_parser(
        "rerun", help="compute some pairs again, and merge",
        description="Computes the chosen pairs again, and only these, then merges. A pair is one defocus and one "
        "configuration. Default: all pairs that are not done. Arguments that are not listed here go to Snakemake.",
    )  # fmt: skip
    rerun.set_defaults(command=_rerun)
    rerun.add_argument("result", type=Path, metavar="RESULT", help="results/<name>")
    rerun.add_argument(
        "--failed", action="store_true", help="pairs that failed, were interrupted, or whose files the merge refuses"
    )
    rerun.add_argument("--defocus", type=float, nargs="+", default=[], metavar="NM", help="all pairs at these defoci")
    rerun.add_argument(
        "--configuration", type=int, nargs="+", default=[], metavar="N", help="only these configurations"
    )
    rerun.add_argument("--dry-run", action="store_true", help="only show what would be computed")
    rerun.add_argument("--verify", action="store_true", help="first check every byte of the job files")
    rerun.add_argument("--config", type=Path, metavar="FILE", help="config to use (default: that of your last run)")
    rerun.add_argument("--cores", type=int, default=None, metavar="N", help="number of cores (default: all)")
    rerun.add_argument("--profile", default=None, help="Snakemake profile, for example slurm")

    preview = commands.add_parser("preview", help="merge the finished pairs into a separate file")
    preview.set_defaults(command=_preview)
    preview.add_argument("result", type=Path, metavar="RESULT", help="results/<name>")
    preview.add_argument("--output", type=Path, metavar="FILE", help="file to write (default: RESULT/preview.nc)")

    converge = commands.add_parser("converge", help="say how many configurations a smaller statistical error needs")
    converge.set_defaults(command=_converge)
    converge.add_argument("result", type=Path, metavar="RESULT", help="results/<name>")
    converge.add_argument("--output", type=Path, metavar="FILE", help="picture (default: RESULT/convergence.png)")
    converge.add_argument("--json", action="store_true", help="print one JSON object; draw only with --output")

    _add_plot(commands)
    _add_export(commands)

    clean = commands.add_parser("clean", help="remove kept waves and unfinished files; results stay")
    clean.set_defaults(command=_clean)
    clean.add_argument("result", type=Path, metavar="RESULT", help="folder of a simulation, results/<name>")
    clean.add_argument(
        "--leftovers",
        action="store_true",
        help="also remove finished job files of pairs that the last plan does not contain",
    )


def _add_plot(commands: Commands) -> None:
    plot = commands.add_parser(
        "plot", help="draw a figure of a result: images, thickness curves, profiles, patterns, centre of mass, waves",
        description="Draws a figure for a slide or a paper. docs/how-to/figures.md shows each kind.",
    )  # fmt: skip
    plot.set_defaults(command=_plot)
    plot.add_argument("result", type=Path, metavar="RESULT", help="results/<name>, or a merged file")
    plot.add_argument(
        "kind", nargs="?", default="images", choices=("images", "curves", "profile", "pattern", "com", "dpc", "waves"),
        help="what to draw (default: images); com is the centre of mass, dpc the deflection measured by segments",
    )  # fmt: skip
    place: dict[str, Any] = {"type": float, "nargs": 2, "metavar": ("X", "Y")}
    add = plot.add_argument
    add(
        "--detector",
        nargs="+",
        default=[],
        metavar="NAME",
        help="detectors, or rings such as 80-120 mrad (default: all)",
    )
    add("--depth", type=float, nargs="+", default=[], metavar="NM", help="stored depths (default: the exit surface)")
    add("--defocus", type=float, metavar="NM", help="one defocus, if the result has several (default: their mean)")
    add("--tile", default="1x1", metavar="NXxNY", help="copies of the scan window side by side, for example 3x3")
    add(
        "--interpolate",
        type=int,
        nargs="?",
        const=8,
        default=1,
        metavar="N",
        help="N times finer pixels (without N: 8)",
    )
    add("--source", type=float, metavar="NM", help="blur images with a source of this full width at half maximum")
    add("--dose", type=float, metavar="N", help="add the noise of N electrons per Å²")
    add("--seed", type=int, default=1, metavar="N", help="seed of the noise (default: 1)")
    add("--standard-error", action="store_true", help="draw the standard error of the images")
    add("--atoms", action="store_true", help="draw the atoms over images")
    add("--periodic", action="store_true", help="treat the window as repeating, even if the atoms do not repeat")
    add(
        "--at",
        **place,
        help="position of a curve, pattern (default: mean of the scan) or wave (default: first), nm",
    )
    add("--from", **place, dest="begin", help="where a profile begins, nm")
    add("--to", **place, dest="end", help="where a profile ends, nm")
    add("--linear", action="store_true", help="draw a pattern on a linear scale (default: logarithmic)")
    add("--size", choices=("slide", "page", "column"), default="slide", help="width of the figure (default: slide)")
    add("--dark", action="store_true", help="draw for a dark background")
    add("--style", type=Path, metavar="FILE", help="style file of matplotlib; its entries replace those of Stemphony")
    add("--output", type=Path, metavar="FILE", help=".png, .pdf or .svg (default: <name>_<kind>.png here)")
    add("--json", action="store_true", help="print the numbers as one JSON object; draw only with --output")


def _add_export(commands: Commands) -> None:
    export = commands.add_parser(
        "export", help="write images and patterns for HyperSpy, py4DSTEM, xarray, ImageJ and others",
        description="Writes a result in formats of other programs. docs/how-to/export.md says what each one holds.",
    )  # fmt: skip
    export.set_defaults(command=_export)
    export.add_argument("result", type=Path, metavar="RESULT", help="results/<name>, or a merged file")
    add = export.add_argument
    add("--to", required=True, choices=("zarr", "hspy", "emd", "tiff", "mrc", "csv"), help="the format")
    add("--only", choices=("images", "patterns", "waves"), help="what to write (default: all that the format holds)")
    add("--detector", nargs="+", default=[], metavar="NAME", help="detectors, or rings such as 80-120 mrad, of images")
    add("--depth", nargs="+", default=[], metavar="NM", help="stored depths, or all (default: the exit surface)")
    add("--defocus", type=float, metavar="NM", help="one defocus, if the result has several (default: their mean)")
    add("--dose", type=float, metavar="N", help="add the noise of N electrons per Å²")
    add("--electrons-per-position", type=float, metavar="N", help="add the noise of N electrons at each position")
    add("--seed", type=int, default=1, metavar="N", help="seed of the noise (default: 1)")
    add("--output", type=Path, default=Path(), metavar="FOLDER", help="folder to write into (default: here)")
    add("--replace", action="store_true", help="overwrite files of an earlier export")


def _add_profile(commands: Commands) -> None:
    profile = commands.add_parser("profile", help="install Snakemake profiles, which say how jobs reach a cluster")
    actions = profile.add_subparsers(required=True, metavar="ACTION")
    install = actions.add_parser("install", help="copy a profile to where `snakemake --profile` finds it")
    install.set_defaults(command=_profile_install)
    install.add_argument(
        "folder", type=Path, nargs="?", default=Path(), metavar="FOLDER", help="where to copy it (default: here)"
    )
    install.add_argument("--name", default="slurm", metavar="NAME", help="name of the profile (default: slurm)")
    install.add_argument(
        "--replace", action="store_true", help="replace edited files; the old ones are kept as FILE.kept1"
    )


def _add_bench(commands: Commands) -> None:
    bench = commands.add_parser("bench", help="measure the cost of a wave on this machine, in FFTs of its grid")
    bench.set_defaults(command=_bench)
    bench.add_argument("--grid", type=int, default=512, metavar="N", help="grid of N × N points (default: 512)")
    bench.add_argument(
        "--slices",
        type=int,
        default=50,
        metavar="N",
        help="number of slices, each half a unit cell of SrTiO3 (default: 50)",
    )
    bench.add_argument(
        "--probes", type=int, metavar="N", help="number of waves, spread evenly over defoci and positions (default: 64)"
    )
    bench.add_argument("--threads", type=int, default=1, metavar="N", help="number of threads (default: 1)")
    bench.add_argument(
        "--algorithm", choices=("multislice", "probe_basis", "auto"), default="multislice",
        help="algorithm to measure (default: multislice)",
    )  # fmt: skip
    bench.add_argument(
        "--defoci", type=int, default=1, metavar="N", help="number of defoci from −6 to 6 nm (default: 1, at 0 nm)"
    )
    bench.add_argument(
        "--scan", metavar="NXxNY", help="scan positions in one unit cell; without --probes, all of them are measured"
    )
    bench.add_argument("--dpc", action="store_true", help="also measure four segments and the centre of mass")
    bench.add_argument("--json", action="store_true", help="print one JSON object")


def _add_report(commands: Commands) -> None:
    report = commands.add_parser("report", help="test the receiver of status reports, or send undelivered reports")
    actions = report.add_subparsers(required=True, metavar="ACTION")
    test = actions.add_parser("test", help="send one event to the receiver of a config and show the answer")
    test.set_defaults(command=_report_test)
    test.add_argument("config", type=Path, metavar="CONFIG", help=CONFIG_HELP)
    replay = actions.add_parser("replay", help="send the status reports that were not delivered")
    replay.set_defaults(command=_report_replay)
    replay.add_argument("result", type=Path, nargs="*", metavar="RESULT", help="results/<name> (default: all)")
    replay.add_argument(
        "--config", type=Path, metavar="FILE", help="config with url and credentials (default: those of your runs)"
    )
    replay.add_argument(
        "--everything", action="store_true", help="send all reports again, also those that were accepted or refused"
    )


def _status(parsed: argparse.Namespace, _rest: Sequence[str]) -> int:
    from stemphony.commands import status

    return status.show(parsed.result, parsed.json, parsed.verify, print)


def _rerun(parsed: argparse.Namespace, rest: Sequence[str]) -> int:
    from stemphony.commands import rerun

    choice = rerun.Choice(parsed.failed, tuple(parsed.defocus), tuple(parsed.configuration))
    return rerun.rerun(
        parsed.result, choice, print, snakefile=SNAKEFILE, config=parsed.config, cores=_cores(parsed.cores),
        profile=parsed.profile, verify=parsed.verify, dry_run=parsed.dry_run,
        extra=[argument for argument in rest if argument != "--"],
    )  # fmt: skip


def _preview(parsed: argparse.Namespace, _rest: Sequence[str]) -> int:
    from stemphony.orchestration import job

    job.limit_threads(1)  # before numpy is imported
    from stemphony.commands import status
    from stemphony.results.merge_finished import merge_finished

    result = status.result_in(parsed.result)
    merge_finished(result, status.planned_in(result), parsed.output or result.preview, print)
    return 0


def _converge(parsed: argparse.Namespace, _rest: Sequence[str]) -> int:
    from stemphony.commands import converge

    return converge.converge(parsed.result, parsed.output, parsed.json, print)


def _plot(parsed: argparse.Namespace, _rest: Sequence[str]) -> int:
    from stemphony.commands import plot
    from stemphony.figures.pictures import Treatment
    from stemphony.figures.request import FigureRequest
    from stemphony.figures.style import DARK, LIGHT, Style

    treatment = Treatment(
        tile=plot.copies(parsed.tile), finer=parsed.interpolate, source_nm=parsed.source, dose=parsed.dose,
        seed=parsed.seed, shows_errors=parsed.standard_error, is_periodic=parsed.periodic,
    )  # fmt: skip
    request = FigureRequest(
        kind=parsed.kind, detectors=[plot.detector(name) for name in parsed.detector], depths_nm=parsed.depth,
        defocus_nm=parsed.defocus, at_nm=plot.pair(parsed.at), begin_nm=plot.pair(parsed.begin),
        end_nm=plot.pair(parsed.end), shows_atoms=parsed.atoms, is_linear=parsed.linear, treatment=treatment,
    )  # fmt: skip
    style = Style(parsed.size, DARK if parsed.dark else LIGHT, parsed.style)
    return plot.plot(parsed.result, request, style, parsed.output, parsed.json, print)


def _export(parsed: argparse.Namespace, _rest: Sequence[str]) -> int:
    from stemphony.commands import export, plot
    from stemphony.export.counting import Counting
    from stemphony.export.request import ExportRequest

    request = ExportRequest(
        format=parsed.to, only=parsed.only, detectors=[plot.detector(name) for name in parsed.detector],
        depths_nm=export.depths(parsed.depth), defocus_nm=parsed.defocus,
        counting=Counting(parsed.dose, parsed.electrons_per_position, parsed.seed), replaces=parsed.replace,
    )  # fmt: skip
    return export.export(parsed.result, request, parsed.output, print)


def _clean(parsed: argparse.Namespace, _rest: Sequence[str]) -> int:
    from stemphony.commands import clean

    clean.clean(parsed.result, parsed.leftovers, print)
    return 0


def _report_test(parsed: argparse.Namespace, _rest: Sequence[str]) -> int:
    from stemphony.commands import report

    return report.try_receiver(parsed.config, print)


def _report_replay(parsed: argparse.Namespace, _rest: Sequence[str]) -> int:
    from stemphony.commands import report

    return report.replay(parsed.result, parsed.config, print, parsed.everything)


def _say_that_it_takes_longer(config: Path) -> None:
    sys.stderr.write(f"still reading the structure of {config} and planning …\n")
    sys.stderr.flush()


def _check(parsed: argparse.Namespace, _rest: Sequence[str], patience_s: float = PATIENCE_S) -> int:
    from stemphony import paths
    from stemphony.commands import convert
    from stemphony.compute import calibration
    from stemphony.experiment import configuration, overrides
    from stemphony.orchestration import sweep_inputs

    files = [convert.as_config(parsed.config, print)]
    config = overrides.overridden(configuration.load(files), parsed.entries)
    patience = threading.Timer(patience_s, _say_that_it_takes_longer, [parsed.config])
    patience.daemon = True
    patience.start()
    try:
        if parsed.measure or not (parsed.no_calibration or calibration.kept()):
            calibration.calibrate()
        lines = sweep_inputs.planned_lines(config, files, parsed.directory / paths.RESULTS)
    finally:
        patience.cancel()
    for line in lines:
        print(line)
    if configuration.is_swept(config):
        return 0
    print(f"{'picture of the specimen':<25}stemphony show {shlex.quote(str(parsed.config))}")
    return 0


def _convert(parsed: argparse.Namespace, _rest: Sequence[str]) -> int:
    from stemphony.commands import convert

    print(convert.converted(parsed.file, Path()).yaml(parsed.file.name), end="")
    return 0


def _show(parsed: argparse.Namespace, _rest: Sequence[str]) -> int:
    from stemphony.commands import convert, show
    from stemphony.experiment import configuration, overrides

    file = convert.as_config(parsed.config, print)
    config = overrides.overridden(configuration.load([file]), parsed.entries)
    show.show(config, file, parsed.output, parsed.xyz, print)
    return 0


def _simulation_name(folder: Path) -> str:
    """Name of a simulation, made from that of a folder. A character that a name may not hold becomes _."""
    name = re.sub(r"[^A-Za-z0-9_-]+", "_", folder.resolve().name).lstrip("_-")
    return name[:100] or "srtio3"


def _renamed(text: bytes, name: str) -> bytes:
    """The demo config with another name of its simulation; other files are not changed."""
    import yaml

    if not isinstance(yaml.safe_load(name), str):
        name = f'"{name}"'  # without quotes, YAML reads 2024 as a number and true as a logical value
    given = b"  name: srtio3 "
    # Spaces fill the place of the old name, so the comment behind a short name stays in its column.
    return text.replace(given.ljust(35), f"  name: {name} ".encode().ljust(35), 1)


def _init(parsed: argparse.Namespace, _rest: Sequence[str]) -> int:
    folder: Path = parsed.folder
    there = [name for name in DEMO_FILES if (folder / name).exists()]
    if there:
        raise StorageError(
            f"{folder} has {' and '.join(there)} already, and nothing is overwritten. Choose another folder."
        )
    name = _simulation_name(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file in DEMO_FILES:
            (folder / file).write_bytes(_renamed((DEMO / file).read_bytes(), name))
    except OSError as error:
        raise StorageError(f"{folder} cannot be written: {error.strerror}. Choose another folder.") from None
    config = folder / "config.yaml"
    print(f"wrote {config} of the simulation {name}, and the crystal it uses. Edit it, then:")
    print(f"  stemphony check {shlex.quote(str(config))}")
    print(f"  stemphony run {shlex.quote(str(config))}")
    return 0


def _profile_install(parsed: argparse.Namespace, _rest: Sequence[str]) -> int:
    from stemphony.commands import profiles

    folder: Path = parsed.folder
    profiles.install(REPOSITORY, parsed.name, folder, parsed.replace, print)
    places = "any" if folder.resolve() in [place.resolve() for place in profiles.searched()] else "that"
    print(f"Edit it (for slurm: partition, account, QoS). Then use one of these commands in {places} folder:")
    print(f"  snakemake -s {shlex.quote(str(SNAKEFILE))} --profile {parsed.name} --configfile CONFIG")
    print(f"  stemphony run CONFIG --profile {parsed.name}")
    return 0


def _bench(parsed: argparse.Namespace, _rest: Sequence[str]) -> int:
    from stemphony.orchestration import job

    job.limit_threads(1)  # before numpy is imported
    from stemphony.commands import bench

    settings = bench.Settings.of(
        grid=parsed.grid, slices=parsed.slices, probes=parsed.probes, threads=parsed.threads,
        algorithm=parsed.algorithm, defoci=parsed.defoci, scan=parsed.scan, with_dpc=parsed.dpc,
    )  # fmt: skip
    record = bench.measure(settings).record()
    print(json.dumps(record) if parsed.json else "\n".join(bench.table(record)))
    return 0


def _run(parsed: argparse.Namespace, rest: Sequence[str]) -> int:
    from stemphony.commands import convert
    from stemphony.commands import run as runner

    extra = [argument for argument in rest if argument != "--"]
    return runner.run(
        SNAKEFILE,
        convert.as_config(parsed.config, print),
        parsed.directory,
        _cores(parsed.cores),
        parsed.profile,
        extra,
        parsed.entries,
        parsed.replace,
    )


def _accuracy(parsed: argparse.Namespace, rest: Sequence[str]) -> int:
    from stemphony.commands import accuracy, convert

    return accuracy.accuracy(
        SNAKEFILE, convert.as_config(parsed.config, lambda text: print(text, file=sys.stderr)), parsed.directory,
        _cores(parsed.cores), parsed.profile, [argument for argument in rest if argument != "--"], parsed.entries,
        parsed.target, parsed.json, print,
    )  # fmt: skip


def _cores(wanted: int | None) -> int:
    if wanted is not None and wanted < 1:
        raise StemphonyError(f"--cores: got {wanted}; at least 1 is needed.")
    return wanted or len(os.sched_getaffinity(0))


if __name__ == "__main__":
    sys.exit(main())
