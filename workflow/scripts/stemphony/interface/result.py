"""Results for notebooks and scripts: labelled arrays in nm, mrad and fractions of the beam."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stemphony.errors import ResultError
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
        xarray: Any = _xarray()
        tree: DataTree = xarray.open_datatree(self._opened.file)
        return _with_complex_waves(tree)

    def image(self, detector: Detector, depth_nm: float | None = None, defocus_nm: float | None = None) -> DataArray:
        """Image of a detector, (y, x): `.plot()` draws x to the right and y upwards.

        A line scan gives (distance), a list of positions (position).
        """
        signal = self._opened.signal(detector, depth_nm, defocus_nm)
        return self._image(signal, signal.values, signal.name, "signal")

    def standard_error(
        self, detector: Detector, depth_nm: float | None = None, defocus_nm: float | None = None
    ) -> DataArray:
        """Standard error over configurations of each pixel of `image`.

        Raises
        ------
        StemphonyError
            The result has no standard error. It has only one configuration, or the signal is a ring of averaged bins.
        """
        signal = self._opened.signal(detector, depth_nm, defocus_nm)
        if signal.errors is None:
            raise no_errors(signal.name)
        return self._image(signal, signal.errors, f"{signal.name}_standard_error", "standard error")

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

        Without `points`, the line has 8 points per step of the scan. If the result has standard errors, they are the
        coordinate `standard_error`. For a line scan, leave out the places.
        """
        signal = self._opened.signal(detector, depth_nm, defocus_nm)
        line = profile(self._opened.positions, signal, begin_nm, end_nm, points)
        return self._line(signal, "distance", line.distance_nm, "distance along the line", line.values, line.errors)

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

        `x_nm` and `y_nm` choose a part of the scan. It has the positions with x and y in these ranges, [from, to).
        The coordinate `positions` counts them. `distinct_positions` counts copies by symmetry only once, and so does
        `standard_error`, which assumes that the distinct positions are independent. They see the same atoms, so the
        true error lies between `standard_error` and `largest_error`. For the mean over the whole scan,
        `standard_error` is the largest error.

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
            return self._region(detector, x_nm, y_nm, defocus_nm)
        signal = self._opened.signal(detector, defocus_nm=defocus_nm)
        curve = thickness_curve(self._opened, detector, at_nm, defocus_nm)
        return self._line(
            signal, "depth_nm", curve.depths_nm, "depth below the entrance surface", curve.values, curve.errors
        )

    def pattern(
        self, at_nm: Place | None = None, *, depth_nm: float | None = None, defocus_nm: float | None = None
    ) -> DataArray:
        """Diffraction pattern (ky, kx) of the position nearest to `at_nm`, or the mean over the scan (PACBED).

        If the result has standard errors of the mean, they are the coordinate `standard_error`.
        """
        found = pattern(self._opened, at_nm, depth_nm, defocus_nm)
        place: dict[str, Any] = {} if found.at_nm is None else {"x": _nm("probe position along x", found.at_nm[0]),
                                                "y": _nm("probe position along y", found.at_nm[1])}  # fmt: skip
        angles = {
            f"k{axis}": (f"k{axis}", values, {"units": "mrad", "long_name": f"scattering angle along {axis}"})
            for axis, values in (("x", found.kx_mrad), ("y", found.ky_mrad))
        }
        if found.errors is not None:
            about = {"long_name": "standard error over frozen-phonon configurations", "units": "1"}
            place = {"standard_error": (("ky", "kx"), found.errors.T, about)}
        return _xarray().DataArray(
            found.values.T, dims=("ky", "kx"), name="pacbed" if found.at_nm is None else "cbed",
            coords={**angles, **place, "depth_nm": _nm("depth below the entrance surface", found.depth_nm)},
            attrs={"long_name": "fraction of the incident intensity per pixel", "units": "1"},
        )  # fmt: skip

    def center_of_mass(self, depth_nm: float | None = None, defocus_nm: float | None = None) -> DataArray:
        """Centre of mass of the diffraction patterns [mrad], (component, y, x) with the components x and y."""
        values, depth = self._opened.center_of_mass(depth_nm, defocus_nm)
        signal = Signal("center_of_mass", None, values, None, depth, self._opened.mean.defocus(defocus_nm), 0.0)
        parts = [self._image(signal, values[..., axis], "center_of_mass", "") for axis in (0, 1)]
        both = _xarray().concat(parts, "component").assign_coords(component=["x", "y"])
        both.attrs = {"long_name": "centre of mass of the diffraction pattern", "units": "mrad"}
        return both

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
        """Draw a figure, as `stemphony plot` does; docs/how-to/figures.md explains each option.

        Parameters
        ----------
        kind : str
            `images`, `curves`, `profile`, `pattern`, `com` for the centre of mass, or `dpc` for the deflection that
            segments measure.
        output : str or Path or None
            File to write: PNG, PDF or SVG.

        Returns
        -------
        matplotlib.figure.Figure
            A notebook shows it without further commands.
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

    def _image(self, signal: Signal, values: Any, name: str, what: str) -> DataArray:
        positions = self._opened.positions
        dims: tuple[str, ...]
        if positions.kind == "positions":
            number = {"long_name": "number of the position", "units": "1"}
            axes, dims, values = {"position": ("position", positions.x_nm, number)}, ("position",), values[:, 0]
        elif positions.kind == "line":
            attributes = {"long_name": "distance along the line", "units": "nm"}
            axes, dims, values = {"distance": ("distance", positions.x_nm, attributes)}, ("distance",), values[:, 0]
        else:
            axes = {
                axis: (axis, along, {"long_name": f"probe position along {axis}", "units": "nm"})
                for axis, along in (("x", positions.x_nm), ("y", positions.y_nm))
            }
            dims, values = ("y", "x"), values.T
        return _xarray().DataArray(
            values, dims=dims, name=name, coords={**axes, **_scalars(signal)}, attrs=_attributes(signal, what)
        )

    def _region(
        self, detector: Detector, x_nm: Place | None, y_nm: Place | None, defocus_nm: float | None
    ) -> DataArray:
        found = [region_mean(self._opened, detector, x_nm, y_nm, depth, defocus_nm) for depth in self.depths_nm]
        signal, errors = found[-1].signal, [mean.error for mean in found]
        values = [mean.value for mean in found]
        curve = self._line(
            signal, "depth_nm", self.depths_nm, "depth below the entrance surface", values,
            None if None in errors else errors,
        )  # fmt: skip
        counts = {"positions": found[-1].positions, "distinct_positions": found[-1].distinct}
        largest = [mean.largest_error for mean in found]
        return curve.assign_coords(
            counts
            if None in largest
            else {**counts, "largest_error": ("depth_nm", largest, curve["standard_error"].attrs)}
        )

    @staticmethod
    def _line(signal: Signal, dimension: str, along: Any, long_name: str, values: Any, errors: Any) -> DataArray:
        coords = {**_scalars(signal), dimension: (dimension, along, {"long_name": long_name, "units": "nm"})}
        if errors is not None:
            coords["standard_error"] = (dimension, errors, _attributes(signal, "standard error"))
        return _xarray().DataArray(
            values, dims=(dimension,), name=signal.name, coords=coords, attrs=_attributes(signal, "signal")
        )


def _with_complex_waves(tree: DataTree) -> DataTree:
    """The tree with complex numbers in place of the dimension `part` of its group `waves`."""
    xarray: Any = _xarray()
    if "waves" not in tree.children:
        return tree
    waves: Any = tree["waves"].to_dataset()
    for name in [name for name, values in waves.data_vars.items() if "part" in values.dims]:
        parts = waves[name].to_numpy()
        dims = waves[name].dims[:-1]
        waves[name] = xarray.DataArray(parts[..., 0] + 1j * parts[..., 1], dims=dims, attrs=waves[name].attrs)
    tree["waves"] = xarray.DataTree(waves.drop_vars("part"))
    return tree


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


def no_errors(name: str) -> ResultError:
    """The error for a signal without standard errors."""
    return ResultError(
        f"{name} has no standard errors. They need two or more configurations: a named detector, or configurations "
        "that are kept apart (adf.average_configurations: false). If defoci that share their configurations are kept "
        "apart, choose one defocus."
    )


def _scalars(signal: Signal) -> dict[str, Any]:
    found = {"depth_nm": _nm("depth below the entrance surface", signal.depth_nm)}
    if signal.defocus_nm is not None:
        found["defocus_nm"] = _nm("defocus, positive is underfocus", signal.defocus_nm)
    return found


def _nm(long_name: str, value: float) -> tuple[tuple[()], float, dict[str, str]]:
    return (), value, {"long_name": long_name, "units": "nm"}


def _attributes(signal: Signal, what: str) -> dict[str, Any]:
    quantity = "fraction of the incident intensity" if signal.unit == "1" else "deflection or phase"
    found: dict[str, Any] = {"long_name": f"{signal.name}, {what}, {quantity}", "units": signal.unit}
    if signal.ring_mrad is not None:
        found["inner_mrad"], found["outer_mrad"] = signal.ring_mrad
    if signal.source_nm:
        found |= {"source_fwhm_nm": signal.source_nm, **signal.source_shape}
    return found


def _xarray() -> Any:
    """The package xarray, which only notebooks and scripts need."""
    try:
        import xarray
    except ImportError:
        raise ResultError(
            "labelled arrays need the package xarray, which this environment does not have. Install it there: "
            "python -m pip install xarray"
        ) from None
    return xarray
