"""One campaign with plasmons, segments, waves, ions, patterns and a sensitivity: it loses nothing and adds up."""

from __future__ import annotations

from pathlib import Path

import netCDF4
import numpy as np
import pytest
from support.campaign import AFTER_JOBS, TINY, TINY_JOBS, Campaign, Outcome, changed, contents
from support.cif_files import SITE, cif_text

LOST = "p5d000/0001"
IONS = cif_text(
    """Sr1 Sr2+ 0 0 0
Ti1 Ti4+ 0.5 0.5 0.5
O1 O2- 0.5 0.5 0
O2 O2- 0.5 0 0.5
O3 O2- 0 0.5 0.5""",
    symmetry="_space_group_name_H-M_alt 'P 1'", columns=SITE,
)  # fmt: skip

TOGETHER = changed(
    TINY,
    simulation={"name": "together", "title": "All signals together"},
    probe={"source_fwhm_nm": 0.08},
    specimen={"file": "ions.cif", "charges": "file"},
    adf={
        "detectors": {
            "ring": [20.0, 40.0],
            "seen": {"inner_mrad": 20.0, "outer_mrad": 40.0, "sensitivity": "profile.csv"},
        },
        "segmented": {"quadrants": {"inner_mrad": 0.0, "outer_mrad": 30.0, "segments": 4, "rotation_deg": 45.0}},
        "integrated": True,
    },
    cbed={"scan": {"points": [2, 1]}, "depths": {"at_angstrom": [3.905]}, "standard_errors": True},
    waves={"probe": True, "exit": [[0.0, 0.0]], "depth_profile": True},
    plasmon_scattering={
        "enabled": True, "mean_free_path_nm": 0.6, "plasmon_energy_ev": 16.9, "plasmon_fwhm_ev": 4.0,
        "plural_scattering": True, "max_energy_ev": 40.0, "energy_grid_density_per_ev": 0.25,
    },
)  # fmt: skip


@pytest.fixture(scope="module")
def together(clone: Path, env: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> tuple[Campaign, Outcome]:
    """The campaign, computed once."""
    campaign = Campaign.make(clone, tmp_path_factory.mktemp("together") / "all signals", TOGETHER, env)
    (campaign.config.parent / "ions.cif").write_text(IONS)
    (campaign.config.parent / "profile.csv").write_text("0,0.5\n30,0.5\n150,0.5\n")
    return campaign, campaign.succeed()


def test_all_signals_of_one_campaign_add_up(together: tuple[Campaign, Outcome]):
    campaign, outcome = together
    assert outcome.jobs == {"prepare_specimen", *TINY_JOBS, *AFTER_JOBS}
    with netCDF4.Dataset(campaign.result.merged) as root:
        assert set(root.groups) >= {"images", "adf", "cbed", "waves"}
        images = {name: np.asarray(variable[:]) for name, variable in root["images"].variables.items()}
        assert images["seen"] == pytest.approx(0.5 * images["ring"], rel=1e-5)
        quadrants = sum(images[f"quadrants_{number}"] for number in range(4))
        assert (quadrants < images["total_intensity"]).all()
        assert (quadrants > 0.5 * images["total_intensity"]).all()
        assert np.isfinite(images["icom"]).all()
        spectrum = np.asarray(root["adf/energy_loss_spectrum"][0, :, :, 0])
        assert spectrum.sum(axis=-1) == pytest.approx(np.moveaxis(images["total_intensity"][0, 0], 0, -1), rel=1e-5)
        # 0.3905 nm of 0.6 nm: half of the electrons lose something
        share = np.exp(-0.3905 / 0.6)
        assert spectrum[..., -1, 0] == pytest.approx(share * spectrum[..., -1, :].sum(axis=-1), rel=2e-2)
        losses = np.asarray(root["cbed/cbed_intensities"][:]).sum(axis=(0, 1, 2, 3, 4, 6, 7))
        assert (losses > 0).sum() > 3
        # waves have no losses, and little is scattered beyond the band limit
        exit_intensity = np.asarray(root["waves/exit_intensity"][:]).sum(axis=(-2, -1)) * (3 * 0.3905 / 64) ** 2
        assert exit_intensity == pytest.approx(1.0, abs=0.05)
    assert "9 Sr2+, 9 Ti4+, 27 O2-" in outcome.output


@pytest.fixture
def incomplete(together: tuple[Campaign, Outcome], tmp_path: Path) -> Campaign:
    """A copy of the campaign that has lost the file of one job."""
    campaign = together[0].copy(tmp_path / "copy of it")
    campaign.job_file(LOST).unlink()
    return campaign


def of_job(campaign: Campaign, job: str, name: str) -> np.ndarray:
    """A signal of one job."""
    with netCDF4.Dataset(campaign.job_file(job)) as root:
        return np.asarray(root[name][:])


def test_a_preview_without_one_job_is_the_mean_of_the_others(incomplete: Campaign):
    outcome = incomplete.command("preview", incomplete.result.root)
    assert outcome.status == 0, outcome.output
    assert "3 of 4 pairs" in outcome.output
    with netCDF4.Dataset(incomplete.result.root / "preview.nc") as partial:
        with netCDF4.Dataset(incomplete.result.merged) as whole:
            for group in ("images", "adf", "cbed", "waves"):
                of_three = {name for name in partial[group].variables if not name.endswith("standard_error")}
                assert of_three == {name for name in whole[group].variables if not name.endswith("standard_error")}
        for name in ("images/seen", "images/quadrants_3", "images/icom", "adf/energy_loss_spectrum"):
            assert np.isfinite(np.asarray(partial[name][:])).all()
        first, second, third = (
            of_job(incomplete, job, "cbed/cbed_intensities").mean(axis=(1, 2))
            for job in ("p0d000/0000", "p0d000/0001", "p5d000/0000")
        )
        expected = 0.5 * (0.5 * (first + second) + third)
        assert np.asarray(partial["cbed/pacbed"][:]) == pytest.approx(expected, rel=1e-5, abs=1e-12)
        exit_wave = np.asarray(partial["waves/exit_wave"][:])
        assert exit_wave[1:] == pytest.approx(of_job(incomplete, "p5d000/0000", "waves/exit_wave"), rel=1e-6)


def test_a_lost_job_is_computed_alone_and_no_bit_of_the_result_changes(
    together: tuple[Campaign, Outcome], incomplete: Campaign
):
    expected, written = contents(incomplete.result.merged), together[0].written()
    incomplete.result.merged.unlink()
    outcome = incomplete.command("rerun", incomplete.result.root, "--config", incomplete.config, "--cores", "2")
    assert outcome.status == 0, outcome.output
    assert set(incomplete.states(2)) == {LOST}
    times = incomplete.written()
    assert [job for job in times if times[job] != written[job]] == [
        str(incomplete.job_file(LOST).relative_to(incomplete.result.root / "jobs"))
    ]
    found = contents(incomplete.result.merged)
    named = {"/images/seen", "/images/quadrants_0", "/cbed/pacbed", "/waves/exit_wave", "/adf/center_of_mass"}
    assert named <= set(found)
    assert found.keys() == expected.keys()
    assert [name for name in found if found[name] != expected[name]] == []
