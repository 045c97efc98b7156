"""The shipped examples run, at a small size. test_tutorials.py runs GaN along a zone axis."""

from __future__ import annotations

import re
import runpy
import shutil
from collections.abc import Mapping
from pathlib import Path

import netCDF4
import numpy as np
import pytest
from stemphony.interface.result import open_result as stemphony_open
from support import forks
from support.campaign import DEADLINE_S, REPOSITORY, Outcome

SMALL = (
    "grating.sampling_angstrom=0.2", "scan.points=[2, 2]", "adf.detectors={haadf: [20, 35]}",
    "frozen_phonon.configurations=2", "specimen.thickness_nm=0.9", "probe.semiangle_mrad=10",
)  # fmt: skip


def stemphony(*words: str | Path, cwd: Path, env: Mapping[str, str]) -> Outcome:
    """Run a command to its end, in a fork."""
    log = cwd / "command.out"
    status = forks.run(["-m", "stemphony", *words], env, cwd, log, DEADLINE_S)
    return Outcome(status, log.read_text(encoding="utf-8", errors="replace"))


def test_the_example_of_a_doped_crystal_runs_at_a_small_size(env: Mapping[str, str], tmp_path: Path):
    config = REPOSITORY / "config/examples/srtio3_doped.yaml"
    outcome = stemphony(
        "run", config, "--cores", "2", "--config", "specimen.size_nm=[1.5, 2.3]", *SMALL, cwd=tmp_path, env=env
    )
    assert outcome.status == 0, outcome.output
    result = tmp_path / "results/srtio3_doped"
    with netCDF4.Dataset(result / "stem.nc") as merged:
        image = np.asarray(merged["images/haadf"][:])
        assert np.isfinite(image).all()
        assert (image > 0).all()
    frames = []
    for job in sorted(result.glob("jobs/*/configuration_*.nc")):
        with netCDF4.Dataset(job) as file:
            frames.append(10 * np.asarray(file["AMBER/coordinates"][0]))
            assert 0 in np.asarray(file["AMBER/element"][:])  # an oxygen vacancy
    assert len(frames) == 2
    moved = np.linalg.norm(frames[0] - frames[1], axis=1)
    carbon = slice(-100, None)  # films come last, and each configuration draws its own
    assert np.median(moved[carbon]) > 1.0


def test_the_example_of_a_tilt_runs_at_a_small_size_with_precession(env: Mapping[str, str], tmp_path: Path):
    config = REPOSITORY / "config/examples/srtio3_tilt.yaml"
    small = ("specimen.repeat=[3, 3, 3]", "grating.gpts=[108, 108]", "scan.points=[2, 2]", "scan.x=[0, 0.5]",
             "adf.detectors={haadf: [40, 60]}", "probe.precession={angle_mrad: 4.0, steps: 3}",
             "probe.descan=true")  # fmt: skip
    outcome = stemphony("run", config, "--cores", "2", "--config", *small, cwd=tmp_path, env=env)
    assert outcome.status == 0, outcome.output
    assert "3 tilts on a cone of 4 mrad about it; angles count from the beam" in outcome.output
    with netCDF4.Dataset(tmp_path / "results/srtio3_tilt/stem.nc") as merged:
        assert (np.asarray(merged["images/abf"][:]) > 0).all()
        assert "angle_mrad" in merged["params/probe"].precession
        assert merged["params/specimen"].tilt_mrad == "[8.0, 0.0]"


def test_the_example_of_patterns_runs_at_a_small_size(env: Mapping[str, str], tmp_path: Path):
    config = REPOSITORY / "config/examples/srtio3_patterns.yaml"
    window = "x: [0, 0.5], y: [0, 0.3333333333333333]"
    small = ("specimen.repeat=[2, 3, 2]", "grating.gpts=[72, 108]", "scan.x=[0, 0.5]", "scan.points=[2, 2]",
             "scan.y=[0, 0.3333333333333333]", f"cbed.scan={{{window}, points: [3, 2]}}",
             "frozen_phonon.configurations=2", "cbed.depths={at_angstrom: [1.9525, 3.905, 7.81]}")  # fmt: skip
    outcome = stemphony("run", config, "--cores", "1", "--config", *small, cwd=tmp_path, env=env)
    assert outcome.status == 0, outcome.output
    assert "3 × 2 positions, 1.302 × 1.95" in outcome.output
    assert "each has a wave of its own" in outcome.output
    assert "finer than what the cell resolves" in outcome.output
    merged = tmp_path / "results/srtio3_patterns/stem.nc"
    with netCDF4.Dataset(merged) as root:
        cbed = root["cbed"]
        patterns, pacbed = (np.asarray(cbed[name][:]) for name in ("cbed_intensities", "pacbed"))
        assert cbed["cbed_intensities"].source_fwhm_nm == pytest.approx(0.08)
        # The window repeats, so the source keeps the mean.
        assert not np.asarray(cbed["source_is_cut"][:]).any()
        np.testing.assert_allclose(
            patterns[0, :, :, 0, :, 0].mean(axis=(0, 1)), pacbed[0, 0, :, 0], rtol=1e-4, atol=1e-9
        )
        assert float(np.asarray(cbed["vacuum_disk"][:]).sum()) == pytest.approx(1, rel=1e-5)
        # Scattering takes intensity out of the camera, more with each depth.
        assert (np.diff(pacbed[0, 0, :, 0].sum(axis=(1, 2))) < 0).all()
    figure = runpy.run_path(str(REPOSITORY / "docs/figures/patterns.py"))
    figure["main"](merged, tmp_path / "patterns.png")
    assert (tmp_path / "patterns.png").stat().st_size > 10_000


def test_the_example_of_dpc_runs_at_a_small_size(env: Mapping[str, str], tmp_path: Path):
    config = REPOSITORY / "config/examples/srtio3_dpc.yaml"
    cell = "[0, 0.3333333333333333]"
    small = ("specimen.repeat=[3, 3, 1]", "grating.gpts=[108, 108]", "scan.points=[6, 6]", f"scan.x={cell}",
             f"scan.y={cell}", "frozen_phonon.enabled=false")  # fmt: skip
    outcome = stemphony("run", config, "--cores", "2", "--config", *small, cwd=tmp_path, env=env)
    assert outcome.status == 0, outcome.output
    with netCDF4.Dataset(tmp_path / "results/srtio3_dpc/stem.nc") as merged:
        images = merged["images"]
        assert images["icom"].boundary_conditions == "x: periodic; y: periodic"
        phases = [np.asarray(images[name][0, 0, -1]) for name in ("icom", "idpc")]
        # Potentials are attractive: both phases are largest on a column.
        assert np.corrcoef(*(phase.ravel() for phase in phases))[0, 1] > 0.95
        assert phases[0][0, 0] > 0.9 * phases[0].max()


def test_the_example_of_a_sensitivity_runs_at_a_small_size_and_an_edited_file_computes_again(
    env: Mapping[str, str], tmp_path: Path
):
    folder = tmp_path / "config/examples"
    shutil.copytree(REPOSITORY / "config/examples", folder)
    shutil.copy(REPOSITORY / "config/srtio3.cif", folder.parent)
    np.save(folder / "map.npy", np.full((40, 40), 0.5))
    entries = "haadf: {inner_mrad: 20, outer_mrad: 60, sensitivity: haadf_profile.csv}, ring: [20, 60], " \
              "half: {inner_mrad: 20, outer_mrad: 60, sensitivity: map.npy, pixel_mrad: 3}"  # fmt: skip
    small = ("specimen.repeat=[3, 3, 1]", "grating.gpts=[108, 108]", "scan.points=[2, 2]", "scan.x=[0, 0.333]",
             "scan.y=[0, 0.333]", "frozen_phonon.enabled=false", f"adf.detectors={{{entries}}}")  # fmt: skip

    def images(*more: str) -> dict[str, np.ndarray]:
        command = ("run", folder / "srtio3_sensitivity.yaml", "--cores", "1", *more, "--config", *small)
        outcome = stemphony(*command, cwd=tmp_path, env=env)
        assert outcome.status == 0, outcome.output
        with netCDF4.Dataset(tmp_path / "results/srtio3_sensitivity/stem.nc") as merged:
            return {name: np.asarray(merged["images"][name][:]) for name in ("haadf", "ring", "half")}

    first = images()
    np.testing.assert_allclose(first["half"], 0.5 * first["ring"], rtol=1e-6)
    assert (first["haadf"] < 0.1 * first["ring"]).all()
    profile = folder / "haadf_profile.csv"
    profile.write_text("0,1\n150,1\n")
    edited = images("--replace")
    np.testing.assert_array_equal(edited["haadf"], edited["ring"])
    np.testing.assert_array_equal(edited["ring"], first["ring"])


def test_the_example_of_waves_runs_at_a_small_size_and_with_a_plane_wave(env: Mapping[str, str], tmp_path: Path):
    config = REPOSITORY / "config/examples/srtio3_waves.yaml"
    small = ("specimen.repeat=[3, 3, 2]", "grating.gpts=[108, 108]", "frozen_phonon.configurations=2")

    def run(*entries: str) -> Path:
        outcome = stemphony("run", config, "--cores", "1", "--config", *small, *entries, cwd=tmp_path, env=env)
        assert outcome.status == 0, outcome.output
        assert "exit waves" in outcome.output
        return tmp_path / "results" / "srtio3_waves"

    result = run()
    waves = stemphony_open(result).tree["waves"].to_dataset()
    area = float(np.prod([waves[f"waves_{axis}"][1] - waves[f"waves_{axis}"][0] for axis in "xy"]))
    assert float((abs(waves["probe_wave"]) ** 2).sum()) * area == pytest.approx(1.0, rel=1e-5)
    elastic = (abs(waves["exit_wave"]) ** 2).sum(("waves_x", "waves_y"))
    intensity = waves["exit_intensity"].sum(("waves_x", "waves_y")) * area
    assert (elastic * area < intensity).all()
    assert (intensity > 0.9).all()
    assert (intensity < 1.0).all()
    assert (waves["column_intensity_standard_error"].isel(waves_slice=-1) > 0).all()
    shutil.rmtree(result)
    run("probe.plane_wave=true", "waves={probe: false, exit: [], depth_profile: false}")
    plane = stemphony_open(result).tree["waves"]["exit_wave"]
    assert float((abs(plane) ** 2).mean()) == pytest.approx(1.0, abs=0.1)
    assert np.ptp(np.angle(plane)) > 0.5


def test_show_draws_the_specimen_and_its_atoms_read_back(env: Mapping[str, str], tmp_path: Path):
    import matplotlib.image
    from stemphony.specimen.structures import read_specimen

    config = REPOSITORY / "config/examples/gan_1120.yaml"
    outcome = stemphony("show", config, "--xyz", "--config", "specimen.size_nm=[1.5, 1.5]", cwd=tmp_path, env=env)
    assert outcome.status == 0, outcome.output
    assert "x along [1 -1 0 0], y along [0 0 0 1], beam along [-1 -1 2 0]" in outcome.output
    picture = matplotlib.image.imread(tmp_path / "gan_1120_specimen.png")
    assert min(picture.shape[:2]) > 700
    assert len(np.unique(picture.reshape(-1, picture.shape[2]).round(2), axis=0)) > 50
    again = read_specimen(tmp_path / "gan_1120_specimen.xyz")
    first = read_specimen(
        REPOSITORY / "config/examples/gan.cif", zone_axis=[1, 1, -2, 0], up=[0, 0, 0, 1], repeat=None,
        size_nm=[1.5, 1.5], thickness_nm=5.0, origin="N", u_iso_angstrom2={"Ga": 0.0042, "N": 0.0051},
    )  # fmt: skip
    np.testing.assert_array_equal(again.symbols, first.symbols)
    np.testing.assert_allclose(again.positions, first.positions, atol=1e-8)
    np.testing.assert_allclose(again.u_iso, first.u_iso, atol=1e-9)
    refused = stemphony("show", config, "--output", tmp_path / "none" / "a.png", cwd=tmp_path, env=env)
    assert refused.status == 1, refused.output
    assert "cannot be written" in refused.output
    assert "Traceback" not in refused.output


def test_the_example_of_plasmons_runs_at_a_small_size(env: Mapping[str, str], tmp_path: Path):
    config = REPOSITORY / "config/examples/silicon_plasmons.yaml"
    small = ("specimen.repeat=[2, 2, 4]", "grating.gpts=[108, 108]", "scan.points=[2, 2]", "scan.x=[0, 0.5]",
             "scan.y=[0, 0.5]", "frozen_phonon.configurations=2", "plasmon_scattering.draws=1",
             "plasmon_scattering.mean_free_path_nm=5.0")  # fmt: skip
    outcome = stemphony("run", config, "--cores", "2", "--config", *small, cwd=tmp_path, env=env)
    assert outcome.status == 0, outcome.output
    assert "2.172 nm of material are 0.434 mean free paths. 64.8 % of the electrons lose nothing" in outcome.output
    with netCDF4.Dataset(tmp_path / "results/silicon_plasmons/stem.nc") as merged:
        spectrum = np.asarray(merged["adf/energy_loss_spectrum"][0, :, :, 0, -1])
        total = np.asarray(merged["images/total_intensity"][0, 0, -1])
        assert spectrum.sum(axis=-1) == pytest.approx(total, rel=1e-5)
        # the shares of all electrons, of which a few per cent leave the band limit
        assert spectrum[..., 0] == pytest.approx(np.exp(-2.1724 / 5.0) * total, rel=5e-3)
        assert merged["params/plasmon_scattering"].mean_free_path_nm == 5.0
    figure = runpy.run_path(str(REPOSITORY / "docs/figures/plasmons.py"))
    table = figure["main"](tmp_path / "results/silicon_plasmons/stem.nc", tmp_path / "plasmons.png")
    assert (tmp_path / "plasmons.png").stat().st_size > 10_000
    # the disk loses electrons to the angles around it
    assert re.fullmatch(r"\| 0–9 mrad \| −\d+\.\d % \| [+−]\d+\.\d % \| \d+\.\d % \|", table[2])
    page = (REPOSITORY / "docs/how-to/plasmons.md").read_text(encoding="utf-8")
    assert f"<!-- begin: {figure['COMMAND']} -->\n{table[0]}\n{table[1]}\n" in page
