"""Estimate the cost of a large simulation from the table of `make bench`: `python docs/benchmarks/estimate.py`.

The script writes the table of docs/explanation/performance.md on a cell of 4096² points with 100,000 probes. It does
not measure. It takes the cost of a wave of 512² through a slice from docs/performance.md, and scales it with n² log n.
"""

from __future__ import annotations

import math
import re

import page

COMMAND = "python docs/benchmarks/estimate.py"
POINTS, SMALL = 4096, 512
"""Points along each axis of the whole cell, and of a window."""
PROBES, SLICES, CONFIGURATIONS, CORES = 100_000, 100, 10, 64
CELL_ANGSTROM, SEMIANGLE, WAVELENGTH_ANGSTROM = 250.0, 0.020, 0.0250793
"""Lengths [Å] and an angle [rad], which give the number of beams in the aperture."""
IN_WINDOW, RANK = 95, 90
"""Probes of one window of 31 Å, and the rank of their basis."""
FINER, FINER_RANK = 16, 250
"""Factor of the number of probes for a four times finer scan, and the rank of their basis. The rank grows with the
window and not with the number of probes."""
OUT_OF_CACHE = 2
"""A wave that is larger than the cache may be more expensive than n² log n says, by this factor."""


def hours_of_a_wave(performance: str) -> float:
    """Core-hours of one wave of 512² through one slice, from the first table of the page."""
    row = rf"^\| {SMALL}² · 1 thread \| \*\*([\d.]+)\*\* \| ([\d.]+) \|"
    found = re.search(row, page.between("make bench", performance), re.MULTILINE)
    if found is None:
        raise SystemExit(f"docs/performance.md: the table of `make bench` has no row of {SMALL}². Run `make bench`.")
    return float(found[1]) * float(found[2]) * 1e-3 / 3600


def rounded(value: float) -> str:
    """A number with two significant digits, as text."""
    digits = 1 - math.floor(math.log10(value))
    return f"{round(value, digits):,.{max(0, digits)}f}"


def duration(core_hours: float) -> str:
    """Time on one node, as text."""
    hours = core_hours / CORES
    if hours >= 24:
        return f"{rounded(hours / 24)} days"
    return f"{rounded(hours)} h" if hours >= 1 else f"{rounded(60 * hours)} min"


def lines(performance: str) -> list[str]:
    """The table."""
    waves = PROBES * SLICES * CONFIGURATIONS
    small = waves * hours_of_a_wave(performance)
    whole = small * (POINTS**2 * math.log(POINTS)) / (SMALL**2 * math.log(SMALL))
    beams = math.pi * (SEMIANGLE / WAVELENGTH_ANGSTROM * CELL_ANGSTROM) ** 2
    basis, finer = small * RANK / IN_WINDOW, small * FINER_RANK / IN_WINDOW
    power = str(round(math.log10(waves))).translate(str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹"))
    rows = [
        ["`multislice`, whole cell", f"10{power} of {POINTS}²", f"{rounded(whole)} to {rounded(OUT_OF_CACHE * whole)}",
         f"{duration(whole)} to {duration(OUT_OF_CACHE * whole)}"],
        ["`probe_basis`, whole cell", f"no gain: B = {beams:,.0f} > P", "more", "–"],
        ["`window_angstrom: 31`, `multislice`", f"10{power} of {SMALL}²", rounded(small), duration(small)],
        ["`window_angstrom: 31`, `probe_basis`", f"{IN_WINDOW} probes a window, rank about {RANK}", rounded(basis),
         duration(basis)],
        ["the same, four times finer scan", f"{IN_WINDOW * FINER:,} probes a window, rank about {FINER_RANK}",
         f"{rounded(finer)} instead of {rounded(FINER * small)}", duration(finer)],
    ]  # fmt: skip
    return page.table(["way", "waves × slices", "core-hours", f"on one node of {CORES} cores"], rows)


if __name__ == "__main__":
    page.rewrite(COMMAND, lines(page.PAGE.read_text(encoding="utf-8")), page.METHOD)
