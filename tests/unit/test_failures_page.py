"""docs/failures.md and the tests agree: each failure has tests marked with its name, and they look for its messages.

A test is marked with the first column of the page: ``@pytest.mark.failure("job killed by SIGKILL")``.
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "failures.md"


@dataclass(frozen=True)
class Marked:
    """A marked test.

    Attributes
    ----------
    name : str
        File and function, ``tests/workflow/test_failures.py::test_…``.
    parts : tuple of FunctionDef
        The test, and the functions and fixtures of the same file that it uses.
    """

    name: str
    parts: tuple[ast.FunctionDef, ...]

    @property
    def texts(self) -> list[str]:
        """All text constants of the test; they hold the messages that it looks for."""
        constants = [node.value for part in self.parts for node in ast.walk(part) if isinstance(node, ast.Constant)]
        return [value for value in constants if isinstance(value, str)]


@cache
def rows() -> dict[str, str]:
    """The page: each failure with the whole text of its row."""
    lines = [line.strip().strip("|") for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("|")]
    entries = [(line.split("|")[0].strip(), line) for line in lines if not re.fullmatch(r"[-:| ]+", line)]
    found = {failure: line for failure, line in entries if failure != "failure"}
    assert len(found) == sum(failure != "failure" for failure, _ in entries), "a failure has two rows"
    return found


@cache
def marked() -> dict[str, list[Marked]]:
    """The marked tests of each failure, read from their files, so that tests of Slurm count without Slurm."""
    found: dict[str, list[Marked]] = defaultdict(list)
    for file in sorted((ROOT / "tests").rglob("test_*.py")):
        own = {}
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef):
                own[node.name] = node
        for node in own.values():
            for failure in failures_of(node):
                name = f"{file.relative_to(ROOT)}::{node.name}"
                found[failure].append(Marked(name, used_by(node, own)))
    return found


def failures_of(test: ast.FunctionDef) -> Iterator[str]:
    """The failures that a test is marked with."""
    for decorator in test.decorator_list:
        if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == "pytest.mark.failure":
            yield from (ast.literal_eval(argument) for argument in decorator.args)


def used_by(test: ast.FunctionDef, own: dict[str, ast.FunctionDef]) -> tuple[ast.FunctionDef, ...]:
    """A test and the functions and fixtures of its file that it uses; the test comes first."""
    wanted, found = [test.name], {}
    while wanted:
        node = own.get(wanted.pop())
        if node is not None and node.name not in found:
            found[node.name] = node
            wanted += [part.id for part in ast.walk(node) if isinstance(part, ast.Name)]
            wanted += [argument.arg for argument in node.args.args]
    return tuple(found.values())


def pieces(text: str) -> Iterator[str]:
    """Parts of a message between numbers and `…`, which vary. Parts of less than 8 characters match too easily."""
    for piece in re.split(r"…|\d+", text.replace("\\", "")):
        if len(words := " ".join(piece.split()).strip(" .,;:")) >= 8:
            yield words


def are_about(one: str, other: str) -> bool:
    """Whether two messages have a piece in common; a test may look for a part of what the page quotes."""
    return any(a in b or b in a for a in pieces(one) for b in pieces(other))


def test_every_failure_of_the_page_has_a_test_and_every_marker_has_a_row():
    without_test = rows().keys() - marked().keys()
    assert not without_test, f"no test is marked with these failures of {PAGE.name}: {sorted(without_test)}"
    without_row = {failure: tests[0].name for failure, tests in marked().items() if failure not in rows()}
    assert not without_row, f"{PAGE.name} has no row for these markers: {without_row}"


@pytest.mark.parametrize("failure", rows())
def test_tests_look_for_every_message_that_the_page_quotes(failure: str):
    tests = marked()[failure]
    looked_for = [text for test in tests for text in test.texts if text != failure]
    for quoted in re.findall(r'"([^"]+)"', rows()[failure]):
        assert any(are_about(quoted, text) for text in looked_for), (
            f"{PAGE.name} quotes {quoted!r}, and none of these looks for it: {[test.name for test in tests]}"
        )
