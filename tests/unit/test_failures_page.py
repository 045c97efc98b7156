"""docs/failures.md has a row for every failure, and every row names tests that run and look for what it quotes."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "failures.md"
CASES = (
    "job exits non-zero",
    "job killed by SIGKILL",
    "job killed by SIGTERM",
    "out of memory",
    "a try fails and another one follows",
    "time limit",
    "node dies, Slurm requeues",
    "node dies, no requeue",
    "scancel",
    "job started twice",
    "dead claim that cannot be removed",
    "checkpoint damaged or foreign",
    "scheduler gets SIGINT",
    "scheduler gets SIGTERM",
    "scheduler gets SIGKILL, restart",
    "signal to stemphony run alone",
    "terminal is closed, connection breaks (SIGHUP)",
    "disk full before a run begins",
    "disk full while a job writes",
    "disk full while the merge writes",
    "a process of the merge is killed",
    "disk full while a checkpoint writes",
    "read-only results folder",
    "output truncated",
    "output bit-flipped",
    "output from another config",
    "output from another version",
    "two simulations in one folder",
    "two stemphony run at once",
    "two snakemake with other configs in one simulation",
    "clock jumps, or is ahead on another machine",
    "merged result truncated or damaged",
    "specimen.nc lost, truncated or damaged",
    "records of Snakemake lost, or results copied",
    "plan.json lost",
    "a partition that does not exist",
    "config edited while the run goes on",
    "output visible late (network file system)",
    "Slurm's controller is away",
    "Slurm's accounting is away",
    "Slurm has forgotten a job",
    "a job makes room for another (preemption)",
    "time limit above that of the partition",
    "a job that Slurm holds",
    "only stemphony run is killed",
    "killed while it writes a file",
    "run killed on another login node",
)


def rows() -> list[list[str]]:
    """Cells of the table's rows, without its head."""
    lines = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def named_in(cell: str) -> list[tuple[str, str]]:
    """File and function of each test that a cell names."""
    return re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", cell)


def functions(file: str, name: str) -> list[ast.FunctionDef]:
    """A test and what it uses of its own file, fixtures too; the test comes first."""
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    own = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    wanted, found = [name], {}
    while wanted:
        node = own.get(wanted.pop())
        if node is not None and node.name not in found:
            found[node.name] = node
            wanted += [part.id for part in ast.walk(node) if isinstance(part, ast.Name)]
            wanted += [argument.arg for argument in node.args.args]
    return list(found.values())


def pieces(text: str) -> Iterator[str]:
    """Parts of a message between what differs from case to case: numbers and `…`; what is too short says nothing."""
    for piece in re.split(r"…|\d+", text.replace("\\", "")):
        if len(words := " ".join(piece.split()).strip(" .,;:")) >= 8:
            yield words


def are_about(one: str, other: str) -> bool:
    """Whether two messages have a piece in common; a test may look for a part of what the page quotes."""
    return any(a in b or b in a for a in pieces(one) for b in pieces(other))


def test_every_case_has_one_row_and_every_row_is_a_case():
    assert sorted(row[0] for row in rows()) == sorted(CASES)


@pytest.mark.parametrize("row", rows(), ids=lambda row: row[0])
def test_a_row_says_everything_and_names_tests_that_exist(row: list[str]):
    assert len(row) == 5
    assert all(row), row
    named = named_in(row[4])
    assert named
    assert len(named) == row[4].count("`") // 2, "a test is named `tests/….py::test_…`"
    for file, function in named:
        assert functions(file, function), f"{file} has no {function}"


@pytest.mark.parametrize("row", rows(), ids=lambda row: row[0])
def test_the_tests_of_a_row_run_and_look_at_something(row: list[str]):
    for file, function in named_in(row[4]):
        used = functions(file, function)
        decorators = " ".join(ast.unparse(decorator) for decorator in used[0].decorator_list)
        assert not re.search(r"\b(skip|skipif|xfail)\b", decorators), function
        assert "pytestmark" not in (ROOT / file).read_text(encoding="utf-8"), file
        checks = [part for node in used for part in ast.walk(node) if isinstance(part, ast.Assert)]
        assert checks or any("pytest.raises" in ast.unparse(node) for node in used), f"{function} asserts nothing"


@pytest.mark.parametrize("row", rows(), ids=lambda row: row[0])
def test_what_a_row_quotes_is_looked_for_by_its_tests(row: list[str]):
    used = [node for file, function in named_in(row[4]) for node in functions(file, function)]
    constants = [part.value for node in used for part in ast.walk(node) if isinstance(part, ast.Constant)]
    looked_for = [text for text in constants if isinstance(text, str)]
    for quoted in re.findall(r'"([^"]+)"', row[1]):
        assert any(are_about(quoted, text) for text in looked_for), quoted
