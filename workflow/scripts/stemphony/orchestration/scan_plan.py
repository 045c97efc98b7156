"""Rows and notes of the plan on the scan, and on the source of the microscope at its edges."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stemphony import provenance
from stemphony.errors import ConfigError
from stemphony.experiment.blurring import Blurring, source_keys, source_shape
from stemphony.experiment.campaign import Campaign
from stemphony.experiment.model import Experiment
from stemphony.experiment.scan import AT_MOST, LINE, LIST
from stemphony.experiment.scan_edges import repeats_of
from stemphony.orchestration.pattern_plan import require_whole_periods_of_patterns
from stemphony.physics.source_size import GAUSSIAN, LORENTZIAN, Repeats


def scan_rows(planned: Campaign, experiment: Experiment) -> list[tuple[str, str]]:
    """Rows of the plan: the positions and, with a source or a margin, how the scan continues beyond its edges.

    `planned` is the campaign, and `experiment` its experiment with the positions of the margin.
    """
    e = experiment.stored
    if not e.detects:
        return [("scan", "none, because adf and cbed are off")]
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


def source_text(probe: Mapping[str, Any]) -> str:
    """Size and shape of the source of a validated block `probe`, in words."""
    fwhm, keys = probe["source_fwhm_nm"], source_keys(probe)
    if not fwhm:
        return "none"
    text = f"{fwhm:g} nm FWHM"
    if (across := keys.get("source_fwhm_across_nm")) is not None:
        text = f"{fwhm:g} × {across:g} nm FWHM, the first at {keys.get('source_rotation_deg', 0.0):g}° from +x"
    return f"{text}, {keys['source_shape']}" if "source_shape" in keys else text


def require_whole_periods(planned: Campaign) -> None:
    """Refuse a Lorentzian source if the scan of the campaign `planned` does not repeat.

    Raises
    ------
    ConfigError
        The window is not a whole number of lattice periods.
    """
    require_whole_periods_of_patterns(planned)
    probe = planned.config["probe"]
    if source_shape(probe).profile != LORENTZIAN or probe["source_fwhm_nm"] == 0 or None not in _repeats(planned):
        return
    raise ConfigError(
        "probe.source_shape",
        f"got {LORENTZIAN} with a scan that does not repeat along both axes. A fifth of such a source lies farther "
        "than three widths away, so it needs all that is behind the edges. Scan a window of whole lattice periods with "
        f"at least two positions along each axis, or use {GAUSSIAN}.",
    )


def _edges(planned: Campaign, e: Experiment) -> list[str]:
    source_nm, margin = planned.config["probe"]["source_fwhm_nm"], planned.edges.margin
    texts = [source_text(planned.config["probe"])]
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
    cut = int(Blurring.of(planned.config["probe"], repeats).is_cut(e).sum())
    if cut:
        texts.append(f"{cut} of {e.stored.positions} pixels are too near to the edge, and marked")
    return texts


def scan_hints(planned: Campaign, experiment: Experiment) -> list[str]:
    """Notes on pixels where the source reaches over the computed positions, and on a margin without effect.

    `planned` is the campaign, and `experiment` its experiment with the positions of the margin.
    """
    config, hints = planned.config, []
    wanted = config["scan"].get("margin_nm", "auto")
    blurring = Blurring.of(config["probe"], _repeats(planned))
    cut = int(blurring.is_cut(experiment).sum())
    if cut:
        needed = blurring.margin_nm
        hints.append(
            f"probe.source_fwhm_nm: the source reaches {needed:g} nm, and positions are computed only "
            f"{planned.edges.margin_nm:g} nm beyond the scan. {cut} of {experiment.stored.positions} pixels are "
            f"approximate and marked in images/source_is_cut. scan.margin_nm: {needed:g} would be enough, but then all "
            "jobs are computed again."
        )
    if config["scan"].get("step") == AT_MOST and config["scan"]["step_angstrom"] is None:
        hints.append("scan.step: at_most has no effect without scan.step_angstrom.")
    if wanted not in ("auto", 0) and planned.edges.margin == (0, 0):
        why = "a list has no margin" if experiment.scan_kind == LIST else "the window repeats with the specimen"
        hints.append(f"scan.margin_nm: {wanted:g} has no effect, because {why}.")
    return hints


def merged_again(planned: Campaign, earlier: Mapping[str, Any], is_merged: bool) -> list[str]:
    """Note on a result of the campaign `planned` that an earlier version has blurred with mirrored edges.

    Parameters
    ----------
    earlier : mapping
        Plan of the last run; empty if there is none.
    is_merged : bool
        Whether there is a merged result.

    Returns
    -------
    list of str
        One note, or none.
    """
    blurred = (earlier.get("config") or {}).get("probe", {}).get("source_fwhm_nm", 0.0) > 0
    if not (is_merged and blurred) or "scan_edges" in earlier or "scan_repeats" not in planned.merge_params:
        return []
    if earlier.get("physics_version") != provenance.PHYSICS_VERSION:
        return []  # all jobs run again, and another note says so
    return [
        "probe.source_fwhm_nm: an earlier version blurred the present stem.nc with mirrored edges. It is merged again, "
        "and no job runs again for that."
    ]


def _repeats(planned: Campaign) -> Repeats:
    if planned.edges.repeats is not None:
        return planned.edges.repeats
    return repeats_of({"common": planned.common_params})


def _steps(e: Experiment) -> str:
    """Distances of scan positions along x and y [Å]; a dash for an axis with one position."""
    return " × ".join(f"{axis[1] - axis[0]:.4g}" if len(axis) > 1 else "–" for axis in (e.scan_x, e.scan_y))
