"""Layout of a result file, against the output contract's table."""

from __future__ import annotations

import json
from pathlib import Path

import netCDF4
import numpy as np
import pytest
from stemphony.results.layout import CHUNK_BYTES, add_attributes, add_texts, chunk_shape, read_texts
from support.experiments import FakeCampaign

ALL = {"cbed": {"enabled": True, "size": [4, 5], "max_mrad": 20.0}, "probe": {"defoci_nm": [2.5]}}
SIGNAL = ("adf_defocus", "adf_position_x", "adf_position_y", "adf_phonon", "adf_slice", "adf_plasmon_energies")
IMAGE = ("adf_defocus", "adf_phonon", "adf_slice", "adf_position_x", "adf_position_y")

# Group, variable, dimensions, unit. Lengths are nm, angles mrad.
LAYOUT: dict[str, dict[str, tuple[tuple[str, ...], str]]] = {
    "AMBER": {
        "coordinates": (("frame", "atom", "spatial"), "nm"),
        "cell_lengths": (("frame", "cell_spatial"), "nm"),
        "cell_angles": (("frame", "cell_angular"), "degree"),
        "radius": (("frame", "atom"), "nm"),
        "msd": (("frame", "atom"), "nm2"),
        "slice": (("frame", "atom"), "1"),
        "element": (("frame", "atom"), "1"),
    },
    "params": {"defocus": (("defocus",), "nm"), "defocus_weights": (("defocus",), "1")},
    "adf": {
        "adf_intensities": ((*SIGNAL, "adf_detector_angle"), "1"),
        "center_of_mass": ((*SIGNAL, "coordinate_dim"), "mrad"),
        "adf_probe_x_grid": (("adf_position_x",), "nm"),
        "adf_probe_y_grid": (("adf_position_y",), "nm"),
        "adf_detector_grid": (("adf_detector_angle",), "mrad"),
        "adf_slice_coords": (("adf_slice",), "nm"),
    },
    "images": {"bf": (IMAGE, "1"), "haadf": (IMAGE, "1"), "total_intensity": (IMAGE, "1")},
    "cbed": {
        "cbed_intensities": (
            ("cbed_defocus", "cbed_position_x", "cbed_position_y", "cbed_phonon", "cbed_slice", "cbed_plasmon_energies",
             "cbed_k_x", "cbed_k_y"),
            "1",
        ),
        "cbed_probe_x_grid": (("cbed_position_x",), "nm"),
        "cbed_probe_y_grid": (("cbed_position_y",), "nm"),
        "cbed_x_grid": (("cbed_k_x",), "mrad"),
        "cbed_y_grid": (("cbed_k_y",), "mrad"),
        "cbed_slice_coords": (("cbed_slice",), "nm"),
    },
}  # fmt: skip
COORDINATES = {
    "adf": (*SIGNAL, "adf_detector_angle"),
    "images": IMAGE,
    "cbed": LAYOUT["cbed"]["cbed_intensities"][0],
}


@pytest.fixture(scope="module", params=["job", "merged"])
def opened(request, tmp_path_factory):
    """A job file and the merged result, which have the same layout."""
    fake = FakeCampaign.of(tmp_path_factory.mktemp(request.param), frozen_phonon={"configurations": 2}, **ALL)
    job = fake.write_all()[1]
    with netCDF4.Dataset(job if request.param == "job" else fake.merge()) as root:
        yield root


def variables(root: netCDF4.Dataset) -> list[netCDF4.Variable]:
    return [variable for group in root.groups.values() for variable in group.variables.values()]


def test_a_result_has_the_groups_of_the_contract(opened):
    assert set(opened.groups) == {"AMBER", "runtime", "params", "adf", "images", "cbed"}
    assert not opened.variables
    assert opened.data_model == "NETCDF4"


@pytest.mark.parametrize("group", LAYOUT)
def test_a_result_has_the_variables_of_the_contract(opened, group):
    for name, (dimensions, units) in LAYOUT[group].items():
        variable = opened[group][name]
        assert (name, variable.dimensions, variable.units) == (name, dimensions, units)


@pytest.mark.parametrize("group", COORDINATES)
def test_every_axis_has_a_coordinate_of_its_name(opened, group):
    for name in COORDINATES[group]:
        assert opened[group][name].dimensions == (name,)
        assert name in opened[group].dimensions


def test_every_variable_has_a_description_compression_and_checksum(opened):
    assert len(variables(opened)) > 40
    for variable in variables(opened):
        assert variable.units
        assert variable.long_name
        filters = variable.filters()
        assert filters["zlib"], variable.name
        assert filters["fletcher32"], variable.name


def test_every_value_is_written(opened):
    for variable in variables(opened):
        variable.set_auto_mask(False)
        values = variable[...]
        if values.dtype.kind == "f":
            assert np.isfinite(values).all(), variable.name
            assert np.abs(values).max() < 1e6, variable.name


@pytest.mark.parametrize(("precision", "size"), [("single", 4), ("double", 8)])
def test_width_of_floats_follows_the_precision(tmp_path, precision, size):
    fake = FakeCampaign.of(tmp_path, simulation={"precision": precision}, frozen_phonon={"configurations": 2}, **ALL)
    jobs = fake.write_all()
    for file in (jobs[0], fake.merge()):
        with netCDF4.Dataset(file) as root:
            floats = {
                variable.name: variable.dtype.itemsize for variable in variables(root) if variable.dtype.kind == "f"
            }
            assert set(floats.values()) == {size}


def test_axes_are_those_of_the_experiment(opened):
    adf, cbed = opened["adf"], opened["cbed"]
    assert adf["adf_probe_x_grid"][:] == pytest.approx([0.0, 0.781 / 3, 2 * 0.781 / 3])
    assert adf["adf_position_y"][:] == pytest.approx([0.0, 0.781 / 4, 2 * 0.781 / 4, 3 * 0.781 / 4])
    assert adf["adf_slice_coords"][:] == pytest.approx([0.3905, 0.781])
    assert adf["adf_detector_grid"][:] == pytest.approx([0, 12, 24, 36, 48])
    assert adf["adf_detector_upper_edge"][:] == pytest.approx([12, 24, 36, 48, 60])
    assert adf["adf_defocus"][:] == pytest.approx([2.5])
    assert (np.diff(cbed["cbed_k_x"][:]) > 0).all()
    assert 0.0 in cbed["cbed_k_x"][:]
    assert 0.0 in cbed["cbed_k_y"][:]
    assert opened["images"]["haadf"].inner_mrad == pytest.approx(40.0)
    assert opened["images"]["haadf"].outer_mrad == pytest.approx(60.0)


def test_parameters_stand_in_one_subgroup_per_block(opened):
    params = opened["params"]
    assert {"simulation", "probe", "grating", "scan", "depths", "adf", "cbed", "frozen_phonon"} <= set(params.groups)
    assert params["probe"].energy_kev == 200.0
    assert params["simulation"].random_seed == 1  # the seed in use
    assert (params["grating"].nx, params["grating"].ny) == (64, 64)
    assert "Kirkland" in params["grating"].parametrization_reference
    assert params["defocus"][:] == pytest.approx([2.5])
    assert params["defocus_weights"][:] == pytest.approx([1.0])


def test_python_values_become_attributes(opened):
    params = opened["params"]
    assert params["probe"].soft_aperture == 1  # bool
    assert "aberrations" in params["probe"].ncattrs()
    assert json.loads(params["probe"].aberrations) == {}
    assert json.loads(params["grating"].gpts) == [64, 64]
    assert "sampling_angstrom" not in params["grating"].ncattrs()  # null
    assert json.loads(params["adf"].detectors) == {"bf": [0.0, 10.0], "haadf": [40.0, 60.0]}


def test_a_result_holds_atoms_and_their_elements(opened):
    amber = opened["AMBER"]
    types = read_texts(amber["atom_types"])
    assert types == ["O", "Sr", "Ti"]
    symbols = [types[index] for index in amber["element"][0]]
    assert (symbols.count("O"), symbols.count("Sr"), symbols.count("Ti")) == (24, 8, 8)
    assert amber["cell_lengths"][0] == pytest.approx([0.781] * 3)
    assert amber["cell_angles"][0] == pytest.approx([90.0] * 3)
    oxygen = np.array(symbols) == "O"
    assert amber["msd"][0][oxygen] == pytest.approx(0.01 * 0.01)  # 0.01 Å² in nm²
    assert read_texts(amber["spatial"]) == ["x", "y", "z"]
    assert amber.Conventions == "AMBER"


def test_attributes_have_the_types_of_the_contract(tmp_path):
    with netCDF4.Dataset(tmp_path / "a.nc", "w") as root:
        add_attributes(
            root,
            {"yes": True, "no": False, "nothing": None, "list": [1, None, "Å"], "map": {"a": [1]}, "int": 2**53,
             "text": "Å", "float": 0.1, "empty": ""},
        )  # fmt: skip
    with netCDF4.Dataset(tmp_path / "a.nc") as root:
        assert (root.yes, root.no, root.int, root.float) == (1, 0, 2**53, 0.1)
        assert np.issubdtype(type(root.yes), np.integer)
        assert "nothing" not in root.ncattrs()
        assert json.loads(root.getncattr("list")) == [1, None, "Å"]
        assert json.loads(root.getncattr("map")) == {"a": [1]}
        assert (root.text, root.empty) == ("Å", "")


@pytest.mark.parametrize("texts", [["a"], ["", "länger", "x" * 300], ["", ""]])
def test_texts_are_read_as_they_were_written(tmp_path, texts):
    with netCDF4.Dataset(tmp_path / "a.nc", "w") as root:
        root.createDimension("n", len(texts))
        add_texts(root, "t", "n", "some texts", texts)
    with netCDF4.Dataset(tmp_path / "a.nc") as root:
        assert read_texts(root["t"]) == texts


@pytest.mark.parametrize("shape", [(1, 3), (1, 4096, 4096, 7), (1, 1, 1, 65536), (10**9,)])
def test_chunks_cover_their_variable_and_stay_small(shape):
    chunks = chunk_shape(shape, 8)
    assert len(chunks) == len(shape)
    assert [(chunk, length) for chunk, length in zip(chunks, shape, strict=True) if not (1 <= chunk <= length)] == []
    assert np.prod(chunks) * 8 <= CHUNK_BYTES
    if np.prod(shape) * 8 <= CHUNK_BYTES:
        assert chunks == shape


def test_labels_are_found_by_xarray(opened):
    xarray = pytest.importorskip("xarray")
    with xarray.open_dataset(Path(opened.filepath()), group="images", engine="netcdf4") as images:
        assert set(images["haadf"].coords) == set(IMAGE)
        assert float(images["haadf"].adf_defocus[0]) == 2.5


def names_of(group: netCDF4.Dataset, path: str) -> list[str]:
    """Names of dimensions and attributes of a group, and of each variable with its axes and attributes."""
    lines = [f"dimensions: {', '.join(group.dimensions)}", f"attributes: {', '.join(sorted(group.ncattrs()))}"]
    for name, variable in sorted(group.variables.items()):
        lines.append(f"{name}({', '.join(variable.dimensions)}): {', '.join(sorted(variable.ncattrs()))}")
    return [path, *(f"    {line}".rstrip() for line in lines)]


def test_switched_off_blocks_add_nothing_to_a_result(tmp_path):
    """Without segments, phase images, waves, plasmons and sweeps, the names are exactly those of plain_result.txt."""
    fake = FakeCampaign.of(tmp_path, cbed={"enabled": True}, frozen_phonon={"configurations": 2})
    fake.write_all()
    with netCDF4.Dataset(fake.merge()) as root:
        assert set(root.groups) == {"AMBER", "adf", "images", "cbed", "params", "runtime"}
        found = [line for name in ("AMBER", "adf", "images", "cbed") for line in names_of(root[name], f"/{name}")]
    expected = Path(__file__).with_name("plain_result.txt").read_text(encoding="utf-8").splitlines()
    assert found == expected
