"""Merged diffraction patterns with positions and depths of their own."""

from __future__ import annotations

from typing import Any

import netCDF4
import numpy as np
import pytest
import stemphony as st
from stemphony.errors import ResultError
from stemphony.export.contents import patterns_of
from stemphony.results.opened import OpenedResult
from support.experiments import FakeCampaign

LISTED = {"positions": [[0.0, 0.0], [0.5, 0.25], [0.75, 0.75]]}
DEPTHS = {"at_angstrom": [1.96, 7.8]}
"""The first is no depth of the images."""


def merged(folder: Any, cbed: dict[str, Any], **blocks: Any) -> FakeCampaign:
    fake = FakeCampaign.of(
        folder, cbed={"enabled": True, "max_mrad": 20.0, "size": [5, 3], **cbed},
        frozen_phonon={"configurations": 2}, **blocks,
    )  # fmt: skip
    fake.write_all()
    fake.merge()
    return fake


def mean(fake: FakeCampaign) -> np.ndarray:
    return np.asarray(np.mean([fake.signals(*pair).cbed for pair in fake.pairs], axis=0))


@pytest.mark.parametrize("scan", [{"points": [2, 2]}, {"x": [0.25, 0.75], "points": [4, 1]}, LISTED, None], ids=str)
def test_the_result_holds_them_at_their_own_places(tmp_path, scan):
    fake = merged(tmp_path, {"scan": scan, "depths": DEPTHS})
    with netCDF4.Dataset(fake.result.merged) as root:
        root.set_auto_mask(False)
        cbed = root["cbed"]
        stored = cbed["cbed_intensities"][0, :, :, 0, :, 0]
        assert stored == pytest.approx(mean(fake), rel=1e-5)
        assert cbed["cbed_slice"][:] == pytest.approx([0.195, 0.781], abs=1e-3)
        assert len(root["adf"]["adf_slice"]) == 2
        assert root["adf"]["adf_intensities"].shape[1:3] == (3, 4)
        places = fake.experiment.patterns.probe_positions / 10
        if scan is LISTED:
            assert cbed["cbed_probe_x"][:] == pytest.approx(places[..., 0], rel=1e-5)
        else:
            assert cbed["cbed_position_x"][:] == pytest.approx(places[:, 0, 0], rel=1e-5)


def test_patterns_of_a_list_are_read_and_exported_by_their_places(tmp_path):
    fake = merged(tmp_path, {"scan": LISTED, "depths": DEPTHS})
    expected, result = mean(fake), st.open(fake.result.root)
    at = 0.5 * 0.781, 0.25 * 0.781
    found = result.pattern(at, depth_nm=0.19525)
    assert found.values == pytest.approx(expected[1, 0, 0].T, rel=1e-5)
    assert float(found["x"]) == pytest.approx(at[0], rel=1e-5)
    assert result.pattern().values == pytest.approx(expected[:, 0, 1].mean(axis=0).T, rel=1e-5)
    with pytest.raises(ResultError, match=r"no pattern at \(0.1, 0.1\) nm. It has them at \(0, 0\)"):
        result.pattern((0.1, 0.1))
    with patterns_of(OpenedResult(fake.result.merged), 0.19525, None) as exported:
        assert exported.scan.kind == "positions"
        assert exported.block(slice(None), slice(None)) == pytest.approx(expected[:, :, 0], rel=1e-5)
