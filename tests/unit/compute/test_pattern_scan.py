"""Diffraction patterns at positions and depths of their own: equal to those of a scan that visits the same places."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from stemphony.compute.atoms import Atoms, draw_atoms
from stemphony.compute.cost import memory_mb, result_bytes, wave_plan
from stemphony.compute.keeper import Keeper
from stemphony.compute.recorder import JobSignals
from stemphony.compute.simulation import simulate
from stemphony.compute.windows import windows
from stemphony.experiment.model import Experiment
from support.arrays import differences
from support.experiments import experiment
from support.specimens import srtio3

SPECIMEN = srtio3((2, 2, 2))
SCAN = {"points": [4, 3]}
EVERY_SECOND = {"points": [2, 3]}
IMAGES = ("bins", "rings", "total", "center_of_mass")


def atoms(of: Experiment) -> Atoms:
    return draw_atoms(
        of, SPECIMEN.symbols, SPECIMEN.positions, SPECIMEN.u_iso, frame=None, displaced=True, random_seed=1,
        configuration=0, defocus_nm=None, displace_z=True, fixed_slicing=True,
    )  # fmt: skip


def made(algorithm: str = "multislice", precision: str = "double", cbed: Any = None, **blocks: Any) -> Experiment:
    simulation = {"algorithm": algorithm, "precision": precision, "basis_tolerance": 1e-7}
    cbed = {"enabled": True, "max_mrad": 30.0, **(cbed or {})}
    return experiment(simulation=simulation, cbed=cbed, scan=SCAN, **blocks)


def computed(of: Experiment, keeper: Keeper | None = None) -> JobSignals:
    return simulate(
        of, atoms(of), 2.0, threads=1, flag="FFTW_ESTIMATE", on_progress=lambda done, total: None, keeper=keeper
    )


@pytest.mark.parametrize("algorithm", ["multislice", "probe_basis"])
def test_depths_of_patterns_are_those_of_a_scan_that_stores_more(algorithm):
    everywhere = computed(made(algorithm, depths={"every_angstrom": 1.0}))
    at: dict[str, Any] = {"every_angstrom": None, "at_angstrom": [3.9, 7.81]}
    apart = made(algorithm, depths=at, cbed={"depths": {"at_angstrom": [1.96, 7.81]}})
    assert (apart.depth_slices, apart.pattern_depths, apart.wave_depths) == ((2, 4), (1, 4), (1, 2, 4))
    got = computed(apart)
    assert got.cbed == pytest.approx(everywhere.cbed[:, :, [0, 3]], rel=0, abs=1e-9)
    assert got.rings == pytest.approx(everywhere.rings[:, :, [1, 3]], rel=0, abs=1e-8)
    assert result_bytes(apart)[1] == got.cbed.nbytes


def test_positions_of_patterns_give_what_a_scan_of_these_positions_gives():
    whole = computed(made())
    own = made(cbed={"scan": EVERY_SECOND})
    got = computed(own)
    assert not differences(got.cbed, whole.cbed[::2])
    for name in IMAGES:
        assert not differences(getattr(got, name), getattr(whole, name)), name
    assert got.waves == 18
    assert result_bytes(own)[1] == got.cbed.nbytes
    listed = computed(made(cbed={"scan": {"positions": [[0.5, 0.0], [0.25, 1 / 3]]}, "depths": {"at_angstrom": [7.8]}}))
    assert listed.cbed[:, 0, 0] == pytest.approx(whole.cbed[[2, 1], [0, 1], -1], rel=0, abs=1e-13)


@pytest.mark.parametrize(
    ("blocks", "tolerance"),
    [
        ({"algorithm": "probe_basis"}, 1e-7),
        ({"precision": "single"}, 1e-6),
        ({"grating": {"gpts": [64, 64], "window_angstrom": 7.81, "slice_thickness_angstrom": 1.96}}, 1e-13),
        ({"probe": {"precession": {"angle_mrad": 5.0, "steps": 2}}}, 1e-13),
    ],
    ids=str,
)
def test_own_positions_work_with_everything_else(blocks, tolerance):
    whole, got = computed(made(**blocks)), computed(made(**blocks, cbed={"scan": EVERY_SECOND}))
    assert got.cbed.dtype == whole.cbed.dtype
    assert got.cbed == pytest.approx(whole.cbed[::2], rel=0, abs=tolerance)


def test_windows_around_own_positions_see_the_specimen_around_them():
    block = {"gpts": [64, 64], "window_angstrom": 5.8, "slice_thickness_angstrom": 1.96}
    own = made(grating=block, cbed={"scan": {"positions": [[0.0, 0.0], [0.5, 1 / 3]]}})
    assert len(list(windows(own.patterns))) == 2
    got = computed(own)
    assert got.window_check is not None
    # A window around the same middle; in the whole scan a window has several positions and another middle.
    alone = computed(made(grating=block, cbed={"scan": {"positions": [[0.5, 1 / 3]]}}))
    assert not differences(got.cbed[1], alone.cbed[0])


def test_an_interrupted_job_goes_on_within_its_patterns():
    own = made(cbed={"scan": EVERY_SECOND})
    exact = computed(own)

    class Stopped(Exception):
        pass

    kept: list[dict[str, np.ndarray]] = []

    def write(parts: Any, done: int, total: int) -> None:
        kept.append({name: np.concatenate([np.atleast_1d(p) for p in part.pieces()]).reshape(part.shape)
                     for name, part in parts.items()})  # fmt: skip

    ticks = iter(range(10**6))

    def check(reserve_s: float) -> None:
        if next(ticks) > 12 + 3:
            raise Stopped

    stopping = Keeper(write=write, check=check)
    with pytest.raises(Stopped):
        computed(own, stopping)
    stopping.done = 1
    assert stopping.save()
    computed_again: list[int] = []
    resumed = simulate(
        own, atoms(own), 2.0, threads=1, flag="FFTW_ESTIMATE", keeper=Keeper(found=kept[-1]),
        on_progress=lambda done, total: computed_again.append(done),
    )  # fmt: skip
    assert computed_again[0] >= 12 + 3
    assert not differences(resumed.cbed, exact.cbed)
    assert not differences(resumed.rings, exact.rings)
    assert resumed.waves == exact.waves


def test_own_positions_are_in_the_estimates():
    plain, own = made(cbed={"enabled": False}), made(cbed={"scan": EVERY_SECOND})
    plans = [wave_plan(of, [0.0], False, 1000.0) for of in (plain, own)]
    assert plans[1].work == pytest.approx(plans[0].work * 18 / 12)
    assert memory_mb(own, 40, 1) > memory_mb(plain, 40, 1)
