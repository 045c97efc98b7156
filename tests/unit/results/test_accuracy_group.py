"""The group `accuracy` of a result: only the budget of its own config goes there."""

from __future__ import annotations

import json
from pathlib import Path

import netCDF4
import pytest
from stemphony import provenance
from stemphony.accuracy.budget import Budget, BudgetLine, SignalChange
from stemphony.results.accuracy_group import add_accuracy
from stemphony.results.layout import read_texts

COMMON = {"probe": {"energy_kev": 200.0}}


@pytest.fixture
def root(tmp_path: Path):
    with netCDF4.Dataset(tmp_path / "stem.nc", "w") as dataset:
        yield dataset


def write(file: Path, digest: str) -> None:
    change = SignalChange(image=0.01, mean=-0.005, worst=-0.02, at=1)
    line = BudgetLine("slices", "numerical", "2 → 4", {"haadf": (change, change)}, ({"slices": 4},))
    budget = Budget(
        {"haadf": (60.0, 100.0)}, (1.0, 2.0), ((0.0, 0.0), (1.0, 0.0)), {"haadf": [[0.1, 0.2], [0.3, 0.4]]}, (line,),
        {"window": "none"}, {"gpts": [64, 64]}, 1.0, digest, {"defocus_nm": 0.0},
    )  # fmt: skip
    file.write_text(json.dumps(budget.record()))
    assert Budget.of_record(json.loads(file.read_text())) == budget


def test_the_budget_of_the_same_config_is_kept(root, tmp_path: Path):
    write(tmp_path / "accuracy.json", provenance.digest(COMMON))
    assert add_accuracy(root, tmp_path / "accuracy.json", COMMON) == ""
    assert read_texts(root["accuracy"]["term"]) == ["slices"]
    assert root["accuracy"]["haadf_worst"][:].tolist() == [[-0.02, -0.02]]
    assert root["accuracy"]["accuracy_slice_coords"][:].tolist() == [1.0, 2.0]


@pytest.mark.parametrize(
    ("content", "said"), [("other", "of another config"), ("{", "is damaged"), ("[]", "is damaged"), (None, "")]
)
def test_another_budget_is_left_out_and_named(root, tmp_path: Path, content: str | None, said: str):
    file = tmp_path / "accuracy.json"
    if content == "other":
        write(file, provenance.digest({**COMMON, "more": 1}))
    elif content is not None:
        file.write_text(content)
    note = add_accuracy(root, file, COMMON)
    assert said in note
    assert bool(note) == (content is not None)
    assert "accuracy" not in root.groups
