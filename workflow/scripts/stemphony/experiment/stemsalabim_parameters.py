"""Convert a parameter file of STEMsalabim to a config of Stemphony. Each key is converted, or a remark names it.

The file is in the language of libconfig: blocks `name: { key = value; }`. Lengths are in nm, angles in mrad, energies
in keV and eV. Keys and defaults are those in the documentation of STEMsalabim, versions 3.1 to 5.4.
"""

from __future__ import annotations

import difflib
import io
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stemphony.errors import ConfigError
from stemphony.experiment.mistakes import kind
from stemphony.physics.grid import fft_friendly_size
from stemphony.physics.slicing import number_of_slices

ANGSTROM_PER_NM = 10.0
"""One nanometre [Å]. The parameter file has lengths in nm, and the config has some in Å."""

DEFAULTS: dict[str, dict[str, Any]] = {
    "application": {"random_seed": 0, "skip_simulation": False, "verbose": None, "precision": None},
    "simulation": {
        "title": "", "bandwidth_limiting": True, "normalize_always": False, "output_file": "", "tmp_dir": "",
        "output_compress": False, "chunking_enabled": True, "save_probe_wavefunction": False,
    },
    "probe": {
        "c5": 5e6, "cs": 2e3, "defocus": -2.0, "fwhm_defoci": 6.0, "num_defoci": 1, "astigmatism_ca": 0.0,
        "astigmatism_angle": 0.0, "min_apert": 0.0, "max_apert": 24.0, "beam_energy": 200.0, "scan_density": 40.0,
    },
    "specimen": {"max_potential_radius": 0.3, "crystal_file": ""},
    "grating": {"density": 360.0, "slice_thickness": 0.2715},
    "adf": {
        "enabled": True, "x": (0.0, 1.0), "y": (0.0, 1.0), "detector_min_angle": 1.0, "detector_max_angle": 300.0,
        "detector_num_angles": 300, "detector_interval_exponent": 1.0, "save_slices_every": 10,
        "average_configurations": True, "average_defoci": True,
    },
    "cbed": {
        "enabled": False, "x": (0.0, 1.0), "y": (0.0, 1.0), "size": (0, 0), "save_slices_every": 0,
        "average_configurations": True, "average_defoci": True,
    },
    "frozen_phonon": {"enabled": True, "number_configurations": 1, "fixed_slicing": True},
    "plasmon_scattering": {
        "enabled": False, "simple_mode": False, "plural_scattering": False, "max_energy": 25.0,
        "energy_grid_density": 2.0, "mean_free_path": 128.0, "plasmon_energy": 16.9, "plasmon_fwhm": 4.0,
    },
    "http_reporting": {"reporting": False, "url": "", "auth_user": "", "auth_pass": "", "parameters": {}},
}  # fmt: skip
"""Blocks and keys of the file, with the values that STEMsalabim uses if a key is missing."""

SIMILAR = 0.8
"""Smallest similarity, as a share, at which a name counts as a misspelling of another. `max_aprt` and `max_apert` have
0.94."""

_BLOCK = re.compile(rf"^[ \t]*({'|'.join(DEFAULTS)})\s*[:=]\s*\{{\s*(?:(?:\#|//)[^\n]*\n\s*)*\w+\s*=", re.MULTILINE)
"""The beginning of a block with its first setting. YAML has braces too, but without `=` inside."""


@dataclass
class Translation:
    """A config, and the remarks that its reader must know.

    Attributes
    ----------
    config : dict
        Blocks and keys of Stemphony. Missing keys have the defaults of Stemphony.
    remarks : dict of str to str
        Remark on a key of the config, by `block.key`.
    without_counterpart : list of str
        `block.key = value` of the file with the reason why it is not in the config.
    defaults : list of str
        Keys that the file does not have. They get the defaults of STEMsalabim.
    """

    config: dict[str, dict[str, Any]] = field(default_factory=dict)
    remarks: dict[str, str] = field(default_factory=dict)
    without_counterpart: list[str] = field(default_factory=list)
    defaults: list[str] = field(default_factory=list)

    def put(self, key: str, value: Any, remark: str = "") -> None:
        """Set `key` of the config, written as `block.key`, to `value`.

        A `remark` that is not empty stands behind the key as a comment.
        """
        block, name = key.split(".")
        self.config.setdefault(block, {})[name] = value
        if remark:
            self.remarks[key] = remark

    def leave(self, key: str, value: Any, why: str) -> None:
        """Note that `key` of the file with its `value` has no counterpart; `why` is the reason, in words."""
        self.without_counterpart.append(f"{key} = {_shown(value)}: {why}")

    def yaml(self, source: str) -> str:
        """The config as a commented YAML file; `source` is the name of the parameter file in its heading."""
        lines = [f"# Made from {source}, a parameter file of STEMsalabim. Lengths of its keys are in nm there."]
        for block, keys in self.config.items():
            lines += ["", f"{block}:"]
            for key, value in keys.items():
                remark = self.remarks.get(f"{block}.{key}", "")
                lines.append(f"  {key}: {_shown(value)}" + (f"  # {remark}" if remark else ""))
        if self.without_counterpart:
            lines += ["", "# Keys of the file without a counterpart:"]
            lines += [f"#   {entry}" for entry in self.without_counterpart]
        if self.defaults:
            lines += ["", "# Keys that the file does not have; STEMsalabim's defaults are used:"]
            lines += [f"#   {entry}" for entry in self.defaults]
        return "\n".join(lines) + "\n"


def is_parameter_file(text: str) -> bool:
    """Whether `text` is a parameter file of STEMsalabim: at least two of its blocks, in libconfig's syntax."""
    return len(set(_BLOCK.findall(text))) >= 2


def read_parameters(file: Path) -> dict[str, Any]:
    """Blocks and keys of the parameter file `file` as they are written, and the settings outside of blocks.

    Raises
    ------
    ConfigError
        The file cannot be read, is not in libconfig's syntax, or has a number or text in place of a block.
    """
    import libconf

    try:
        text = Path(file).read_text(encoding="utf-8")
        content = libconf.load(io.StringIO(text), includedir=str(Path(file).parent))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not a text file"
        raise ConfigError("", f"{file} cannot be read: {reason}. Give a text file that you may read.") from None
    except (libconf.ConfigParseError, ValueError, RecursionError) as error:
        # The message of the parser quotes the text, which may be a password. So only the line is used.
        place = re.search(r"line (\d+)|row (\d+)", str(error))
        line = f" near line {place[1] or place[2]}" if place else ""
        raise ConfigError(
            "", f"{file} is not in libconfig's syntax{line}. Compare it with STEMsalabim's example."
        ) from None
    for block, values in content.items():
        if block in DEFAULTS and not isinstance(values, Mapping):
            raise ConfigError(
                block,
                f"{file} has {kind(values)} here; a block is expected. Write its settings in braces: {block}: {{ … }}",
            )
    return {block: dict(values) if isinstance(values, Mapping) else values for block, values in content.items()}


def crystal_file(parameters: Mapping[str, Mapping[str, Any]], file: Path) -> str:
    """Path of the crystal file as the parameter file names it; ConfigError if it names none.

    `parameters` are its blocks and keys, see `read_parameters`. `file` is its path, for the message.
    """
    name = parameters.get("specimen", {}).get("crystal_file", "")
    if not name:
        raise ConfigError("specimen.crystal_file", f"missing in {file}; it names the crystal file.")
    return str(name)


def translate(parameters: Mapping[str, Any], cell: Sequence[float], name: str, *, named_slices: int = 0) -> Translation:
    """Convert a parameter file to a config of Stemphony.

    Keys that STEMsalabim does not have become remarks only, because STEMsalabim does not read them either.

    Parameters
    ----------
    parameters : mapping
        Blocks and keys of the file, see `read_parameters`.
    cell : (3,)
        Lengths of the cell of the crystal [Å]. They convert densities of grid and scan to numbers of points.
    name : str
        Name of the simulation if the file names no output file.
    named_slices : int
        Number of slices that the crystal file names for its atoms (sixth column), which replace `slice_thickness`.

    Returns
    -------
    Translation
        The config with remarks, with the keys that have no counterpart, and with the keys that the file does not have.

    Raises
    ------
    ConfigError
        A value has the wrong type, or keys are misspelt. The message names all misspelt keys.
    """
    made = Translation()
    _unknown(parameters, made)
    taken = _Taken(parameters, made)
    _simulation(taken, made, name)
    _probe(taken, made)
    _specimen(taken, made)
    slices = _grating(taken, made, cell, named_slices)
    _scan(taken, made, cell, slices)
    _adf(taken, made)
    _cbed(taken, made, cell, slices)
    _frozen_phonon(taken, made)
    _plasmons(taken, made)
    _http_reporting(taken, made)
    return made


class _Taken:
    """Values of the file, or STEMsalabim's defaults. It notes which keys got a default."""

    def __init__(self, parameters: Mapping[str, Mapping[str, Any]], made: Translation) -> None:
        self._parameters, self._made = parameters, made

    def given(self, key: str) -> bool:
        block, name = key.split(".")
        return name in self._parameters.get(block, {})

    def value(self, key: str) -> Any:
        block, name = key.split(".")
        if self.given(key):
            value = self._parameters[block][name]
            return tuple(value) if isinstance(value, list | tuple) else value
        default = DEFAULTS[block][name]
        self._made.defaults.append(f"{key} = {_shown(default)}")
        return default

    def number(self, key: str) -> float:
        value = self.value(key)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ConfigError(key, f"got {value!r}; allowed is a number.")
        return value

    def window(self, key: str) -> tuple[float, float]:
        value = self.value(key)
        if not isinstance(value, tuple) or len(value) != 2:
            raise ConfigError(key, f"got {value!r}; allowed are two numbers in brackets, for example (0.0, 1.0).")
        return float(value[0]), float(value[1])

    def left(self, *keys: str, why: str) -> None:
        """Note keys without a counterpart. A key that the file does not have needs no note."""
        for key in keys:
            if self.given(key):
                self._made.leave(key, self.value(key), why)


def _simulation(taken: _Taken, made: Translation, name: str) -> None:
    output = str(taken.value("simulation.output_file")) if taken.given("simulation.output_file") else ""
    stem = re.sub(r"[^A-Za-z0-9_-]+", "_", Path(output).stem or name).strip("_") or "simulation"
    made.put("simulation.name", stem, f"results/{stem}/stem.nc in place of {output}" if output else "")
    title = taken.value("simulation.title") if taken.given("simulation.title") else ""
    if title:
        made.put("simulation.title", str(title))
    made.put("simulation.random_seed", int(taken.number("application.random_seed")), "0 draws one and keeps it")
    if taken.given("application.skip_simulation") and taken.value("application.skip_simulation"):
        raise ConfigError(
            "application.skip_simulation", "got true; nothing would be simulated. Use `stemphony check` in place of it."
        )
    taken.left("application.skip_simulation", why="nothing is skipped here either")
    taken.left("application.verbose", why="see the logs")
    taken.left("application.precision", why="use simulation.precision: single or double")
    taken.left("simulation.tmp_dir", why="no temporary folder is needed")
    taken.left("simulation.output_compress", "simulation.chunking_enabled", why="results are always compressed")
    taken.left("simulation.save_probe_wavefunction", why="not available in this version")
    if taken.given("simulation.normalize_always"):
        normalized = taken.value("simulation.normalize_always")
        why = "waves are never normalised on their way; the stored total intensity shows what the band limit takes"
        made.leave("simulation.normalize_always", normalized, why)


def _probe(taken: _Taken, made: Translation) -> None:
    number = taken.number
    made.put("probe.energy_kev", float(number("probe.beam_energy")))
    made.put("probe.semiangle_mrad", float(number("probe.max_apert")))
    made.put("probe.semiangle_inner_mrad", float(number("probe.min_apert")))
    made.put(
        "probe.defocus_nm", float(number("probe.defocus")),
        "positive is underfocus here; STEMsalabim's documentation does not state its sign: compare one image",
    )  # fmt: skip
    count = int(number("probe.num_defoci"))
    if count > 1:
        made.put("probe.defocus_fwhm_nm", float(number("probe.fwhm_defoci")))
        made.put("probe.defocus_quadrature", "even_grid", "weights of a Gaussian on even steps; gauss_hermite is exact")
    else:
        taken.left("probe.fwhm_defoci", why="one defocus samples no focal spread")
    made.put("probe.defocus_count", count)
    aberrations: dict[str, float] = {"C30_nm": float(number("probe.cs")), "C50_nm": float(number("probe.c5"))}
    strength = float(number("probe.astigmatism_ca")) if taken.given("probe.astigmatism_ca") else 0.0
    remark = "cs and c5"
    if strength:
        aberrations |= {
            "C12_nm": strength,
            "phi12_deg": math.degrees(1e-3 * float(number("probe.astigmatism_angle"))),
        }
        remark += "; astigmatism_ca and its angle (mrad): the original's zero of the angle is not documented"
    else:
        taken.left("probe.astigmatism_ca", "probe.astigmatism_angle", why="no astigmatism")
    made.put("probe.aberrations", aberrations, remark)


def _specimen(taken: _Taken, made: Translation) -> None:
    made.put("specimen.file", str(taken.value("specimen.crystal_file")))
    made.put("specimen.format", "stemsalabim", "nm, and nm² in the fifth column")
    taken.left("specimen.max_potential_radius", why="potentials are exact Fourier sums, they are not cut off")


def _grating(taken: _Taken, made: Translation, cell: Sequence[float], named_slices: int) -> int:
    """Set the grid and the slices; return the number of slices."""
    density = float(taken.number("grating.density"))
    nx, ny = (fft_friendly_size(max(8, math.ceil(density * length / ANGSTROM_PER_NM - 1e-9))) for length in cell[:2])
    actual = [n / length * ANGSTROM_PER_NM for n, length in zip((nx, ny), cell, strict=False)]
    made.put("grating.gpts", [nx, ny], f"density {density:g} /nm: {actual[0]:.5g} × {actual[1]:.5g} /nm on this cell")
    thickness = ANGSTROM_PER_NM * float(taken.number("grating.slice_thickness"))
    slices = named_slices
    if named_slices:
        made.put("grating.slice_thickness_angstrom", "auto", "the slices of the crystal file (sixth column)")
        taken.left("grating.slice_thickness", why="the crystal file names the slice of each atom")
    else:
        largest = min(_rounded(thickness), float(cell[2]))
        made.put("grating.slice_thickness_angstrom", largest, "at most; slices are equal")
        slices = number_of_slices(cell[2], largest)
    limited = taken.value("simulation.bandwidth_limiting")
    if not limited:
        made.put("grating.bandlimit", 1.0, "bandwidth_limiting = false: products alias into the band")
    return slices


def _scan(taken: _Taken, made: Translation, cell: Sequence[float], slices: int) -> None:
    source = "adf" if _enabled(taken, "adf") else "cbed"
    scan, actual = _positions(taken, source, cell)
    for key in "xy":
        made.put(f"scan.{key}", scan[key])
    made.put("scan.points", scan["points"], actual)
    if (step := _distance_of_depths(taken, source, cell, slices)) is not None:
        made.put("depths.every_angstrom", step, f"save_slices_every = {taken.value(f'{source}.save_slices_every')}")


def _positions(taken: _Taken, block: str, cell: Sequence[float]) -> tuple[dict[str, Any], str]:
    """Window and points of the positions of `adf` or `cbed`, and their density in words."""
    density = float(taken.number("probe.scan_density"))
    scan: dict[str, Any] = {axis: list(taken.window(f"{block}.{axis}")) for axis in "xy"}
    nanometres = [
        length / ANGSTROM_PER_NM * (scan[axis][1] - scan[axis][0]) for axis, length in zip("xy", cell, strict=False)
    ]
    scan["points"] = [max(1, round(density * length)) for length in nanometres]
    actual = (f"{points / length:.5g}" for points, length in zip(scan["points"], nanometres, strict=True))
    return scan, f"scan_density {density:g} /nm: {' × '.join(actual)} /nm in this window"


def _distance_of_depths(taken: _Taken, block: str, cell: Sequence[float], slices: int) -> float | None:
    """Distance of the stored depths of `adf` or `cbed` [Å]; None if only the exit wave is measured."""
    every = int(taken.number(f"{block}.save_slices_every"))
    return _rounded(every * cell[2] / slices) if every > 0 else None


def _adf(taken: _Taken, made: Translation) -> None:
    made.put("adf.enabled", _enabled(taken, "adf"))
    if not made.config["adf"]["enabled"]:
        taken.left(*(f"adf.{key}" for key in DEFAULTS["adf"] if key != "enabled"), why="adf is off")
        return
    made.put("adf.min_mrad", float(taken.number("adf.detector_min_angle")))
    made.put("adf.max_mrad", float(taken.number("adf.detector_max_angle")))
    made.put("adf.bins", int(taken.number("adf.detector_num_angles")))
    made.put("adf.interval_exponent", float(taken.number("adf.detector_interval_exponent")))
    for key in ("average_configurations", "average_defoci"):
        made.put(f"adf.{key}", bool(taken.value(f"adf.{key}")))


def _cbed(taken: _Taken, made: Translation, cell: Sequence[float], slices: int) -> None:
    made.put("cbed.enabled", _enabled(taken, "cbed"))
    if not made.config["cbed"]["enabled"]:
        taken.left(*(f"cbed.{key}" for key in DEFAULTS["cbed"] if key != "enabled"), why="cbed is off")
        return
    size = taken.value("cbed.size")
    if any(size):
        made.put("cbed.size", [int(n) for n in size])
    for key in ("average_configurations", "average_defoci"):
        made.put(f"cbed.{key}", bool(taken.value(f"cbed.{key}")))
    if not made.config["adf"]["enabled"]:
        return
    if taken.given("cbed.x") or taken.given("cbed.y"):
        scan, actual = _positions(taken, "cbed", cell)
        if scan != made.config["scan"]:
            made.put("cbed.scan", scan, actual)
    if taken.given("cbed.save_slices_every"):
        step = _distance_of_depths(taken, "cbed", cell, slices)
        if step != made.config.get("depths", {}).get("every_angstrom"):
            every = taken.value("cbed.save_slices_every")
            made.put("cbed.depths", {"every_angstrom": step}, f"save_slices_every = {every} of cbed")


def _frozen_phonon(taken: _Taken, made: Translation) -> None:
    made.put("frozen_phonon.enabled", bool(taken.value("frozen_phonon.enabled")))
    made.put("frozen_phonon.configurations", int(taken.number("frozen_phonon.number_configurations")))
    fixed = bool(taken.value("frozen_phonon.fixed_slicing"))
    made.put("frozen_phonon.fixed_slicing", fixed)
    made.put("frozen_phonon.displace_z", not fixed, "fixed_slicing displaces no atom along the beam")


def _plasmons(taken: _Taken, made: Translation) -> None:
    if not _enabled(taken, "plasmon_scattering"):
        keys = (f"plasmon_scattering.{key}" for key in DEFAULTS["plasmon_scattering"] if key != "enabled")
        taken.left(*keys, why="plasmons are off")
        return
    made.put("plasmon_scattering.enabled", True)
    simple = bool(taken.value("plasmon_scattering.simple_mode"))
    made.put("plasmon_scattering.simple_mode", simple, "STEMsalabim does not define it; here: no width of the loss")
    made.put("plasmon_scattering.plural_scattering", bool(taken.value("plasmon_scattering.plural_scattering")))
    for key, name in _PLASMON_NAMES.items():
        if key == "plasmon_fwhm" and simple:
            taken.left(f"plasmon_scattering.{key}", why="simple_mode has no width")
        else:
            made.put(f"plasmon_scattering.{name}", taken.number(f"plasmon_scattering.{key}"))


_PLASMON_NAMES = {
    "mean_free_path": "mean_free_path_nm", "plasmon_energy": "plasmon_energy_ev", "plasmon_fwhm": "plasmon_fwhm_ev",
    "max_energy": "max_energy_ev", "energy_grid_density": "energy_grid_density_per_ev",
}  # fmt: skip
"""Keys of the block and of its counterpart here; both are in nm and eV."""


def _http_reporting(taken: _Taken, made: Translation) -> None:
    for key in DEFAULTS["http_reporting"]:
        if taken.given(f"http_reporting.{key}"):
            value = taken.value(f"http_reporting.{key}")
            made.put(f"http_reporting.{key}", dict(value) if isinstance(value, Mapping) else value)


def _enabled(taken: _Taken, block: str) -> bool:
    key = f"{block}.enabled"
    return bool(taken.value(key)) if taken.given(key) else bool(DEFAULTS[block]["enabled"])


def _rounded(length: float) -> float:
    """A length without the rounding error of a change of unit, so that 0.2715 nm is 2.715 Å."""
    return float(f"{length:.12g}")


def _unknown(parameters: Mapping[str, Any], made: Translation) -> None:
    """Note blocks and keys that STEMsalabim does not have. Refuse misspelt ones, all in one message."""
    misspelt: list[tuple[str, str]] = []
    for block, values in parameters.items():
        if block not in DEFAULTS:
            _leave_or_collect(block, values, _misspelt(block, DEFAULTS, parameters), made, misspelt)
            continue
        for key, value in values.items():
            if key not in DEFAULTS[block]:
                shown = "…" if block == "http_reporting" else value  # which may be a password
                found = _misspelt(key, DEFAULTS[block], values)
                _leave_or_collect(f"{block}.{key}", shown, found, made, misspelt)
    if misspelt:
        texts = [f"STEMsalabim has no such name; did you mean `{near}`?" for _, near in misspelt]
        rest = [f"config `{key}`: {text}" for (key, _), text in zip(misspelt[1:], texts[1:], strict=True)]
        raise ConfigError(misspelt[0][0], "\n".join([texts[0], *rest]))


def _leave_or_collect(key: str, value: Any, near: str, made: Translation, misspelt: list[tuple[str, str]]) -> None:
    if near:
        misspelt.append((key, near))
    else:
        made.leave(key, value, "STEMsalabim has no such name, so it has no effect there either")


def _misspelt(name: str, known: Mapping[str, Any], given: Mapping[str, Any]) -> str:
    """The known name that the file does not have and that `name` probably means; empty if there is none."""
    near = difflib.get_close_matches(name, [other for other in known if other not in given], 1, SIMILAR)
    return near[0] if near else ""


def _shown(value: Any) -> str:
    """A value as YAML on one line. For these values JSON is YAML, except that YAML needs a point in 1.0e-05."""
    return re.sub(r"(?<![\w.])(\d+)e([+-]\d+)", r"\1.0e\2", json.dumps(value, ensure_ascii=False))
