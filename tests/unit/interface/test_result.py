"""Results in Python: labelled, in nm and mrad, with the right orientation, and equal to the signals of the jobs."""

from __future__ import annotations

import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import stemphony as st
from support.experiments import SCRIPTS, FakeCampaign

with warnings.catch_warnings():
    # Optional parts of xarray complain about each other's versions while it is imported.
    warnings.simplefilter("ignore")
    import xarray

WEIGHTS = np.array([0.25, 0.75])
KEPT = {"average_configurations": False, "average_defoci": False}


def merged(folder: Path, adf: dict[str, Any], **blocks: Any) -> FakeCampaign:
    fake = FakeCampaign.of(
        folder,
        **{
            "probe": {"defoci_nm": [2.5, 0.0], "defocus_weights": [1.0, 3.0]},
            "frozen_phonon": {"configurations": 3},
            "adf": adf,
            "cbed": {"enabled": True, "size": [4, 5], "max_mrad": 20.0, **adf},
            **blocks,
        },
    )
    fake.write_all()
    fake.merge()
    return fake


@pytest.fixture(scope="module", params=["averaged", "kept apart"])
def fake(request, tmp_path_factory) -> FakeCampaign:
    return merged(tmp_path_factory.mktemp("result"), KEPT if request.param == "kept apart" else {})


@pytest.fixture(scope="module")
def apart(tmp_path_factory) -> FakeCampaign:
    return merged(tmp_path_factory.mktemp("apart"), KEPT)


def stack(fake: FakeCampaign, of: Any) -> np.ndarray:
    """Signals of the jobs, (defocus, configuration, …)."""
    return np.array([[of(fake.signals(d.id, c)) for c in range(3)] for d in fake.campaign.defoci])


def mean(fake: FakeCampaign, of: Any) -> np.ndarray:
    return np.tensordot(WEIGHTS, stack(fake, of).mean(axis=1), axes=1)


@pytest.mark.slow
def test_an_image_has_y_and_x_in_nm_and_needs_no_squeeze(fake):
    image = st.open(fake.result.root).image("haadf", depth_nm=0.39)
    assert image.dims == ("y", "x")
    assert image.values == pytest.approx(mean(fake, lambda s: s.rings[:, :, 0, 1]).T, rel=1e-5)
    assert image["x"].values == pytest.approx(np.arange(3) * 0.781 / 3, rel=1e-5)
    assert image["y"].values == pytest.approx(np.arange(4) * 0.781 / 4, rel=1e-5)
    assert (image["x"].units, image["y"].units, image["depth_nm"].units) == ("nm", "nm", "nm")
    assert float(image["depth_nm"]) == pytest.approx(0.3905, rel=1e-5)
    assert (image.inner_mrad, image.outer_mrad) == (40.0, 60.0)


def test_an_image_is_drawn_with_x_to_the_right(fake):
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    plt.figure()  # otherwise `.plot()` draws into the axes that another test has left
    drawn = st.open(fake.result.root).image("haadf").plot()
    assert drawn.axes.get_xlabel().startswith("probe position along x")
    plt.close(drawn.axes.figure)


def test_without_a_depth_the_exit_surface_is_shown(fake):
    result = st.open(fake.result.root)
    assert result.depths_nm == pytest.approx([0.3905, 0.781], rel=1e-5)
    assert result.image("bf").values == pytest.approx(mean(fake, lambda s: s.rings[:, :, -1, 0]).T, rel=1e-5)


def test_standard_errors_are_those_of_independent_configurations(fake):
    error = st.open(fake.result.root).standard_error("haadf")
    variance = stack(fake, lambda s: s.rings[:, :, -1, 1]).var(axis=1, ddof=1) / 3
    assert error.values == pytest.approx(np.sqrt(np.tensordot(WEIGHTS**2, variance, axes=1)).T, rel=1e-4)


def test_a_ring_is_the_sum_of_its_bins(fake):
    result = st.open(fake.result.root)
    ring = result.image((12.0, 48.0))
    assert ring.values == pytest.approx(mean(fake, lambda s: s.bins[:, :, -1, 1:4].sum(axis=-1)).T, rel=1e-5)
    with pytest.raises(st.StemphonyError, match=r"no bins that make up 12–50 mrad.*nearest ring is 12–48 mrad"):
        result.image((12.0, 50.0))


def test_a_profile_passes_through_the_positions_with_its_error(fake):
    result = st.open(fake.result.root)
    image, error = result.image("haadf"), result.standard_error("haadf")
    line = result.profile("haadf", (0.0, 0.0), (0.0, 0.781), points=5)
    assert line.dims == ("distance",)
    assert line["distance"].values == pytest.approx(np.linspace(0, 0.781, 5))
    # The window is the whole cell, so the line ends where it begins.
    assert line.values == pytest.approx([*image.values[:, 0], image.values[0, 0]], rel=1e-5)
    assert line["standard_error"].values == pytest.approx([*error.values[:, 0], error.values[0, 0]], rel=1e-5)


def test_a_curve_is_the_mean_over_the_scan_or_one_position(fake):
    result = st.open(fake.result.root)
    signals = mean(fake, lambda s: s.rings[..., 1])
    assert result.curve("haadf").values == pytest.approx(signals.mean(axis=(0, 1)), rel=1e-5)
    one = result.curve("haadf", (2 * 0.781 / 3, 0.781 / 4))
    assert one.values == pytest.approx(signals[2, 1], rel=1e-5)
    assert one["depth_nm"].units == "nm"


def test_a_part_of_the_scan_is_a_mean_with_its_errors(fake):
    result = st.open(fake.result.root)
    found = result.curve("haadf", x_nm=(0.0, 0.6), y_nm=(0.1, 0.7))
    assert found.values == pytest.approx(mean(fake, lambda s: s.rings[..., 1])[:, 1:4].mean(axis=(0, 1)), rel=1e-5)
    assert found["depth_nm"].values == pytest.approx(result.depths_nm)
    assert found["positions"] == found["distinct_positions"] == 9
    assert (found["standard_error"] > 0).all()
    assert (found["standard_error"] < found["largest_error"]).all()
    with pytest.raises(st.StemphonyError, match="Give only one of these"):
        result.curve("haadf", (0.0, 0.0), x_nm=(0.0, 0.6))


def test_patterns_have_ky_and_kx_in_mrad(fake):
    result = st.open(fake.result.root)
    signals = mean(fake, lambda s: s.cbed[:, :, -1])
    mean_pattern = result.pattern()
    assert mean_pattern.dims == ("ky", "kx")
    assert mean_pattern.values == pytest.approx(signals.mean(axis=(0, 1)).T, rel=1e-5)
    assert mean_pattern["kx"].units == "mrad"
    one = result.pattern((2 * 0.781 / 3, 0.781 / 4))
    assert one.values == pytest.approx(signals[2, 1].T, rel=1e-5)
    assert float(one["x"]) == pytest.approx(2 * 0.781 / 3, rel=1e-5)


def test_the_centre_of_mass_keeps_its_sign_and_axes(fake):
    found = st.open(fake.result.root).center_of_mass()
    # The centre of the mean pattern: bright patterns count more.
    moments = mean(fake, lambda s: 1e3 * s.center_of_mass[:, :, -1] * s.total[:, :, -1, None])
    signals = moments / mean(fake, lambda s: s.total[:, :, -1, None])
    assert found.dims == ("component", "y", "x")
    assert found.sel(component="x").values == pytest.approx(signals[..., 0].T, rel=1e-4)
    assert found.sel(component="y").values == pytest.approx(signals[..., 1].T, rel=1e-4)


def test_one_defocus_can_be_chosen_where_they_are_kept_apart(apart, tmp_path):
    result = st.open(apart.result.root)
    first = result.image("haadf", defocus_nm=2.5)
    assert first.values == pytest.approx(stack(apart, lambda s: s.rings[:, :, -1, 1])[0].mean(axis=0).T, rel=1e-5)
    assert float(first["defocus_nm"]) == 2.5
    with pytest.raises(st.StemphonyError, match=r"no defocus of 1 nm; it has 2.5, 0 nm"):
        result.image("haadf", defocus_nm=1.0)
    averaged = merged(tmp_path, {})
    with pytest.raises(st.StemphonyError, match=r"only the mean over the defoci.*average_defoci: false"):
        st.open(averaged.result.root).image("haadf", defocus_nm=2.5)


def test_a_missing_signal_is_refused_with_a_list_of_the_available_ones(fake, tmp_path):
    result = st.open(fake.result.root)
    with pytest.raises(st.StemphonyError, match="no detector 'abf'; it has bf, haadf"):
        result.image("abf")
    with pytest.raises(st.StemphonyError, match=r"no depth of 3 nm\. Stored are 0\.3905, 0\.781 nm"):
        result.image("bf", depth_nm=3.0)
    with pytest.raises(st.StemphonyError, match="does not exist: nothing is merged yet"):
        st.open(tmp_path / "elsewhere")
    damaged = tmp_path / "stem.nc"
    damaged.write_bytes(fake.result.merged.read_bytes()[:3000])
    with pytest.raises(st.StemphonyError, match="truncated or damaged"):
        st.open(damaged)


def test_a_window_without_a_period_keeps_profiles_inside(tmp_path):
    part = merged(tmp_path, {}, scan={"x": [0.0, 0.3], "points": [3, 4]})
    result = st.open(part.result.root)
    assert len(result.profile("bf", (0.0, 0.0), (0.15, 0.9))) > 10
    with pytest.raises(st.StemphonyError, match="leaves the scan along x, where the window does not repeat"):
        result.profile("bf", (0.0, 0.0), (0.3, 0.0))


def test_a_line_scan_gives_its_own_profile(tmp_path):
    line = {"line": {"begin": [0.0, 0.0], "end": [0.5, 0.5], "points": 4}}
    fake = merged(tmp_path, {}, scan={**line, "points": None})
    result = st.open(fake.result.root)
    expected = mean(fake, lambda s: s.rings[:, 0, -1, 1])
    assert result.profile("haadf").values == pytest.approx(expected, rel=1e-5)
    assert result.image("haadf").dims == ("distance",)


def test_the_tree_has_the_whole_file(fake):
    with st.open(fake.result.root).tree as tree:
        assert isinstance(tree, xarray.DataTree)
        assert "adf_intensities" in tree["adf"]


def test_importing_the_package_is_cheap():
    code = "import sys, stemphony; print(sorted({'numpy', 'xarray', 'netCDF4', 'yaml'} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONPATH": str(SCRIPTS)}
    )
    assert done.stdout.strip() == "[]"


def test_every_public_name_exists_and_has_a_docstring():
    public = {f"st.{name}": getattr(st, name) for name in st.__all__}
    public |= {f"Result.{name}": getattr(st.Result, name) for name in vars(st.Result) if not name.startswith("_")}
    assert [name for name, value in public.items() if not value.__doc__] == []


@pytest.mark.slow
def test_a_figure_is_the_one_of_the_command(fake, tmp_path):
    result = st.open(fake.result.root)
    file = tmp_path / "figure.pdf"
    figure = result.plot(detector="haadf", depth_nm=0.39, tile=(2, 2), interpolate=4, output=file)
    assert file.read_bytes().startswith(b"%PDF")
    (image,) = [axes.images[0] for axes in figure.axes if axes.images]
    expected = 100 * result.image("haadf", depth_nm=0.39).values
    assert np.asarray(image.get_array())[::4, ::4] == pytest.approx(np.tile(expected, (2, 2)))
    assert figure._repr_png_().startswith(b"\x89PNG")
    rings = result.plot(detector=(12, 48))
    assert rings.axes[0].get_title().startswith("12–48 mrad")
    both = result.plot("curves", detector=["bf", (12.0, 48.0)], at_nm=(0.0, 0.0))
    assert len(both.axes) == 2
    with pytest.raises(st.StemphonyError, match="size: got 'huge'"):
        result.plot(size="huge")
    with pytest.raises(st.StemphonyError, match="got 'picture'; a figure shows one of images, curves"):
        result.plot("picture")


@pytest.mark.slow
def test_deflections_and_phases_are_images_with_their_unit(tmp_path):
    quadrants = {"inner_mrad": 0.0, "outer_mrad": 30.0, "segments": 4, "rotation_deg": 45.0}
    fake = merged(tmp_path, {"segmented": {"q": quadrants}, "integrated": True}, cbed={"enabled": False})
    result = st.open(fake.result.merged)
    for name, unit in (("dpc_x", "mrad"), ("idpc", "rad"), ("q_0", "1")):
        image = result.image(name)
        assert (image.dims, image.attrs["units"]) == (("y", "x"), unit)
        assert result.standard_error(name).attrs["units"] == unit
        assert result.curve(name).attrs["units"] == unit
    assert "inner_mrad" not in result.image("idpc").attrs


def test_the_package_is_marked_as_typed():
    assert (SCRIPTS / "stemphony/py.typed").is_file()
