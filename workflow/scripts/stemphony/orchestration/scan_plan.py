"""What the plan says about the scan and about the source of the microscope at its edges."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stemphony import provenance
from stemphony.experiment.blurring import Blurring
from stemphony.experiment.campaign import Campaign
from stemphony.experiment.model import NM, Experiment
from stemphony.experiment.scan import AT_MOST, LINE, LIST
from stemphony.experiment.scan_edges import repeats_of
from stemphony.physics.source_size import Repeats


def scan_rows(planned: Campaign, experiment: Experiment) -> list[tuple[str, str]]:
    """Rows of the plan: the positions, and with a source or a margin how the scan goes on behind its edges."""
    e = experiment.stored
    if e.scan_kind == LIST:
        positions = f"{e.positions} listed positions"
    elif e.scan_kind == LINE:
        positions = f"{e.positions} positions on a line, {_steps(e).split(' ')[0]} Å apart"
    else:
        positions = f"{len(e.scan_x)} × {len(e.scan_y)} positions, {_steps(e)} Å apart"
        asked = planned.config["scan"]["step_angstrom"]
        if asked is not None and planned.config["scan"].get("step") == AT_MOST:
            steps = asked if isinstance(asked, list) else [asked]
            positions += f" (at most {' × '.join(f'{step:g}' for step in steps)} Å, rounded to divide the window)"
    rows = [("scan", positions)]
    source_nm, edges = planned.config["probe"]["source_fwhm_nm"], planned.edges
    if source_nm or edges.margin != (0, 0):
        rows.append(("source size", "; ".join(_edges(planned, experiment))))
    return rows


def _edges(planned: Campaign, e: Experiment) -> list[str]:
    source_nm, margin = planned.config["probe"]["source_fwhm_nm"], planned.edges.margin
    texts = [f"{source_nm:g} nm FWHM" if source_nm else "none"]
    repeats = _repeats(planned)
    names = ("along the line", "across it") if e.scan_kind == LINE else ("along x", "along y")
    periodic = [name for name, repeat in zip(names, repeats, strict=True) if repeat is not None]
    if periodic and source_nm:
        texts.append(f"the window repeats with the specimen {' and '.join(periodic)}, so the blur there is exact")
    added = [f"{number} {name}" for name, number in zip(names, margin, strict=True) if number]
    if added:
        share, verb = e.positions / e.stored.positions, "needed" if e.symmetry else "computed"
        texts.append(
            f"a margin of {planned.edges.margin_nm:.3g} nm adds {' and '.join(added)} on each side, so "
            f"{e.positions} positions are {verb} for {e.stored.positions} stored ones ({share:.3g} times)"
        )
    cut = int(Blurring(source_nm * NM, repeats).is_cut(e).sum())
    if cut:
        texts.append(f"{cut} of {e.stored.positions} pixels are too near to the edge, and marked")
    return texts


def scan_hints(planned: Campaign, experiment: Experiment) -> list[str]:
    """Notes on pixels that the source reaches from outside, and on a margin without effect."""
    config, hints = planned.config, []
    source_nm, wanted = config["probe"]["source_fwhm_nm"], config["scan"].get("margin_nm", "auto")
    blurring = Blurring(source_nm * NM, _repeats(planned))
    cut = int(blurring.is_cut(experiment).sum())
    if cut:
        needed = blurring.margin_nm
        hints.append(
            f"probe.source_fwhm_nm: the source reaches {needed:g} nm, and positions are computed only "
            f"{planned.edges.margin_nm:g} nm beyond the scan. {cut} of {experiment.stored.positions} pixels are "
            f"approximate and marked in images/source_is_cut. scan.margin_nm: {needed:g} would do; it computes all "
            "jobs again."
        )
    if config["scan"].get("step") == AT_MOST and config["scan"]["step_angstrom"] is None:
        hints.append("scan.step: at_most has no effect without scan.step_angstrom.")
    if wanted not in ("auto", 0) and planned.edges.margin == (0, 0):
        why = "a list has no margin" if experiment.scan_kind == LIST else "the window repeats with the specimen"
        hints.append(f"scan.margin_nm: {wanted:g} has no effect, because {why}.")
    return hints


def merged_again(planned: Campaign, earlier: Mapping[str, Any], is_merged: bool) -> list[str]:
    """Note on a result that an earlier version has blurred with mirrored edges.

    Parameters
    ----------
    earlier : mapping
        Plan of the last run; empty without one.
    is_merged : bool
        Whether there is a merged result.
    """
    blurred = (earlier.get("config") or {}).get("probe", {}).get("source_fwhm_nm", 0.0) > 0
    if not (is_merged and blurred) or "scan_edges" in earlier or "scan_repeats" not in planned.merge_params:
        return []
    if earlier.get("physics_version") != provenance.PHYSICS_VERSION:
        return []  # all jobs run again, which another note says
    return [
        "probe.source_fwhm_nm: an earlier version blurred the present stem.nc with mirrored edges. It is merged again, "
        "and no job runs again for that."
    ]


def _repeats(planned: Campaign) -> Repeats:
    if planned.edges.repeats is not None:
        return planned.edges.repeats
    return repeats_of({"common": planned.common_params})


def _steps(e: Experiment) -> str:
    """Distances of scan positions along x and y [Å]; a dash where there is one position."""
    return " × ".join(f"{axis[1] - axis[0]:.4g}" if len(axis) > 1 else "–" for axis in (e.scan_x, e.scan_y))
