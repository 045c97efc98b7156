"""Numbers change only with a new physics_version, which makes every job run again."""

from __future__ import annotations

import numpy as np
import pytest
from golden import make
from stemphony import provenance

WHAT_TO_DO = (
    "The numbers of {signals} moved, but physics_version is still {version}. If that was not meant, find the change. "
    "If it was: add 1 to PHYSICS_VERSION in workflow/scripts/stemphony/provenance.py, run "
    "`.venv/bin/python tests/golden/make.py`, judge the new numbers as tests/golden/README.md says, and commit all "
    "together."
)


def test_numbers_are_those_of_this_physics_version():
    assert make.kept_version() == provenance.PHYSICS_VERSION, (
        f"tests/golden/jobs.npz is of physics_version {make.kept_version()}, the code of {provenance.PHYSICS_VERSION}: "
        "run `.venv/bin/python tests/golden/make.py` and commit the file."
    )
    moved = make.moved()
    assert not moved, WHAT_TO_DO.format(signals=", ".join(moved), version=provenance.PHYSICS_VERSION)


@pytest.mark.parametrize("size", [1e-9, 1e-6])
def test_a_small_change_of_a_number_is_found(size):
    with np.load(make.FILE) as kept:
        for name in set(kept.files) - {"physics_version"}:
            values = kept[name]
            largest = np.unravel_index(np.argmax(np.abs(values)), values.shape)
            changed = values.copy()
            changed[largest] *= 1 + size
            assert make.difference(values, changed) > 1
            assert make.difference(values, values * (1 + 1e-13)) < 1


def test_every_signal_is_compared_at_every_depth():
    with np.load(make.FILE) as kept:
        assert kept["usual_rings"].shape == (2, 2, 3, 3)
        assert kept["other_rings"].shape == (2, 2, 2, 1)
        for name in set(kept.files) - {"physics_version"}:
            assert np.isfinite(kept[name]).all()
            assert np.count_nonzero(kept[name]) > 0.9 * kept[name].size or name.endswith(("bins", "atoms"))


def test_the_golden_file_changes_only_with_a_new_version(tmp_path, monkeypatch):
    file = tmp_path / "jobs.npz"
    file.write_bytes(make.FILE.read_bytes())
    monkeypatch.setattr(make, "FILE", file)
    today = make.compute()
    monkeypatch.setattr(make, "compute", lambda: {**today, "usual_total": today["usual_total"] * 1.001})
    assert make.moved() == ["usual_total"]
    with pytest.raises(SystemExit, match=r"usual_total.*add 1 to PHYSICS_VERSION"):
        make.main()
    monkeypatch.setattr(provenance, "PHYSICS_VERSION", provenance.PHYSICS_VERSION + 1)
    make.main()
    assert make.kept_version() == provenance.PHYSICS_VERSION
    assert make.moved() == []
