"""Rows and notes of the plan on diffraction patterns with their own positions, depths or pixels."""

from __future__ import annotations

from stemphony.errors import ConfigError
from stemphony.experiment.blurring import Blurring, source_shape
from stemphony.experiment.campaign import Campaign
from stemphony.experiment.model import Experiment
from stemphony.experiment.scan import LIST
from stemphony.physics.constants import MRAD, NM
from stemphony.physics.source_size import GAUSSIAN, LORENTZIAN

MOST_DEPTHS = 12
"""Largest number of depths that the plan lists. Further depths are counted."""


def pattern_rows(e: Experiment) -> list[tuple[str, str]]:
    """Rows of the plan of an experiment `e`: positions and depths of the patterns, if they differ from those of images.

    If the patterns of a job do not fit into memory, a row gives the space that they need on the disk.
    """
    rows = []
    if e.cbed_scan is not None:
        of = e.patterns
        if of.scan_kind == LIST:
            positions = f"{of.positions} listed positions"
        else:
            steps = " × ".join(f"{a[1] - a[0]:.4g}" if len(a) > 1 else "–" for a in (of.scan_x, of.scan_y))
            positions = f"{len(of.scan_x)} × {len(of.scan_y)} positions, {steps} Å apart"
        rows.append(("scan of patterns", f"{positions}; each has a wave of its own beside those of the images"))
    if e.cbed_depths is not None and e.cbed_max is not None:
        depths = e.patterns.depths
        listed = ", ".join(f"{depth / NM:.4g}" for depth in depths[:MOST_DEPTHS])
        more = f" and {len(depths) - MOST_DEPTHS} more" if len(depths) > MOST_DEPTHS else ""
        rows.append(("depths of patterns", f"{listed} nm{more}"))
    if e.cbed_max is not None:
        from stemphony.compute.cost import result_bytes
        from stemphony.compute.pattern_array import IN_MEMORY_BYTES

        size = result_bytes(e)[1]
        if size > IN_MEMORY_BYTES:
            rows.append((
                "disk for patterns", f"{size / 1e9:.3g} GB for each running job, in the working folder, beside its file"
            ))  # fmt: skip
    return rows


def pattern_hints(planned: Campaign, e: Experiment) -> list[str]:
    """Notes on keys of `cbed` without effect, and on pixels that show less detail than their size suggests.

    `planned` is the campaign, and `e` its experiment.
    """
    cbed = planned.config["cbed"]
    if e.cbed_max is None:
        unused = [f"cbed.{key}" for key in ("scan", "depths", "pixel_mrad") if cbed.get(key) is not None]
        return [f"{', '.join(unused)}: no effect while cbed.enabled is false."] if unused else []
    from stemphony.compute.recorder import cbed_geometry

    hints, geometry = [], cbed_geometry(e)
    if geometry.is_finer_than_the_grid:
        steps = " × ".join(f"{e.wavelength / length / MRAD:.3g}" for length in e.grid.extent)
        where, wider = ("window", "grating.window_angstrom") if e.window else ("cell", "specimen.repeat or size_nm")
        hints.append(
            f"cbed: its pixels are finer than what the {where} resolves, {steps} mrad (λ over its lengths). Neighbours "
            f"share the intensity of one point of the grid, so they show no finer detail. A wider {where} ({wider}) "
            "resolves more; larger pixels lose nothing."
        )
    if e.cbed_pixel is None and e.cbed_size is not None and any(number % 2 == 0 for number in e.cbed_size):
        hints.append(
            f"cbed.size: {list(e.cbed_size)} has an even number of pixels. Zero is the centre of a pixel, so the range "
            "is shifted by half a pixel, and the intensity beyond its positive edge is left out. Odd numbers keep all."
        )
    return hints + _source_hints(planned, e)


def _source_hints(planned: Campaign, e: Experiment) -> list[str]:
    """Notes on patterns with their own scan that the source cannot blur, or blurs only at some positions."""
    probe, of = planned.config["probe"], e.patterns
    if e.cbed_scan is None or probe["source_fwhm_nm"] == 0:
        return []
    if of.scan_kind == LIST:
        return [
            "probe.source_fwhm_nm: patterns at the positions of cbed.scan.positions are not blurred, because a list "
            "has no neighbours. Images are."
        ]
    cut = int(Blurring.of(probe, planned.edges.pattern_repeats).is_cut(of).sum())
    if not cut:
        return []
    return [
        f"probe.source_fwhm_nm: the source reaches over the edge of cbed.scan in {cut} of {of.positions} positions. "
        "Their patterns are approximate and marked in cbed/source_is_cut. A window of whole lattice periods has no "
        "edge."
    ]


def require_whole_periods_of_patterns(planned: Campaign) -> None:
    """Refuse a Lorentzian source if the scan of the patterns of `planned` does not repeat.

    The long tails of such a source reach far over the edges.

    Raises
    ------
    ConfigError
        The window of `cbed.scan` is not a whole number of lattice periods.
    """
    probe, cbed = planned.config["probe"], planned.config["cbed"]
    blurred = cbed["enabled"] and cbed["scan"] is not None and cbed["scan"]["positions"] is None
    if source_shape(probe).profile != LORENTZIAN or probe["source_fwhm_nm"] == 0 or not blurred:
        return
    if None in planned.edges.pattern_repeats:
        raise ConfigError(
            "cbed.scan",
            f"does not repeat along both axes, and `probe.source_shape` is {LORENTZIAN}. Scan a window of whole "
            f"lattice periods with at least two positions along each axis, give `positions`, or use {GAUSSIAN}.",
        )
