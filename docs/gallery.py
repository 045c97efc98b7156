"""Write docs/gallery.md: every config of config/examples with its picture, and a link to the page that explains it.

Usage: `python docs/gallery.py [EXAMPLE ...]`. If the page of an example has a picture, the gallery shows it. Some other
examples are computed at a reduced size, and `stemphony plot` draws them. `stemphony show` draws the specimen of the
rest. Their pictures go into `docs/figures/gallery`. All of them take about two minutes of CPU time. Results stay in
`build/gallery`. With names of examples, only their pictures are drawn. `python docs/gallery.py --page` only writes the
page.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

DOCS = Path(__file__).resolve().parent
EXAMPLES = DOCS.parent / "config" / "examples"
PICTURES = DOCS / "figures" / "gallery"
STYLE = PICTURES / "gallery.mplstyle"
BUILD = DOCS.parent / "build" / "gallery"
PAGE = DOCS / "gallery.md"
LARGEST_BYTES = 60_000
"""Largest picture that is drawn for the gallery [bytes]. Larger pictures would make the page slow to open."""


@dataclass(frozen=True)
class Entry:
    """One example of the gallery.

    Attributes
    ----------
    title, sentence : str
        Title and sentence of the example in the gallery.
    explained : str
        The page that explains the example, relative to docs.
    picture : str
        Picture of that page, relative to docs. Empty if the gallery draws a picture of its own.
    small : tuple of str
        Entries `key=value` that reduce the size of the run.
    plot : tuple of str
        Arguments of `stemphony plot`.
    shows_specimen : bool
        Whether `stemphony show` draws the picture, because the example takes long to compute.
    """

    title: str
    sentence: str
    explained: str
    picture: str = ""
    small: tuple[str, ...] = ()
    plot: tuple[str, ...] = ("--tile", "3x3", "--interpolate")
    shows_specimen: bool = False


ENTRIES: dict[str, Entry] = {
    "srtio3_image.yaml": Entry(
        "Three detectors, the picture of the README: SrTiO₃ [001]",
        "Bright field, annular bright field and annular dark field of a crystal 10 nm thick.",
        "how-to/figures.md",
        "figures/srtio3.png",
    ),
    "gan_1120.yaml": Entry(
        "A zone axis from a unit cell: GaN [11-20]",
        "ABF and HAADF of a polar crystal, oriented from the CIF of its unit cell.",
        "how-to/zone-axis.md",
        "figures/gan_1120.png",
    ),
    "algan.yaml": Entry(
        "Two elements on one site: Al₀.₃Ga₀.₇N [11-20]",
        "In each configuration, Al and Ga atoms are distributed at random over their sites.",
        "how-to/thermal-motion-and-occupancy.md",
        small=("specimen.repeat=[6, 6, 8]",),
        shows_specimen=True,
    ),
    "mos2.yaml": Entry(
        "A cell that is not orthogonal: a monolayer of MoS₂",
        "`supercell` makes the hexagonal cell orthogonal. Columns of Mo alternate with pairs of S atoms.",
        "how-to/zone-axis.md",
        small=("specimen.repeat=[8, 5, 1]", "scan.x=[0, 0.125]", "scan.y=[0, 0.2]", "scan.points=[12, 20]",
               "grating={gpts: [360, 360], sampling_angstrom: null}", "frozen_phonon.configurations=2",
               "simulation.algorithm=auto"),
    ),
    "srtio3_doped.yaml": Entry(
        "Dopants, vacancies and a carbon film: SrTiO₃ [100]",
        "A crystal with a layer of lanthanum and with oxygen vacancies, between two carbon films.",
        "how-to/dopants-and-films.md",
        "figures/srtio3_doped.png",
    ),
    "snapshots.yaml": Entry(
        "Frames of molecular dynamics",
        "Each frame of a trajectory is one configuration, so neighbouring atoms move together.",
        "tutorials/md.md",
        plot=("--interpolate",),
    ),
    "srtio3_tilt.yaml": Entry(
        "8 mrad off the zone axis: SrTiO₃ [001]",
        "The crystal on the zone axis, the tilted crystal of this config, and a precessed beam.",
        "how-to/tilt.md",
        "figures/tilt.png",
    ),
    "srtio3_dpc.yaml": Entry(
        "Segments, DPC and phase images: SrTiO₃ [001]",
        "A quadrant detector, and the integrated images iDPC and iCoM.",
        "how-to/dpc.md",
        "figures/dpc.png",
    ),
    "srtio3_sensitivity.yaml": Entry(
        "A detector with a measured sensitivity",
        "The same annular detector, ideal and with a radial sensitivity.",
        "how-to/sensitivity.md",
        "figures/sensitivity.png",
    ),
    "srtio3_patterns.yaml": Entry(
        "Diffraction patterns at three depths",
        "The probe in vacuum, the mean pattern (PACBED) at three depths, and patterns of two columns.",
        "how-to/patterns.md",
        "figures/patterns.png",
    ),
    "srtio3_waves.yaml": Entry(
        "Waves and channelling along 20 nm of SrTiO₃",
        "The exit wave, a section along the beam, and the share of the beam in each column.",
        "how-to/waves.md",
        "figures/waves.png",
    ),
    "silicon_plasmons.yaml": Entry(
        "Plasmon losses in 30 nm of silicon",
        "Angular distributions with and without plasmons, and the spectrum of losses.",
        "how-to/plasmons.md",
        "figures/plasmons.png",
    ),
    "srtio3_sweep.yaml": Entry(
        "A sweep: three semi-angles and two spherical aberrations",
        "Six simulations from one config, and the figure that compares them.",
        "how-to/sweep.md",
        "how-to/figures/sweep.png",
    ),
    "stemsalabim.yaml": Entry(
        "A crystal file of STEMsalabim",
        "The crystal file gives lengths in nm and a mean square displacement for each atom.",
        "how-to/stemsalabim-files.md",
        shows_specimen=True,
    ),
    "stemsalabim.cfg": Entry(
        "A parameter file of STEMsalabim",
        "`stemphony run` runs the file without changes.",
        "how-to/stemsalabim-files.md",
        "how-to/stemsalabim-files/haadf.png",
    ),
}  # fmt: skip
"""The entries by file name, in the order of the page."""


def picture(name: str) -> Path:
    """The picture of an example."""
    shown = ENTRIES[name].picture
    return DOCS / shown if shown else PICTURES / f"{Path(name).stem}.png"


def stemphony(*words: str | Path) -> str:
    """Output of a command that runs in `build/gallery`."""
    line = [str(Path(sys.executable).with_name("stemphony")), *map(str, words)]
    return subprocess.run(line, cwd=BUILD, text=True, stdout=subprocess.PIPE, check=True).stdout


def draw(name: str) -> None:
    """Draw the specimen of one example, or compute it at its reduced size and draw its images."""
    entry = ENTRIES[name]
    smaller = ("--config", *entry.small) if entry.small else ()
    if entry.shows_specimen:
        stemphony("show", EXAMPLES / name, "--output", picture(name), *smaller)
    else:
        said = stemphony("run", EXAMPLES / name, "--replace", *smaller)
        (merged,) = [line.split()[1] for line in said.splitlines() if line.startswith("result ")]
        output = ("--size", "column", "--style", STYLE, "--output", picture(name))
        stemphony("plot", Path(merged).parent, *entry.plot, *output)
    shrink(picture(name))
    size = picture(name).stat().st_size
    print(f"{picture(name)}: {size / 1000:.0f} kB")
    if size > LARGEST_BYTES:
        sys.exit(f"{picture(name)} has more than {LARGEST_BYTES / 1000:.0f} kB; make its pixels fewer")


def shrink(file: Path) -> None:
    """Make a picture at most 600 pixels wide, with 48 colours."""
    with Image.open(file) as image:
        small = image.convert("RGB")
    small.thumbnail((600, 600), Image.Resampling.LANCZOS)
    small.quantize(48).save(file, optimize=True)


def page() -> str:
    """The text of docs/gallery.md."""
    lines = [
        "# Gallery",
        "",
        "After this page you know which config of `config/examples` to start from. For example:",
        "",
        "```",
        "stemphony check config/examples/srtio3_image.yaml",
        "stemphony run config/examples/srtio3_image.yaml",
        "```",
        "",
        "Pictures marked *Reduced size* were computed with a smaller specimen, a coarser scan or grid, and",
        "fewer configurations than the config has. `python docs/gallery.py` writes this page.",
    ]
    for name, entry in ENTRIES.items():
        shown = picture(name).relative_to(DOCS).as_posix()
        size = " *The specimen, drawn by `stemphony show`.*" if entry.shows_specimen else ""
        size += " *Reduced size.*" if entry.small else ""
        title = (DOCS / entry.explained).read_text(encoding="utf-8").splitlines()[0].removeprefix("# ")
        lines += [
            "",
            f"## {entry.title}",
            "",
            f"[{name}](../config/examples/{name}). {entry.sentence}{size}",
            "",
            f"Explained in [{title}]({entry.explained}).",
            "",
            f"![{entry.title}]({shown})",
        ]
    return "\n".join(lines) + "\n"


def main(arguments: list[str]) -> None:
    """Draw the pictures of some examples, or of all examples whose own page has no picture. Then write the page."""
    PAGE.write_text(page(), encoding="utf-8")
    if arguments == ["--page"]:
        return
    unknown = [name for name in arguments if name not in ENTRIES or ENTRIES[name].picture]
    if unknown:
        drawn = ", ".join(name for name, entry in ENTRIES.items() if not entry.picture)
        sys.exit(f"the gallery does not draw {', '.join(unknown)}; it draws {drawn}")
    for folder in (BUILD, PICTURES):
        folder.mkdir(parents=True, exist_ok=True)
    for name, entry in ENTRIES.items():
        if name in arguments or not (arguments or entry.picture):
            draw(name)


if __name__ == "__main__":
    main(sys.argv[1:])
