"""`stemphony convert`: turn a parameter file of STEMsalabim into a config, which is printed or written beside it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from stemphony.errors import ConfigError, StorageError
from stemphony.experiment import stemsalabim_parameters as parameter_file
from stemphony.experiment.stemsalabim_parameters import Translation
from stemphony.specimen.structures import read_specimen

MARK = "# Made from "
"""Beginning of the first line of a converted file. Only files that begin with it are replaced."""


def converted(file: Path, folder: Path) -> Translation:
    """A parameter file of STEMsalabim as a config that will lie in `folder`.

    Parameters
    ----------
    file : Path
        The parameter file. The path of its crystal file is relative to its folder or to the working directory.
    folder : Path
        Folder of the config. The config has the relative path of a crystal in this folder, else the absolute path.

    Returns
    -------
    Translation
        The config with its remarks. `specimen.file` is relative to `folder` if the crystal lies in it, otherwise
        absolute.

    Raises
    ------
    ConfigError, SpecimenError
        The file, or the crystal file that it names, cannot be read.
    """
    parameters = parameter_file.read_parameters(file)
    name = parameter_file.crystal_file(parameters, file)
    crystal = next((place for place in (file.parent / name, Path(name)) if place.exists()), None)
    if crystal is None:
        raise ConfigError(
            "specimen.crystal_file",
            f"got {name!r}; it is neither in {file.parent.resolve()} nor in {Path.cwd()}. Correct the path.",
        )
    # Only the cell and the slices are needed here. `check` and `run` refuse atoms that are too near.
    specimen = read_specimen(crystal, format="stemsalabim", accept=("distance",))
    slices = 0 if specimen.slice_id is None else int(specimen.slice_id.max()) + 1
    made = parameter_file.translate(parameters, specimen.cell, file.stem, named_slices=slices)
    absolute, base = crystal.resolve(), folder.resolve()
    inside = absolute.is_relative_to(base)
    made.put("specimen.file", str(absolute.relative_to(base) if inside else absolute))
    return made


def write_converted(file: Path, say: Callable[[str], None]) -> Path:
    """Write the config of the parameter file `file` beside it, as `<name>.stemphony.yaml`, and return its path.

    If the config holds a password, only the owner can read the new file. `say` gets a line with the new name, and a
    note for each entry without a counterpart.

    Raises
    ------
    StorageError
        A file of this name exists and was not made from a parameter file, or the file cannot be written.
    """
    target = file.with_suffix(".stemphony.yaml")
    made = converted(file, target.parent)
    text = made.yaml(file.name)
    say(f"{file.name} is a parameter file of STEMsalabim; as a config it is {target}")
    for entry in made.without_counterpart:
        say(f"note: {entry}")
    try:
        if target.exists():
            present = target.read_text(encoding="utf-8")
            if not present.startswith(MARK):
                raise StorageError(f"{target} is not made from a parameter file, so it is not replaced. Rename it.")
            if present == text:
                return target
        mode = 0o600 if "auth_pass:" in text else 0o666
        with os.fdopen(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "w", encoding="utf-8") as stream:
            stream.write(text)
    except OSError as error:
        raise StorageError(f"{target} cannot be written: {error.strerror}. Copy {file} to your folder.") from None
    return target


def as_config(file: Path, say: Callable[[str], None]) -> Path:
    """Return the config `file` unchanged. For a parameter file of STEMsalabim, return the converted config.

    `say` and the errors are as for `write_converted`. A file that cannot be read is returned, too.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return file  # the function that reads configs reports the error
    return write_converted(file, say) if parameter_file.is_parameter_file(text) else file
