"""Draw docs/figures/symmetry.png, and write the table of docs/how-to/symmetry.md.

    python docs/figures/symmetry.py RESULT_OFF RESULT_AUTO

The arguments are the result folders of two runs that differ only in `scan.symmetry`. The runs have one defocus and
thermal motion.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))

import netCDF4
import numpy as np
import page
from matplotlib.figure import Figure

COMMAND = "python docs/figures/symmetry.py"
FOLDER = Path(__file__).resolve().parent
PAGE = FOLDER.parent / "how-to" / "symmetry.md"
DETECTORS = ("bf", "adf", "haadf")
SHOWN = "haadf"


def read(folder: Path) -> dict[str, np.ndarray]:
    """Images and standard errors at the exit surface, by name. `<name>_jobs` holds the images of all configurations."""
    found: dict[str, np.ndarray] = {}
    with netCDF4.Dataset(folder / "stem.nc") as root:
        images = root["images"]
        found["x"] = np.asarray(images["adf_position_x"][:], dtype=float)
        if "orbit" in images.variables:
            found["orbit"] = np.asarray(images["orbit"][:])
        for name in DETECTORS:
            found[name] = np.asarray(images[name][0, 0, -1], dtype=float)
            found[f"{name}_error"] = np.asarray(images[f"{name}_standard_error"][0, 0, -1], dtype=float)
    for name in DETECTORS:
        stack = []
        for file in sorted(folder.glob("jobs/*/configuration_*.nc")):
            with netCDF4.Dataset(file) as job:
                image = np.asarray(job["images"][name][0, 0, -1], dtype=float)
            stack.append(image[found["orbit"], 0] if "orbit" in found else image)
        found[f"{name}_jobs"] = np.array(stack)
    return found


HEAD = ["", "off: mean", "error of a pixel", "error of the mean", "auto: mean", "error of a pixel", "error of the mean"]


def rows(off: dict[str, np.ndarray], auto: dict[str, np.ndarray]) -> list[list[str]]:
    """Rows of the table: mean of the image, error of a pixel, and error of the mean, in % of the mean."""
    made = []
    for name in DETECTORS:
        cells = [name]
        for one in (off, auto):
            mean = one[name].mean()
            pixel = np.sqrt((one[f"{name}_error"] ** 2).mean()) / mean
            of_scan = one[f"{name}_jobs"].mean(axis=(1, 2))
            whole = of_scan.std(ddof=1) / np.sqrt(len(of_scan)) / mean
            cells += [f"{mean:.5f}", f"{100 * pixel:.2g} %", f"{100 * whole:.2g} %"]
        made.append(cells)
    return made


def draw(off: dict[str, np.ndarray], auto: dict[str, np.ndarray]) -> Figure:
    """Draw the image and the standard error of both runs with common scales."""
    figure = Figure(figsize=(7.2, 6.2), layout="constrained")
    panels = figure.subplots(2, 2)
    for row, (suffix, label) in enumerate((("", "signal"), ("_error", "standard error"))):
        largest = 100 * max(one[SHOWN + suffix].max() for one in (off, auto))
        for column, (title, one) in enumerate((("off", off), ("auto", auto))):
            axes = panels[row, column]
            step = one["x"][1] - one["x"][0]
            edge = (-step / 2, one["x"][-1] + step / 2)
            shown = axes.imshow(
                100 * one[SHOWN + suffix].T, origin="lower", extent=(*edge, *edge), vmin=0, vmax=largest, cmap="viridis"
            )
            axes.set_title(f"symmetry: {title}, {label}", fontsize=10)
            axes.set_xlabel("x / nm")
            axes.set_ylabel("y / nm")
        figure.colorbar(shown, ax=panels[row], label=f"{SHOWN.upper()} / % of the beam", shrink=0.9)
    return figure


def main(off_folder: str, auto_folder: str) -> None:
    """Write the figure and the table."""
    off, auto = read(Path(off_folder)), read(Path(auto_folder))
    page.rewrite(COMMAND, page.table(HEAD, rows(off, auto)), PAGE)
    draw(off, auto).savefig(FOLDER / "symmetry.png", dpi=110)


if __name__ == "__main__":
    main(*sys.argv[1:])
