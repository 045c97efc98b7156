"""The script of rule run_multislice: one job from params and specimen to its file, with few imports."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import netCDF4
import numpy as np
import pytest
import run_multislice as script
from stemphony import paths, provenance
from stemphony.compute.atoms import draw_atoms
from stemphony.compute.simulation import simulate
from stemphony.errors import DamagedResultError
from stemphony.experiment.campaign import Campaign, InputFiles
from stemphony.experiment.model import Experiment
from stemphony.paths import ResultPaths
from stemphony.specimen.specimen import Specimen
from stemphony.specimen.specimen_file import write_specimen
from stemphony.store import ledger
from support.arrays import differences
from support.experiments import FILES, planned
from support.scripts import refusal
from support.shared import shared_cache
from support.specimens import srtio3

SCRIPT = Path(script.__file__)
BLOCKS: dict[str, dict[str, Any]] = {
    "probe": {"defoci_nm": [2.5, 0.0]},
    "scan": {"points": [2, 2]},
    "frozen_phonon": {"configurations": 3},
    "cbed": {"enabled": True, "max_mrad": 20.0},
}


@pytest.fixture(scope="module", autouse=True)
def _cache(tmp_path_factory):
    """Plans of the FFTs are made once for all tests, and not in the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STEMPHONY_CACHE_DIR", str(shared_cache(tmp_path_factory) / "plans"))
        patch.delenv("STEMPHONY_RUN", raising=False)
        patch.delenv("STEMPHONY_CONFIG_FILES", raising=False)
        yield


class Job:
    """A campaign with its specimen on disk, of which single jobs are run."""

    def __init__(
        self, folder: Path, files: InputFiles = FILES, specimen: Specimen | None = None, **blocks: Any
    ) -> None:
        self.campaign: Campaign = planned(files, **{**BLOCKS, **blocks})
        self.specimen = specimen or srtio3((2, 2, 2))
        self.result = ResultPaths(folder / "results" / "tiny")
        self.result.root.mkdir(parents=True, exist_ok=True)
        digest = {"specimen_digest": self.campaign.specimen_params["specimen_digest"]}
        write_specimen(self.result.specimen, self.specimen, digest)

    @property
    def experiment(self) -> Experiment:
        return Experiment.of(self.campaign.common_params, self.specimen.cell, self.specimen.layers)

    def run(self, defocus: str = "p2d500", configuration: int = 1, threads: int = 1) -> Path:
        file = self.result.job(defocus, configuration)
        file.parent.mkdir(parents=True, exist_ok=True)
        script.run_multislice(self.campaign.job_params(defocus, configuration), self.result.specimen, file, threads)
        return file

    def arguments(self, defocus: str = "p2d500", configuration: int = 1) -> list[str]:
        file = self.result.job(defocus, configuration)
        file.parent.mkdir(parents=True, exist_ok=True)
        params = provenance.canonical_json(self.campaign.job_params(defocus, configuration))
        return [params, str(self.result.specimen), str(file), "1"]


@pytest.fixture
def job(tmp_path) -> Callable[..., Job]:
    return lambda **settings: Job(tmp_path, **settings)


def arrays(file: Path) -> dict[str, bytes]:
    with netCDF4.Dataset(file) as root:
        groups = ("AMBER", "params", "adf", "images", "cbed")
        return {f"{g}/{n}": np.ma.filled(v[...]).tobytes() for g in groups for n, v in root[g].variables.items()}


def test_a_job_writes_what_was_computed(job):
    made = job()
    file = made.run()
    of, specimen = made.experiment, made.specimen
    atoms = draw_atoms(
        of, specimen.symbols, specimen.positions, specimen.u_iso, frame=None, displaced=True, random_seed=1,
        configuration=1, defocus_nm=2.5, displace_z=True, fixed_slicing=True,
    )  # fmt: skip
    signals = simulate(of, atoms, 2.5, threads=1, flag="FFTW_ESTIMATE", on_progress=lambda done, total: None)
    with netCDF4.Dataset(file) as root:
        for index, name in enumerate(("bf", "haadf")):
            got = np.moveaxis(np.asarray(root["images"][name][0, 0]), 0, -1)
            assert got == pytest.approx(signals.rings[..., index], rel=1e-4)
        assert np.asarray(root["cbed"]["cbed_intensities"][0, :, :, 0, :, 0]) == pytest.approx(signals.cbed, abs=1e-6)
        assert np.asarray(root["AMBER"]["coordinates"][0]) == pytest.approx(atoms.positions / 10, abs=1e-6)
        assert root.effective_seed == 1
        assert root.job_digest == provenance.digest(made.campaign.job_params("p2d500", 1))


def test_a_job_logs_the_measured_error_of_its_windows(job, capsys):
    with netCDF4.Dataset(job(grating={"window_angstrom": 5.0}).run()) as root:
        deviation = json.loads(root["runtime"].window_check)["relative_deviation"]
    said = ", ".join(f"{name} {100 * value:.2g} %" for name, value in deviation.items())
    assert list(deviation) == ["bf", "haadf", "total_intensity"]
    assert f"error of the windows, measured by this job on some positions: {said}\n" in capsys.readouterr().err


def test_a_job_without_windows_logs_no_error_of_windows(job, capsys):
    job().run()
    assert "windows" not in capsys.readouterr().err


def test_a_job_file_records_its_origin(job):
    made = job()
    with netCDF4.Dataset(made.run()) as root:
        identity = ledger.identity(made.result, 1)
        assert root.id == root["runtime"].UUID == identity.id
        runtime = root["runtime"]
        assert runtime.time_start <= runtime.time_stop
        assert runtime.cpu_seconds > 0
        assert runtime.wall_seconds > 0
        assert runtime.peak_memory_mb > 50
        assert runtime.host
        assert runtime.cpu_model
        assert runtime.threads == 1
        assert runtime.attempt == 1
        assert runtime.fft_plan_source in ("planned", "cache")
        assert "numpy" in json.loads(runtime.versions)
        assert root.title == "tiny"


def test_a_job_takes_facts_about_the_run_from_the_plan(job):
    made = job()
    ledger.write_plan(made.result, {"title": "From the plan", "keep_coordinates": False, "budget_mb": 0.01})
    with netCDF4.Dataset(made.run()) as root:
        assert root.title == "From the plan"
        assert root["AMBER"].displaced == 0


@pytest.mark.failure("two snakemake commands with different configs for one simulation")
def test_each_job_of_two_simultaneous_runs_follows_the_plan_of_its_own_run(job, monkeypatch):
    made = job()
    numbers = [ledger.claim_run(made.result) for _ in range(2)]
    for number in numbers:
        ledger.write_plan(made.result, {"title": f"Plan {number}", "keep_coordinates": number == 2}, number)
    for number in numbers:
        monkeypatch.setenv("STEMPHONY_RUN", str(number))
        with netCDF4.Dataset(made.run()) as root:
            assert root.title == f"Plan {number}"
            assert root["AMBER"].displaced == (number == 2)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("algorithm", "independent"), [("probe_basis", False), ("probe_basis", True), ("multislice", False)]
)
def test_a_plan_of_another_run_changes_no_numbers(job, algorithm: str, independent: bool):
    phonons = {"configurations": 3, "independent_defoci": independent}
    made = job(simulation={"algorithm": algorithm}, frozen_phonon=phonons, probe={"defoci_nm": [0.0, 40.0]})
    alone = arrays(made.run("p40d000"))
    ledger.write_plan(made.result, {"shared_waves": True, "defoci_nm": [0.0, 2.0], "defoci_ids": ["p0d000", "p2d000"]})
    assert arrays(made.run("p40d000")) == alone
    if independent or algorithm == "multislice":
        ledger.write_plan(made.result, {"shared_waves": True, "defoci_nm": [40.0], "defoci_ids": ["p40d000"]})
        assert arrays(made.run("p40d000")) == alone


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ["multislice", "probe_basis"])
def test_a_job_run_twice_or_with_more_threads_gives_the_same_arrays(tmp_path, algorithm: str):
    """The job has every kind of signal, and ions. A rerun replaces a file by such a second one."""
    plain = srtio3((2, 2, 2))
    charge = np.array([{"Sr": 2, "Ti": 4, "O": -2}[symbol] for symbol in plain.symbols])
    values = {"d": np.array([[0.0, 0.2], [60.0, 0.9]])}
    adf = {
        "detectors": {"d": {"inner_mrad": 5, "outer_mrad": 60, "sensitivity": "p.csv"}, "ring": [5, 60]},
        "segmented": {"q": {"inner_mrad": 0, "outer_mrad": 30, "segments": 4}},
    }
    made = Job(tmp_path, InputFiles("5" * 64, sensitivities={"d": "7" * 64}),
               replace(plain, sensitivities=values, charge=charge), adf=adf, waves=EXIT,
               simulation={"algorithm": algorithm})  # fmt: skip
    file = made.run()
    first, waves = arrays(file), waves_in(file)
    assert first.keys() >= {f"images/{name}" for name in ("d", "ring", "q_0", "q_3")}
    for threads in (1, 2):
        file = made.run(threads=threads)
        assert arrays(file) == first
        assert {name: found.tobytes() for name, found in waves_in(file).items()} == {
            name: found.tobytes() for name, found in waves.items()
        }
    assert "center_of_mass" in "\n".join(first)


def test_attempts_and_progress_are_noted(job):
    made = job()
    for attempt in (1, 2):
        with netCDF4.Dataset(made.run()) as root:
            assert root["runtime"].attempt == attempt
    state = json.loads(made.result.progress(0, "p2d500", 1).read_text())
    assert (state["state"], state["done"], state["total"], state["attempt"]) == ("finished", 4, 4, 2)


def test_each_job_draws_its_own_atoms(job):
    made = job()
    seen = set()
    for defocus in ("p2d500", "p0d000"):
        for configuration in (0, 1):
            with netCDF4.Dataset(made.run(defocus, configuration)) as root:
                seen.add(np.asarray(root["AMBER"]["coordinates"][0]).tobytes())
    assert len(seen) == 4


def test_defoci_share_their_atoms_if_asked(job):
    made = job(frozen_phonon={"configurations": 2, "independent_defoci": False})
    coordinates = []
    for defocus in ("p2d500", "p0d000"):
        with netCDF4.Dataset(made.run(defocus, 1)) as root:
            coordinates.append(np.asarray(root["AMBER"]["coordinates"][0]))
    assert not differences(coordinates[0], coordinates[1])


def test_a_drawn_seed_is_used_and_recorded(job):
    made = job(simulation={"random_seed": 0})
    with netCDF4.Dataset(made.run()) as root:
        seed = ledger.identity(made.result, 0).seed
        assert seed > 0
        assert root.effective_seed == root["params"]["simulation"].random_seed == seed
        moved = np.asarray(root["AMBER"]["coordinates"][0])
    drawn = job(simulation={"random_seed": seed})
    with netCDF4.Dataset(drawn.run()) as root:
        assert not differences(np.asarray(root["AMBER"]["coordinates"][0]), moved)


def test_without_frozen_phonons_atoms_rest_and_no_seed_is_recorded(job):
    with netCDF4.Dataset(job(frozen_phonon={"enabled": False}).run("p2d500", 0)) as root:
        rest = srtio3((2, 2, 2)).positions / 10
        assert np.asarray(root["AMBER"]["coordinates"][0]) == pytest.approx(rest, abs=1e-7)
        assert "effective_seed" not in root.ncattrs()


def test_a_snapshot_is_the_configuration_of_every_defocus(job):
    movie = srtio3((2, 2, 2), frames=3)
    assert movie.frames is not None
    files = InputFiles("5" * 64, "6" * 64, 3)
    made = job(files=files, specimen=movie, frozen_phonon={"snapshots": "a.xyz", "configurations": None})
    expected = movie.frames[2].copy()
    expected[:, :2] %= 7.81
    for defocus in ("p2d500", "p0d000"):
        with netCDF4.Dataset(made.run(defocus, 2)) as root:
            assert np.asarray(root["AMBER"]["coordinates"][0]) == pytest.approx(expected / 10, abs=1e-6)


DRAWN = InputFiles("5" * 64, occupancies_drawn=True)


def half_strontium() -> Specimen:
    plain = srtio3((2, 2, 2))
    return replace(plain, occupancy=np.where(plain.symbols == "Sr", 0.5, 1.0))


def elements(file: Path) -> list[int]:
    with netCDF4.Dataset(file) as root:
        return np.asarray(root["AMBER"]["element"][0]).tolist()


def test_atoms_move_along_the_axes_of_their_tensors(job):
    plain = srtio3((2, 2, 2))
    along_y = np.where(plain.symbols[:, None, None] == "O", np.diag([0.0, 0.02, 0.0]), np.nan)
    with netCDF4.Dataset(job(specimen=replace(plain, u_aniso=along_y)).run()) as root:
        moved = 10 * np.asarray(root["AMBER"]["coordinates"][0]) - plain.positions
    moved[:, :2] -= 7.81 * np.round(moved[:, :2] / 7.81)
    oxygen = plain.symbols == "O"
    assert np.abs(moved[oxygen][:, [0, 2]]).max() < 1e-5
    assert 0.08 < moved[oxygen][:, 1].std() < 0.22  # √0.02 Å is 0.14 Å; 24 atoms
    assert np.abs(moved[~oxygen]).max(axis=0).min() > 0.05


def test_each_configuration_and_defocus_draws_its_sites_and_a_rerun_draws_the_same(job):
    made = job(files=DRAWN, specimen=half_strontium())
    found = {(d, c): elements(made.run(d, c)) for d in ("p2d500", "p0d000") for c in (0, 1)}
    assert len({tuple(values) for values in found.values()}) == 4
    strontium = half_strontium().symbols == "Sr"
    for values in found.values():
        assert all(np.asarray(values)[~strontium])
    assert elements(made.run("p0d000", 0)) == found["p0d000", 0]


def test_all_defoci_of_a_shared_configuration_see_the_same_sites(job):
    made = job(files=DRAWN, specimen=half_strontium(), frozen_phonon={"independent_defoci": False})
    assert elements(made.run("p2d500", 1)) == elements(made.run("p0d000", 1)) != elements(made.run("p0d000", 0))


def test_defoci_that_share_their_waves_share_the_drawn_sites(job):
    blocks = {
        "simulation": {"algorithm": "probe_basis", "basis_tolerance": 1e-4},
        "frozen_phonon": {"independent_defoci": False},
    }
    alone = job(files=DRAWN, specimen=half_strontium(), **blocks)
    signals = {}
    for shared in (False, True):
        plan = {"shared_waves": shared, "defoci_nm": [2.5, 0.0], "defoci_ids": ["p2d500", "p0d000"]}
        ledger.write_plan(alone.result, plan)
        for defocus in ("p2d500", "p0d000"):
            file = alone.run(defocus, 0)
            with netCDF4.Dataset(file) as root:
                signals[shared, defocus] = np.asarray(root["images"]["haadf"][...])
            file.unlink()
    for defocus in ("p2d500", "p0d000"):
        np.testing.assert_allclose(signals[True, defocus], signals[False, defocus], rtol=1e-3)


def test_atoms_at_rest_are_drawn_with_the_seed_that_the_result_names(job):
    resting = job(files=DRAWN, specimen=half_strontium(), frozen_phonon={"enabled": False})
    with netCDF4.Dataset(resting.run("p2d500", 0)) as root:
        assert np.asarray(root["AMBER"]["coordinates"][0]) == pytest.approx(srtio3((2, 2, 2)).positions / 10, abs=1e-7)
        assert (np.asarray(root["AMBER"]["element"][0]) == 0).any()
        assert root.effective_seed == 1


def test_another_specimen_is_refused(job):
    made = job()
    write_specimen(made.result.specimen, made.specimen, {"specimen_digest": "0" * 64})
    with pytest.raises(DamagedResultError, match=r"specimen\.nc was made from another specimen.*run again"):
        made.run()
    state = json.loads(made.result.progress(0, "p2d500", 1).read_text())
    assert state["state"] == "failed"
    assert "another specimen" in state["message"]
    assert not made.result.job("p2d500", 1).exists()


# --- as a process -------------------------------------------------------------------------------------------------

MODULES = """
import json, runpy, sys
from pathlib import Path
script, modules, *arguments = sys.argv[1:]
sys.path[0] = str(Path(script).parent)
sys.argv = [script, *arguments]
try:
    runpy.run_path(script, run_name="__main__")
finally:
    Path(modules).write_text(json.dumps(sorted({name.split(".")[0] for name in sys.modules})))
"""


def launch(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": "", **environment},
    )  # fmt: skip


@pytest.mark.slow
def test_a_job_loads_nothing_that_it_does_not_need(job, tmp_path):
    made = job()
    done = launch("-c", MODULES, str(SCRIPT), str(tmp_path / "modules"), *made.arguments())
    assert done.returncode == 0, done.stderr
    loaded = set(json.loads((tmp_path / "modules").read_text()))
    assert {"numpy", "scipy", "pyfftw", "netCDF4", "stemphony"} <= loaded
    assert not loaded & {"ase", "matplotlib", "snakemake", "jsonschema", "yaml", "requests", "pandas", "xarray"}


@pytest.mark.slow
def test_the_process_reports_its_progress_and_exits_with_0(job):
    made = job()
    done = launch(str(SCRIPT), *made.arguments())
    assert (done.returncode, done.stderr) == (0, "")
    assert "100 % of the waves" in done.stdout
    assert paths.checksum(made.result.job("p2d500", 1)).is_file()


def test_a_damaged_specimen_is_reported_without_a_traceback(job):
    made = job()
    made.result.specimen.write_bytes(made.result.specimen.read_bytes()[:1000])
    assert "specimen.nc" in refusal(script.main, *made.arguments())
    assert not made.result.job("p2d500", 1).exists()


EXIT = {"exit": [[0.0, 0.0], [0.3, 0.6]], "depth_profile": True}


def waves_in(file: Path) -> dict[str, np.ndarray]:
    with netCDF4.Dataset(file) as root:
        return {name: np.asarray(variable[...]) for name, variable in root["waves"].variables.items()}


def test_exit_waves_are_the_same_with_every_algorithm_and_change_no_signal(job):
    blocks = {"frozen_phonon": {"independent_defoci": False}, "probe": {"defoci_nm": [2.5, 0.0]}}
    plain = job(**blocks)
    signals = arrays(plain.run())
    exact = job(waves=EXIT, **blocks)
    file = exact.run()
    assert {name for name, values in arrays(file).items() if signals[name] != values} == set()
    expected = waves_in(file)
    basis = job(waves=EXIT, simulation={"algorithm": "probe_basis"}, **blocks)
    for shared in (False, True):
        plan = {"shared_waves": shared, "defoci_nm": [2.5, 0.0], "defoci_ids": ["p2d500", "p0d000"]}
        ledger.write_plan(basis.result, plan)
        found = waves_in(basis.run())
        assert found.keys() == expected.keys()
        for name, values in expected.items():
            np.testing.assert_array_equal(found[name], values)


def test_a_job_of_waves_alone_reports_its_progress(job):
    made = job(waves=EXIT, adf={"enabled": False}, cbed={"enabled": False})
    with netCDF4.Dataset(made.run()) as root:
        assert set(root.groups) == {"AMBER", "params", "runtime", "waves"}
        assert root["runtime"].waves == 2
    state = json.loads(made.result.progress(0, "p2d500", 1).read_text())
    assert (state["state"], state["done"], state["total"]) == ("finished", 1, 1)


def test_a_job_with_a_sensitivity_reads_it_from_the_specimen(tmp_path):
    entry = {"inner_mrad": 5, "outer_mrad": 60, "sensitivity": "p.csv"}
    half = {"d": np.array([[0.0, 0.5], [60.0, 0.5]])}
    specimen = replace(srtio3((2, 2, 2)), sensitivities=half)
    made = Job(tmp_path, InputFiles("5" * 64, sensitivities={"d": "7" * 64}), specimen,
               adf={"detectors": {"d": entry, "ring": [5, 60]}})  # fmt: skip
    with netCDF4.Dataset(made.run()) as root:
        images = root["images"]
        np.testing.assert_allclose(images["d"][...], 0.5 * images["ring"][...], rtol=1e-6)
        assert images["d"].sensitivity_sha256 == "7" * 64
