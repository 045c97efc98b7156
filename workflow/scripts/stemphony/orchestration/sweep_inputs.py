"""Read and check the inputs of all members of a sweep, from the one config of the sweep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stemphony.counting import number_of
from stemphony.errors import ConfigError, SpecimenError
from stemphony.experiment import configuration, sweeps
from stemphony.experiment.sweeps import Sweep
from stemphony.orchestration import preflight
from stemphony.orchestration.inputs import Inputs, inputs_of, read_inputs
from stemphony.orchestration.plan import Preflight
from stemphony.paths import RESULTS
from stemphony.store.progress import duration

DETAILED = 12
"""The plan shows the lines of each member only if the sweep has at most so many members."""
LONGEST_TITLE = 500
"""Largest number of characters of a title, as in the schema."""


def name_of(config: Mapping[str, Any]) -> str:
    """Name of the sweep of a `config` and of its folder. `read_sweep` checks it.

    Raises
    ------
    ConfigError
        There is no name.
    """
    block = config.get("simulation")
    name = block.get("name") if isinstance(block, Mapping) else None
    if not isinstance(name, str):
        raise ConfigError("simulation.name", "missing; it names the folder of the results.")
    return name


def threads_of(config: Mapping[str, Any]) -> int:
    """Threads of one job of the sweep of a `config`, the same in all members."""
    rules = configuration.schema()["properties"]["resources"]["properties"]
    return int((config.get("resources") or {}).get("threads", rules["threads"]["default"]))


def checked_members(inputs: Mapping[str, Inputs], base: Path = Path(RESULTS)) -> dict[str, Preflight]:
    """Check all members, see `preflight.check`. Files that several members need are read once.

    Parameters
    ----------
    inputs : mapping
        Inputs of each member by its label.
    base : Path
        Folder of all results.

    Returns
    -------
    dict of str to Preflight
        Checked members by label.

    Raises
    ------
    ConfigError, SpecimenError
        A member cannot be computed; the text names it.
    """
    readings: dict[str, preflight.Reading] = {}
    checked = {}
    for label, one in inputs.items():
        try:
            checked[label] = preflight.check(one, base, readings)
        except ConfigError as error:
            raise ConfigError(error.where, f"{error.what}\nThis is in the simulation {label} of the sweep.") from None
        except SpecimenError as error:
            raise SpecimenError(error.file, f"{error.what}\nThis is in the simulation {label} of the sweep.") from None
    return checked


def planned_lines(config: Mapping[str, Any], files: Sequence[Path], base: Path) -> list[str]:
    """Check a `config`, and return the lines of its plan: of one simulation, or of a sweep.

    Parameters
    ----------
    files : sequence of Path
        The config files.
    base : Path
        Folder of all results.

    Returns
    -------
    list of str
        Lines without line ends.

    Raises
    ------
    ConfigError, SpecimenError, StorageError
        The config or a file is not valid, or the folder cannot be written.
    """
    if not configuration.is_swept(config):
        return preflight.check(read_inputs(config, files), base).lines()
    sweep, inputs = read_sweep(config, files)
    return plan_lines(sweep, checked_members(inputs, base))


def plan_lines(sweep: Sweep, checked: Mapping[str, Preflight]) -> list[str]:
    """Lines of the plan for the user: first the lines that all members share, then those of each member.

    `checked` has the checked members of `sweep` by label.
    """
    plans = {label: one.lines() for label, one in checked.items()}
    first = next(iter(plans.values()))
    common = [line for line in first if all(line in lines for lines in plans.values())]
    jobs = sum(one.campaign.jobs for one in checked.values())
    hours, to_do = (sum(getattr(one, key) for one in checked.values()) for key in ("cpu_hours", "hours_to_do"))
    axes = " × ".join(f"{len(values)} of {key}" for key, values in (sweep.axes or {}).items())
    lines = [
        f"{'sweep':<25}{number_of(len(checked), 'simulation')}{f' = {axes}' if axes else ''}, {number_of(jobs, 'job')}",
        *common,
    ]
    for member in sweep.members:
        own = [line for line in plans[member.label] if line not in common and not line.startswith("simulation ")]
        lines += [
            f"{'member':<25}{member.text}",
            *(f"  {line}" for line in own[: None if len(plans) <= DETAILED else 0]),
        ]
    lines.append(
        f"{'sweep, computing time':<25}about {duration(3600 * to_do)} of CPU to do; {duration(3600 * hours)} in all"
    )
    return [*lines, *(f"note: {note}" for note in _advice(sweep))]


def _advice(sweep: Sweep) -> list[str]:
    """Notes on sweeps that one simulation can replace at less cost."""
    keys = {key for member in sweep.members for key in member.values}
    notes = []
    if keys & {"specimen.thickness_nm"}:
        notes.append(
            "one simulation gives several thicknesses for the cost of the largest: depths.at_angstrom instead of "
            "specimen.thickness_nm in the sweep."
        )
    if keys & {"probe.defocus_nm"}:
        notes.append(
            "one simulation gives several defoci, with probe_basis for little more than one: probe.defoci_nm with "
            "adf.average_defoci: false, instead of probe.defocus_nm in the sweep."
        )
    return notes


def read_sweep(config: Mapping[str, Any], config_files: Sequence[Path]) -> tuple[Sweep, dict[str, Inputs]]:
    """Validate each simulation of a config with a sweep, and find the files that they name.

    Parameters
    ----------
    config, config_files
        See `read_inputs`.

    Returns
    -------
    sweep : Sweep
    inputs : dict
        Inputs of each member by its label.

    Raises
    ------
    ConfigError
        The sweep is not valid, see `sweeps.expanded`, or a member is not valid. The message names the member.
    """
    files = tuple(Path(file).resolve() for file in config_files)
    sweep = sweeps.expanded(config, configuration.load(files))
    notes = [f"{key} of the config has no effect: the sweep gives its values." for key in sweep.replaced]
    found = {}
    for member in sweep.members:
        try:
            complete = configuration.validate(member.config)
            _refuse_rounds(complete)
            simulation = complete["simulation"]
            simulation["title"] = f"{simulation['title']}: {member.text}"[:LONGEST_TITLE]
            simulation["name"] = f"{simulation['name']}/{member.label}"
            found[member.label] = inputs_of(complete, files, notes)
        except ConfigError as error:
            raise ConfigError(
                error.where, f"{error.what}\nThis is in the simulation {member.text} of the sweep."
            ) from None
    return sweep, found


def _refuse_rounds(complete: Mapping[str, Any]) -> None:
    """Refuse a goal in a sweep, because further rounds exist only for one simulation alone."""
    wanted = complete["frozen_phonon"]["configurations"]
    if isinstance(wanted, Mapping):
        raise ConfigError(
            "frozen_phonon.configurations",
            f"got until: {wanted['until']:g}; a sweep takes a number of configurations only. Give a number; `stemphony "
            "converge` of one member says how many its error needs. Or run the simulations one by one.",
        )
