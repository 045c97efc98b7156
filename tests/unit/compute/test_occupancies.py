"""Sites that each configuration draws: every algorithm sees the same atoms, and results keep every site."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import netCDF4
import numpy as np
import pytest
from stemphony.compute.atoms import Atoms, Occupancies, draw_atoms
from stemphony.compute.recorder import JobSignals
from stemphony.compute.simulation import simulate
from stemphony.experiment.model import Experiment
from stemphony.physics.grid import Grid
from stemphony.physics.potential import SlicePotentials
from stemphony.results import job_file
from stemphony.specimen.joint_sites import with_joint_sites
from stemphony.specimen.specimen import Specimen
from support.experiments import FakeCampaign, experiment
from support.specimens import srtio3


def mixed(repeat: tuple[int, int, int] = (2, 2, 2)) -> Specimen:
    """Strontium titanate whose A site is 60 % Sr and 40 % Ba, and whose oxygen sites are 90 % full."""
    plain = srtio3(repeat)
    sites = plain.symbols == "Sr"
    symbols = np.concatenate([plain.symbols, np.full(sites.sum(), "Ba")])
    shares = {"Sr": 0.6, "Ba": 0.4, "O": 0.9, "Ti": 1.0}
    specimen = Specimen(
        symbols=symbols,
        positions=np.concatenate([plain.positions, plain.positions[sites]]),
        cell=plain.cell,
        u_iso=np.full(len(symbols), 0.008),
        slice_id=None,
        format="cif",
        occupancy=np.array([shares[symbol] for symbol in symbols]),
        notes=("made up: Å²",),
        reader="gemmi",
    )
    return with_joint_sites("f", specimen)


def drawn(of: Experiment, specimen: Specimen, configuration: int = 0, **settings: Any) -> Atoms:
    assert specimen.occupancy is not None
    usual: dict[str, Any] = {
        "frame": None, "displaced": True, "random_seed": 1, "configuration": configuration, "defocus_nm": None,
        "displace_z": True, "fixed_slicing": True,
        "occupancies": Occupancies(specimen.occupancy, specimen.disorder, specimen.disorder_group),
    }  # fmt: skip
    return draw_atoms(of, specimen.symbols, specimen.positions, specimen.u_iso, **{**usual, **settings})


def computed(of: Experiment, atoms: Atoms) -> JobSignals:
    return simulate(of, atoms, 1.0, threads=1, flag="FFTW_ESTIMATE", on_progress=lambda done, total: None)


def test_vacant_sites_stay_in_the_table_and_do_not_scatter():
    specimen, of = mixed(), experiment()
    atoms = drawn(of, specimen)
    assert len(atoms.symbols) == len(specimen.symbols) == 48
    assert atoms.present is not None
    there = atoms.occupied()
    assert len(there.symbols) == atoms.present.sum() < 48
    assert ((there.symbols == "Sr").sum() + (there.symbols == "Ba").sum()) == 8
    by_hand = Atoms(atoms.symbols[atoms.present], atoms.positions[atoms.present], atoms.slice_index[atoms.present])
    np.testing.assert_array_equal(computed(of, there).rings, computed(of, by_hand).rings)
    assert (computed(of, there).rings != computed(of, atoms).rings).any()


def test_displacements_are_those_of_full_sites():
    specimen, of = mixed(), experiment()
    np.testing.assert_array_equal(drawn(of, specimen).positions, drawn(of, specimen, occupancies=None).positions)


def test_a_full_specimen_passes_the_same_arrays_on():
    plain, of = srtio3((2, 2, 2)), experiment()
    atoms = draw_atoms(
        of, plain.symbols, plain.positions, plain.u_iso, frame=None, displaced=True, random_seed=1, configuration=0,
        defocus_nm=None, displace_z=True, fixed_slicing=True,
    )  # fmt: skip
    assert atoms.occupied() is atoms


def test_atoms_at_rest_are_drawn_too_and_snapshots_are_not():
    specimen, of = mixed(), experiment()
    resting, moving = drawn(of, specimen, displaced=False), drawn(of, specimen)
    np.testing.assert_array_equal(resting.present, moving.present)
    np.testing.assert_array_equal(resting.positions, specimen.positions)
    assert drawn(of, specimen, frame=specimen.positions).present is None


def test_every_algorithm_sees_the_same_atoms():
    specimen = mixed((4, 4, 2))
    blocks: dict[str, Any] = {
        "simulation": {"precision": "double", "algorithm": "multislice", "basis_tolerance": 1e-6},
        "grating": {"gpts": [108, 108]},
        "scan": {"x": [0.2, 0.5], "y": [0.2, 0.5], "points": [3, 3]},
        "adf": {"bins": 5, "max_mrad": 50.0, "detectors": {"bf": [0.0, 10.0], "haadf": [30.0, 50.0]}, "edges": "area"},
    }
    plain = experiment(specimen.cell, **blocks)
    reference = computed(plain, drawn(plain, specimen).occupied())
    basis = experiment(specimen.cell, **{**blocks, "simulation": {**blocks["simulation"], "algorithm": "probe_basis"}})
    np.testing.assert_allclose(computed(basis, drawn(basis, specimen).occupied()).rings, reference.rings, rtol=1e-5)
    # A window as wide as the cell along both axes cuts nothing, and its atoms are the drawn ones.
    windows = replace(plain, window=100.0)
    np.testing.assert_allclose(computed(windows, drawn(windows, specimen).occupied()).rings, reference.rings, rtol=1e-9)


def test_mean_structure_factor_of_drawn_potentials_is_that_of_the_occupancies():
    # The coherent (Bragg) amplitude: V(g) of one slice, averaged over configurations, tends to Σ occ f exp(−2π²g²U).
    specimen = mixed((2, 2, 1))
    assert specimen.occupancy is not None
    of = experiment(specimen.cell, grating={"gpts": [64, 64], "slice_thickness_angstrom": 3.905})
    grid = Grid((32, 32), of.cell[:2])

    def transform(symbols: np.ndarray, positions: np.ndarray) -> np.ndarray:
        slices = np.zeros(len(symbols), dtype=int)
        return np.fft.fft2(SlicePotentials(grid, positions, symbols.tolist(), slices, 1, "kirkland").projected(0))

    found = np.array(
        [transform(a.symbols, a.positions) for a in (drawn(of, specimen, c).occupied() for c in range(400))]
    )
    exact = np.zeros((32, 32), dtype=complex)
    for element in np.unique(specimen.symbols):
        chosen = specimen.symbols == element
        exact += specimen.occupancy[chosen][0] * transform(specimen.symbols[chosen], specimen.positions[chosen])
    # (2, 0), (2, 2) and (4, 0) of the doubled cell are reflections of the crystal, (1, 0) is none.
    for order in ((2, 0), (2, 2), (4, 0), (1, 0)):
        g2 = sum((n / length) ** 2 for n, length in zip(order, of.cell[:2], strict=True))
        expected = exact[order] * np.exp(-2 * np.pi**2 * g2 * 0.008)
        amplitudes = found[:, order[0], order[1]]
        error = np.std(amplitudes) / np.sqrt(len(found))
        assert abs(amplitudes.mean() - expected) < 4 * error
        if order != (1, 0):
            assert error < 0.05 * abs(expected)  # so that a wrong mean would be seen


def test_number_of_atoms_converges_to_the_sum_of_occupancies():
    specimen, of = mixed(), experiment()
    numbers = [len(drawn(of, specimen, c).occupied().symbols) for c in range(300)]
    # 24 oxygen sites of 0.9 scatter; the A sites are always filled by one of both elements.
    assert np.mean(numbers) == pytest.approx(8 + 8 + 24 * 0.9, abs=4.5 * np.sqrt(24 * 0.9 * 0.1 / 300))


# --- results -----------------------------------------------------------------------------------------------------


def element_names(amber: netCDF4.Group, frame: int) -> list[str]:
    amber["atom_types"].set_auto_chartostring(False)
    names = [b"".join(row).decode().rstrip("\0") for row in amber["atom_types"][:].data.tolist()]
    return [names[index] for index in amber["element"][frame].tolist()]


def written(fake: FakeCampaign, defocus: str, configuration: int) -> Path:
    file = fake.result.job(defocus, configuration)
    fake.write(defocus, configuration)
    atoms = drawn(fake.experiment, fake.specimen, configuration)
    record = job_file.JobRecord(
        params=fake.campaign.job_params(defocus, configuration), effective_seed=1,
        root={"title": "a title", "id": "an id", "program": "Stemphony"}, runtime=_runtime(file),
    )  # fmt: skip
    job_file.write_job(file, fake.experiment, record, fake.signals(defocus, configuration), fake.table, atoms)
    return file


def _runtime(file: Path) -> dict[str, Any]:
    with netCDF4.Dataset(file) as root:
        return {name: root["runtime"].getncattr(name) for name in root["runtime"].ncattrs()}


def test_amber_keeps_every_site_with_0_for_a_vacant_one(tmp_path):
    base = FakeCampaign.of(tmp_path, frozen_phonon={"configurations": 3, "save_coordinates": True})
    fake = replace(base, specimen=mixed())
    for defocus, configuration in fake.pairs:
        written(fake, defocus, configuration)
    with netCDF4.Dataset(fake.merge()) as root:
        amber = root["AMBER"]
        assert amber["coordinates"].shape == (3, 48, 3)
        np.testing.assert_allclose(amber["occupancy"][:], fake.specimen.occupancy, rtol=1e-6)
        for frame in range(3):
            present = drawn(fake.experiment, fake.specimen, frame).present
            assert present is not None
            np.testing.assert_array_equal(amber["element"][frame] == 0, ~present)
            names = np.where(present, fake.specimen.symbols, "vacant")
            assert element_names(amber, frame) == names.tolist()
        assert amber.reader == "gemmi"
        assert json.loads(amber.notes) == ["made up: Å²"]


def test_without_coordinates_the_frame_at_rest_shows_every_site(tmp_path):
    base = FakeCampaign.of(tmp_path, frozen_phonon={"configurations": 2, "save_coordinates": False})
    fake = replace(base, specimen=mixed())
    fake.write_all(coordinates=False)
    with netCDF4.Dataset(fake.merge()) as root:
        assert element_names(root["AMBER"], 0) == fake.specimen.symbols.tolist()
        assert not root["AMBER"].displaced


def test_tensors_are_in_the_result(tmp_path):
    tensors = np.full((40, 3, 3), np.nan)
    tensors[0] = [[0.03, 0.01, 0.002], [0.01, 0.02, 0.003], [0.002, 0.003, 0.01]]
    base = FakeCampaign.of(tmp_path, frozen_phonon={"configurations": 1})
    fake = replace(base, specimen=replace(base.specimen, u_aniso=tensors))
    fake.write_all()
    with netCDF4.Dataset(fake.merge()) as root:
        found = np.asarray(root["AMBER"]["msd_tensor"][:])
        assert found[0] == pytest.approx([3e-4, 2e-4, 1e-4, 3e-5, 2e-5, 1e-4])
        assert np.isnan(found[1:]).all()


def test_results_of_full_isotropic_specimens_have_no_further_variables(tmp_path):
    fake = FakeCampaign.of(tmp_path, frozen_phonon={"configurations": 1})
    fake.write_all()
    with netCDF4.Dataset(fake.merge()) as root:
        assert not {"occupancy", "msd_tensor"} & set(root["AMBER"].variables)
        assert sorted(set(element_names(root["AMBER"], 0))) == ["O", "Sr", "Ti"]
