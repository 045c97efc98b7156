"""Convert other names, units and lists of aberrations to Krivanek's coefficients of Eq. (P7)."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from stemphony.errors import ConfigError

KRIVANEK = ("C12", "C21", "C23", "C30", "C32", "C34", "C41", "C43", "C45", "C50", "C52", "C54", "C56")
"""Krivanek's coefficients to fifth order, without the defocus C10."""

HAIDER: dict[str, tuple[str, float]] = {
    "A1": ("C12", 1.0), "B2": ("C21", 3.0), "A2": ("C23", 1.0), "C3": ("C30", 1.0), "S3": ("C32", 4.0),
    "A3": ("C34", 1.0), "B4": ("C41", 5.0), "D4": ("C43", 5.0), "A4": ("C45", 1.0), "C5": ("C50", 1.0),
    "S5": ("C52", 6.0), "R5": ("C54", 6.0), "A5": ("C56", 1.0),
}  # fmt: skip
"""For each of Haider's names: Krivanek's coefficient, and its value divided by Haider's value.

Haider's terms of coma, star, three-lobe and rosette have no divisor n + 1. Source: the table of equal coefficients in
the documentation of Dr. Probe (C2,1 = 3·B2, C3,2 = 4·S3, C4,1 = 5·B4, C4,3 = 5·D4, C5,2 = 6·S5, C5,4 = 6·R5).
"""

ALIASES: dict[str, tuple[str, float]] = {**HAIDER, "Cs": ("C30", 1.0), **{name: (name, 1.0) for name in KRIVANEK}}
"""Every name that `probe.aberrations` accepts, as in `HAIDER`."""

UNITS_NM = {"nm": 1.0, "um": 1e3, "mm": 1e6, "angstrom": 0.1}
"""Units of length that names of keys may end with, in nm."""

_LIST_UNITS_NM = {"nm": 1.0, "um": 1e3, "µm": 1e3, "μm": 1e3, "mm": 1e6, "pm": 1e-3, "Å": 0.1, "angstrom": 0.1}
"""Units of length in a list of measured aberrations, in nm. There are two characters for µ."""

_ANGLE_UNITS_DEG = {"deg": 1.0, "°": 1.0, "rad": math.degrees(1.0), "mrad": math.degrees(1e-3)}
"""Units of angle in a list of measured aberrations, in degrees."""

_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_LINE = re.compile(
    rf"(?P<name>\S+)\s+(?P<value>{_NUMBER})\s*(?P<unit>{'|'.join(_LIST_UNITS_NM)})"
    rf"(?:\s+(?P<angle>{_NUMBER})\s*(?P<angle_unit>{'|'.join(_ANGLE_UNITS_DEG)}))?"
)


def as_krivanek(probe: Mapping[str, Any]) -> dict[str, float]:
    """Return Krivanek's coefficients [nm] and azimuths [degrees] of a block `probe`, by the keys of `aberrations`.

    Parameters
    ----------
    probe : mapping
        Follows the schema. `aberrations` or `measured_aberrations` holds the coefficients.

    Returns
    -------
    dict of str to float
        Keys such as `C30_nm` and `phi22_deg`; empty without aberrations.

    Raises
    ------
    ConfigError
        Both keys are given; an aberration is given twice; or a line of the measured list is no aberration.
    """
    given, measured = probe["aberrations"], probe.get("measured_aberrations")
    if measured is None:
        return _of_map(given)
    if given:
        raise ConfigError(
            "probe.measured_aberrations",
            "given together with `probe.aberrations`; both are the aberrations of the probe. Give one of the two.",
        )
    return _Measured.of(measured).coefficients()


def _of_map(given: Mapping[str, float]) -> dict[str, float]:
    """Convert the keys of `probe.aberrations`."""
    converted: dict[str, float] = {}
    origin: dict[str, str] = {}
    for key, value in sorted(given.items()):
        name, unit = key.rsplit("_", 1)
        if unit == "deg":
            made, number = f"phi{ALIASES.get(name[3:], (name[3:], 1.0))[0].removeprefix('C')}_deg", value
        else:
            symbol, factor = ALIASES[name]
            made, number = f"{symbol}_nm", _tidy(value * factor * UNITS_NM[unit])
        if made in converted:
            raise ConfigError(
                f"probe.aberrations.{key}", f"is the same aberration as `{origin[made]}`; give one of the two."
            )
        converted[made], origin[made] = number, key
    return converted


@dataclass(frozen=True)
class _Measured:
    """A list of aberrations as the program of a corrector shows it, see `probe.measured_aberrations`."""

    notation: str
    angles: str | None
    clockwise: bool
    rotation_deg: float
    lines: tuple[str, ...]

    @classmethod
    def of(cls, block: Mapping[str, Any]) -> _Measured:
        return cls(
            block["notation"], block["angles"], block["clockwise"], block["rotation_deg"], tuple(block["values"])
        )

    def coefficients(self) -> dict[str, float]:
        """Return the coefficients by the keys of `probe.aberrations`."""
        found: dict[str, complex] = {}
        parts: set[str] = set()
        for index, line in enumerate(self.lines):
            where = f"probe.measured_aberrations.values[{index}]"
            symbol, part, value = self._read(where, line)
            # A coefficient is given once, or as its two Cartesian parts.
            if symbol in found and (not part or symbol + part in parts or symbol in parts):
                raise ConfigError(where, f"got {line!r}; {symbol} stands in the list already. Remove one of the two.")
            parts.add(symbol + part)
            found[symbol] = found.get(symbol, 0j) + value
        made: dict[str, float] = {}
        for symbol, value in found.items():
            fold = int(symbol[2])
            if fold == 0:
                made[f"{symbol}_nm"] = _tidy(value.real)
                continue
            made[f"{symbol}_nm"] = _tidy(abs(value))
            made[f"phi{symbol[1:]}_deg"] = _tidy(self._azimuth(math.atan2(value.imag, value.real), fold))
        return made

    def _azimuth(self, phase: float, fold: int) -> float:
        """Convert a phase [rad] to an azimuth [degrees] in the frame of the scan, between 0 and a period."""
        azimuth = math.degrees(phase) / fold * (-1 if self.clockwise else 1) + self.rotation_deg
        return round(azimuth % (360 / fold), 9) % (360 / fold)

    def _read(self, where: str, line: str) -> tuple[str, str, complex]:
        """Symbol, Cartesian part (a, b or none) and complex value [nm] of a line."""
        match = _LINE.fullmatch(line.strip())
        if match is None:
            raise ConfigError(
                where,
                f"got {line!r}; allowed is a name, a length with unit and, for aberrations with a direction, an angle "
                "with unit: `A1 2.1 nm 35 deg`. Units: nm, um, mm, pm, Å; deg, rad, mrad.",
            )
        symbol, part, factor = self._named(where, match["name"])
        length, fold = float(match["value"]) * _LIST_UNITS_NM[match["unit"]] * factor, int(symbol[2])
        if match["angle"] is None:
            if fold and not part:
                raise ConfigError(
                    where, f"got {line!r}; {match['name']} has a direction. Add its angle: `{line.strip()} 0 deg`."
                )
            return symbol, part, complex(0.0, length) if part == "b" else complex(length, 0.0)
        if part or not fold:
            raise ConfigError(where, f"got {line!r}; {match['name']} has no angle. Remove the angle.")
        if self.angles is None:
            raise ConfigError(
                "probe.measured_aberrations.angles",
                f"is missing, and {match['name']} has an angle. Programs show either the azimuth, in which direction "
                "the phase is largest, or the phase of the complex coefficient, which is m times the azimuth. Write "
                "`angles: azimuth` or `angles: phase`.",
            )
        phase = math.radians(float(match["angle"]) * _ANGLE_UNITS_DEG[match["angle_unit"]])
        phase *= fold if self.angles == "azimuth" else 1
        return symbol, part, length * complex(math.cos(phase), math.sin(phase))

    def _named(self, where: str, name: str) -> tuple[str, str, float]:
        """Krivanek's symbol, Cartesian part and factor of a name."""
        if name in {"C1", "C10", "C1,0"}:
            raise ConfigError(
                where,
                f"got {name}; it is the defocus with the opposite sign. Remove the line, and set probe.defocus_nm "
                "(positive is underfocus).",
            )
        if self.notation == "haider":
            if name not in HAIDER:
                raise ConfigError(where, f"got {name}; allowed with `notation: haider`: {', '.join(HAIDER)}.")
            symbol, factor = HAIDER[name]
            return symbol, "", factor
        match = re.fullmatch(r"C(\d),?(\d)[.,]?([ab]?)", name)
        symbol = f"C{match[1]}{match[2]}" if match else ""
        if match is None or symbol not in KRIVANEK or (match[3] and symbol[2] == "0"):
            raise ConfigError(
                where,
                f"got {name}; allowed with `notation: krivanek`: {', '.join(KRIVANEK)}, and the Cartesian parts of "
                "those with a direction as C12a, C12b …",
            )
        return symbol, match[3], 1.0


def _tidy(value: float) -> float:
    """Drop the last digits, so that 1.2 mm and 1200000 nm give the same number."""
    return float(f"{value:.14g}") + 0.0
