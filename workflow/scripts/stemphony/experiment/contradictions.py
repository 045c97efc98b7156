"""Rules between the keys of a config that its schema cannot express."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from stemphony.errors import ConfigError
from stemphony.experiment.mistakes import short

TAKEN_NAMES = frozenset(
    (
        "total_intensity", "thickness_curves", "cbed_mean", "adf_defocus", "adf_phonon", "adf_slice", "adf_position_x",
        "adf_position_y", "adf_probe_x_grid", "adf_probe_y_grid", "adf_slice_coords", "adf_probe_x", "adf_probe_y",
        "source_is_cut", "orbit", "dpc_x", "dpc_y", "idpc", "icom",
    )
)  # fmt: skip
"""Variables of the group `images` and names of figures; no detector may have these names."""

LARGEST_SPECIMEN_TILT_MRAD = 50.0
"""Largest tilt of a specimen [mrad]. At 50 mrad the lengths of the sheared crystal differ from those of a turned one by
0.13 %. The difference grows with the square of the tilt."""

MOST_SEGMENTS = 360
"""Largest number of segments of one detector. Each segment makes an image of its own."""

MOST_ENERGIES = 2000
"""Largest number of entries of the axis of energy losses. Signals and memory grow with it."""

NARROWEST_LINE = 0.02
"""Smallest width of the loss line [entries of the energy axis]. Narrower lines need many points and look the same."""

NEUTRAL_BUILDING = {
    "supercell": None, "zone_axis": None, "up": None, "max_strain": 0.0, "repeat": [1, 1, 1], "size_nm": None,
    "thickness_nm": None, "origin": None, "termination": None, "vacuum_angstrom": [0.0, 0.0, 0.0], "substitutions": [],
    "amorphous_layers": None,
}  # fmt: skip
"""Keys of the block `specimen` that build other atoms from those of the file, with the value that builds nothing."""


def refuse_contradictions(config: Mapping[str, Any]) -> None:
    """Refuse a config whose keys contradict each other, or which needs a feature that does not exist.

    Parameters
    ----------
    config : mapping
        A config that follows the schema, complete with the defaults.

    Raises
    ------
    ConfigError
        Names the first contradiction and says what to change.
    """
    _refuse_optics(config["probe"], config["grating"])
    _refuse_scan(config["scan"], config["probe"])
    for key in ("mem_mb", "runtime_min"):
        value = config["resources"][key]
        if value != "auto" and (isinstance(value, str) or value < 1):
            raise ConfigError(
                f"resources.{key}", f"got {short(value)}; allowed is auto or a whole number of at least 1."
            )
    thickness = config["grating"]["slice_thickness_angstrom"]
    if isinstance(thickness, str) and thickness != "auto":
        raise ConfigError(
            "grating.slice_thickness_angstrom", f"got {short(thickness)}; allowed is auto or a thickness in Å."
        )
    _refuse_detectors(config["adf"])
    _refuse_segments(config["adf"])
    _refuse_integration(config["adf"], config["scan"])
    _refuse_waves(config)
    is_wave = bool(config["waves"]["exit"]) or config["probe"]["plane_wave"]
    if not config["adf"]["enabled"] and not config["cbed"]["enabled"] and not is_wave:
        raise ConfigError("adf.enabled", "adf and cbed are both off, so nothing would be computed; enable one.")
    _refuse_patterns(config["cbed"], config["adf"]["enabled"])
    _refuse_specimen_tilt(config["specimen"]["tilt_mrad"])
    _refuse_building(config["specimen"])
    _refuse_frames(config["frozen_phonon"], config["specimen"])
    _refuse_plasmons(config)


def _refuse_scan(scan: Mapping[str, Any], probe: Mapping[str, Any]) -> None:
    for axis in ("x", "y"):
        begin, end = scan[axis]
        if end <= begin:
            raise ConfigError(f"scan.{axis}", f"got [{begin}, {end}]; the window must end after it begins.")
    if isinstance(scan["margin_nm"], str) and scan["margin_nm"] != "auto":
        raise ConfigError("scan.margin_nm", f"got {short(scan['margin_nm'])}; allowed is auto or a width in nm.")
    if scan["positions"] is not None and probe["source_fwhm_nm"] > 0:
        raise ConfigError(
            "probe.source_fwhm_nm",
            f"got {probe['source_fwhm_nm']:g} with `scan.positions`; a list has no neighbours to blur with. Use 0, or "
            "`scan.line` or a window.",
        )


def _refuse_patterns(cbed: Mapping[str, Any], with_images: bool) -> None:
    if None not in (cbed["max_mrad"], cbed["size"], cbed["pixel_mrad"]):
        raise ConfigError(
            "cbed.max_mrad",
            "given together with `cbed.size` and `cbed.pixel_mrad`, which decide it; remove one of the three.",
        )
    depths, scan = cbed["depths"] or {}, cbed["scan"]
    if None not in (depths.get("every_angstrom"), depths.get("at_angstrom")):
        raise ConfigError(
            "cbed.depths.every_angstrom", "given together with `cbed.depths.at_angstrom`; give one of the two."
        )
    if scan is None:
        return
    if not with_images:
        raise ConfigError(
            "cbed.scan",
            "given while adf.enabled is false. The block `scan` then is the scan of the patterns: write it there, and "
            "remove cbed.scan.",
        )
    if scan["positions"] is not None:
        return
    for axis in ("x", "y"):
        begin, end = scan[axis]
        if end <= begin:
            raise ConfigError(f"cbed.scan.{axis}", f"got [{begin}, {end}]; the window must end after it begins.")
    if (scan["points"] is None) == (scan["step_angstrom"] is None):
        what = "none of the three" if scan["points"] is None else "`points` and `step_angstrom`"
        raise ConfigError("cbed.scan.points", f"give one of `points`, `step_angstrom` and `positions`; got {what}.")


def _refuse_optics(probe: Mapping[str, Any], grating: Mapping[str, Any]) -> None:
    aberrations = probe["aberrations"]
    for key in aberrations:
        if key.startswith("phi") and f"C{key[3:5]}_nm" not in aberrations:
            raise ConfigError(
                f"probe.aberrations.{key}", f"an angle without its coefficient; add C{key[3:5]}_nm or leave it out."
            )
    if probe["chromatic"] is not None and probe["defocus_fwhm_nm"] > 0:
        raise ConfigError(
            "probe.chromatic",
            "given together with `probe.defocus_fwhm_nm`; both are the focal spread. Give one of the two.",
        )
    _refuse_source(probe)
    if probe["semiangle_inner_mrad"] >= probe["semiangle_mrad"]:
        raise ConfigError(
            "probe.semiangle_inner_mrad",
            f"got {probe['semiangle_inner_mrad']}; it must be smaller than semiangle_mrad = {probe['semiangle_mrad']}.",
        )
    if grating["bandlimit_taper"] > grating["bandlimit"]:
        raise ConfigError(
            "grating.bandlimit_taper",
            f"got {grating['bandlimit_taper']}; it must not be wider than bandlimit = {grating['bandlimit']}.",
        )


def _refuse_source(probe: Mapping[str, Any]) -> None:
    """Refuse a shape of a source that has no size or no axis."""
    across, fwhm = probe["source_fwhm_across_nm"], probe["source_fwhm_nm"]
    if across is not None and fwhm == 0:
        raise ConfigError(
            "probe.source_fwhm_across_nm", f"got {across:g} with source_fwhm_nm = 0; give the width along the axis too."
        )
    if probe["source_rotation_deg"] and across is None:
        raise ConfigError(
            "probe.source_rotation_deg",
            f"got {probe['source_rotation_deg']:g}; a round source has no direction. Give source_fwhm_across_nm too.",
        )


def _refuse_detectors(adf: Mapping[str, Any]) -> None:
    for name, entry in (adf["detectors"] or {}).items():
        if isinstance(entry, Mapping):
            inner, outer = entry["inner_mrad"], entry["outer_mrad"]
            if entry.get("pixel_mrad") is not None and entry.get("sensitivity") is None:
                raise ConfigError(
                    f"adf.detectors.{name}.pixel_mrad",
                    "given without `sensitivity`. Remove it, or name the file of a map in sensitivity.",
                )
        else:
            inner, outer = entry
        if outer <= inner:
            raise ConfigError(f"adf.detectors.{name}", f"got [{inner}, {outer}]; inner must be smaller than outer.")
        if name in TAKEN_NAMES or name.endswith("_standard_error"):
            raise ConfigError(
                f"adf.detectors.{name}", "this name is taken by a variable or figure of the result; choose another."
            )
    if adf["max_mrad"] is not None and adf["max_mrad"] <= adf["min_mrad"]:
        raise ConfigError(
            "adf.max_mrad", f"got {adf['max_mrad']}; it must be larger than min_mrad = {adf['min_mrad']}."
        )


def _refuse_segments(adf: Mapping[str, Any]) -> None:
    taken = {*TAKEN_NAMES, *(adf["detectors"] or ("bf", "abf", "haadf"))}
    for name, detector in adf["segmented"].items():
        where, inner, outer = f"adf.segmented.{name}", detector["inner_mrad"], detector["outer_mrad"]
        if outer <= inner:
            raise ConfigError(
                where, f"got inner_mrad {inner} and outer_mrad {outer}; inner must be smaller than outer."
            )
        number = detector["segments"] * detector["radial"]
        names = [f"{name}_{i}" for i in range(number)]
        if number > MOST_SEGMENTS:
            raise ConfigError(where, f"got {number} segments; allowed are at most {MOST_SEGMENTS} images.")
        if double := sorted(taken & {*names, *(f"{name}_{kind}" for kind in ("dpc_x", "dpc_y", "idpc"))}):
            raise ConfigError(where, f"its image {double[0]} has the name of another image; choose another name.")
        taken |= set(names)


def _refuse_integration(adf: Mapping[str, Any], scan: Mapping[str, Any]) -> None:
    if not adf["integrated"]:
        return
    if scan["line"] is not None or scan["positions"] is not None:
        raise ConfigError("adf.integrated", "got true with a line or a list; phases are integrated over a window only.")
    if not adf["enabled"] or not (adf["center_of_mass"] or adf["segmented"]):
        raise ConfigError(
            "adf.integrated", "got true, but there is no centre of mass and no segmented detector; enable one of them."
        )


def _refuse_waves(config: Mapping[str, Any]) -> None:
    waves, probe = config["waves"], config["probe"]
    if probe["plane_wave"]:
        _refuse_beside_a_plane_wave(config)
    if waves["exit"] and probe["precession"] is not None:
        raise ConfigError("waves.exit", "given with probe.precession, which averages intensities; remove one of them.")
    if waves["depth_profile"] and not waves["exit"]:
        raise ConfigError("waves.depth_profile", "got true without waves.exit; name there the positions of the probe.")
    if waves["columns"] is not None and not waves["depth_profile"]:
        raise ConfigError("waves.columns", "given without waves.depth_profile: true; set it, or remove the columns.")


def _refuse_beside_a_plane_wave(config: Mapping[str, Any]) -> None:
    """Refuse keys that need a focused probe. A plane wave has an exit wave only."""
    probe, waves = config["probe"], config["waves"]
    tilted = any(probe["tilt_mrad"]) or probe["precession"] is not None
    several = (len(probe["defoci_nm"]) if probe["defoci_nm"] else probe["defocus_count"]) > 1
    beside = {
        "adf.enabled": (config["adf"]["enabled"], "false"),
        "cbed.enabled": (config["cbed"]["enabled"], "false"),
        "waves.exit": (bool(waves["exit"]), "[]"),
        "waves.probe": (waves["probe"], "false"),
        "waves.depth_profile": (waves["depth_profile"], "false"),
        "grating.window_angstrom": (config["grating"]["window_angstrom"] is not None, "null"),
        "probe.tilt_mrad or probe.precession": (tilted, "none, and specimen.tilt_mrad instead"),
        "probe.defocus_count or probe.defoci_nm": (several, "one defocus"),
    }
    for where, (is_so, use) in beside.items():
        if is_so:
            raise ConfigError(where, f"does not go with probe.plane_wave: true, which has no probe. Use {use}.")


def _refuse_specimen_tilt(tilt: Sequence[float]) -> None:
    size = math.hypot(*tilt)
    if size > LARGEST_SPECIMEN_TILT_MRAD:
        raise ConfigError(
            "specimen.tilt_mrad",
            f"got {short(tilt)}, {size:.4g} mrad in all; the propagator tilts specimens by at most "
            f"{LARGEST_SPECIMEN_TILT_MRAD:g} mrad. Turn the crystal with specimen.zone_axis, or give a structure file "
            "of the turned specimen.",
        )


def _refuse_building(specimen: Mapping[str, Any]) -> None:
    if specimen["zone_axis"] is not None and specimen["supercell"] is not None:
        raise ConfigError(
            "specimen.zone_axis",
            "given together with `specimen.supercell`; both choose the edges of the cell. Give one of the two.",
        )
    for key in ("up", "max_strain"):
        if specimen[key] and specimen["zone_axis"] is None:
            raise ConfigError(
                f"specimen.{key}", "has no effect without `specimen.zone_axis`; give the zone axis, or remove it."
            )
    for number, item in enumerate(specimen["substitutions"]):
        where = f"specimen.substitutions[{number}]"
        if (item["fraction"] is None) == (item["count"] is None):
            what = "neither" if item["count"] is None else f"fraction {item['fraction']:g} and count {item['count']}"
            raise ConfigError(where, f"give one of `fraction` and `count`; got {what}.")
        if item["by"] == item["element"]:
            raise ConfigError(f"{where}.by", f"got {item['by']}, the element that it replaces; give another one.")
        for key, pair in (item["region"] or {}).items():
            if pair is not None and pair[1] <= pair[0]:
                raise ConfigError(f"{where}.region.{key}", f"got {pair}; the region must end after it begins.")
    layers = specimen["amorphous_layers"]
    if layers is not None and layers["entrance_nm"] + layers["exit_nm"] == 0:
        raise ConfigError(
            "specimen.amorphous_layers", "has no thickness; give `entrance_nm`, `exit_nm` or both, or remove it."
        )
    if all(specimen[key] is None for key in ("repeat", "size_nm", "thickness_nm")):
        raise ConfigError("specimen.repeat", "is null, and so are size_nm and thickness_nm; give one of them.")


def _refuse_frames(phonons: Mapping[str, Any], specimen: Mapping[str, Any]) -> None:
    if phonons["snapshots"] is None:
        if phonons["configurations"] is None:
            raise ConfigError(
                "frozen_phonon.configurations",
                "null means all frames of a trajectory, but `snapshots` is not given; give a number.",
            )
        return
    if not phonons["enabled"]:
        raise ConfigError(
            "frozen_phonon.snapshots", "given while frozen_phonon.enabled is false; remove one of the two."
        )
    # If the user gave sizes, `repeat` is null. Then the message names the sizes only.
    changed = [
        f"specimen.{key}"
        for key, neutral in NEUTRAL_BUILDING.items()
        if specimen[key] != neutral and not (key == "repeat" and specimen[key] is None)
    ]
    if changed:
        raise ConfigError(
            "frozen_phonon.snapshots", f"frames of a trajectory are complete cells; remove {', '.join(changed)}."
        )


def _refuse_plasmons(config: Mapping[str, Any]) -> None:
    plasmons = config["plasmon_scattering"]
    if not plasmons["enabled"]:
        return
    where = "plasmon_scattering"
    needed = ["mean_free_path_nm", "plasmon_energy_ev", *([] if plasmons["simple_mode"] else ["plasmon_fwhm_ev"])]
    missing = [key for key in needed if plasmons[key] is None]
    if missing:
        raise ConfigError(
            f"{where}.{missing[0]}",
            f"is null; with enabled: true, give {', '.join(missing)} of the material. "
            "Silicon at 200 kV: 128 nm, 16.9 eV, 4.0 eV.",
        )
    if plasmons["simple_mode"] and plasmons["plasmon_fwhm_ev"] is not None:
        raise ConfigError(
            f"{where}.plasmon_fwhm_ev",
            f"got {plasmons['plasmon_fwhm_ev']:g} eV, which has no effect with simple_mode: true; remove one "
            "of the two.",
        )
    if plasmons["max_energy_ev"] < plasmons["plasmon_energy_ev"]:
        raise ConfigError(
            f"{where}.max_energy_ev",
            f"got {plasmons['max_energy_ev']:g} eV, less than plasmon_energy_ev, {plasmons['plasmon_energy_ev']:g} eV: "
            "the axis would end before the first loss. Use a larger value.",
        )
    width, density = plasmons["plasmon_fwhm_ev"], plasmons["energy_grid_density_per_ev"]
    if width is not None and width * density < NARROWEST_LINE:
        raise ConfigError(
            f"{where}.plasmon_fwhm_ev",
            f"got {width:g} eV, but entries of the energy axis are {1 / density:g} eV wide. Use at least "
            f"{NARROWEST_LINE / density:g} eV, a larger energy_grid_density_per_ev, or simple_mode: true, which has no "
            "width.",
        )
    entries = plasmons["max_energy_ev"] * plasmons["energy_grid_density_per_ev"] + 1
    if entries > MOST_ENERGIES:
        raise ConfigError(
            f"{where}.energy_grid_density_per_ev",
            f"makes {entries:.0f} energy losses; allowed are {MOST_ENERGIES}. Use a smaller density or max_energy_ev.",
        )
    if config["specimen"]["amorphous_layers"] is not None:
        raise ConfigError(
            f"{where}.enabled",
            "plasmons know one material, but specimen.amorphous_layers adds another one; remove one of the two.",
        )
    if not config["adf"]["enabled"] and not config["cbed"]["enabled"]:
        raise ConfigError(f"{where}.enabled", "needs adf or cbed: waves are stored without losses. Enable one of them.")
