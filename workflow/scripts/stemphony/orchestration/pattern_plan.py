"""What the plan says about diffraction patterns with positions, depths or pixels of their own."""

from __future__ import annotations

from stemphony.experiment.campaign import Campaign
from stemphony.experiment.model import MRAD, NM, Experiment
from stemphony.experiment.scan import LIST

MOST_DEPTHS = 12
"""Depths that the plan lists; more are counted."""


def pattern_rows(e: Experiment) -> list[tuple[str, str]]:
    """Rows of the plan: positions and depths of the patterns, where they are not those of the images."""
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
    return rows


def pattern_hints(planned: Campaign, e: Experiment) -> list[str]:
    """Notes on keys of `cbed` without effect, and on pixels that hold less than they seem to."""
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
    return hints
