"""The inputs of a simulation: its validated config, and the files that the config names."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stemphony import contract
from stemphony.errors import ConfigError
from stemphony.experiment import configuration, overrides, sensitivity_files
from stemphony.experiment.model import detector_names
from stemphony.status import settings as status_settings


@dataclass(frozen=True)
class Inputs:
    """A validated config and the files it names.

    Attributes
    ----------
    config : mapping
        Complete, with defaults, and without secrets.
    config_files : tuple of Path
        The config files. The sender of status events reads its secrets from them.
    specimen_file, snapshots_file : Path, Path or None
        Structure file, and trajectory file; None without snapshots.
    warnings : tuple of str
        Notes for the user.
    sensitivity_files : mapping
        File of each detector with a sensitivity.
    """

    config: Mapping[str, Any]
    config_files: tuple[Path, ...]
    specimen_file: Path
    snapshots_file: Path | None
    warnings: tuple[str, ...] = ()
    sensitivity_files: Mapping[str, Path] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        """Environment variables with the paths of the simulation's input files, for the scripts of rules."""
        variables = {contract.SPECIMEN_VARIABLE: str(self.specimen_file)}
        if self.snapshots_file is not None:
            variables[contract.SNAPSHOTS_VARIABLE] = str(self.snapshots_file)
        if self.sensitivity_files:
            files = {name: str(file) for name, file in self.sensitivity_files.items()}
            variables[contract.SENSITIVITIES_VARIABLE] = json.dumps(files)
        return variables


def read_inputs(config: Mapping[str, Any], config_files: Sequence[Path]) -> Inputs:
    """Validate a config, and find the files that it names.

    Parameters
    ----------
    config : mapping
        The config as Snakemake merged it.
    config_files : sequence of Path
        The files of the config. Relative paths in it start from the folder of the last file.

    Returns
    -------
    Inputs
        The complete config, with its files.

    Raises
    ------
    ConfigError
        The config is not valid, or a file that it names does not exist.
    """
    files = tuple(Path(file).resolve() for file in config_files)
    # Snakemake has read the files already. But if a key appears twice, Snakemake silently takes the last value.
    return inputs_of(configuration.validate(overrides.typed(config, configuration.load(files))), files)


def inputs_of(complete: Mapping[str, Any], files: tuple[Path, ...], notes: Sequence[str] = ()) -> Inputs:
    """Find the files that a `complete` config names, and check http_reporting.

    Parameters
    ----------
    complete : mapping
        A validated config, with all defaults.
    files : tuple of Path
        The config files. Files that the config names are in the folder of the last one, else in the working directory.
    notes : sequence of str
        Notes on the config so far. They become the first warnings.

    Returns
    -------
    Inputs
        The config without secrets, with its files and warnings.

    Raises
    ------
    ConfigError
        A file does not exist, or http_reporting is not valid.
    """
    folder = files[-1].parent if files else Path.cwd()
    reporting = status_settings.resolve(complete["http_reporting"], folder)
    warnings = [*notes, *reporting.warnings]
    if reporting.reporting and reporting.preview and not detector_names(complete["adf"]):
        warnings.append("http_reporting.preview sends nothing: there is no named detector. Name one in adf.detectors.")
    specimen = find_file("specimen.file", complete["specimen"]["file"], folder)
    snapshots = complete["frozen_phonon"]["snapshots"]
    return Inputs(
        config=configuration.without_secrets(complete),
        config_files=files,
        specimen_file=specimen,
        snapshots_file=None if snapshots is None else find_file("frozen_phonon.snapshots", snapshots, folder),
        warnings=tuple(warnings),
        sensitivity_files=_sensitivity_files(complete["adf"], folder),
    )


def _sensitivity_files(adf: Mapping[str, Any], folder: Path) -> dict[str, Path]:
    """Find the files that detectors name, and check that maps have pixels."""
    named = sensitivity_files.named_files(adf)
    files = {name: find_file(f"adf.detectors.{name}.sensitivity", file, folder) for name, file in named.items()}
    sensitivity_files.require_pixels(adf, files)
    return files


def find_file(where: str, name: str, folder: Path) -> Path:
    """Find the file `name` that the key `where` of a config gives.

    It is in `folder`, that of the config file, else in the working directory.

    Raises
    ------
    ConfigError
        There is no such file.
    """
    if "://" in name:
        raise ConfigError(where, "got an address; allowed is a file. Save it here and give its name.")
    tried = [Path(name)] if Path(name).is_absolute() else [folder / name, Path.cwd() / name]
    for candidate in tried:
        try:
            if candidate.exists():
                return candidate.resolve()
        except OSError as error:
            raise ConfigError(where, f"{candidate} cannot be read: {error.strerror}. Correct the path.") from None
    places = " and ".join(dict.fromkeys(str(candidate) for candidate in tried))
    raise ConfigError(where, f"got {name!r}; there is no such file. Looked for {places}. Correct the path.")
