"""The table of docs/explanation/accuracy.md on the sampling of the potential and the band limit."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[3] / "docs" / "comparison" / "sampling.py"


@pytest.fixture(scope="module")
def sampling() -> ModuleType:
    specification = importlib.util.spec_from_file_location("sampling", SCRIPT)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def percents(cells: list[str]) -> list[float]:
    return [float(cell.removesuffix(" %").replace("−", "-")) for cell in cells]


@pytest.mark.slow
def test_the_table_shows_what_the_script_computes(sampling: ModuleType):
    specimen = sampling.crystal()
    table = sampling.page.between(sampling.COMMAND, sampling.PAGE.read_text(encoding="utf-8"))
    shown = [line.strip("| ").split(" | ") for line in table.splitlines() if line.startswith("| ")]
    for points, factor, reference in ((768, 1, (sampling.FINEST_ALIKE, 1)), (*sampling.FINER[0], sampling.WIDEST)):
        expected = sampling.row(specimen, points, factor, sampling.signals(specimen, *reference)[0])
        (found,) = (cells for cells in shown if cells[:2] == expected[:2])
        assert found[2] == expected[2]
        assert percents(found[3:]) == pytest.approx(percents(expected[3:]), rel=0.05, abs=0.02)
