"""The group `waves` in job files and results: averages, errors, units and how readers open it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import netCDF4
import numpy as np
import pytest
from stemphony.errors import ResultError
from stemphony.interface.result import open_result
from stemphony.results.merge import merge
from stemphony.results.merge_task import MergeTask
from support.experiments import FakeCampaign

DEFOCI = {"probe": {"defoci_nm": [0.0, 2.0]}}
WAVES = {"probe": True, "exit": [[0.0, 0.0], [0.5, 0.25]], "depth_profile": True, "columns": [[0.5, 0.5]]}


def merged(folder: Path, **waves: Any) -> tuple[FakeCampaign, Path]:
    fake = FakeCampaign.of(folder, waves={**WAVES, **waves}, simulation={"precision": "double"}, **DEFOCI)
    fake.write_all()
    return fake, fake.merge()


def stack(fake: FakeCampaign, name: str) -> np.ndarray:
    """(defocus, configuration, …) of all jobs."""
    jobs = [getattr(fake.signals(*pair).stored, name) for pair in fake.pairs]
    return np.array(jobs).reshape(2, -1, *jobs[0].shape)


def values(group: netCDF4.Group, name: str) -> np.ndarray:
    found = np.asarray(group[name][:])
    return found[..., 0] + 1j * found[..., 1] if group[name].dimensions[-1] == "part" else found


@pytest.mark.slow
def test_the_mean_wave_and_its_mean_intensity_are_those_of_the_configurations(tmp_path):
    fake, file = merged(tmp_path)
    waves = 10 * stack(fake, "exit_wave")  # nm⁻¹
    with netCDF4.Dataset(file) as root:
        group = root["waves"]
        np.testing.assert_allclose(values(group, "exit_wave")[:, 0], waves.mean(axis=1), rtol=1e-12)
        intensity = np.abs(waves) ** 2
        np.testing.assert_allclose(values(group, "exit_intensity")[:, 0], intensity.mean(axis=1), rtol=1e-12)
        number = waves.shape[1]
        error = intensity.std(axis=1, ddof=1) / np.sqrt(number)
        np.testing.assert_allclose(values(group, "exit_intensity_standard_error")[:, 0], error, rtol=1e-9)
        parts = values(group, "exit_wave_standard_error")[:, 0]
        np.testing.assert_allclose(parts.real, waves.real.std(axis=1, ddof=1) / np.sqrt(number), rtol=1e-9)
        np.testing.assert_allclose(parts.imag, waves.imag.std(axis=1, ddof=1) / np.sqrt(number), rtol=1e-9)
        assert group["exit_wave"].units == "nm-1"
        assert group["exit_intensity"].units == "nm-2"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "field", "scale", "units"),
    [("depth_profile", "profile", 10.0, "nm-1"), ("depth_section", "section", 100.0, "nm-2"),
     ("column_intensity", "columns", 1.0, "1")],
)  # fmt: skip
def test_intensities_along_the_depth_are_means_with_errors(name, field, scale, units, tmp_path):
    fake, file = merged(tmp_path)
    jobs = scale * stack(fake, field)
    with netCDF4.Dataset(file) as root:
        group = root["waves"]
        np.testing.assert_allclose(values(group, name)[:, 0], jobs.mean(axis=1), rtol=1e-12)
        errors = jobs.std(axis=1, ddof=1) / np.sqrt(jobs.shape[1])
        np.testing.assert_allclose(values(group, f"{name}_standard_error")[:, 0], errors, rtol=1e-9)
        assert group[name].units == group[f"{name}_standard_error"].units == units


def test_configurations_may_be_kept_apart(tmp_path):
    fake, file = merged(tmp_path, average_configurations=False)
    with netCDF4.Dataset(file) as root:
        np.testing.assert_allclose(values(root["waves"], "exit_wave"), 10 * stack(fake, "exit_wave"), rtol=1e-12)
        assert "exit_wave_standard_error" not in root["waves"].variables
        assert root["waves"]["waves_phonon"][:].tolist() == [0, 1, 2, 3]


def test_coordinates_name_positions_columns_depths_and_the_grid(tmp_path):
    fake, file = merged(tmp_path)
    with netCDF4.Dataset(file) as root:
        group = root["waves"]
        assert group["waves_probe_x"][:].tolist() == pytest.approx([0.0, 0.3905])
        assert group["waves_probe_y"][:].tolist() == pytest.approx([0.0, 0.19525])
        assert group["waves_column_x"][:].tolist() == pytest.approx([0.3905])
        assert group["column_intensity"].radius_nm == pytest.approx(0.05)
        assert group["waves_x"][:3].tolist() == pytest.approx([0.0, 0.781 / 64, 2 * 0.781 / 64])
        depths = [0.0, *np.array(fake.experiment.slicing.depths) / 10]
        assert group["waves_slice"][:].tolist() == pytest.approx(depths)
        assert group["waves_defocus"][:].tolist() == [0.0, 2.0]
        assert np.all(group["waves_origin_x"][:] == 0)


def test_the_incident_probe_of_each_defocus_holds_one_electron(tmp_path):
    _, file = merged(tmp_path)
    with netCDF4.Dataset(file) as root:
        probe = values(root["waves"], "probe_wave")
        step = root["waves"]["waves_x"][1] * root["waves"]["waves_y"][1]
        assert (np.abs(probe) ** 2).sum(axis=(1, 2)) * step == pytest.approx([1.0, 1.0], rel=1e-12)
        assert np.abs(probe[0] - probe[1]).max() > 0.1


def test_the_probe_alone_needs_no_job(tmp_path):
    fake = FakeCampaign.of(tmp_path, waves={"probe": True})
    fake.write_all()
    with netCDF4.Dataset(fake.merge()) as root:
        assert set(root["waves"].variables) == {"waves_x", "waves_y", "waves_defocus", "part", "probe_wave"}


def test_without_waves_there_is_no_group(tmp_path):
    fake = FakeCampaign.of(tmp_path)
    fake.write_all()
    with netCDF4.Dataset(fake.merge()) as root:
        assert "waves" not in root.groups


def test_labelled_arrays_are_complex(tmp_path):
    xarray = pytest.importorskip("xarray")
    fake, file = merged(tmp_path)
    expected = 10 * stack(fake, "exit_wave").mean(axis=1)
    waves = open_result(file).tree["waves"]
    np.testing.assert_allclose(waves["exit_wave"][:, 0], expected, rtol=1e-12)
    assert waves["exit_wave"].dims[-2:] == ("waves_x", "waves_y")
    assert waves["exit_wave"].attrs["units"] == "nm-1"
    assert waves["probe_wave"].dtype.kind == "c"
    assert waves["depth_profile"].dtype.kind == "f"
    with xarray.open_dataset(file, group="waves") as plain:
        np.testing.assert_allclose(plain["exit_wave"][:, 0].sel(part=1), expected.imag, rtol=1e-12)


def test_a_preview_averages_what_is_finished(tmp_path):
    fake = FakeCampaign.of(tmp_path, waves=WAVES, simulation={"precision": "double"}, **DEFOCI)
    for configuration in (0, 2):
        fake.write("p0d000", configuration)
    blocks = {name: value for name, value in fake.campaign.config.items() if isinstance(value, dict)}
    merge(
        MergeTask(fake.campaign.merge_params, fake.result, partial=True), tmp_path / "preview.nc", fake.table,
        fake.experiment, root_attributes={"title": "t", "id": "an id"}, runtime_attributes=dict, blocks=blocks,
        warn=lambda note: None,
    )  # fmt: skip
    expected = np.mean([fake.signals("p0d000", c).stored.exit_wave for c in (0, 2)], axis=0)
    with netCDF4.Dataset(tmp_path / "preview.nc") as root:
        found = values(root["waves"], "exit_wave")
        np.testing.assert_allclose(found[0, 0], 10 * expected, rtol=1e-12)
        assert np.isnan(found[1]).all()


def test_waves_alone_are_a_result(tmp_path):
    fake = FakeCampaign.of(tmp_path, waves={"exit": [[0.0, 0.0]]}, adf={"enabled": False})
    fake.write_all()
    with netCDF4.Dataset(fake.merge()) as root:
        assert set(root.groups) == {"AMBER", "params", "runtime", "waves"}
        assert np.isfinite(root["waves"]["exit_wave"][:]).all()
    result = open_result(fake.result.merged)
    assert result.detectors == {}
    with pytest.raises(ResultError, match="has waves only"):
        result.image("bf")
    with pytest.raises(ResultError, match="no diffraction patterns"):
        result.pattern()


def test_a_plane_wave_is_relative_to_the_incident_one(tmp_path):
    fake = FakeCampaign.of(tmp_path, probe={"plane_wave": True}, adf={"enabled": False})
    fake.write_all()
    expected = np.mean([fake.signals(*pair).stored.exit_wave for pair in fake.pairs], axis=0)
    with netCDF4.Dataset(fake.merge()) as root:
        assert root["waves"]["exit_wave"].units == root["waves"]["exit_intensity"].units == "1"
        np.testing.assert_allclose(values(root["waves"], "exit_wave")[0, 0], expected, rtol=1e-6)
