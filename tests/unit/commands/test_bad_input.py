"""`stemphony check` on mistakes of users: one message with the mistake, its place and a proposal."""

from __future__ import annotations

import copy
import os
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from stemphony.cli import main
from support.specimens import A, srtio3, write_xyz, xyz

ROOT = Path(__file__).parents[3]
MOS2 = ROOT / "config/examples/mos2.cif"

# 1.5 nm wide, 128 points: a band limit of 67 mrad.
GOOD: dict[str, dict[str, Any]] = {
    "simulation": {"name": "good"},
    "specimen": {"file": "good.xyz", "u_iso_angstrom2": {"Sr": 0.008, "Ti": 0.006, "O": 0.01}},
    "grating": {"gpts": [128, 128]},
    "scan": {"x": [0.0, 0.25], "y": [0.0, 0.25], "points": [2, 2]},
    "frozen_phonon": {"configurations": 2},
}


@pytest.fixture
def check(tmp_path, monkeypatch, capsys):
    """Check a config beside a good crystal; returns exit status, stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STEMPHONY_CACHE_DIR", str(tmp_path / "cache"))
    write_xyz(tmp_path / "good.xyz", srtio3((4, 4, 2)))

    def run(text: str | bytes | None = None, **blocks: Any) -> tuple[int, str, str]:
        config = copy.deepcopy(GOOD)
        for block, values in blocks.items():
            config[block] = {**config.get(block, {}), **values} if isinstance(values, dict) else values
        content = yaml.safe_dump(config, allow_unicode=True) if text is None else text
        Path("config.yaml").write_bytes(content if isinstance(content, bytes) else content.encode())
        status = main(["check", "config.yaml", "--no-calibration"])
        said = capsys.readouterr()
        return status, said.out, said.err

    return run


@pytest.fixture
def refused(check):
    """Check a bad config: exit status 1, nothing on stdout, and a message with `parts`, which is returned."""

    def run(*parts: str, text: str | bytes | None = None, **blocks: Any) -> str:
        status, out, err = check(text, **blocks)
        assert (status, out) == (1, "")
        assert "Traceback" not in err
        assert err.startswith("stemphony: ")
        assert err.rstrip().endswith((".", "?", "accept: [distance]"))  # the last is a line to paste
        for part in parts:
            assert part in err, err
        assert not Path("results").exists()
        return err

    return run


def with_atoms(*atoms: str, **settings: Any) -> dict[str, Any]:
    Path("bad.xyz").write_text(xyz(atoms, **settings))
    return {"specimen": {"file": "bad.xyz"}, "grating": {"gpts": [72, 72]}}


def with_text(content: str | bytes, name: str = "bad.xyz") -> dict[str, Any]:
    Path(name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return {"specimen": {"file": name}}


def test_the_good_config_is_good(check):
    status, out, err = check()
    assert (status, err) == (0, "")
    assert "160 atoms" in out
    assert not Path("results").exists()  # a check writes nothing


# --- the config ---------------------------------------------------------------------------------------------------


def test_a_misspelt_key_is_named(refused):
    refused("`probe.defocus`", "did you mean `defocus_nm`", probe={"defocus": 3.0})


def test_a_wrong_type_is_named(refused):
    refused("`probe.energy_kev`", "'200 kV'", "a number", "keV", probe={"energy_kev": "200 kV"})


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        (b"\x89PNG\r\n\x1a\n\x00\x00", ("config.yaml",)),
        (b"\x00" * 64, ("config.yaml",)),
        ("- simulation\n- specimen\n", ("config.yaml", "a list", "mapping")),
        ("simulation: {name: x\n", ("config.yaml", "line")),
        ("", ("config.yaml", "nothing")),
    ],
)
def test_a_file_that_is_no_config_is_refused(refused, text, parts):
    refused(*parts, text=text)


def test_a_missing_config_file_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["check", "nowhere.yaml", "--no-calibration"]) == 1
    assert "nowhere.yaml cannot be read: No such file" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["../out", "/tmp/out", "a/../../out", ".", ""])
def test_a_name_that_leaves_the_results_folder_is_refused(refused, name):
    refused("`simulation.name`", repr(name), "letters, digits", simulation={"name": name})


# --- optics and scan against the cell ------------------------------------------------------------------------------


def test_a_detector_beyond_the_band_limit_is_refused(refused, check):
    rings = {"haadf": [60.0, 150.0]}
    text = refused("`adf.detectors.haadf`", "150 mrad", "carries scattering only to", adf={"detectors": rings})
    points = yaml.safe_load(re.search(r"grating\.gpts: (\[.+?\])", text)[1])
    assert check(adf={"detectors": rings}, grating={"gpts": points})[0] == 0


def test_a_step_that_does_not_divide_the_window_is_refused(refused, check):
    text = refused("`scan.step_angstrom`", "0.7", "3.905", scan={"points": None, "step_angstrom": 0.7})
    nearest = float(re.search(r"steps that do: ([\d.]+)", text)[1])
    assert check(scan={"points": None, "step_angstrom": nearest})[0] == 0


def test_a_slice_thicker_than_the_cell_is_refused(refused):
    refused("`grating.slice_thickness_angstrom`", "20 Å", "7.81 Å", grating={"slice_thickness_angstrom": 20.0})


def test_a_cell_too_large_for_the_given_memory_is_refused(refused, check):
    text = refused("`resources.mem_mb`", "got 10", resources={"mem_mb": 10})
    assert check(resources={"mem_mb": int(re.search(r"at least (\d+) MB", text)[1])})[0] == 0


# --- structure files ----------------------------------------------------------------------------------------------


def test_a_missing_structure_file_is_looked_for_beside_the_config_and_in_the_working_directory(refused, tmp_path):
    (tmp_path / "configs").mkdir()
    text = refused("`specimen.file`", "nowhere.cif", "no such file", specimen={"file": "nowhere.cif"})
    assert str(tmp_path / "nowhere.cif") in text
    config = copy.deepcopy(GOOD)
    config["specimen"]["file"] = "nowhere.cif"
    (tmp_path / "configs/config.yaml").write_text(yaml.safe_dump(config))


def test_structure_file_is_found_beside_the_config_and_else_in_the_working_directory(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").mkdir()
    config = tmp_path / "configs/config.yaml"
    config.write_text(yaml.safe_dump(GOOD))
    assert main(["check", str(config), "--no-calibration"]) == 1
    message = capsys.readouterr().err
    assert str(tmp_path / "configs/good.xyz") in message
    assert str(tmp_path / "good.xyz") in message

    write_xyz(tmp_path / "good.xyz", srtio3((4, 4, 2)))
    assert main(["check", str(config), "--no-calibration"]) == 0
    assert "160 atoms" in capsys.readouterr().out
    write_xyz(tmp_path / "configs/good.xyz", srtio3((4, 4, 1)))
    assert main(["check", str(config), "--no-calibration"]) == 0
    assert "80 atoms" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["a" * 300, "a\0b", "folder/"])
def test_a_structure_file_with_an_impossible_name_is_refused(refused, name):
    Path("folder").mkdir()
    refused("folder" if name == "folder/" else "`specimen.file`", specimen={"file": name})


def test_an_empty_structure_file_is_refused(refused):
    refused("bad.xyz", "is empty", **with_text(""))


@pytest.mark.parametrize("name", ["bad.xyz", "bad.cif", "bad.vasp", "bad"])
def test_a_binary_structure_file_is_refused(refused, name):
    refused(name, **with_text(bytes(range(256)) * 8, name))


def test_a_truncated_structure_file_is_refused(refused):
    whole = Path("good.xyz").read_text()
    refused("bad.xyz", "160 atoms", "truncated", **with_text(whole[: len(whole) // 2]))


def test_a_truncated_cif_file_is_refused(refused):
    whole = (ROOT / "config/srtio3.cif").read_text()
    refused("bad.cif", **with_text(whole[: whole.index("_atom_site_label")], "bad.cif"))


def test_a_partial_occupancy_is_refused_with_its_site(refused):
    text = (ROOT / "config/srtio3.cif").read_text()
    half = re.sub(r"(\bSr1\s.*\s)1\.0", r"\g<1>0.5", text)
    assert half != text
    refused("bad.cif", "Sr1", "occupancy", "0.5", **with_text(half, "bad.cif"))


@pytest.mark.parametrize("symbol", ["X", "D", "Qq"])
def test_a_symbol_that_is_no_element_is_refused(refused, symbol):
    refused("bad.xyz", f"'{symbol}'", "unknown element", **with_atoms("Sr 0 0 0", f"{symbol} 2 2 2"))


def test_an_element_without_a_scattering_factor_is_refused(refused):
    blocks = with_atoms("Sr 0 0 0", "Lr 2 2 2", "Rf 4 4 4")
    refused("bad.xyz", "Rf", "no scattering factors", "'kirkland'", "parametrization", **blocks)


def test_a_file_without_a_cell_is_refused(refused):
    refused("bad.xyz", "has no cell", "Lattice", **with_text("1\nno lattice\nSr 0 0 0\n"))


def test_a_skew_cell_is_refused_with_the_line_to_paste(refused, check):
    blocks: dict[str, Any] = {
        "specimen": {"file": str(MOS2), "u_iso_angstrom2": {"Mo": 0.003, "S": 0.004}},
        "grating": {"gpts": [80, 80]},
    }
    text = refused("mos2.cif", "not orthogonal", "120", **blocks)
    line = re.search(r"supercell: .+", text)[0]
    blocks["specimen"] |= yaml.safe_load(line)
    status, out, err = check(**blocks)
    assert status == 0, err
    assert "12 atoms" in out


def test_atoms_on_top_of_each_other_are_refused(refused):
    refused("bad.xyz", "atoms 0 (Sr) and 1 (Sr)", "0.100 Å apart", **with_atoms("Sr 0 0 1", "Sr 7.9 0 1"))


def test_a_file_without_atoms_is_refused(refused):
    refused("bad.xyz", "no atoms", **with_text(xyz([])))


def test_coordinates_that_are_not_finite_are_refused(refused):
    refused("bad.xyz", "atom 1", "not finite", **with_atoms("Sr 0 0 0", "Ti nan 2 2"))


def test_atoms_outside_the_cell_along_the_beam_lengthen_it_and_the_plan_says_so(check):
    status, out, err = check(**with_atoms("Sr 0 0 0", "Ti 2 2 9.5"))
    assert status == 0, err
    assert "1 atom lies outside the cell in z: the cell is lengthened from 8.0000 to 9.5000 Å" in out


def test_a_negative_u_in_the_config_is_refused(refused):
    refused("`specimen.u_iso_angstrom2.Sr`", "-0.01", "at least 0", specimen={"u_iso_angstrom2": {"Sr": -0.01}})


def test_a_negative_u_in_the_file_is_refused(refused):
    columns = "species:S:1:pos:R:3:u_iso:R:1"
    blocks = with_atoms("Sr 0 0 0 0.01", "Ti 2 2 2 -0.5", properties=columns)
    refused("bad.xyz", "u_iso", "atom 1", "-0.5", **blocks)


def test_frozen_phonons_without_a_u_are_refused(refused, check):
    blocks = {"specimen": {"u_iso_angstrom2": {"Sr": 0.01}}}
    text = refused("good.xyz", "O, Ti", "u_iso_angstrom2", "0 is allowed", **blocks)
    assert "Sr" not in text
    assert check(specimen={"u_iso_angstrom2": {"Sr": 0.01, "Ti": 0, "O": 0}})[0] == 0
    assert check(**blocks, frozen_phonon={"enabled": False})[0] == 0


# --- trajectories -------------------------------------------------------------------------------------------------


@pytest.fixture
def movie(tmp_path):
    """Config blocks of a trajectory with 3 frames."""
    write_xyz(tmp_path / "movie.xyz", srtio3((4, 4, 2), frames=3))
    return {
        "frozen_phonon": {"snapshots": "movie.xyz", "configurations": None},
        "specimen": {"u_iso_angstrom2": {}},
    }


def test_a_trajectory_needs_no_u(check, movie):
    status, out, err = check(**movie)
    assert (status, err) == (0, "")
    assert "1 defocus × 3 configurations" in out


def test_a_trajectory_of_other_atoms_is_refused(refused, movie):
    write_xyz(Path("movie.xyz"), srtio3((4, 4, 1), frames=1))
    refused("movie.xyz", "frame 0", "80 atoms", "160", **movie)


def test_a_trajectory_with_too_few_frames_is_refused(refused, movie):
    refused("`frozen_phonon.configurations`", "got 4", "3 frames", **{**movie, "frozen_phonon": {
        "snapshots": "movie.xyz", "configurations": 4}})  # fmt: skip


def test_a_missing_trajectory_is_named(refused, movie):
    Path("movie.xyz").unlink()
    refused("`frozen_phonon.snapshots`", "movie.xyz", "no such file", **movie)


# --- the results folder -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["results", "results/good", "results/good/jobs", "results/good/figures", "logs"])
def test_a_file_in_place_of_the_results_folder_is_named(check, place):
    Path(place).parent.mkdir(parents=True, exist_ok=True)
    Path(place).write_text("")
    status, _, err = check()
    assert status == 1, err
    assert str(Path(place).resolve()) in err
    assert "is not a folder" in err
    assert "Traceback" not in err


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_results_folder_without_permission_is_named(check):
    Path("results").mkdir(mode=0o555)
    status, _, err = check()
    assert status == 1, err
    assert "not writable" in err


def test_a_results_folder_that_the_system_refuses_is_named(check, monkeypatch):
    Path("results").mkdir()
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).name != "results")
    status, _, err = check()
    assert status == 1, err
    assert str(Path("results").resolve()) in err
    assert "not writable" in err
    assert "--directory" in err


# --- what is said and not refused ---------------------------------------------------------------------------------


def notes(out: str) -> list[str]:
    return [line for line in out.splitlines() if line.startswith("note: ")]


def test_a_cell_too_small_for_the_probe_earns_a_note(check):
    wide = check(adf={"detectors": {"bf": [0.0, 10.0]}})[1]
    assert not notes(wide)
    _, out, _ = check(adf={"detectors": {"bf": [0.0, 10.0]}}, probe={"defocus_nm": 60.0})
    note, focus = sorted(notes(out), key=lambda text: "the focus at" in text)
    assert "the focus at 60 nm" in focus
    assert "outside the cell" in note
    assert "specimen.repeat" in note
    share = float(re.search(r"([\d.]+) % of the probe", note)[1])
    # 60 nm · 20 mrad = 12 Å: the cone covers a square of 15.6 Å nearly whole and beyond.
    assert 10 < share < 60
    assert A * 4 < 2 * 12


def test_a_focal_spread_with_one_defocus_earns_a_note(check):
    _, out, _ = check(probe={"defocus_fwhm_nm": 5.0}, adf={"detectors": {"bf": [0.0, 10.0]}})
    (note,) = notes(out)
    assert "defocus_fwhm_nm" in note
    assert "no effect" in note


def test_a_damaged_identity_is_found_before_any_job(check):
    Path("results/good").mkdir(parents=True)
    Path("results/good/simulation.json").write_text("{}")
    status, _, err = check()
    assert status == 1, err
    assert "simulation.json is damaged" in err
    assert "Traceback" not in err


@pytest.mark.parametrize("cores", ["0", "-3"])
def test_fewer_than_one_core_is_refused_before_anything_is_read(cores, capsys):
    assert main(["run", "any.yaml", "--cores", cores]) == 1
    assert f"--cores: got {cores}; at least 1" in capsys.readouterr().err
