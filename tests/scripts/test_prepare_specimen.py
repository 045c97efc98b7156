"""The script of rule prepare_specimen, and how scripts end."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import prepare_specimen
import pytest
from stemphony.errors import SpecimenError, StemphonyError
from stemphony.orchestration.script import run
from stemphony.specimen.specimen_file import read_attributes, read_specimen_file
from support.scripts import refusal

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "workflow/scripts/prepare_specimen.py"
SRTIO3 = ROOT / "config/srtio3.cif"
BLOCK = ROOT / "config/examples/srtio3_block.xyz"
SNAPSHOTS = ROOT / "config/examples/srtio3_snapshots.xyz"


def sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def parameters(file: Path, snapshots: Path | None = None, **specimen: Any) -> str:
    settings = {
        "file_sha256": sha256(file),
        "format": "auto",
        "supercell": None,
        "repeat": [1, 1, 1],
        "vacuum_angstrom": [0.0, 0.0, 0.0],
        "u_iso_angstrom2": {},
    } | specimen
    return json.dumps(
        {
            "specimen": settings,
            "snapshots_sha256": sha256(snapshots) if snapshots else None,
            "specimen_digest": "d1" * 32,
            "physics_version": 3,
        }
    )


@pytest.fixture
def files(monkeypatch):
    def name(specimen: Path, snapshots: Path | None = None) -> None:
        monkeypatch.setenv("STEMPHONY_SPECIMEN_FILE", str(specimen))
        monkeypatch.delenv("STEMPHONY_SNAPSHOTS_FILE", raising=False)
        if snapshots:
            monkeypatch.setenv("STEMPHONY_SNAPSHOTS_FILE", str(snapshots))

    return name


def test_a_specimen_that_the_main_process_accepted_is_written(tmp_path, files):
    close = tmp_path / "close.xyz"
    close.write_text('2\nLattice="4 0 0 0 4 0 0 0 4" Properties=species:S:1:pos:R:3\nC 0 0 0\nC 0.5 0 0\n')
    files(close)
    prepare_specimen.main([parameters(close), str(tmp_path / "specimen.nc")])
    assert len(read_specimen_file(tmp_path / "specimen.nc").positions) == 2


def test_debye_model_and_source_of_u_reach_the_specimen(tmp_path, files):
    columns = tmp_path / "columns.xyz"
    columns.write_text(
        '2\nLattice="4 0 0 0 4 0 0 0 4" Properties=species:S:1:pos:R:3:u_iso:R:1\nCu 0 0 0 0.01\nAu 2 2 2 0.02\n'
    )
    files(columns)
    settings = {"u_source": "config", "u_iso_angstrom2": {"Cu": 0.005}, "temperature_k": 300.0}
    prepare_specimen.main(
        [parameters(columns, debye_temperature_k={"Au": 165.0}, **settings), str(tmp_path / "specimen.nc")]
    )
    found = read_specimen_file(tmp_path / "specimen.nc")
    assert found.u_iso[0] == 0.005
    assert 8 * np.pi**2 * found.u_iso[1] == pytest.approx(0.65, abs=0.02)  # Å², gold at room temperature: 0.62
    assert found.u_source == "specimen.u_iso_angstrom2: Cu 0.005 Å²; Debye model at 300 K: Au 0.00821 Å²"


def test_specimen_is_read_and_written(tmp_path, files):
    files(SRTIO3)
    params = parameters(SRTIO3, repeat=[2, 2, 3], u_iso_angstrom2={"Sr": 0.01})
    prepare_specimen.main([params, str(tmp_path / "specimen.nc")])
    specimen = read_specimen_file(tmp_path / "specimen.nc")
    assert len(specimen.positions) == 60
    assert specimen.cell == pytest.approx((7.81, 7.81, 11.715))
    assert specimen.frames is None
    assert set(specimen.u_iso[specimen.symbols == "Sr"]) == {0.01}
    attributes = read_attributes(tmp_path / "specimen.nc")
    assert attributes["specimen_digest"] == "d1" * 32
    assert attributes["physics_version"] == "3"
    assert json.loads(attributes["specimen_params"])["repeat"] == [2, 2, 3]
    assert "config" not in "".join(attributes.values())


def test_snapshots_are_read_and_written(tmp_path, files):
    files(BLOCK, SNAPSHOTS)
    prepare_specimen.main([parameters(BLOCK, SNAPSHOTS), str(tmp_path / "specimen.nc")])
    specimen = read_specimen_file(tmp_path / "specimen.nc")
    assert specimen.frames is not None
    assert specimen.frames.shape == (3, 40, 3)
    assert not np.array_equal(specimen.frames[0], specimen.frames[1])


def test_a_moved_structure_file_gives_the_same_specimen(tmp_path, files):
    moved = tmp_path / "elsewhere" / "renamed.cif"
    moved.parent.mkdir()
    shutil.copy(SRTIO3, moved)
    written = []
    for file in (SRTIO3, moved):
        files(file)
        prepare_specimen.main([parameters(file), str(tmp_path / "specimen.nc")])
        written.append((tmp_path / "specimen.nc").read_bytes())
    assert written[0] == written[1]


@pytest.mark.parametrize("edited", ["specimen", "snapshots"])
def test_a_structure_file_that_changed_since_the_plan_is_refused(tmp_path, files, edited):
    specimen, snapshots = tmp_path / "block.xyz", tmp_path / "run.xyz"
    shutil.copy(BLOCK, specimen)
    shutil.copy(SNAPSHOTS, snapshots)
    files(specimen, snapshots)
    params = parameters(specimen, snapshots)
    victim = specimen if edited == "specimen" else snapshots
    victim.write_text(victim.read_text() + "\n")
    with pytest.raises(SpecimenError, match=r"was edited after.*Run Snakemake again") as caught:
        prepare_specimen.main([params, str(tmp_path / "specimen.nc")])
    assert str(victim) in str(caught.value)
    assert not (tmp_path / "specimen.nc").exists()


def test_a_missing_environment_variable_is_named(tmp_path, monkeypatch):
    monkeypatch.delenv("STEMPHONY_SPECIMEN_FILE", raising=False)
    with pytest.raises(StemphonyError, match=r"STEMPHONY_SPECIMEN_FILE is not set.*rule prepare_specimen"):
        prepare_specimen.main([parameters(SRTIO3), str(tmp_path / "specimen.nc")])


@pytest.mark.slow
def test_script_runs_without_an_installed_package(tmp_path):
    done = subprocess.run(
        [sys.executable, str(SCRIPT), parameters(SRTIO3), str(tmp_path / "specimen.nc")],
        env={**os.environ, "STEMPHONY_SPECIMEN_FILE": str(SRTIO3), "PYTHONPATH": ""},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert len(read_specimen_file(tmp_path / "specimen.nc").positions) == 5


def test_the_script_reports_a_bad_specimen_without_a_traceback(tmp_path, files):
    bad = tmp_path / "bad.cif"
    bad.write_text(SRTIO3.read_text().replace("Sr1  Sr", "Sr1  X "))
    files(bad)
    message = refusal(prepare_specimen.main, parameters(bad), str(tmp_path / "specimen.nc"))
    assert str(bad) in message
    assert "'X'" in message
    assert not (tmp_path / "specimen.nc").exists()


def test_the_script_names_a_missing_folder(tmp_path, files):
    files(SRTIO3)
    message = refusal(prepare_specimen.main, parameters(SRTIO3), str(tmp_path / "no" / "specimen.nc"))
    assert "folder does not exist" in message


def test_script_without_arguments_prints_its_usage():
    with pytest.raises(SystemExit, match="usage"):  # Python prints such a text and exits with 1
        prepare_specimen.main([])


def test_the_exit_status_of_a_script_follows_the_class_of_the_error(capsys):
    def fails_with(error: BaseException) -> int | str | None:
        def main(arguments: list[str]) -> None:
            raise error

        with pytest.raises(SystemExit) as caught:
            run(main)
        return caught.value.code

    assert fails_with(StemphonyError("what, where, do")) == 1
    assert capsys.readouterr().err == "what, where, do\n"
    assert fails_with(KeyboardInterrupt()) == 130

    def broken(arguments: list[str]) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run(broken)
