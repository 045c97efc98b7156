"""The commands that make docs/performance.md: their decisions and tables, not the speed itself."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs" / "benchmarks"


def loaded(name: str) -> ModuleType:
    specification = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.fixture
def page() -> ModuleType:
    return loaded("page")


# --- the bound ----------------------------------------------------------------------------------------------------


def outcome(costs: list[float], monkeypatch: pytest.MonkeyPatch) -> tuple[int, int]:
    """Exit status of the check and number of runs that cost `costs`. The first run of each cache makes plans."""
    regression, runs, caches = loaded("regression"), [0], []

    def cost(cache: str) -> float:
        if cache not in caches:
            assert not any(Path(cache).iterdir())  # each cache starts without plans
            caches.append(cache)
            return 99.0
        runs[0] += 1
        return costs[runs[0] - 1]

    monkeypatch.setattr(regression, "cost", cost)
    monkeypatch.setattr(regression, "instructions", lambda: "not counted")
    return regression.main(), runs[0]


def test_one_repeat_below_the_bound_passes(monkeypatch):
    assert outcome([2.0], monkeypatch) == (0, 1)
    assert outcome([2.7, 3.1, 2.1], monkeypatch) == (0, 3)


def test_a_loop_that_is_always_above_the_bound_fails(monkeypatch, capsys):
    assert outcome([2.7, 2.41, 3.0, 2.4, 2.8, 2.9], monkeypatch) == (1, 6)
    said = capsys.readouterr()
    assert "2.70, 2.41, 3.00, 2.40, 2.80, 2.90" in said.out
    assert "has become dearer" in said.err


def test_a_bench_that_fails_fails_the_check(monkeypatch, tmp_path):
    regression = loaded("regression")
    monkeypatch.setattr(regression, "COMMAND", [sys.executable, "-c", "raise SystemExit(3)"])
    with pytest.raises(SystemExit) as stopped:
        regression.cost(str(tmp_path))
    assert stopped.value.code == 3


# --- the page -----------------------------------------------------------------------------------------------------


def test_only_what_stands_between_the_marks_is_replaced(page, tmp_path, capsys):
    file = tmp_path / "page.md"
    file.write_text("before\n<!-- begin: a -->\nold\n<!-- end: a -->\nafter\n<!-- begin: b -->\n<!-- end: b -->\n")
    page.rewrite("a", page.table(["x", "y"], [["1", "2"]]), file)
    assert file.read_text() == (
        "before\n<!-- begin: a -->\n| x | y |\n| --- | --- |\n| 1 | 2 |\n<!-- end: a -->\nafter\n"
        "<!-- begin: b -->\n<!-- end: b -->\n"
    )


def test_long_lines_of_prose_are_continued_and_rows_stay(page):
    row, picture, words = "| " + 130 * "x" + " |", "![" + 130 * "x" + "](a.png)", " ".join(60 * ["word"])
    made = page.wrapped([row, "", picture, words, "short"])
    assert made[:3] == [row, "", picture]
    assert made[-1] == "short"
    assert max(map(len, made[3:])) <= page.LONGEST
    assert " ".join(made[3:-1]) == words


@pytest.mark.parametrize("file", sorted((ROOT / "docs").rglob("*.md")), ids=lambda file: file.stem)
def test_lines_of_prose_are_not_longer_than_120_characters(file, page):
    text = re.sub(r"^```.*?^```$", "", file.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    # Rows, pictures, links and formulas, which are indented, stay on one line.
    prose = [line for line in text.splitlines() if not re.match(r"\||!\[|\[|    ", line)]
    assert [line for line in prose if len(line) > page.LONGEST] == []


def test_the_counts_of_compared_structure_files_are_those_of_the_table():
    text = (ROOT / "docs/comparison/structures.md").read_text(encoding="utf-8")
    rows = text.split("| file | format | sites |")[1].splitlines()[2:]
    results = [row.strip("| ").rsplit("| ", 1)[1] for row in rows]
    agree, refused = results.count("agrees"), sum(one.startswith("refused") for one in results)
    alone = results.count("read, nothing to compare with")
    differ = len(results) - agree - refused - alone
    counts = f"Of {len(results)} files, {agree} agree with every reference, {differ} differ from one, "
    assert f"{counts}{refused} are refused, and {alone} has no reference." in text


def test_the_figures_of_the_readme_are_those_of_the_newest_table(page, monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    expected = loaded("readme").sentences(page.PAGE.read_text(encoding="utf-8"))
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    shown = page.between("make bench-peers", text).splitlines()
    assert shown == expected, "run: python docs/benchmarks/readme.py"


def test_the_estimate_is_calculated_from_the_newest_table(page, monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    estimate = loaded("estimate")
    expected = estimate.lines(page.PAGE.read_text(encoding="utf-8"))
    shown = page.between(estimate.COMMAND, page.METHOD.read_text(encoding="utf-8")).splitlines()
    assert shown == expected, "run: python docs/benchmarks/estimate.py"


@pytest.mark.parametrize("file", sorted((ROOT / "docs").rglob("*.md")), ids=lambda file: file.stem)
def test_every_mark_on_a_page_names_a_script_that_writes_there(file, page):
    text = file.read_text(encoding="utf-8")
    for command in re.findall(r"^<!-- begin: (.*) -->$", text, re.MULTILINE):
        assert re.search(r"^\| ?-", page.between(command, text), re.MULTILINE), f"{command} has no table"
        if command.startswith("python "):
            script = (ROOT / command.split()[1]).read_text(encoding="utf-8")
            assert ".rewrite(" in script
            assert f'"{command}"' in script


def test_a_page_without_marks_is_left_alone(page, tmp_path):
    file = tmp_path / "page.md"
    file.write_text("nothing here\n")
    with pytest.raises(SystemExit, match="begin: a"):
        page.rewrite("a", ["x"], file)
    assert file.read_text() == "nothing here\n"


def test_every_result_of_the_command_is_explained_on_the_page(page, monkeypatch):
    from stemphony.commands import bench

    # Plans that cost no time to make: only the names of the results matter.
    monkeypatch.setattr(bench, "prepare_plans", lambda plan: ("FFTW_ESTIMATE", "none"))
    monkeypatch.setattr(
        bench.Bench, "_yardstick", lambda self, flag: bench.Plan2D((96, 96), np.complex64, "FFTW_ESTIMATE")
    )
    keys = bench.measure(bench.Settings.of(grid=96, slices=1, probes=1)).record().keys()
    text = (ROOT / "docs/explanation/performance.md").read_text(encoding="utf-8")
    arguments = {"grid", "slices", "threads", "algorithm", "defoci", "scan"}
    assert [key for key in keys - arguments if f"`{key}`" not in text] == []
