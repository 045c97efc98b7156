"""Images of deflection and phase in the merged result."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import netCDF4
import numpy as np
import pytest
from stemphony.experiment.scan_edges import ScanEdges
from stemphony.physics.integration import phase_of_deflection
from stemphony.results.phase_images import PhaseImages
from support.experiments import FakeCampaign, WithSlit

QUADRANTS = {"inner_mrad": 0.0, "outer_mrad": 40.0, "segments": 4, "rotation_deg": 45.0}
HEXAGON = {"inner_mrad": 5.0, "outer_mrad": 30.0, "segments": 6, "radial": 2, "offset_mrad": [1.0, 0.0]}


def merged(
    folder: Path, adf: dict[str, Any], edges: ScanEdges | None = None, **blocks: Any
) -> tuple[FakeCampaign, Path]:
    fake = FakeCampaign.of(folder, edges, adf={"bins": 5, "max_mrad": 60.0, **adf}, **blocks)
    fake.write_all()
    return fake, fake.merge()


def image(file: Path, name: str) -> np.ndarray:
    with netCDF4.Dataset(file) as root:
        return np.asarray(root["images"][name][:])


def by_hand(fake: FakeCampaign) -> tuple[np.ndarray, np.ndarray]:
    """DPC [mrad] of the quadrants of each job, (jobs, x, y, depth, 2), and their centres of mass [mrad]."""
    deflections, centers = [], []
    for pair in fake.pairs:
        signals = fake.signals(*pair)
        q = signals.rings[..., -4:].astype(np.float32).astype(float)
        # Sector 0 begins at 45°: the quadrants look to +y, −x, −y, +x. An evenly lit disk of 20 mrad.
        c = 20 * np.pi / (4 * np.sin(np.pi / 4))
        deflections.append(c * np.stack([q[..., 3] - q[..., 1], q[..., 0] - q[..., 2]], axis=-1))
        centers.append(1e3 * signals.center_of_mass * signals.total[..., None])
    totals = np.mean([fake.signals(*pair).total for pair in fake.pairs], axis=0)
    return np.array(deflections), np.mean(centers, axis=0) / totals[..., None]


def test_segments_are_images_with_errors(tmp_path):
    fake, file = merged(tmp_path, {"segmented": {"q": QUADRANTS, "hexa": HEXAGON}})
    assert fake.experiment.images[-16:] == (*(f"hexa_{i}" for i in range(12)), *(f"q_{i}" for i in range(4)))
    with netCDF4.Dataset(file) as root:
        images = root["images"]
        for name in fake.experiment.images:
            assert name + "_standard_error" in images.variables
        assert (images["q_1"].begin_deg, images["q_1"].end_deg) == pytest.approx((135, 225))
        assert (images["hexa_7"].inner_mrad, images["hexa_7"].outer_mrad) == pytest.approx((17.5, 30.0))
        assert images["hexa_0"].offset_mrad == pytest.approx([1, 0])
        # both detectors show the deflection, so their images have different names
        assert {"q_dpc_x", "hexa_dpc_y"} <= set(images.variables)
        assert not {"dpc_x", "idpc", "icom", "q_idpc"} & set(images.variables)
    mean = np.mean([fake.signals(*pair).rings[..., -4] for pair in fake.pairs], axis=0)
    assert image(file, "q_0")[0, 0] == pytest.approx(np.moveaxis(mean, 2, 0), abs=1e-6)


def test_quadrants_give_dpc_with_its_error(tmp_path):
    fake, file = merged(tmp_path, {"segmented": {"q": QUADRANTS}})
    jobs, _ = by_hand(fake)
    for axis, name in enumerate(("dpc_x", "dpc_y")):
        expected = np.moveaxis(jobs.mean(axis=0)[..., axis], 2, 0)
        assert image(file, name)[0, 0] == pytest.approx(expected, abs=1e-4)
        error = np.moveaxis(jobs[..., axis].std(axis=0, ddof=1) / np.sqrt(len(jobs)), 2, 0)
        assert image(file, f"{name}_standard_error")[0, 0] == pytest.approx(error, abs=1e-4)
        with netCDF4.Dataset(file) as root:
            assert root["images"][name].units == root["images"][f"{name}_standard_error"].units == "mrad"


def test_a_detector_before_the_segments_leaves_their_deflection(tmp_path):
    fake, _ = merged(tmp_path, {"segmented": {"q": QUADRANTS}})
    made, signals = PhaseImages.of(fake.experiment, {}), fake.signals(*fake.pairs[0])
    images = np.concatenate([signals.rings, signals.total[..., None]], axis=-1)
    with_slit = np.concatenate([np.full_like(images[..., :1], 7.0), images], axis=-1)
    expected = made.of_job(fake.experiment, images, signals.center_of_mass)
    assert (made.of_job(WithSlit.of_experiment(fake.experiment), with_slit, signals.center_of_mass) == expected).all()


@pytest.mark.parametrize("whole", [True, False])
def test_phases_are_those_of_the_averaged_deflections(tmp_path, whole):
    scan = {"x": [0.0, 1.0], "y": [0.0, 1.0] if whole else [0.0, 0.5]}
    fake, file = merged(tmp_path, {"segmented": {"q": QUADRANTS}, "integrated": True}, scan=scan)
    jobs, center = by_hand(fake)
    spacing = tuple(float(np.diff(axis[:2])[0]) for axis in (fake.experiment.scan_x, fake.experiment.scan_y))
    repeats = (0, 0 if whole else None)
    for name, deflection in (("idpc", jobs.mean(axis=0)), ("icom", center)):
        phase = phase_of_deflection(1e-3 * deflection, fake.experiment.wavelength, spacing, repeats)
        found = image(file, name)[0, 0]
        assert found == pytest.approx(np.moveaxis(phase, 2, 0), abs=1e-5)
        assert found.mean(axis=(1, 2)) == pytest.approx(0, abs=1e-6)
        assert (image(file, f"{name}_standard_error") > 0).all()
        with netCDF4.Dataset(file) as root:
            variable = root["images"][name]
            assert variable.units == "rad"
            y = "periodic" if whole else "zero slope across the edge"
            assert variable.boundary_conditions == f"x: periodic; y: {y}"


def test_a_window_of_whole_periods_is_periodic(tmp_path):
    edges = ScanEdges(repeats=(0, 0))
    fake, file = merged(tmp_path, {"integrated": True}, edges, scan={"x": [0.0, 0.5], "y": [0.0, 0.5]})
    assert fake.campaign.merge_params["integrated"] == {"repeats": [0, 0]}
    with netCDF4.Dataset(file) as root:
        assert root["images"]["icom"].boundary_conditions == "x: periodic; y: periodic"


def test_phases_without_averages_are_those_of_each_job(tmp_path):
    averages = {"average_configurations": False, "average_defoci": False, "integrated": True}
    fake, file = merged(tmp_path, averages, probe={"defoci_nm": [0.0, 1.0]})
    found = image(file, "icom")
    assert found.shape[:2] == (2, fake.campaign.configurations)
    spacing = tuple(float(np.diff(axis[:2])[0]) for axis in (fake.experiment.scan_x, fake.experiment.scan_y))
    signals = fake.signals(fake.campaign.defoci[1].id, 2)
    phase = phase_of_deflection(signals.center_of_mass, fake.experiment.wavelength, spacing, (0, 0))
    assert found[1, 2] == pytest.approx(np.moveaxis(phase, 2, 0), abs=1e-5)


def test_detectors_that_show_no_deflection_get_none(tmp_path):
    dark = {**QUADRANTS, "inner_mrad": 30.0}
    fake, file = merged(tmp_path, {"segmented": {"dark": dark, "halves": {**QUADRANTS, "segments": 2}}})
    with netCDF4.Dataset(file) as root:
        assert "dpc" not in "\n".join(root["images"].variables)
    assert "dark_3" in fake.experiment.images
