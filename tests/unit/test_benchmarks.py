"""The commands that make the tables of docs: their decisions and tables, not the speed itself."""

from __future__ import annotations

import ast
import importlib.util
import re
import sys
from contextlib import suppress
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
FOLDER = DOCS / "benchmarks"


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


def written_by(script: Path, page: ModuleType) -> set[tuple[str, Path]]:
    """Each command and page of a call of `page.rewrite` in a script, from the text of the script."""
    tree = ast.parse(script.read_text(encoding="utf-8"))
    names = {"page": page, "tables": page, "readme": type("readme", (), {"COMMAND": "make bench-peers"})}
    names |= {"Path": Path, "__file__": str(script)}

    def value(node: ast.expr) -> object:
        return eval(ast.unparse(node), names)

    for statement in tree.body:
        if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
            with suppress(NameError):  # constants that need other modules name no pages
                names[statement.targets[0].id] = value(statement.value)
    if "from monitor_benchmark import" in script.read_text(encoding="utf-8"):
        names["MONITOR_PAGE"] = DOCS / "monitor.md"
    return {
        (str(value(call.args[0])), Path(str(value(call.args[2]) if len(call.args) > 2 else page.PAGE)))
        for call in ast.walk(tree)
        if isinstance(call, ast.Call) and ast.unparse(call.func) in {"page.rewrite", "tables.rewrite"}
    }


def test_every_script_writes_between_marks_and_every_mark_has_its_script(page):
    scripts = [file for folder in ("benchmarks", "comparison", "figures") for file in (DOCS / folder).glob("*.py")]
    written = set().union(*(written_by(script, page) for script in scripts))
    marked = {
        (command, file)
        for file in (*DOCS.rglob("*.md"), ROOT / "README.md")
        for command in re.findall(r"^<!-- begin: (.*) -->$", file.read_text(encoding="utf-8"), re.MULTILINE)
    }
    assert written == marked
    for command, file in marked:
        text = page.between(command, file.read_text(encoding="utf-8"))
        assert file.name == "README.md" or re.search(r"^\| ?-", text, re.MULTILINE), f"{command} has no table"


def test_a_script_with_two_tables_writes_each_on_its_page(page, monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    ours, written = loaded("ours"), {}
    keys = ["cost_in_ffts", "fft_cpu_ms", "probe_slices_per_cpu_s", "probe_slices_per_s", "peak_rss_mb"]
    keys += ["startup_cpu_s", "planning_cpu_s", *(f"{stage}_cpu_s" for stage in ours.STAGES)]
    record = {"cpu_model": "a processor", "fftw": "FFTW", **dict.fromkeys(keys, 1.0)}
    monkeypatch.setattr(ours, "measured", lambda grid: {"one": [record]})
    monkeypatch.setattr(ours, "started", lambda *arguments: None)
    monkeypatch.setattr(ours, "finished", lambda process: record)
    monkeypatch.setattr(ours, "what_the_cores_give", lambda: 1.5)
    monkeypatch.setattr(
        ours.page, "rewrite", lambda command, lines, page=page.PAGE: written.update({(command, page): "\n".join(lines)})
    )
    ours.main()
    assert "| 512² · 1 thread | **1.00** |" in written["make bench", page.PAGE]
    assert "takes 6.00 CPU s on one thread. Propagation takes 16.7% of" in written["make bench", page.PAGE]
    assert "| propagation | 1.000 | 16.7% |" in written["make bench", page.MORE]


def test_the_cost_of_reports_becomes_one_table(page, monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    reporting, written = loaded("reporting"), {}
    times = {("up", False): 6.2, ("up", True): 85.0, ("hanging", False): 7.0, ("hanging", True): 68.0}
    monkeypatch.setattr(reporting, "progress_us", lambda kind, computing: [times.get((kind, computing), 1.0)] * 3)
    monkeypatch.setattr(reporting, "synced_us", lambda: [400.0])
    monkeypatch.setattr(reporting, "sender_cpu_ms", lambda: 0.34)
    walls = {"off": iter([9.0, 10.6, 10.1, 11.0]), "up": iter([10.1, 11.2, 11.7]), "hanging": iter([22.2] * 3)}
    monkeypatch.setattr(reporting, "simulation_s", lambda kind, folder: (next(walls[kind]), 2.5))
    monkeypatch.setattr(reporting.page, "rewrite", lambda command, lines, page: written.update({page: lines}))
    reporting.main()
    assert written[DOCS / "status-api.md"][3:] == [
        "| --- | --- | --- | --- |",
        "| a progress report, many in a row | 6 µs | 1 µs | 7 µs |",
        "| the same after 10 ms of FFTs, which empty the caches | 85 µs | 1 µs | 68 µs |",
        "| a simulation of 4 jobs of 2.5 s; without reports 10.6 (10.1 to 11.0) s | 11.2 (10.1 to 11.7) s |  "
        "| 22.2 (22.2 to 22.2) s |",
        "",
        "The sender takes 0.3 ms of CPU time for each event. A write to the disk takes 0.4 ms.",
    ]


# --- other programs on the machine ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("load", "cores", "busy"), [(0.9, 2, False), (1.0, 2, False), (1.1, 2, True), (1.1, 4, False)])
def test_a_busy_machine_makes_a_warning_and_a_mark_on_the_page(load, cores, busy, page, monkeypatch, capsys):
    monkeypatch.setattr(page, "LOAD_BEFORE", load)
    monkeypatch.setattr(page.os, "sched_getaffinity", lambda process: set(range(cores)))
    assert page.busy_mark() == (f" {page.BUSY}" if busy else "")
    assert (f"the load average is {load}" in capsys.readouterr().err) == busy


ELAPSED = {
    "make bench": "ours",
    "make bench-scale": "scale",
    "make bench-reporting": "reporting",
    **{f"python docs/benchmarks/{name}.py": name for name in ("merge", "patterns", "monitor_many")},
    **{f"python docs/benchmarks/{name}.py": name for name in ("monitor_benchmark", "browser_benchmark")},
}
"""Commands whose tables have columns with elapsed time, and their scripts."""


def test_tables_with_elapsed_time_that_were_made_on_a_busy_machine_say_so(page):
    for script in FOLDER.glob("*.py"):
        calls = ".busy_mark()" in script.read_text(encoding="utf-8")
        assert calls == (script.stem in ELAPSED.values()), script.name
    for file in DOCS.rglob("*.md"):
        text = file.read_text(encoding="utf-8")
        for command in set(re.findall(r"^<!-- begin: (.*) -->$", text, re.MULTILINE)):
            table = page.between(command, text).replace("\n", " ")
            made = re.search(r", (\d+) cores.* load average ([\d.]+) before", table)
            elapsed = command in ELAPSED and (file != page.MORE or command.endswith("/patterns.py"))
            busy = elapsed and made is not None and float(made[2]) > int(made[1]) / 2
            assert (page.BUSY in table) == busy, f"{file.name}: {command}"


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
