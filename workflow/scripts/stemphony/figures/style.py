"""Size, fonts and colours of figures."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from stemphony.errors import ResultError, StorageError

HERE = Path(__file__).parent
LIGHT, DARK = "light", "dark"
CM_PER_INCH = 2.54
"""Centimetres in one inch. The sizes of figures are in cm, and matplotlib counts in inches."""
DOTS_PER_INCH = 200
"""Resolution of PNG files. A slide is then 1900 pixels wide."""

SIZES: dict[str, tuple[float, float]] = {"slide": (24.0, 14.0), "page": (17.8, 9.0), "column": (8.6, 7.5)}
"""Width [cm] and size of text [pt]. A slide is 16:9 with margins. A page has two columns of a journal."""

FORMATS = (".png", ".pdf", ".svg")


@dataclass(frozen=True)
class Style:
    """How figures look.

    Attributes
    ----------
    size : str
        A key of `SIZES`.
    background : str
        `light` or `dark`, which chooses one of Stemphony's style files.
    file : Path or None
        Another style file of matplotlib. Its entries replace those of `background`.
    """

    size: str = "slide"
    background: str = LIGHT
    file: Path | None = None

    def __post_init__(self) -> None:
        if self.size not in SIZES:
            raise ResultError(f"size: got {self.size!r}; allowed are {', '.join(SIZES)}.")

    @property
    def width(self) -> float:
        """Width of a whole figure [inch]."""
        return SIZES[self.size][0] / CM_PER_INCH

    @property
    def points(self) -> float:
        """Size of text [pt]."""
        return SIZES[self.size][1]

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Context in which figures have this style.

        Raises
        ------
        StorageError
            The style file cannot be read.
        """
        import matplotlib.style

        small = 0.85 * self.points
        own = {
            "font.size": self.points, "axes.titlesize": self.points, "axes.labelsize": self.points,
            "xtick.labelsize": small, "ytick.labelsize": small, "legend.fontsize": small,
            "axes.titlepad": 0.4 * self.points, "lines.linewidth": self.points / 8, "axes.linewidth": self.points / 14,
            "xtick.major.width": self.points / 14, "ytick.major.width": self.points / 14,
        }  # fmt: skip
        styles: list[Any] = [HERE / f"{self.background}.mplstyle", own]
        if self.file is not None:
            if not self.file.is_file():
                raise StorageError(f"--style: {self.file} does not exist. Copy and edit {styles[0]}.")
            styles.append(self.file)
        with ExitStack() as stack:
            try:
                stack.enter_context(matplotlib.style.context(styles))
            except (OSError, ValueError) as error:
                raise StorageError(
                    f"--style: {self.file} cannot be used as a style file ({error}). Copy and edit {styles[0]}."
                ) from None
            yield

    def figure(self, height: float, width: float | None = None, layout: str | None = "constrained") -> Any:
        """An empty figure of this `height` and `width` [inch]; without a width, that of the style.

        `layout` is the layout engine of matplotlib, None for fixed places. Call this method inside `applied`.
        """
        return _figure_class()(figsize=(width or self.width, height), layout=layout)


def _figure_class() -> Any:
    from matplotlib.figure import Figure

    class Drawing(Figure):
        """A figure that a notebook shows without further commands."""

        def _repr_png_(self) -> bytes:
            buffer = BytesIO()
            self.savefig(buffer, format="png", dpi=100, bbox_inches="tight")
            return buffer.getvalue()

    return Drawing


def colour(index: int) -> str:
    """Colour of the style with this `index`, as #rrggbb; behind the last colour, the first one follows.

    Call this function inside `applied`, because figures are saved outside of it.
    """
    from matplotlib import rcParams
    from matplotlib.colors import to_hex

    colours = rcParams["axes.prop_cycle"].by_key()["color"]
    return str(to_hex(colours[index % len(colours)]))


def save(figure: Any, file: Path) -> None:
    """Write a `figure` to `file` as PNG, PDF or SVG. The ending of the file name decides which.

    Raises
    ------
    ResultError
        The name has another ending.
    StorageError
        The file cannot be written.
    """
    if file.suffix.lower() not in FORMATS:
        raise ResultError(f"got {file}; figures are {', '.join(FORMATS)} files. Name it {file.stem}.png.")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(file, dpi=DOTS_PER_INCH, bbox_inches="tight", pad_inches=0.04)
    except OSError as error:
        raise StorageError(f"{file} cannot be written: {error.strerror or error}. Choose another --output.") from None


UNITS: dict[str, tuple[float, str]] = {"1": (100.0, "% of the beam"), "mrad": (1.0, "mrad"), "rad": (1.0, "rad")}
"""For each unit of a signal, its factor in a figure and the text of its axis."""


def unit_in_words(unit: str) -> str:
    """The `unit` of stored values, as a text for JSON."""
    return "fraction of the incident beam" if unit == "1" else unit


KNOWN_NAMES = frozenset({"bf", "abf", "adf", "df", "laadf", "maadf", "haadf"})
"""Names of detectors that are usually written in capitals."""


PHASES = {"idpc": "iDPC", "icom": "iCoM", "dpc_x": "DPC x", "dpc_y": "DPC y"}
"""Names of the images that the merge makes from segments and centres of mass, and how figures write them."""


def label(name: str) -> str:
    """Text that figures show for the detector or image `name`."""
    if name in KNOWN_NAMES:
        return name.upper()
    for end, shown in PHASES.items():
        if name == end or name.endswith(f"_{end}"):
            before = name[: -len(end)].replace("_", " ")
            return f"{before}{shown}"
    return name.replace("_", " ")
