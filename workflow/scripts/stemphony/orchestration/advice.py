"""Rows and notes of the plan that follow from the settings: needs of a job, resolution, and cheaper alternatives."""

from __future__ import annotations

import math
import os

from stemphony.counting import number_of
from stemphony.experiment.campaign import Campaign, focal_fwhm_nm
from stemphony.experiment.doubts import LARGEST_TAIL, probe_outside
from stemphony.experiment.model import TILE_SHARE, Experiment
from stemphony.physics.constants import MRAD
from stemphony.store.progress import duration

LONG_H = 0.5
"""Shortest CPU time of a simulation [h] for which windows are proposed. A shorter simulation hardly gains from them."""

WINDOW_SHARES = (0.5, 0.6, 0.7)
"""Widths of proposed windows, as shares of the cell. A wider window saves too little."""


def job_row(cpu_s: float, threads: int, runtime_min: int) -> tuple[str, str]:
    """Row of the plan: CPU time `cpu_s` [s], `threads` and time limit `runtime_min` [min] of one job."""
    time = f"about {duration(cpu_s)} of CPU with {number_of(threads, 'thread')}"
    limit = f"{runtime_min} min" if runtime_min <= 2 * 60 else duration(60 * runtime_min)
    return "time of one job", f"{time}; on a cluster it asks for {limit}"


def size_in_words(megabytes: float, digits: int = 4) -> str:
    """The size `megabytes` [MB] in words: in MB, from 10,000 MB on in GB, from 10,000 GB on in TB.

    `digits` is the number of significant digits.
    """
    for unit in ("MB", "GB"):
        if megabytes < 10_000:
            return f"{megabytes:.{digits}g} {unit}"
        megabytes /= 1000
    return f"{megabytes:.{digits}g} TB"


def memory_hint(mem_mb: float, e: Experiment) -> list[str]:
    """Note on a job that needs more memory, `mem_mb` [MB], than this machine has; empty if it does not.

    The note names the keys that reduce the memory. With patterns in the experiment `e`, it names theirs, too.
    """
    machine_mb = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e6
    if mem_mb <= machine_mb:
        return []
    patterns = " Diffraction patterns take part of it: cbed.max_mrad and cbed.size make them smaller."
    return [
        f"one job needs about {size_in_words(mem_mb)} of memory, and this machine has {size_in_words(machine_mb)}. "
        "Fewer scan.points, fewer depths or a grating.window_angstrom need less, or run it on a node with more."
        + (patterns if e.cbed_max is not None else "")
    ]


def resolution_rows(e: Experiment) -> list[tuple[str, str]]:
    """Rows of the plan of an experiment `e`: the scan step that an image needs, and the pixels of patterns."""
    if not e.detects:
        return []
    rows = [("step without loss", f"{e.wavelength / (4 * e.semiangle):.4f} Å = λ/(4α), the Nyquist step of images")]
    if e.cbed_max is None:
        return rows
    from stemphony.compute.recorder import cbed_geometry

    geometry = cbed_geometry(e)
    angles = (geometry.angles_x, geometry.angles_y)
    steps = [axis[1] - axis[0] if len(axis) > 1 else 2 * e.cbed_max for axis in angles]
    shape, pixels = " × ".join(str(len(axis)) for axis in angles), " × ".join(f"{step / MRAD:.3g}" for step in steps)
    disk = " × ".join(f"{2 * e.semiangle / step:.1f}" for step in steps)
    text = f"{shape} pixels of {pixels} mrad; {disk} pixels across the bright-field disk"
    return [*rows, ("diffraction patterns", text)]


def _sensitive_texts(e: Experiment) -> list[str]:
    """Text for each ring with a sensitivity: its angles, and the largest sensitivity."""
    texts = []
    for name, one in e.sensitive.items():
        values = one.values
        largest = 0.0 if values is None else (values[:, 1] if one.pixel is None else values).max()
        kind = "a profile" if one.pixel is None else f"a map of {one.pixel / MRAD:g} mrad pixels"
        angles = f"{one.inner / MRAD:g}–{one.outer / MRAD:g} mrad"
        texts.append(f"{name} {angles} with {kind}, sensitivity up to {largest:.4g}")
    return texts


def special_texts(e: Experiment) -> list[str]:
    """Text for each detector of an experiment `e` with a sensitivity, and for each segmented one.

    A segmented detector says whether it measures DPC.
    """
    texts = _sensitive_texts(e)
    for name, detector in e.segmented.items():
        rings = f"{detector.radial} rings × " if detector.radial > 1 else ""
        shows = detector.deflection_per_signal(e.semiangle, e.semiangle_inner)
        what = "" if shows else ", no DPC: the edge of the bright disk or a third sector is missing"
        angles = f"{detector.inner / MRAD:g}–{detector.outer / MRAD:g} mrad"
        texts.append(f"{name} {angles} in {rings}{detector.segments} sectors{what}")
    return texts


def tilt_rows(e: Experiment) -> list[tuple[str, str]]:
    """Rows of the plan of an experiment `e`: tilts of beam and specimen, and the zero of detector angles.

    Without a tilt, there are none.
    """
    rows = []

    def mrad(tilt: tuple[float, float]) -> str:
        return f"({tilt[0] / MRAD:g}, {tilt[1] / MRAD:g}) mrad"

    if any(any(tilt) for tilt in e.tilts):
        text = mrad(e.tilt)
        if e.precession is not None:
            text += f", and {e.precession.steps} tilts on a cone of {e.precession.angle / MRAD:g} mrad about it"
        rows.append(("tilt of the beam", f"{text}; angles count from the {'beam' if e.descan else 'optic axis'}"))
    if any(e.specimen_tilt):
        rows.append(("tilt of the specimen", mrad(e.specimen_tilt)))
    return rows


def optics_rows(planned: Campaign) -> list[tuple[str, str]]:
    """Rows of the plan of the campaign `planned`: its aberrations in Krivanek's names, and the focal spread.

    The focal spread is that of a chromatic aberration, if there is one.
    """
    probe, rows = planned.config["probe"], []
    texts = []
    for key, value in sorted(probe["aberrations"].items()):
        if key.startswith("C"):
            angle = probe["aberrations"].get(f"phi{key[1:3]}_deg")
            texts.append(f"{key}: {value:.10g}" + ("" if angle is None else f" at {angle:g}°"))
    if texts:
        rows.append(("aberrations", ", ".join(texts)))
    if (chromatic := probe.get("chromatic")) is not None and probe["defoci_nm"] is None:
        rows.append(
            (
                "chromatic aberration",
                f"{chromatic['cc_mm']:g} mm and {chromatic['energy_spread_ev']:g} eV ({chromatic['width']}): focal "
                f"spread {focal_fwhm_nm(probe):.4g} nm FWHM",
            )
        )
    return rows


def window_hint(planned: Campaign, e: Experiment, cpu_hours: float) -> list[str]:
    """Note on windows for a long simulation in a wide cell, with their cost and the part of the probe that they lose.

    `planned` and `e` are the campaign and its experiment, and `cpu_hours` [h] is the time of all jobs. The cost of a
    wave grows as N log N with the number N of grid points.
    """
    if e.is_tilted:
        return []  # a tilted beam moves away from the atoms around its entrance
    if e.window is not None or cpu_hours < LONG_H or planned.config["simulation"]["algorithm"] != "multislice":
        return []
    for share in WINDOW_SHARES:
        # A probe at the edge of a tile is nearer to the edge of the window; see `Experiment.room`.
        tail = probe_outside(planned, e, share * (1 - TILE_SHARE))
        if tail > LARGEST_TAIL:
            continue
        points = math.prod(e.grid.gpts)
        cost = share**2 * math.log(share**2 * points) / math.log(points)
        widths = [math.ceil(share * length) for length in e.grid.extent]
        return [
            f"grating.window_angstrom: {max(widths)} would cost about {100 * cost:.0f} % of the CPU time. It is an "
            f"approximation: {100 * tail:.1f} % of the incident probe's intensity would lie outside the window, and "
            "signals may deviate by several times that, which each job measures."
        ]
    return []


def wave_rows(e: Experiment, defoci: int, pairs: int, stores_probe: bool) -> list[tuple[str, str]]:
    """Row of the plan: the stored waves, and their size in a job file and in the result; none without waves.

    Parameters
    ----------
    e : Experiment
    defoci, pairs : int
        Number of defoci, and number of pairs of defocus and configuration that the result keeps separately.
    stores_probe : bool
        Whether the result keeps the incident probe of each defocus.

    Returns
    -------
    list of (str, str)
        Label and text of at most one row.
    """
    from stemphony.compute.stored_waves import result_wave_bytes, wave_bytes

    parts, (nx, ny) = [], e.grid.gpts
    if e.waves is not None:
        parts = ["one of a plane wave" if e.waves.plane else number_of(len(e.waves.places), "position")]
        parts.append(f"{nx} × {ny} points, {wave_bytes(e) / 1e6:.3g} MB in each job file")
        if e.waves.depth_profile:
            columns = number_of(len(e.waves.columns), "column")
            parts.append(f"intensity behind {number_of(e.depth_slices[-1], 'slice')}, {columns}")
    if stores_probe:
        parts.append("incident probe of each defocus")
    size = result_wave_bytes(e, defoci, pairs, stores_probe) / 1e6
    return [("exit waves", f"{'; '.join(parts)}; {size:.3g} MB in the result")] if parts else []
