"""`stemphony show`: draw the specimen of a config and, with --xyz, write its atoms into a file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from stemphony.errors import StorageError
from stemphony.experiment.campaign import SPECIMEN_TILT
from stemphony.experiment.scan import Scan, bounds
from stemphony.orchestration.inputs import read_inputs
from stemphony.physics.constants import MRAD, NM
from stemphony.physics.electron import wavelength
from stemphony.specimen.drawing import Scene, draw
from stemphony.specimen.specimen import Specimen
from stemphony.specimen.structures import read_specimen

DOTS_PER_INCH = 150
"""Resolution of the picture. It is then about 1700 pixels wide, which is enough for a slide."""


def picture_name(config: Path) -> str:
    """Name of the picture of the file `config`, written into the working directory."""
    return f"{config.stem}_specimen.png"


def show(config: Mapping[str, Any], file: Path, output: Path | None, xyz: bool, say: Callable[[str], None]) -> None:
    """Draw the specimen of a config into `output`, and with `xyz` write its atoms beside it.

    Parameters
    ----------
    config : mapping
        The config as the user wrote it, with the entries of the command line.
    file : Path
        File of the config.
    output : Path or None
        Picture to write. None: `picture_name` in the working directory.
    xyz : bool
        Whether to write the atoms, too.
    say : callable
        Prints one line.

    Raises
    ------
    ConfigError, SpecimenError
        The config or the specimen is refused, as by `stemphony check`.
    StorageError
        A file cannot be written.
    """
    inputs = read_inputs(config, [file])
    block = inputs.config["specimen"]
    of_others = ("file", SPECIMEN_TILT)
    specimen = read_specimen(inputs.specimen_file, **{key: block[key] for key in block if key not in of_others})
    picture = output or Path(picture_name(file))
    atoms = picture.with_suffix(".xyz")
    if picture.suffix.lower() != ".png":
        raise StorageError(f"--output: got {picture}; the picture is a PNG file. Name it {picture.name}.png.")
    if xyz and atoms.exists() and atoms.samefile(inputs.specimen_file):
        raise StorageError(
            f"--xyz would overwrite the structure file {atoms} with the atoms built from it. Give the picture another "
            "name with --output; the atoms go beside it."
        )
    try:
        draw(specimen, _scene(inputs.config, specimen)).savefig(picture, dpi=DOTS_PER_INCH, format="png")
        if xyz:
            atoms.write_text(extended_xyz(specimen), encoding="utf-8")
    except OSError as error:
        raise StorageError(
            f"{error.filename or picture} cannot be written: {error.strerror}. Choose another place with --output."
        ) from None
    building = specimen.building
    for name, text in building.lines() if building is not None else ():
        say(f"{name:<25}{text}")
    for note in specimen.notes:
        say(f"note: {note}")
    say(f"wrote {picture}")
    if xyz:
        tensors = " Tensors U are not in it; u_iso is a third of their trace." if specimen.u_aniso is not None else ""
        say(f"wrote {atoms}: {len(specimen.symbols)} sites at rest, Å.{tensors}")


def _scene(config: Mapping[str, Any], specimen: Specimen) -> Scene:
    """Scan and probe of a validated config. Several defoci are replaced by their mean."""
    probe, lengths = config["probe"], specimen.cell[:2]
    return Scene(
        title=config["simulation"]["title"],
        window=bounds(config["scan"], lengths),
        places=Scan.of(config["scan"], lengths).places,
        semiangle=probe["semiangle_mrad"] * MRAD,
        wavelength=wavelength(probe["energy_kev"] * 1e3),
        defocus=float(np.mean(probe["defoci_nm"] or [probe["defocus_nm"]])) * NM,
    )


def extended_xyz(specimen: Specimen) -> str:
    """The atoms of `specimen` in extended XYZ: element, coordinates [Å], U [Å²] and, if there are any, occupancies."""
    lx, ly, lz = specimen.cell
    columns = [specimen.positions, np.where(np.isnan(specimen.u_iso), 0.0, specimen.u_iso)[:, None]]
    properties = "species:S:1:pos:R:3:u_iso:R:1"
    if np.isnan(specimen.u_iso).any():
        columns.pop()
        properties = "species:S:1:pos:R:3"
    if specimen.occupancy is not None:
        columns.append(specimen.occupancy[:, None])
        properties += ":occupancy:R:1"
    rows = np.concatenate(columns, axis=1)
    head = f'{len(rows)}\nLattice="{lx:.9f} 0 0 0 {ly:.9f} 0 0 0 {lz:.9f}" Properties={properties} pbc="T T F"\n'
    lines = (
        f"{symbol:<2} " + " ".join(f"{value:.9f}" for value in row) + "\n"
        for symbol, row in zip(specimen.symbols.tolist(), rows.tolist(), strict=True)
    )
    return head + "".join(lines)
