"""Results for notebooks and scripts: labelled arrays in nm, mrad and fractions of the beam."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from stemphony.errors import ResultError
from stemphony.interface import arrays
from stemphony.paths import ResultPaths, SweepPaths
from stemphony.results.line_profile import profile
from stemphony.results.opened import Detector, OpenedResult, Signal
from stemphony.results.patterns import pattern
from stemphony.results.region_mean import region_mean
from stemphony.results.thickness_curve import thickness_curve
from stemphony.store import members

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from xarray import DataArray, DataTree

Place = tuple[float, float]


def open_result(path: str | Path) -> Result:
    """Open a merged result.

    Parameters
    ----------
    path : str or Path
        Folder `results/<name>`, or a file: `stem.nc`, or `preview.nc` of an unfinished run.

    Returns
    -------
    Result
        The opened result.

    Raises
    ------
    StemphonyError
        There is no result, or it is damaged. The text says what to do.
    """
    given = Path(path)
    members.require_one(given, f"xarray opens the whole sweep: {SweepPaths(given).combined}.")
    return Result(ResultPaths(given).merged if given.is_dir() else given)


class Result:
    """A merged result. Arrays are labelled: x, y and depths in nm, angles in mrad, signals in fractions of the beam.

    A detector is a name, or two angles in mrad: `(80, 120)` makes a ring of the stored radial bins. Without `depth_nm`
    the methods use the exit surface. Without `defocus_nm` they use the mean over the defoci. They take the nearest
    stored depth, defocus and position, and the array says which. If none is near, an error lists the stored values.

    Parameters
    ----------
    file : Path
        The merged file.
    """

    def __init__(self, file: Path) -> None:
        self._opened = OpenedResult(file)

    def __repr__(self) -> str:
        return f"<stemphony.Result {self._opened.file}: {self._opened.title}; detectors {', '.join(self.detectors)}>"

    @property
    def detectors(self) -> dict[str, tuple[float, float]]:
        """Named detectors with their inner and outer angles [mrad]."""
        return dict(self._opened.detectors)

    @property
    def depths_nm(self) -> list[float]:
        """Stored depths below the entrance surface [nm]."""
        return [float(depth) for depth in self._opened.depths_nm]

    @property
    def tree(self) -> DataTree:
        """The whole file as an `xarray.DataTree`, with the names of docs/output.md; its waves are complex."""
        return arrays.with_complex_waves(arrays.package().open_datatree(self._opened.file))

    def image(self, detector: Detector, depth_nm: float | None = None, defocus_nm: float | None = None) -> DataArray:
        """Image of a detector, (y, x): `.plot()` draws x to the right and y upwards.

        A line scan gives (distance), a list of positions (position). The class says how `detector`, `depth_nm` [nm] and
        `defocus_nm` [nm] choose an image.

        Raises
        ------
        StemphonyError
            The result has no such detector, depth or defocus. The text lists those that it has.
        """
        signal = self._opened.signal(detector, depth_nm, defocus_nm)
        return arrays.image(self._opened.positions, signal, signal.values, signal.name, "signal")

    def standard_error(
        self, detector: Detector, depth_nm: float | None = None, defocus_nm: float | None = None
    ) -> DataArray:
        """Standard error over configurations of each pixel of `image`.

        `detector`, `depth_nm` and `defocus_nm` choose the image, as the class says.

        Raises
        ------
        StemphonyError
            The result has no standard error. It has only one configuration, or the signal is a ring of averaged bins.
        """
        signal = self._opened.signal(detector, depth_nm, defocus_nm)
        if signal.errors is None:
            raise _no_errors(signal.name)
        name = f"{signal.name}_standard_error"
        return arrays.image(self._opened.positions, signal, signal.errors, name, "standard error")

    def profile(
        self,
        detector: Detector,
        begin_nm: Place | None = None,
        end_nm: Place | None = None,
        *,
        depth_nm: float | None = None,
        defocus_nm: float | None = None,
        points: int | None = None,
    ) -> DataArray:
        """Signal along the line from `begin_nm` to `end_nm`, places (x, y) in nm, interpolated between the positions.

        It is read from the `image` of the same `detector`, `depth_nm` and `defocus_nm`. Without `points`, the line has
        8 points per step of the scan. If the result has standard errors, they are the coordinate `standard_error`. For
        a line scan, leave out the places.

        Raises
        ------
        StemphonyError
            The line has no length or leaves the scan, the scan is a list, or the result does not hold the signal.
        """
        signal = self._opened.signal(detector, depth_nm, defocus_nm)
        line = profile(self._opened.positions, signal, begin_nm, end_nm, points)
        return arrays.line(signal, "distance", line.distance_nm, "distance along the line", line.values, line.errors)

    def curve(
        self,
        detector: Detector,
        at_nm: Place | None = None,
        *,
        x_nm: Place | None = None,
        y_nm: Place | None = None,
        defocus_nm: float | None = None,
    ) -> DataArray:
        """Signal against the depth: at the position nearest to `at_nm`, or the mean over the scan or a part of it.

        The signal is that of `detector` and `defocus_nm`, and `at_nm` is a place (x, y) in nm. `x_nm` and `y_nm` choose
        a part of the scan. It has the positions with x and y in these ranges, [from, to). The coordinate `positions`
        counts them. `distinct_positions` counts copies by symmetry only once, and so does `standard_error`, which
        assumes that the distinct positions are independent. They see the same atoms, so the true error lies between
        `standard_error` and `largest_error`. For the mean over the whole scan, `standard_error` is the largest error.

        Raises
        ------
        ResultError
            `at_nm` is given together with a part, or the result does not hold the signal.
        """
        if x_nm is not None or y_nm is not None:
            if at_nm is not None:
                raise ResultError(
                    "at_nm chooses one position, x_nm and y_nm choose a part of the scan. Give only one of these."
                )
            return arrays.region(
                [region_mean(self._opened, detector, x_nm, y_nm, depth, defocus_nm) for depth in self.depths_nm]
            )
        signal = self._opened.signal(detector, defocus_nm=defocus_nm)
        curve = thickness_curve(self._opened, detector, at_nm, defocus_nm)
        return arrays.line(signal, "depth_nm", curve.depths_nm, arrays.DEPTH, curve.values, curve.errors)

    def pattern(
        self, at_nm: Place | None = None, *, depth_nm: float | None = None, defocus_nm: float | None = None
    ) -> DataArray:
        """Diffraction pattern (ky, kx) of the position nearest to `at_nm`, or the mean over the scan (PACBED).

        `at_nm` is a place (x, y) in nm. The class says how `depth_nm` and `defocus_nm` choose. If the result has
        standard errors of the mean, they are the coordinate `standard_error`.

        Raises
        ------
        StemphonyError
            The result has no patterns, or none at this place, depth or defocus.
        """
        return arrays.pattern(pattern(self._opened, at_nm, depth_nm, defocus_nm))

    def center_of_mass(self, depth_nm: float | None = None, defocus_nm: float | None = None) -> DataArray:
        """Centre of mass of the diffraction patterns [mrad], (component, y, x) with the components x and y.

        The class says how `depth_nm` and `defocus_nm` choose. A scan that is a line or a list gives its own axis in
        place of y and x.

        Raises
        ------
        StemphonyError
            The result has no centre of mass, or no such depth or defocus.
        """
        values, depth = self._opened.center_of_mass(depth_nm, defocus_nm)
        signal = Signal("center_of_mass", None, values, None, depth, self._opened.mean.defocus(defocus_nm), 0.0)
        return arrays.center_of_mass(self._opened.positions, signal)

    def plot(
        self,
        kind: str = "images",
        *,
        detector: Detector | Sequence[Detector] = (),
        depth_nm: float | Sequence[float] = (),
        defocus_nm: float | None = None,
        at_nm: Place | None = None,
        begin_nm: Place | None = None,
        end_nm: Place | None = None,
        tile: tuple[int, int] = (1, 1),
        interpolate: int = 1,
        source_nm: float | None = None,
        dose: float | None = None,
        seed: int = 1,
        standard_error: bool = False,
        atoms: bool = False,
        periodic: bool = False,
        linear: bool = False,
        size: str = "page",
        dark: bool = False,
        style: str | Path | None = None,
        output: str | Path | None = None,
    ) -> Figure:
        """Draw a figure, which a notebook shows, as `stemphony plot` does. docs/how-to/figures.md explains each option.

        Parameters
        ----------
        kind : str
            `images`, `curves`, `profile`, `pattern`, `waves`, `com` for the centre of mass, or `dpc` for the
            deflection that segments measure.
        detector, depth_nm, defocus_nm
            As in the other methods, or sequences of detectors and depths. Empty means all rings, but no segments.
        at_nm, begin_nm, end_nm : (float, float) or None
            Places (x, y) [nm]: of a curve, pattern or wave, and where a profile begins and ends.
        tile, interpolate, source_nm, dose, seed, standard_error, periodic
            `tile`, `finer`, `source_nm`, `dose`, `seed`, `shows_errors` and `is_periodic` of `pictures.Treatment`.
        atoms, linear, dark : bool
            Rings around the atoms, a linear scale of a pattern, a dark background.
        size, style
            A key of `figures.style.SIZES`, and a style file of matplotlib.
        output : str or Path or None
            File to write: PNG, PDF or SVG.

        Raises
        ------
        StemphonyError
            The result lacks the data, an option does not belong to this kind, or a file cannot be read or written.
        """
        from stemphony.figures.pictures import Treatment
        from stemphony.figures.request import FigureRequest, draw
        from stemphony.figures.style import DARK, LIGHT, Style, save

        request = FigureRequest(
            kind=kind, detectors=_listed(detector),
            depths_nm=[depth_nm] if isinstance(depth_nm, int | float) else list(depth_nm), defocus_nm=defocus_nm,
            at_nm=at_nm, begin_nm=begin_nm, end_nm=end_nm, shows_atoms=atoms, is_linear=linear,
            treatment=Treatment(
                tile=tile, finer=interpolate, source_nm=source_nm, dose=dose, seed=seed, shows_errors=standard_error,
                is_periodic=periodic,
            ),
        )  # fmt: skip
        figure: Figure = draw(
            self._opened, request, Style(size, DARK if dark else LIGHT, None if style is None else Path(style))
        ).figure
        if output is not None:
            save(figure, Path(output))
        return figure


def _listed(detector: Detector | Sequence[Detector]) -> list[Detector]:
    """One detector or several as a list; two numbers are the angles of one ring."""
    if isinstance(detector, str):
        return [detector]
    found: list[Detector] = []
    numbers = [float(one) for one in detector if isinstance(one, int | float)]
    if numbers:
        return [(numbers[0], numbers[1])]
    found.extend(one for one in detector if isinstance(one, str | tuple))
    return found


def _no_errors(name: str) -> ResultError:
    """The error for a signal without standard errors."""
    return ResultError(
        f"{name} has no standard errors. They need two or more configurations: a named detector, or configurations "
        "that are kept apart (adf.average_configurations: false). If defoci that share their configurations are kept "
        "apart, choose one defocus."
    )
