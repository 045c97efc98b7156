"""`st.check` and `st.run`, the commands in Python. tests/workflow/test_notebook.py has whole runs."""

from __future__ import annotations

import shutil

import pytest
import stemphony as st
import yaml
from support.campaign import REPOSITORY, TINY, changed


@pytest.fixture
def config(tmp_path):
    file = tmp_path / "tiny.yaml"
    shutil.copy(REPOSITORY / "config" / "srtio3.cif", tmp_path)
    file.write_text(yaml.safe_dump(changed(TINY)))
    return file


def test_check_returns_the_plan(config, tmp_path):
    plan = st.check(config, directory=tmp_path)
    assert "detectors                bf 0–10 mrad; haadf 25–40 mrad" in plan
    assert "jobs                     4 = 2 defoci × 2 configurations" in plan
    assert "300 keV" not in plan
    assert not (tmp_path / "results").exists()


def test_check_takes_keys_that_override_those_of_the_config(config, tmp_path):
    plan = st.check(config, directory=tmp_path, overrides=["frozen_phonon.configurations=5"])
    assert "10 = 2 defoci × 5 configurations" in plan


def test_mistakes_are_errors_with_what_to_do(config, tmp_path):
    with pytest.raises(st.StemphonyError, match="energy_kev"):
        st.check(config, directory=tmp_path, overrides=["probe.energy_kv=100"])
    config.write_text(yaml.safe_dump({"specimen": {"file": "srtio3.cif"}}))
    with pytest.raises(st.StemphonyError, match=r"simulation\.name"):
        st.run(config, directory=tmp_path)
    with pytest.raises(st.StemphonyError, match="missing"):
        st.check(tmp_path / "missing.yaml")
