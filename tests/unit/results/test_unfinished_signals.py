"""A result of some configurations, and the whole one after the missing job has run again, with every kind of signal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import netCDF4
import numpy as np
import pytest
from stemphony.results.merge import merge
from stemphony.results.merge_task import MergeTask
from support.experiments import FakeCampaign

PATTERNS = {"enabled": True, "max_mrad": 20.0}
KINDS: dict[str, dict[str, Any]] = {
    "plasmons": {
        "plasmon_scattering": {
            "enabled": True,
            "mean_free_path_nm": 128.0,
            "plasmon_energy_ev": 16.9,
            "plasmon_fwhm_ev": 4.0,
            "energy_grid_density_per_ev": 0.1,
            "max_energy_ev": 30.0,
        },
        "cbed": PATTERNS,
    },
    "segments and centre of mass": {
        "adf": {"segmented": {"q": {"inner_mrad": 5.0, "outer_mrad": 30.0, "segments": 4}}, "integrated": True},
    },
    "waves": {"waves": {"probe": True, "exit": [[0.1, 0.2]], "depth_profile": True}},
    "patterns of their own": {
        "cbed": {**PATTERNS, "scan": {"points": [2, 2]}, "depths": {"at_angstrom": [7.8]}, "standard_errors": True},
    },
}


def variables(file: Path) -> dict[str, np.ndarray]:
    with netCDF4.Dataset(file) as root:
        root.set_auto_mask(False)
        return {
            f"{group}/{name}": np.asarray(variable[...])
            for group in ("images", "adf", "cbed", "waves")
            if group in root.groups
            for name, variable in root[group].variables.items()
        }


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_failed_configuration_is_left_out_and_comes_back(kind, tmp_path):
    fake = FakeCampaign.of(tmp_path / "all", frozen_phonon={"configurations": 3}, **KINDS[kind])
    fake.write_all()
    whole = variables(fake.merge())
    file = fake.result.job(*fake.pairs[1])
    file.rename(tmp_path / "kept")
    output = tmp_path / "unfinished.nc"
    merge(
        MergeTask(fake.campaign.merge_params, fake.result, partial=True), output, fake.table, fake.experiment,
        root_attributes={"title": "a title"}, runtime_attributes=lambda: {"UUID": "an id"}, blocks={},
        warn=lambda text: None,
    )  # fmt: skip
    unfinished = variables(output)
    fewer = FakeCampaign.of(tmp_path / "two", frozen_phonon={"configurations": 2}, **KINDS[kind])
    fewer.result.job(*fewer.pairs[0]).parent.mkdir(parents=True)
    others = [fake.signals(*fake.pairs[number]) for number in (0, 2)]
    fewer.signals = lambda defocus, configuration: others[configuration]  # type: ignore[method-assign]
    for pair in fewer.pairs:
        fewer.write(*pair)
    two, moved = variables(fewer.merge()), 0
    assert set(unfinished) <= set(whole)
    for name, values in unfinished.items():
        size = np.nanmax(np.abs(two[name]))
        np.testing.assert_allclose(values, two[name], rtol=1e-6, atol=1e-6 * size, err_msg=name)
        moved += not np.array_equal(values, whole[name], equal_nan=True)
    assert moved
    (tmp_path / "kept").rename(file)
    again = variables(fake.merge())
    assert set(again) == set(whole)
    assert [name for name in whole if not np.array_equal(again[name], whole[name], equal_nan=True)] == []
